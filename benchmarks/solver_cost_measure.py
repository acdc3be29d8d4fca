"""What this process took so far; imports nothing, so that both environments of `solver_cost.py` can."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")


def memory(field: str) -> int:
    """Return bytes of this process by a field of its status: `VmRSS` now, `VmHWM` at the most so far."""
    found = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(found.split()[1]) * 1024


def cpu_seconds() -> float:
    """Return the processor seconds of this process, all threads together."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
