"""Paired comparison of means of numbers: how much worse a run is than another one on the same examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import KickError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedMean:
    """Hold a weighted mean of paired differences.

    Attributes:
        mean: the weighted mean.
        error: its standard error, by linearization.
        n: pairs, at least 2.
    """

    mean: float
    error: float
    n: int

    def p_above_zero(self) -> float:
        """Return the one-sided p-value of "the mean is not above 0", Student's t with n - 1 degrees of freedom."""
        from scipy import stats as distributions  # noqa: PLC0415 - see the package's docstring

        if not self.error:
            return 0.0 if self.mean > 0 else 1.0
        return float(distributions.t.sf(self.mean / self.error, self.n - 1))

    def upper(self, level: float) -> float:
        """Return the one-sided upper bound of the mean at a level such as 0.95."""
        from scipy import stats as distributions  # noqa: PLC0415 - see the package's docstring

        return self.mean + self.error * float(distributions.t.ppf(level, self.n - 1))


def paired_mean(differences: ArrayLike, weights: ArrayLike) -> PairedMean:
    """Return the weighted mean of paired differences, one per unit of comparison.

    Args:
        differences: of each unit, `(n,)`, above 0 where it is worse now.
        weights: of each unit, `(n,)`, above 0: tokens of a window, or equal ones.

    Raises:
        KickError: fewer than two units, other shapes, or numbers that are not finite.

    Source: Cochran 1977, Sampling Techniques, eq. 6.13: the variance of a ratio of means.
    """
    values, shares = np.asarray(differences, np.float64), np.asarray(weights, np.float64)
    if values.ndim != 1 or values.shape != shares.shape or len(values) < 2:  # noqa: PLR2004 - a spread needs two
        msg = f"stats: differences: got shapes {values.shape} and {shares.shape}, expected two of one length from 2. Use more examples."
        raise KickError(msg)
    if not (np.isfinite(values).all() and np.isfinite(shares).all() and (shares > 0).all()):
        raise KickError("stats: differences: got NaN, an infinite number or a weight of 0, expected numbers. Leave such examples out.")
    n, total = len(values), float(shares.sum())
    mean = float(shares @ values) / total
    residuals = shares * (values - mean)
    error = math.sqrt(n / (n - 1) * float(residuals @ residuals)) / total
    return PairedMean(mean=mean, error=error, n=n)
