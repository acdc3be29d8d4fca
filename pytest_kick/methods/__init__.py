"""The table of built-in compression methods, a part for each kind."""

from __future__ import annotations

from pytest_kick.methods.pruning import PRUNING
from pytest_kick.methods.quantization import QUANTIZATION

BUILTIN_METHODS = (*PRUNING, *QUANTIZATION)

__all__ = ["BUILTIN_METHODS"]
