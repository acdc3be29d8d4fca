"""Hold a budget against its interval, and say how many more examples would decide where it does not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

from pytest_kick import stats
from pytest_kick.errors import UnjudgeableError
from pytest_kick.verdict.means import Resampled, check_mean
from pytest_kick.verdict.records import FORGOT, INCONCLUSIVE, RETAINED, Check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kick.result import ProbeScore
    from pytest_kick.spec import Budget
    from pytest_kick.verdict.records import Retention

    Decide: TypeAlias = Callable[[stats.PairedCounts, float], tuple[stats.Interval, str]]

_N_CAP = 10_000_000


def check_knows(score: ProbeScore, confidence: float) -> None:
    """Refuse a probe on which the dense model knows nothing: whatever a compression does to it would look harmless.

    Args:
        score: of the dense model.
        confidence: of the bound, in (0.5, 1).

    Raises:
        UnjudgeableError: the score is not shown to lie above what knowing nothing scores.
    """
    right, floor = score.examples.outcome(score.metric), score.floors[score.metric]
    pairs = stats.PairedCounts.from_outcomes(right, right)
    if floor >= 1 or not stats.judgeable(pairs, floor, confidence):
        asked = "facts" if score.probe == "facts" else "examples"
        msg = (
            f"dense: probe {score.probe}: COULD NOT MEASURE: got {score.metric} {pairs.p_dense:.3f} on n={pairs.n}, expected one shown"
            f" to lie above {floor:.3f}, what knowing nothing scores. Check model and tokenizer, or take other or more {asked}."
        )
        raise UnjudgeableError(msg)


def check_budget(
    budget: Budget, found: Mapping[tuple[str, str], tuple[Retention, stats.PairedCounts | Resampled]], confidence: float, cell: str
) -> Check:
    """Hold one budget against its interval.

    Args:
        budget: what may be lost.
        found: (probe, metric) -> comparison with dense.
        confidence: of each one-sided bound, in (0.5, 1).
        cell: id of the cell, for messages.

    Raises:
        UnjudgeableError: the outcome was not compared with dense, or the dense model is not shown to know more than the floor.
    """
    where = f"{cell}: budget {budget.kind}:{budget.probe}.{budget.metric}"
    if (budget.probe, budget.metric) not in found:
        known = ", ".join(f"{probe}.{metric}" for probe, metric in sorted(found)) or "none: there is no dense run"
        msg = f"{where}: COULD NOT MEASURE: got no such outcome, expected one of {known}. Correct the budget or record the dense baseline."
        raise UnjudgeableError(msg)
    record, pairs = found[budget.probe, budget.metric]
    if not record.judgeable:
        msg = (
            f"{where}: COULD NOT MEASURE: got a dense score of {record.p_dense:.3f} on n={record.n}, expected one shown to lie above"
            f" {record.floor:.3f}, what knowing nothing scores. This probe cannot judge this model: drop the budget or use more examples."
        )
        raise UnjudgeableError(msg)
    if isinstance(pairs, Resampled):
        return check_mean(budget, record, pairs, confidence)
    estimate, decide = _decider(budget, record)
    interval, word = decide(pairs, confidence)
    if record.lossless and (budget.kind != "retention" or budget.limit <= 1):
        # Equal in every answer and score: there is no loss to be uncertain about.
        word = RETAINED
    n_more = _n_more(budget, record, pairs, confidence, decide) if word == INCONCLUSIVE else None
    return Check(
        probe=budget.probe,
        metric=budget.metric,
        kind=budget.kind,
        limit=budget.limit,
        estimate=estimate,
        low=interval.low,
        high=interval.high,
        word=word,
        n_more=n_more,
    )


def _decider(budget: Budget, record: Retention) -> tuple[float, Decide]:
    """Return the estimate of what a budget limits, and what finds its interval and word."""
    limit, floor = budget.limit, record.floor

    def at_least(pairs: stats.PairedCounts, confidence: float) -> tuple[stats.Interval, str]:
        interval = stats.retention_interval(pairs, floor, confidence)
        return interval, RETAINED if interval.low >= limit else FORGOT if interval.high < limit else INCONCLUSIVE

    def at_most(pairs: stats.PairedCounts, confidence: float) -> tuple[stats.Interval, str]:
        find = stats.drop_interval if budget.kind == "drop" else stats.flips_interval
        interval = find(pairs, confidence)
        return interval, RETAINED if interval.high <= limit else FORGOT if interval.low > limit else INCONCLUSIVE

    if budget.kind == "retention":
        return float(record.estimate or 0.0), at_least
    if budget.kind in {"drop", "flips"}:
        return (record.p_dense - record.p_now if budget.kind == "drop" else record.flips), at_most
    msg = f"budget {budget.probe}.{budget.metric}: kind: got {budget.kind!r}, expected retention, drop or flips. Correct it."
    raise UnjudgeableError(msg)


def _n_more(
    budget: Budget,
    record: Retention,
    pairs: stats.PairedCounts,
    confidence: float,
    decide: Decide,
) -> int | None:
    """Return how many more examples of the same proportions would decide, or None where no number would."""
    if budget.kind == "retention":
        return stats.n_more_to_decide(pairs, record.floor, budget.limit, confidence)

    def decided(factor: float) -> bool:
        return decide(_scaled(pairs, factor), confidence)[1] != INCONCLUSIVE

    high = 2.0
    while not decided(high):
        high *= 2.0
        if high * pairs.n > _N_CAP:
            return None
    low = high / 2.0
    while (high - low) * pairs.n > 1.0:
        middle = (low + high) / 2.0
        low, high = (low, middle) if decided(middle) else (middle, high)
    return math.ceil(high * pairs.n) - pairs.n


def _scaled(pairs: stats.PairedCounts, factor: float) -> stats.PairedCounts:
    both, lost, gained, neither = (round(count * factor) for count in (pairs.both, pairs.lost, pairs.gained, pairs.neither))
    return stats.PairedCounts(both=both, lost=lost, gained=gained, neither=neither)
