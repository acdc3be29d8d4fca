"""Exact binomial intervals and tests, and the corrections for many cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import KickError
from pytest_kick.stats.counts import Interval, PairedCounts, checked_fraction, critical_z

if TYPE_CHECKING:
    from collections.abc import Sequence


def flips_interval(counts: PairedCounts, confidence: float = 0.95) -> Interval:
    """Return the Clopper-Pearson interval of the share of examples whose outcome changed.

    Args:
        counts: The paired outcomes.
        confidence: Of each bound alone, in (0.5, 1).

    Returns:
        An interval within [0, 1]; its upper bound is above 0 also where nothing changed.

    Raises:
        KickError: The confidence is not in its range.

    Source: Clopper and Pearson 1934, Biometrika 26:404-413.
    """
    from scipy import special  # noqa: PLC0415 - 0.15 s that collection need not pay

    critical_z(confidence)
    flipped, n, alpha = counts.lost + counts.gained, counts.n, 1.0 - confidence
    low = float(special.betaincinv(flipped, n - flipped + 1, alpha)) if flipped else 0.0
    high = float(special.betaincinv(flipped + 1, n - flipped, confidence)) if flipped < n else 1.0
    return Interval(low=low, high=high)


def mcnemar_exact_one_sided(lost: int, gained: int) -> float:
    """Return the p-value of "losses are no likelier than gains" against "more is lost".

    Args:
        lost: Examples right before and wrong now, at least 0.
        gained: Examples wrong before and right now, at least 0.

    Returns:
        `P(X >= lost)` for X binomial(lost + gained, 1/2): 1 where nothing was lost.

    Raises:
        KickError: A count is negative.

    Source: McNemar 1947, Psychometrika 12:153-157, in its exact binomial form.
    """
    from scipy import special  # noqa: PLC0415 - 0.15 s that collection need not pay

    if lost < 0 or gained < 0:
        msg = f"stats: lost, gained: got {lost}, {gained}, expected counts of at least 0. Count the outcomes again."
        raise KickError(msg)
    return float(special.betainc(lost, gained + 1, 0.5)) if lost else 1.0


def bonferroni(confidence: float, n_comparisons: int) -> float:
    """Return the significance level of one cell, so that a whole run errs at most 1 - confidence of the time.

    Args:
        confidence: Of the run, in (0.5, 1).
        n_comparisons: Comparisons with stored runs in the whole run, at least 1.

    Returns:
        `(1 - confidence) / n_comparisons`.

    Raises:
        KickError: The confidence is not in its range, or there is no cell.
    """
    critical_z(confidence)
    if n_comparisons < 1:
        msg = f"stats: n_comparisons: got {n_comparisons}, expected at least 1. Count those of the run."
        raise KickError(msg)
    return (1.0 - confidence) / n_comparisons


def holm(p_values: Sequence[float], alpha: float = 0.05) -> tuple[bool, ...]:
    """Say which of several tests reject while the chance of any false rejection stays within alpha.

    Args:
        p_values: One p-value per test, each in [0, 1].
        alpha: Chance of any false rejection, in (0, 1).

    Returns:
        Whether each test rejects, in the order given.

    Raises:
        KickError: A p-value or alpha is not in its range.

    Source: Holm 1979, Scand. J. Stat. 6:65-70.
    """
    checked_fraction("alpha", alpha)
    values = np.asarray(p_values, dtype=np.float64)
    outside = ~((values >= 0.0) & (values <= 1.0))
    if outside.any():
        msg = f"stats: p_values: got {values[outside][0]}, expected a number from 0 to 1. Check the tests."
        raise KickError(msg)
    order = np.argsort(values, kind="stable")
    passed = np.logical_and.accumulate(values[order] <= alpha / np.arange(len(values), 0, -1))
    rejected = np.zeros(len(values), dtype=np.bool_)
    rejected[order] = passed
    return tuple(bool(value) for value in rejected)
