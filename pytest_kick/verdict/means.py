"""Judge metrics that are means of numbers: scores, losses, and distances from the dense model.

Source: paired percentile bootstrap over the examples (Efron 1979) against dense; against the stored run the paired t test of the
weighted mean difference. `docs/verdicts.md` says which word follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.errors import UnjudgeableError
from pytest_kick.means import values_of, weights_of
from pytest_kick.verdict.compare import lossless, worse_groups
from pytest_kick.verdict.records import (
    CHANGED,
    FORGOT,
    IMPROVED,
    INCONCLUSIVE,
    NEW,
    REGRESSED,
    RETAINED,
    UNCHANGED,
    Check,
    Regression,
    Retention,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.examples import Examples
    from pytest_kick.infos import MeanInfo
    from pytest_kick.result import ProbeScore
    from pytest_kick.spec import Budget

    Floats = NDArray[np.float64]

_N_RESAMPLES = 2000
_N_CAP = 10_000_000
_ROUNDING = 1e-6  # numbers are kept in single precision: all at the floor may read as a little above it
NOISE = {"float32": 0.001, "bfloat16": 0.005}
"""What noise alone may change a mean by, in its own units (a share, nats), until it is measured."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resampled:
    """Hold the means of the same resamples of the examples, `(B,)` each, of the dense model and of a cell."""

    dense: Floats
    now: Floats


def mean_retention(score: ProbeScore, reference: Examples, mean: MeanInfo, confidence: float) -> tuple[Retention, Resampled]:
    """Compare a mean with the dense model's; return the comparison, and the resamples from which a budget is judged.

    Args:
        score: of this cell.
        reference: the same examples of the dense model.
        mean: the metric.
        confidence: of each bound, in (0.5, 1).
    """
    before, now, weights = values_of(mean, reference), values_of(mean, score.examples), weights_of(mean, reference)
    groups = reference.groups if mean.macro else None
    floor = float(score.floors.get(mean.name, 0.0))
    drawn = [(w @ before / w.sum(1), w @ now / w.sum(1)) for w in _draws(weights, groups)]
    resampled = Resampled(dense=np.concatenate([part for part, _ in drawn]), now=np.concatenate([part for _, part in drawn]))
    p_dense, p_now = (float(np.average(values, weights=weights)) for values in (before, now))
    judgeable = len(score.examples) > 1 and _knows(resampled.dense, mean, floor, confidence)
    estimate, low, high = _compared(mean, floor, (p_dense, p_now), resampled, confidence) if judgeable else (None, None, None)
    worse, better = _moved(mean, before, now)
    record = Retention(
        probe=score.probe,
        metric=mean.name,
        n=len(score.examples),
        floor=floor,
        p_dense=p_dense,
        p_now=p_now,
        judgeable=judgeable,
        estimate=estimate,
        low=low,
        high=high,
        raw=p_now / p_dense if mean.kind == "score" and p_dense else None,
        lost=worse,
        gained=better,
        changed=None,
        flips=(worse + better) / len(score.examples),
        lossless=lossless(reference, score.examples),
        kind=mean.kind,
        worst=worse_groups(reference, score.examples, _worse(mean, before, now)),
    )
    return record, resampled


def check_mean_known(score: ProbeScore, mean: MeanInfo, confidence: float) -> None:
    """Refuse a probe on which the dense model does no better than knowing nothing.

    Args:
        score: of the dense model.
        mean: the probe's own metric.
        confidence: of the bound, in (0.5, 1).

    Raises:
        UnjudgeableError: the mean is not shown to be better than its floor.
    """
    values, weights = values_of(mean, score.examples), weights_of(mean, score.examples)
    floor = float(score.floors.get(mean.name, 0.0))
    drawn = np.concatenate([w @ values / w.sum(1) for w in _draws(weights, score.examples.groups if mean.macro else None)])
    if len(values) < 2 or not _knows(drawn, mean, floor, confidence):  # noqa: PLR2004 - a spread needs two
        side = "below" if mean.kind == "loss" else "above"
        msg = (
            f"dense: probe {score.probe}: COULD NOT MEASURE: got {mean.name} {float(np.average(values, weights=weights)):.3f} on"
            f" n={len(values)}, expected one shown to lie {side} {floor:.3f}, what knowing nothing scores. Check model and tokenizer, or"
            " take other or more examples."
        )
        raise UnjudgeableError(msg)


def check_mean(budget: Budget, record: Retention, resampled: Resampled, confidence: float) -> Check:
    """Hold a budget on a mean against its interval.

    Args:
        budget: what may be lost.
        record: the comparison with dense, judgeable.
        resampled: of the same examples.
        confidence: of each bound, in (0.5, 1).

    Raises:
        UnjudgeableError: the metric cannot have such a limit.
    """
    able = {"score": ("retention", "drop"), "loss": ("ratio",), "distance": ("at_most",)}[record.kind]
    if budget.kind not in able:
        where = f"budget {budget.kind}:{budget.probe}.{budget.metric}"
        msg = f"{where}: kind: got {budget.kind!r}, expected {' or '.join(able)} for a {record.kind}. Correct it."
        raise UnjudgeableError(msg)
    estimate, low, high = record.estimate or 0.0, record.low, record.high
    if budget.kind == "drop":
        interval = stats.percentile_interval(resampled.dense - resampled.now, confidence)
        estimate, low, high = record.p_dense - record.p_now, interval.low, interval.high
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    if budget.kind == "retention":
        word = RETAINED if low >= budget.limit else FORGOT if high < budget.limit else INCONCLUSIVE
    else:
        word = RETAINED if high <= budget.limit else FORGOT if low > budget.limit else INCONCLUSIVE
    if record.lossless and (budget.kind != "retention" or budget.limit <= 1):
        word = RETAINED
    return Check(
        probe=budget.probe,
        metric=budget.metric,
        kind=budget.kind,
        limit=budget.limit,
        estimate=estimate,
        low=low,
        high=high,
        word=word,
        n_more=_n_more(record.n, estimate, low, high, budget.limit) if word == INCONCLUSIVE else None,
    )


def mean_regression(score: ProbeScore, reference: Examples | None, mean: MeanInfo, threshold: float, noise: float) -> Regression:
    """Compare a mean with the stored run's.

    Args:
        score: of this cell.
        reference: the same examples of the stored run; None where there is none.
        mean: the metric.
        threshold: significance level of one cell.
        noise: what noise alone may change the mean by.
    """
    now, weights = values_of(mean, score.examples), weights_of(mean, score.examples)
    before = now if reference is None else values_of(mean, reference)
    p_stored, p_now = (float(np.average(values, weights=weights)) for values in (before, now))
    worse, better = _moved(mean, before, now)
    p_value, most, word = 1.0, None, UNCHANGED if np.array_equal(before, now) else CHANGED
    if reference is not None and len(now) > 1:
        loss = stats.paired_mean(_worse(mean, before, now), weights)
        gain = stats.paired_mean(-_worse(mean, before, now), weights)
        most = loss.upper(1 - threshold)
        p_value = (loss if loss.mean > 0 else gain).p_above_zero()
        if p_value <= threshold and abs(loss.mean) > noise:
            word = REGRESSED if loss.mean > 0 else IMPROVED
    return Regression(
        probe=score.probe,
        metric=mean.name,
        word=NEW if reference is None else word,
        n=len(now),
        p_stored=None if reference is None else p_stored,
        p_now=p_now,
        lost=worse,
        gained=better,
        changed=None,
        p_value=p_value,
        threshold=threshold,
        noise_floor=noise,
        most_lost=most,
        worst=() if reference is None else worse_groups(reference, score.examples, _worse(mean, before, now)),
        kind=mean.kind,
    )


def _draws(weights: Floats, groups: NDArray[np.str_] | None) -> list[Floats]:
    """Return resamples as weights `(B, n)` of the examples, in blocks."""
    blocks = stats.resamples(len(weights), groups=groups, n_resamples=_N_RESAMPLES, seed=0)
    return [block * weights for block in blocks]


def _knows(dense: Floats, mean: MeanInfo, floor: float, confidence: float) -> bool:
    """Say whether the dense mean is shown to be better than knowing nothing; a distance has nothing to know."""
    if mean.kind == "distance":
        return True
    interval = stats.percentile_interval(dense, confidence)
    return interval.high < floor - _ROUNDING if mean.kind == "loss" else interval.low > floor + _ROUNDING


def _compared(
    mean: MeanInfo, floor: float, means: tuple[float, float], resampled: Resampled, confidence: float
) -> tuple[float, float | None, float | None]:
    """Return retention, ratio or distance with its interval."""
    (p_dense, p_now), dense, now = means, resampled.dense, resampled.now
    if mean.kind == "loss":
        interval = stats.percentile_interval(np.exp(now - dense), confidence)
        return math.exp(p_now - p_dense), interval.low, interval.high
    if mean.kind == "distance":
        interval = stats.percentile_interval(now, confidence)
        return p_now, interval.low, interval.high
    above = dense > floor
    ratio = np.divide(now - floor, dense - floor, out=np.full_like(now, np.nan), where=above)
    low = stats.percentile_interval(np.where(above, ratio, -np.inf), confidence).low
    high = stats.percentile_interval(np.where(above, ratio, np.inf), confidence).high
    return (p_now - floor) / (p_dense - floor), low if math.isfinite(low) else None, high if math.isfinite(high) else None


def _worse(mean: MeanInfo, before: Floats, now: Floats) -> Floats:
    """Return by how much each example is worse now."""
    return before - now if mean.kind == "score" else now - before


def _moved(mean: MeanInfo, before: Floats, now: Floats) -> tuple[int, int]:
    worse = _worse(mean, before, now)
    return int((worse > 0).sum()), int((worse < 0).sum())


def _n_more(n: int, estimate: float, low: float, high: float, limit: float) -> int | None:
    """Return how many more examples would bring the bound to the limit, the interval shrinking with the root of n."""
    gap, reach = abs(estimate - limit), (estimate - low if estimate > limit else high - estimate)
    if not gap or not math.isfinite(reach):
        return None
    needed = math.ceil(n * (reach / gap) ** 2)
    return needed - n if n < needed < _N_CAP else None
