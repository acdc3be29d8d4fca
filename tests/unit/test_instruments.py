from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from pytest_kick import instruments
from pytest_kick.instruments import Stopwatch

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace the clock by one that shows the list's only entry."""
    now = [0.0]
    monkeypatch.setattr(instruments.time, "perf_counter", lambda: now[0])
    return now


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the process eight cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> Path:
    """Write a small file system."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_phases_add_up_and_nest(clock: list[float]) -> None:
    """A repeated phase adds up, a nested one counts its own time, and an error still counts."""
    watch = Stopwatch()
    with watch.phase("outer"):
        clock[0] += 1
        with watch.phase("inner"):
            clock[0] += 2

    @watch.phase("inner")
    def fail() -> None:
        clock[0] += 4
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert watch.phases == {"inner": 6.0, "outer": 3.0}
    assert (watch.seconds("inner"), watch.seconds("never")) == (6.0, 0.0)


def test_peak_memory_is_in_bytes_and_never_falls() -> None:
    """Touching 64 MB raises the peak to at least what is held, and letting go does not lower it."""
    block = bytearray(b"x" * (64 << 20))
    peak = instruments.peak_memory_bytes()
    assert len(block) < peak < 1 << 40
    del block
    assert instruments.peak_memory_bytes() >= peak


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ({"sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        ({"sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "10000 100000"}, 1),
        ({"sys/fs/cgroup/cpu.max": "350000 100000"}, 4),
        ({"sys/fs/cgroup/cpu.max": "320000 100000"}, 3),
        ({"sys/fs/cgroup/cpu.max": "9900000 100000"}, 8),
        ({"sys/fs/cgroup/cpu.max": "garbage"}, 8),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 1", "sys/fs/cgroup/a/cpu.max": "300000 100000"}, 3),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n1:memory:/y\n0::/\n",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "200000",
                "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000",
            },
            2,
        ),
    ],
)
@pytest.mark.usefixtures("cores")
def test_cores_respect_quotas(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    """The quota of either version of cgroups, own or inherited, caps the affinity; there is always one core."""
    assert instruments.usable_cores(write(tmp_path, files)) == expected


@pytest.mark.parametrize(
    ("workers", "environ", "expected"),
    [
        (1, {}, 8),
        (3, {}, 2),
        (16, {}, 1),
        (0, {}, 8),
        (4, {"OMP_NUM_THREADS": "5"}, 5),
        (4, {"OMP_NUM_THREADS": "3,2"}, 3),
        (4, {"OMP_NUM_THREADS": "0"}, 2),
        (4, {"OMP_NUM_THREADS": "many"}, 2),
    ],
)
def test_threads_share_the_cores(monkeypatch: pytest.MonkeyPatch, workers: int, environ: dict[str, str], expected: int) -> None:
    """Threads are cores by workers, at least one, unless OMP_NUM_THREADS is a positive number."""
    monkeypatch.setattr(instruments, "usable_cores", lambda: 8)
    assert instruments.default_threads(workers, environ) == expected


@pytest.mark.parametrize(
    ("cpuinfo", "environ", "expected"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16\n", {}, True),
        ("flags\t\t: fpu avx2 avx512f\n", {}, False),
        ("Features\t: fp asimd bf16\n", {}, True),
        ("", {}, False),
        ("flags\t\t: avx512_bf16\n", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, False),
        ("flags\t\t: avx512_bf16\n", {"ONEDNN_MAX_CPU_ISA": "avx512_core_bf16"}, True),
        ("flags\t\t: avx512_bf16\n", {"ATEN_CPU_CAPABILITY": "avx2"}, False),
        ("flags\t\t: avx512_bf16\n", {"ATEN_CPU_CAPABILITY": "avx512"}, True),
    ],
)
def test_fast_bfloat16_follows_cpu_and_environment(tmp_path: Path, cpuinfo: str, environ: dict[str, str], *, expected: bool) -> None:
    """The CPU's flags decide, and variables that keep torch from its instructions say no."""
    root = write(tmp_path, {"proc/cpuinfo": f"model name\t: A CPU\n{cpuinfo}"})
    assert instruments.has_fast_bfloat16(environ, root) is expected
    assert instruments.cpu_model(root) == "A CPU"


def test_a_system_that_tells_nothing_has_a_name_and_no_flags(tmp_path: Path) -> None:
    """Without /proc the record is still complete."""
    assert instruments.cpu_flags(tmp_path) == ()
    assert instruments.cpu_model(tmp_path)


def test_the_environment_is_json_and_names_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record survives JSON, holds the versions installed, and "" for what is not."""
    monkeypatch.setattr(instruments, "PACKAGES", ("numpy", "nonesuch-package"))
    record = instruments.environment(3)
    assert json.loads(json.dumps(record)) == record
    assert record["threads"] == 3
    assert record["versions"] == {"numpy": instruments.metadata.version("numpy"), "nonesuch-package": ""}
