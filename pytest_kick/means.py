"""Metrics that are means of numbers per example: their value, and what each example weighs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import KickError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.examples import Examples
    from pytest_kick.infos import MeanInfo


def values_of(mean: MeanInfo, examples: Examples) -> NDArray[np.float64]:
    """Return the number of each example, `(n,)` float64.

    Raises:
        KickError: the examples lack its array.
    """
    return _array(mean.array or mean.name, mean, examples)


def weights_of(mean: MeanInfo, examples: Examples) -> NDArray[np.float64]:
    """Return what each example weighs, `(n,)` float64, above 0: its own weight, or the same for each group where the mean is macro.

    Raises:
        KickError: the examples lack the array of weights.
    """
    weights = _array(mean.weights, mean, examples) if mean.weights else np.ones(len(examples))
    if mean.macro:
        _, index = np.unique(examples.groups, return_inverse=True)
        weights = weights / np.bincount(index, weights=weights)[index]
    return weights


def value_of(mean: MeanInfo, examples: Examples) -> float:
    """Return the mean over the examples."""
    return float(np.average(values_of(mean, examples), weights=weights_of(mean, examples)))


def _array(name: str, mean: MeanInfo, examples: Examples) -> NDArray[np.float64]:
    if name not in examples.arrays:
        known = ", ".join(sorted(examples.arrays))
        msg = f"examples: {mean.name}: got no array {name!r}, expected one of {known}. Correct the probe."
        raise KickError(msg)
    single = np.asarray(examples.arrays[name], np.float32)  # as stored: what was measured just now must equal what was recorded
    return single.astype(np.float64)
