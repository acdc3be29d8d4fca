"""Calibrated solvers: pure functions from a weight matrix and the moments of its inputs to a compressed matrix.

Nothing here knows a model, a step or a file. Float32 on the CPU goes in and comes out; inputs are never changed. One `Factor` serves
all matrices that read the same inputs (query, key and value; gate and up).
"""

from pytest_kick.compress.solvers.factor import Factor, factorize
from pytest_kick.compress.solvers.gptq import Quantizer, gptq
from pytest_kick.compress.solvers.masks import Pattern
from pytest_kick.compress.solvers.moments import Moments
from pytest_kick.compress.solvers.solution import Grid, Solution, output_error
from pytest_kick.compress.solvers.sparsegpt import sparsegpt
from pytest_kick.compress.solvers.wanda import wanda

__all__ = ["Factor", "Grid", "Moments", "Pattern", "Quantizer", "Solution", "factorize", "gptq", "output_error", "sparsegpt", "wanda"]
