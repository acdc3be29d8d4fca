"""Where along a grid of levels knowledge is lost: the critical level and the steepest step, with intervals over facts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import KickError
from pytest_kick.stats.bootstrap import FloatArray, dense_margin, paired_outcomes, percentile_interval, resampled
from pytest_kick.stats.counts import Interval, checked_fraction

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalLevel:
    """Hold the level at which retention falls to a target.

    Attributes:
        target: The retention, 0.9 for s90.
        estimate: The level; infinite where retention stays above the target on the whole grid.
        interval: Its bootstrap interval over facts; the upper bound may be infinite.
    """

    target: float
    estimate: float
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SteepestStep:
    """Hold the pair of adjacent levels between which retention falls fastest.

    Attributes:
        start: The level before the step.
        end: The level after it.
        drop: Retention lost in the step, at the estimate.
        interval: From a lower bound of `start` to an upper bound of `end`, each at the confidence asked for.
        support: Per step of the grid, the share of resamples in which it is the steepest; sums to 1.
    """

    start: float
    end: float
    drop: float
    interval: Interval
    support: tuple[float, ...]


def critical_level(  # noqa: PLR0913 - the grid, the target, and the settings of the bootstrap
    levels: ArrayLike,
    compressed: NDArray[np.bool_],
    dense: NDArray[np.bool_],
    floor: float,
    target: float,
    confidence: float = 0.95,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> CriticalLevel:
    """Return the level at which retention falls to the target, by isotonic fit and linear interpolation.

    Level 0 is the dense model, of retention 1. With it the retentions are made non-increasing (pool adjacent violators,
    equal weights); the answer is interpolated where that curve first reaches the target.

    Args:
        levels: Levels of compression, rising and above 0, shape (l,).
        compressed: Whether each level's model is right, bool, shape (l, n).
        dense: Whether the dense model is right on the same facts, bool, shape (n,).
        floor: Score of a model that knows nothing, in [0, 1).
        target: The retention looked for, in (0, 1).
        confidence: Of each bound alone, in (0.5, 1).
        groups: One label per fact: facts are drawn within their group.
        n_resamples: Resamples, at least 1.
        seed: Of the resampling; with one seed and grid two scopes are resampled alike.

    Returns:
        The level and its interval.

    Raises:
        KickError: The dense score is not above the floor, or an argument has a wrong shape or range.

    Source: Ayer et al. 1955, Ann. Math. Stat. 26:641-647 (isotonic fit, in its min-max form).
    """
    checked_fraction("target", target)
    grid, outcomes, right = _checked(levels, compressed, dense, floor)

    def crossings(weights: FloatArray) -> FloatArray:
        return first_crossing(grid, non_increasing(_retentions(weights, outcomes, right, floor)), target)

    draws = resampled(crossings, len(right), groups=groups, n_resamples=n_resamples, seed=seed)
    estimate = float(crossings(np.ones((1, len(right))))[0])
    interval = percentile_interval(draws, confidence)
    # The isotonic fit is biased: an estimate must not lie outside of its own interval.
    interval = Interval(low=min(interval.low, estimate), high=max(interval.high, estimate))
    return CriticalLevel(target=target, estimate=estimate, interval=interval)


def steepest_step(
    levels: ArrayLike,
    compressed: NDArray[np.bool_],
    dense: NDArray[np.bool_],
    floor: float,
    confidence: float = 0.95,
    *,
    groups: ArrayLike | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> SteepestStep:
    """Return the two adjacent levels between which retention falls fastest per unit of level.

    The step from level 0 (the dense model) to the first level counts too. Of equal steps the first is taken. A retention
    below 0 counts as 0: a score falling below the floor is no knowledge lost.

    Args:
        levels: Levels of compression, rising and above 0, shape (l,).
        compressed: Whether each level's model is right, bool, shape (l, n).
        dense: Whether the dense model is right on the same facts, bool, shape (n,).
        floor: Score of a model that knows nothing, in [0, 1).
        confidence: Of each bound alone, in (0.5, 1).
        groups: One label per fact: facts are drawn within their group.
        n_resamples: Resamples, at least 1.
        seed: Of the resampling.

    Returns:
        The step, its drop, its interval over facts and the share of resamples that agree.

    Raises:
        KickError: The dense score is not above the floor, or an argument has a wrong shape or range.
    """
    grid, outcomes, right = _checked(levels, compressed, dense, floor)
    lengths = np.diff(grid)

    def places(weights: FloatArray) -> FloatArray:
        slopes = -np.diff(np.maximum(_retentions(weights, outcomes, right, floor), 0.0), axis=1) / lengths
        return np.asarray(np.argmax(slopes, axis=1), dtype=np.float64)

    draws = resampled(places, len(right), groups=groups, n_resamples=n_resamples, seed=seed)
    once = np.ones((1, len(right)))
    place = int(places(once)[0])
    curve = np.maximum(_retentions(once, outcomes, right, floor)[0], 0.0)
    steps = percentile_interval(draws, confidence)
    return SteepestStep(
        start=float(grid[place]),
        end=float(grid[place + 1]),
        drop=float(curve[place] - curve[place + 1]),
        interval=Interval(low=float(grid[min(int(steps.low), place)]), high=float(grid[max(int(steps.high), place) + 1])),
        support=tuple(float(share) for share in np.bincount(draws.astype(np.int64), minlength=len(lengths)) / len(draws)),
    )


def non_increasing(curves: FloatArray) -> FloatArray:
    """Return the least-squares non-increasing fit of each row of (B, k).

    Source: Ayer et al. 1955: `min over s <= i of max over t >= i of mean(s..t)`; cubic in k, but without a loop over B.
    """
    k = curves.shape[1]
    sums = np.concatenate([np.zeros((len(curves), 1)), np.cumsum(curves, axis=1)], axis=1)
    fit = np.full(curves.shape, math.inf)
    for start in range(k):
        means = (sums[:, start + 1 :] - sums[:, start : start + 1]) / np.arange(1, k - start + 1)
        best = np.maximum.accumulate(means[:, ::-1], axis=1)[:, ::-1]
        fit[:, start:] = np.minimum(fit[:, start:], best)
    return fit


def _checked(
    levels: ArrayLike, compressed: NDArray[np.bool_], dense: NDArray[np.bool_], floor: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the grid with its level 0 (l + 1,), the outcomes (l, n) and the dense outcomes (n,) as float64."""
    grid = np.concatenate([[0.0], np.asarray(levels, dtype=np.float64).reshape(-1)])
    if len(grid) < 2 or not (np.diff(grid) > 0.0).all():  # noqa: PLR2004 - level 0 and one more
        msg = f"stats: levels: got {grid[1:].tolist()}, expected at least one level, rising from above 0. Sort the cells by level."
        raise KickError(msg)
    right, outcomes = paired_outcomes(dense, compressed, floor)
    if len(outcomes) != len(grid) - 1:
        msg = f"stats: compressed: got {len(outcomes)} rows, expected {len(grid) - 1}. Give one row of outcomes per level."
        raise KickError(msg)
    return grid, outcomes, right


def _retentions(weights: FloatArray, outcomes: FloatArray, right: FloatArray, floor: float) -> FloatArray:
    """Return the retention per resample and level, (B, l + 1): exactly 1 at level 0."""
    scores = (weights @ outcomes.T) / len(right)
    kept = (scores - floor) / dense_margin(weights, right, floor)[:, None]
    return np.concatenate([np.ones((len(kept), 1)), kept], axis=1)


def first_crossing(grid: FloatArray, curves: FloatArray, target: float) -> FloatArray:
    """Return where each non-increasing row of (B, k) first reaches the target, infinite where it does not."""
    reached = curves <= target
    index = np.maximum(np.argmax(reached, axis=1), 1)
    rows = np.arange(len(curves))
    before, after = curves[rows, index - 1], curves[rows, index]
    gap = np.where(after < before, before - after, 1.0)
    share = np.clip((before - target) / gap, 0.0, 1.0)
    places = grid[index - 1] + share * (grid[index] - grid[index - 1])
    return np.where(reached.any(axis=1), places, math.inf)
