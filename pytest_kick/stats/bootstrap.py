"""Paired bootstrap over the unit of comparison (the fact), all resamples at once as weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pytest_kick.errors import KickError
from pytest_kick.stats.counts import Interval, PairedCounts, critical_z
from pytest_kick.stats.score import drop_interval, retention

FloatArray: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[FloatArray], FloatArray]
_WEIGHTS_AT_ONCE = 4_000_000


def weighted_mean(values: ArrayLike, groups: ArrayLike | None = None) -> Statistic:
    """Make the statistic "mean of the values", or with groups the mean of the groups' means (macro).

    Args:
        values: One number per unit (a paired difference, say), shape (n,).
        groups: One label per unit, shape (n,). Give the same groups to `bootstrap_interval`.

    Returns:
        A function from weights (B, n) to means (B,).
    """
    numbers = np.asarray(values, dtype=np.float64)
    shares = np.full(len(numbers), 1.0 / len(numbers))
    if groups is not None:
        _, index, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
        shares = 1.0 / (len(sizes) * sizes[index])
    scaled = numbers * shares

    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray(weights @ scaled, dtype=np.float64)

    return statistic


def bootstrap_interval(
    statistic: Statistic,
    n: int,
    *,
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of a statistic over resamples of the units.

    Args:
        statistic: From weights, float64 (B, n) (how often each unit was drawn, each row summing to n), to values (B,).
            Both arms of a paired comparison are weighted alike, so the pairing holds.
        n: Units, at least 1.
        groups: One label per unit, shape (n,): units are drawn within their group (relation), whose size stays.
        confidence: Of each bound alone, in (0.5, 1).
        n_resamples: Resamples, at least 1.
        seed: Of the resampling: the same seed and groups give the same resamples for any statistic.

    Returns:
        The interval between the order statistics at 1 - confidence and confidence; infinite values are allowed.

    Raises:
        KickError: The statistic is NaN for a resample, the groups are not one per unit, or a number is out of range.

    Source: Efron 1979, Ann. Stat. 7:1-26.
    """
    return percentile_interval(resampled(statistic, n, groups=groups, n_resamples=n_resamples, seed=seed), confidence)


def resampled(statistic: Statistic, n: int, *, groups: ArrayLike | None, n_resamples: int, seed: int) -> FloatArray:
    """Return a statistic over all resamples, float64 (n_resamples,); arguments and errors as of `resamples`."""
    return np.concatenate([statistic(weights) for weights in resamples(n, groups=groups, n_resamples=n_resamples, seed=seed)])


def percentile_interval(draws: FloatArray, confidence: float) -> Interval:
    """Return the order statistics at 1 - confidence and confidence, rounded outwards.

    Raises:
        KickError: A draw is NaN, or the confidence lies outside (0.5, 1).
    """
    critical_z(confidence)
    if np.isnan(draws).any():
        raise KickError("stats: statistic: got NaN for a resample, expected a number for each. Leave out units without a score.")
    return Interval(
        low=float(np.quantile(draws, 1.0 - confidence, method="lower")),
        high=float(np.quantile(draws, confidence, method="higher")),
    )


def resamples(n: int, *, groups: ArrayLike | None, n_resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield resamples as weights, float64 (B, n), in blocks that bound memory.

    Raises:
        KickError: There is no unit or no resample, or the groups are not one per unit.
    """
    if n < 1 or n_resamples < 1:
        msg = f"stats: n, n_resamples: got {n}, {n_resamples}, expected at least 1 each. Check the examples."
        raise KickError(msg)
    labels = np.zeros(n, dtype=np.int64) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if labels.shape != (n,):
        msg = f"stats: groups: got shape {labels.shape}, expected ({n},). Give one label per example."
        raise KickError(msg)
    members = [np.flatnonzero(labels == label) for label in range(int(labels.max()) + 1)]
    rng = np.random.default_rng(seed)
    block = max(1, _WEIGHTS_AT_ONCE // n)
    for start in range(0, n_resamples, block):
        rows = min(block, n_resamples - start)
        weights = np.empty((rows, n), dtype=np.float64)
        for units in members:
            drawn = rng.integers(len(units), size=(rows, len(units))) + np.arange(rows)[:, None] * len(units)
            counted = np.bincount(drawn.ravel(), minlength=rows * len(units))
            weights[:, units] = counted.reshape(rows, len(units))
        yield weights


def paired_outcomes(dense: NDArray[np.bool_], compressed: Iterable[NDArray[np.bool_]], floor: float) -> tuple[FloatArray, FloatArray]:
    """Check the outcomes of several models on the same facts, and return them as numbers to be weighted.

    Args:
        dense: Whether the dense model is right, bool, shape (n,).
        compressed: Whether each of k compressed models is right, bool, shape (k, n).
        floor: Score of a model that knows nothing, in [0, 1).

    Returns:
        The dense outcomes, float64 (n,), and the others, float64 (k, n).

    Raises:
        KickError: An array is not bool or not of the dense one's shape, or the dense score is not above the floor.
    """
    rows = tuple(compressed)
    for row in rows:
        retention(PairedCounts.from_outcomes(dense, row), floor)
    return np.asarray(dense, dtype=np.float64), np.asarray(rows, dtype=np.float64)


def paired_difference_of_retentions(
    dense: NDArray[np.bool_],
    a: NDArray[np.bool_],
    b: NDArray[np.bool_],
    floor: float,
    confidence: float = 0.95,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, Interval]:
    """Return the retention of a less that of b on the same facts, with its bootstrap interval.

    The bootstrap cannot see what did not happen in the sample, so the interval is never narrower than Tango's for the
    difference of the two scores at the observed dense score: two cells that agree on every fact keep a width.

    Args:
        dense: Whether the dense model is right, bool, shape (n,).
        a: Whether the first compressed model is right, bool, shape (n,).
        b: Whether the second one is, bool, shape (n,).
        floor: Score of a model that knows nothing, in [0, 1).
        confidence: Of each bound alone, in (0.5, 1).
        groups: One label per fact: facts are drawn within their group.
        n_resamples: Resamples, at least 1.
        seed: Of the resampling.

    Returns:
        The difference and its interval, which contains it.

    Raises:
        KickError: The dense score is not above the floor, or an argument has a wrong shape or range.
    """
    right, (first, second) = paired_outcomes(dense, (a, b), floor)
    n, gap = len(right), first - second

    def statistic(weights: FloatArray) -> FloatArray:
        return np.asarray((weights @ gap) / n / dense_margin(weights, right, floor), dtype=np.float64)

    drawn = bootstrap_interval(statistic, n, groups=groups, confidence=confidence, n_resamples=n_resamples, seed=seed)
    margin = float(right.mean()) - floor
    difference = float(gap.mean()) / margin
    tango = drop_interval(PairedCounts.from_outcomes(a, b), confidence)
    return difference, Interval(low=min(drawn.low, tango.low / margin, difference), high=max(drawn.high, tango.high / margin, difference))


def dense_margin(weights: FloatArray, right: FloatArray, floor: float) -> FloatArray:
    """Return `p_d - b` per resample (B,), kept at half an example where a resample knows nothing.

    Half an example instead of zero or less: such a resample then gives a huge retention of the right sign, which widens
    the interval, where a NaN would drop out of it and a negative one would turn its sign.
    """
    n = len(right)
    return np.asarray(np.maximum((weights @ right) / n - floor, 0.5 / n), dtype=np.float64)


def equivalent(difference: Interval, margin: float) -> bool:
    """Say whether a difference is shown to lie within the margin (two one-sided tests, TOST).

    Args:
        difference: An interval whose bounds each hold at the wished confidence (the 90% one, for tests at 5%).
        margin: Largest difference that counts as equal, above 0.

    Returns:
        Whether the interval lies strictly within `(-margin, margin)`.

    Raises:
        KickError: The margin is not above 0.

    Source: Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657-680.
    """
    if not margin > 0.0:
        msg = f"stats: margin: got {margin}, expected a number above 0. 0.05 is 5% of retention."
        raise KickError(msg)
    return -margin < difference.low and difference.high < margin
