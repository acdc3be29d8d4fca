from __future__ import annotations

from pathlib import Path

import pytest

from pytest_kick.calibration import heap

STATUS = Path("/proc/self/status")
SIZE, COUNT = 4096, 15_000


def anonymous() -> int:
    """Return the bytes of anonymous memory that this process holds."""
    return next(int(line.split()[1]) * 1024 for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("RssAnon"))


@pytest.mark.skipif(not STATUS.exists(), reason="needs /proc")
def test_freed_memory_is_given_back() -> None:
    """Of 60 MB of small pieces that were freed below one that stays, most is resident before the call and not after it."""
    pieces = [b"x" * SIZE + bytes([number % 256]) for number in range(COUNT)]
    last = pieces[-1]
    del pieces
    kept = anonymous()
    heap.give_back()
    assert last
    assert kept - anonymous() > SIZE * COUNT / 2


def test_nothing_happens_where_there_is_no_such_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """On another system, or with another C library, it is no error."""
    monkeypatch.setattr(heap.sys, "platform", "darwin")
    heap.give_back()
    monkeypatch.setattr(heap.sys, "platform", "linux")
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _name: object())
    heap.give_back()
