"""Memory that was freed, and that the C library keeps for later."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give freed memory back to the system, where the C library has a call for that: glibc's `malloc_trim`. Elsewhere do nothing.

    Without it, what a long text left behind when it was cut into tokens (a hundred MB of small pieces) stays resident for the rest of
    the process.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
