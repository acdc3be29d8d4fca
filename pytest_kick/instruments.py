"""Measure time and memory, and record the machine; without torch."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import resource
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGES = ("torch", "transformers", "torchao", "numpy", "tokenizers", "lm_eval")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "bf16", "i8mm")

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16")
# Values of oneDNN's environment variable that keep it from using the CPU's bfloat16 instructions.
_SLOW_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
_SLOW_CAPABILITIES = ("default", "avx2")
_KIB = 1024
# A quota of 1.5 cores keeps two threads busy most of the time, one of 1.2 does not.
_ROUND_UP = 0.5


class Stopwatch:
    """Add up wall-clock seconds under names.

    Phases may be repeated, then they add up, and nested, then each counts its own whole time.
    """

    def __init__(self) -> None:
        """Start with no phases."""
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time inside the block under `name`, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - start

    def seconds(self, name: str) -> float:
        """Return the seconds counted under `name` so far, 0.0 for a phase that never ran."""
        return self._seconds.get(name, 0.0)

    @property
    def phases(self) -> dict[str, float]:
        """Return a copy of all phases in the order in which they first ended, in seconds."""
        return dict(self._seconds)


def peak_memory_bytes() -> int:
    """Return the largest resident size this process has had since it started, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * _KIB


def usable_cores(root: Path = Path("/")) -> int:
    """Return how many cores this process may use: the smaller of its affinity and its cgroup's CPU quota, at least 1.

    Args:
        root: of the file system, for tests.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(affinity, _cgroup_cores(root)) + _ROUND_UP))


def _cgroup_cores(root: Path) -> float:
    """Return the CPU quota in cores, infinity where there is none: the smallest of the own cgroup and those above it."""
    own = {"": "/", "cpu": "/"}  # version 2 has one hierarchy, without a name
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path))
    version_2 = (_quota(*(_read(folder / "cpu.max").split() or [""])) for folder in _upwards(root / "sys/fs/cgroup", own[""]))
    version_1 = (
        _quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
        for folder in _upwards(root / "sys/fs/cgroup/cpu", own["cpu"])
    )
    return min(math.inf, *version_2, *version_1)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    # In a container the path may be the host's and the mount already the container's own: the mount itself always counts.
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    for depth in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:depth])


def _quota(quota: str, period: str = "100000") -> float:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return cores if cores > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def default_threads(n_workers: int, environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of threads for each of `n_workers` processes.

    `OMP_NUM_THREADS` decides where it is a positive number, else the usable cores are shared evenly, at least one each.
    """
    said = environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if said.isdigit() and int(said) > 0:
        return int(said)
    return max(1, usable_cores() // max(1, n_workers))


def has_fast_bfloat16(environ: Mapping[str, str] = os.environ, root: Path = Path("/")) -> bool:
    """Return whether the CPU multiplies bfloat16 natively, and no environment variable keeps torch from using that.

    Args:
        environ: environment variables.
        root: of the file system, for tests.
    """
    capped = (
        environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _SLOW_ISAS or environ.get("ATEN_CPU_CAPABILITY", "").lower() in _SLOW_CAPABILITIES
    )
    return not capped and any(flag in cpu_flags(root) for flag in _FAST_BFLOAT16)


def cpu_flags(root: Path = Path("/")) -> tuple[str, ...]:
    """Return those of `FLAGS` that the CPU has, in that order; none where the system does not tell."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", _read(root / "proc/cpuinfo"), flags=re.MULTILINE)
    found = set(lines[0].split()) if lines else set()
    return tuple(flag for flag in FLAGS if flag in found)


def cpu_model(root: Path = Path("/")) -> str:
    """Return the name of the CPU, or of its architecture where the system does not tell."""
    match = re.search(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), flags=re.MULTILINE)
    return match[1].strip() if match else platform.processor() or platform.machine()


def environment(threads: int) -> dict[str, object]:
    """Return a JSON-able record of what may change a measurement: versions, CPU, cores, threads.

    Versions are those installed; nothing is imported. A package that is not installed has the version "".

    Args:
        threads: that the measurement runs with.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system().lower()}-{platform.machine()}",
        "cpu": cpu_model(),
        "cpu_flags": list(cpu_flags()),
        "cores": usable_cores(),
        "threads": threads,
        "versions": {name: _version(name) for name in PACKAGES},
        "isa": {name: os.environ.get(name, "") for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
