"""Compress a loaded model in place, and check on its weights that it was done."""

import pytest_kick.models.quiet  # noqa: F401 - before torchao is imported, which logs what is of no use here
from pytest_kick.compress.inputs import Calibrator
from pytest_kick.compress.lifecycle import compress_, finish_
from pytest_kick.compress.registered import LayerInputs
from pytest_kick.compress.targets import Method, Target, Targets

__all__ = ["Calibrator", "LayerInputs", "Method", "Target", "Targets", "compress_", "finish_"]
