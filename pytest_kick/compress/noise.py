"""Add noise to weights: what does a change of the same size do that follows no plan?"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.compress.weight_only import refuse_int8

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep


def weight_noise(targets: Targets, step: CompressionStep) -> None:
    """Add to each weight a Gaussian number of mean 0 and standard deviation sigma times the root mean square of its matrix.

    All weights get some, those that an earlier step set to zero too.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, whose grid the noise would leave.
    """
    refuse_int8(targets, step)
    for item in targets.items:
        weight = item.weight.numpy()
        size = step.level * np.sqrt(np.square(weight, dtype=np.float64).mean())
        noise = gaussian(int(step.param("seed")), item.matrix.name, weight.size).reshape(weight.shape)
        weight += (size * noise).astype(np.float32)


def gaussian(seed: int, name: str, n: int) -> NDArray[np.float64]:
    """Return n numbers of the standard normal distribution, the same for the same seed and name on every platform and NumPy version.

    Source: RandomState over PCG64, whose stream NumPy keeps frozen (NEP 19), up to the last digit of the platform's logarithm.
    """
    stream = np.random.RandomState(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return stream.standard_normal(n)
