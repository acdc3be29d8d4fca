"""pytest-kick: a pytest gate for compressed language models.

Importing this package imports neither torch nor pytest.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kick.probing import probe
    from pytest_kick.registration import method

__all__ = ["__version__", "method", "probe"]
__version__ = "0.1.0"
_EXPORTS = {"method": "pytest_kick.registration", "probe": "pytest_kick.probing"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - what the name stands for
    """Import what the package exports when it is first asked for."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
