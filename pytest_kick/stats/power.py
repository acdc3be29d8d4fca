"""How many examples decide, and what a number of examples can decide."""

from __future__ import annotations

import math
from statistics import NormalDist

from pytest_kick.errors import KickError
from pytest_kick.stats.counts import PairedCounts, checked_fraction, critical_z
from pytest_kick.stats.score import dense_z, retention_score_test


def n_more_to_decide(counts: PairedCounts, floor: float, r: float, confidence: float = 0.95, *, cap: int = 10_000_000) -> int | None:
    """Return how many more examples would decide whether retention is above or below r.

    The counts are scaled at their own proportions. The constrained MLE depends on the proportions alone, so the
    statistic grows with the square root of n and the answer is exact for that scaling.

    Args:
        counts: The paired outcomes so far.
        floor: Score b of a model that knows nothing, in [0, 1).
        r: The retention that the budget asks for.
        confidence: Of each bound alone, in (0.5, 1).
        cap: Largest number of examples in all that is worth naming.

    Returns:
        Examples beside those there are; 0 where they decide already; None where no number up to the cap would, as
        when the estimate is at r or the dense score is not above the floor.

    Raises:
        KickError: The floor, r or the confidence is not in its range.
    """
    critical = critical_z(confidence)
    needed = 0.0
    for z in (abs(retention_score_test(counts, floor, r).z), dense_z(counts, floor)):
        if z <= 0.0:
            return None
        needed = max(needed, counts.n * (critical / z) ** 2)
    if needed > cap:
        return None
    return max(0, math.floor(needed) + 1 - counts.n)


def smallest_detectable_drop(n: int, discordance: float, confidence: float = 0.95, power: float = 0.8) -> float:
    """Return the drop of the score that a paired one-sided test finds with the given power.

    Args:
        n: Examples, at least 1.
        discordance: Share of examples that flip, in (0, 1).
        confidence: One less the one-sided significance level, in (0.5, 1).
        power: Chance to find such a drop, in (0.5, 1).

    Returns:
        The drop as a share of the examples; never above 1. A value above `discordance` cannot happen at that
        discordance: then n decides nothing.

    Raises:
        KickError: An argument is not in its range.

    Source: Miettinen 1968, Biometrics 24:339-352, with the variance at the hypothesis of no drop.
    """
    if n < 1:
        msg = f"stats: n: got {n}, expected at least 1 example. Check that the probe has examples."
        raise KickError(msg)
    spread = math.sqrt(checked_fraction("discordance", discordance) / n)
    return min(1.0, (critical_z(confidence) + NormalDist().inv_cdf(checked_fraction("power", power))) * spread)


def smallest_detectable_retention_loss(
    n: int, p_dense: float, discordance: float, floor: float = 0.0, confidence: float = 0.95, power: float = 0.8
) -> float:
    """Return the loss of retention that n examples can show: the smallest detectable drop over `p_dense - floor`.

    Args:
        n: Examples, at least 1.
        p_dense: Score of the dense model, above the floor and at most 1.
        discordance: Share of examples that flip, in (0, 1).
        floor: Score b of a model that knows nothing, in [0, 1).
        confidence: One less the one-sided significance level, in (0.5, 1).
        power: Chance to find such a loss, in (0.5, 1).

    Returns:
        The loss of retention; infinite where the dense score is not above the floor.

    Raises:
        KickError: Another argument is not in its range.
    """
    drop = smallest_detectable_drop(n, discordance, confidence, power)
    margin = p_dense - checked_fraction("floor", floor, zero=True)
    return drop / margin if margin > 0.0 else math.inf
