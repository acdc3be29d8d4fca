"""The table of built-in compression methods, a part for each kind."""

from __future__ import annotations

from pytest_kick.methods.checkpoints import CHECKPOINTS
from pytest_kick.methods.library import LIBRARY
from pytest_kick.methods.pruning import PRUNING
from pytest_kick.methods.quantization import QUANTIZATION
from pytest_kick.methods.structured import REDUCTION

BUILTIN_METHODS = (*PRUNING, *QUANTIZATION, *LIBRARY, *REDUCTION, *CHECKPOINTS)

__all__ = ["BUILTIN_METHODS"]
