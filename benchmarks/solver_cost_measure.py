"""What this process took so far; imports only the standard library, so that both environments of `solver_cost.py` can."""

from __future__ import annotations

import resource
import threading
import time
from pathlib import Path
from typing import Self

_STATUS = Path("/proc/self/status")
_SECONDS = 0.02


def memory(field: str) -> int:
    """Return bytes of this process by a field of its status: `VmRSS` now, `VmHWM` at the most so far, `RssAnon` without files."""
    found = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(found.split()[1]) * 1024


def cpu_seconds() -> float:
    """Return the processor seconds of this process, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Watch:
    """Take the time of what is done inside, and the most memory of this process up to its end.

    The kernel keeps the most that was resident, and of that no maximum without files: it is looked up every few milliseconds.
    Anonymous memory has to stay for as long as it is used. Pages of mapped files (the dense checkpoint, second moments on disk) are
    resident too, but hold nothing that the disk does not: where memory is short the kernel takes them back, and processes that map
    the same file share them.
    """

    def __init__(self) -> None:
        """Note what is resident now: the libraries, if nothing is loaded yet."""
        self._before = {field: memory(field) for field in ("VmRSS", "RssAnon")}
        self._most = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Start the clock."""
        self._begin, self._cpu = time.perf_counter(), cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop clock and looking."""
        self.seconds, self.cpu = time.perf_counter() - self._begin, cpu_seconds() - self._cpu
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        last = False
        while not last:
            last = self._stop.wait(_SECONDS)
            self._most = max(self._most, memory("RssAnon"))

    def report(self) -> dict[str, float]:
        """Return seconds, and bytes: the most that was resident, that much without the start, and without the start and files."""
        peak = memory("VmHWM")
        memory_of = {"peak": peak, "own": peak - self._before["VmRSS"], "anonymous": self._most - self._before["RssAnon"]}
        return {"seconds": self.seconds, "cpu": self.cpu, **memory_of}
