"""What becomes of a hook of somebody else's that raises: the run goes on, says so at its end, and is red."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def guarded(hook: str, tell: Callable[[str], None]) -> Iterator[None]:
    """Turn what a hook raises into one line; `pytest.exit` still ends the run."""
    try:
        yield
    except pytest.exit.Exception:
        raise
    except Exception as error:  # noqa: BLE001 - a cell measured for minutes is worth more than whatever this is
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())[:200]
        got = f"{type(error).__name__} ({reason}) at {where.filename}:{where.lineno}"
        tell(f"{hook}: hook: got {got}, expected it to return. Correct it.")
