"""Calibration: the token sequences that data-dependent methods see, and the inputs of each matrix on them."""

from pytest_kick.calibration.batches import Sample, make_batches
from pytest_kick.calibration.cache import DenseCache, DenseInputs
from pytest_kick.calibration.capture import run_compressed, run_dense
from pytest_kick.calibration.leaks import Leaks, find_leaks
from pytest_kick.calibration.prepare import CalibrationData, prepare

__all__ = [
    "CalibrationData",
    "DenseCache",
    "DenseInputs",
    "Leaks",
    "Sample",
    "find_leaks",
    "make_batches",
    "prepare",
    "run_compressed",
    "run_dense",
]
