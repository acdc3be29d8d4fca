"""The 2 x 2 table of a paired comparison, intervals, and the checks that all of `stats` shares."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import KickError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """Hold a closed interval; a bound that the data do not give is infinite.

    Attributes:
        low: The lower bound.
        high: The upper bound, at least `low`.
    """

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        """Say whether the value lies in the interval, ends included."""
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        """Return the length of the interval."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedCounts:
    """Count the four outcomes of the same examples under the dense and the compressed model.

    Attributes:
        both: Examples right in both.
        lost: Right in dense, wrong in compressed.
        gained: Wrong in dense, right in compressed.
        neither: Wrong in both.

    Raises:
        KickError: A count is negative or not a whole number, or there is no example.
    """

    both: int
    lost: int
    gained: int
    neither: int

    def __post_init__(self) -> None:
        """Refuse a table that no two runs can give."""
        for name in ("both", "lost", "gained", "neither"):
            value = getattr(self, name)
            if value != int(value) or value < 0:
                msg = f"stats: {name}: got {value}, expected a whole number of at least 0. Count the outcomes again."
                raise KickError(msg)
        if self.n == 0:
            raise KickError("stats: n: got 0, expected at least 1 example. Check that the probe has examples.")

    @classmethod
    def from_outcomes(cls, dense: NDArray[np.bool_], compressed: NDArray[np.bool_]) -> PairedCounts:
        """Count two arrays of outcomes, example by example.

        Args:
            dense: Whether the dense model is right, bool, shape (n,).
            compressed: Whether the compressed model is right on the same examples in the same order, bool, shape (n,).

        Returns:
            The four counts.

        Raises:
            KickError: The arrays are empty, not boolean, not one-dimensional, or not of one length.
        """
        dense, compressed = checked_outcomes("dense", dense), checked_outcomes("compressed", compressed)
        if dense.shape != compressed.shape:
            msg = f"stats: compressed: got {len(compressed)} outcomes, expected {len(dense)} as in dense. Compare the same examples."
            raise KickError(msg)
        return cls(
            both=int(np.count_nonzero(dense & compressed)),
            lost=int(np.count_nonzero(dense & ~compressed)),
            gained=int(np.count_nonzero(~dense & compressed)),
            neither=int(np.count_nonzero(~dense & ~compressed)),
        )

    @property
    def n(self) -> int:
        """Return the number of examples."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def p_dense(self) -> float:
        """Return the share of examples that the dense model has right, in [0, 1]."""
        return (self.both + self.lost) / self.n

    @property
    def p_compressed(self) -> float:
        """Return the share of examples that the compressed model has right, in [0, 1]."""
        return (self.both + self.gained) / self.n

    @property
    def flips(self) -> float:
        """Return the share of examples whose outcome changed, in [0, 1]."""
        return (self.lost + self.gained) / self.n


def checked_outcomes(name: str, outcomes: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return outcomes of shape (n,) and dtype bool.

    Raises:
        KickError: They are not boolean or not one-dimensional: 0/1 scores and NaN must not slip in as outcomes.
    """
    array = np.asarray(outcomes)
    if array.dtype != np.bool_ or array.ndim != 1:
        msg = f"stats: {name}: got {array.dtype} of shape {array.shape}, expected bool of shape (n,). Pass right or wrong per example."
        raise KickError(msg)
    return array


def checked_fraction(name: str, value: float, *, zero: bool = False) -> float:
    """Return a fraction in (0, 1), or in [0, 1) where `zero` is allowed.

    Raises:
        KickError: It lies outside, or is NaN.
    """
    if not (0.0 < value < 1.0 or (zero and value == 0.0)):
        rule = "a fraction of at least 0 and below 1" if zero else "a fraction above 0 and below 1"
        msg = f"stats: {name}: got {value}, expected {rule}. Give fractions, not percent."
        raise KickError(msg)
    return value


def critical_z(confidence: float) -> float:
    """Return the normal quantile of a one-sided bound: 1.645 for 0.95.

    Args:
        confidence: Of each one-sided bound, in (0.5, 1).

    Raises:
        KickError: The confidence lies outside (0.5, 1).
    """
    if not 0.5 < confidence < 1.0:  # noqa: PLR2004 - at one half the two bounds of an interval meet
        msg = f"stats: confidence: got {confidence}, expected a fraction above 0.5 and below 1. 0.95 is usual."
        raise KickError(msg)
    return NormalDist().inv_cdf(confidence)
