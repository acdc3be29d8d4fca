"""Judge a measurement: budgets against the dense model, and the stored run of the same cell.

Every comparison is paired by example id. Numbers are compared unrounded.

Source: `stats` names the intervals and tests; which word follows from them is defined in `docs/verdicts.md`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.errors import UnjudgeableError
from pytest_kick.noise import assumed_noise
from pytest_kick.verdict.budgets import check_budget, check_knows
from pytest_kick.verdict.compare import changed_answers, in_both, lossless, outcome_metrics, paired, worst_groups
from pytest_kick.verdict.means import NOISE, Resampled, check_mean_known, mean_regression, mean_retention
from pytest_kick.verdict.records import (
    CHANGED,
    IMPROVED,
    NEW,
    REGRESSED,
    UNCHANGED,
    GroupLoss,
    Regression,
    Retention,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_kick.examples import Examples
    from pytest_kick.result import Measurement, ProbeScore
    from pytest_kick.spec import Budget

    Key = tuple[str, str]


def judge(
    measurement: Measurement,
    *,
    dense: Mapping[str, Examples] | None,
    stored: Mapping[str, Examples] | None,
    budgets: Sequence[Budget] = (),
    confidence: float = 0.95,
    n_comparisons: int = 1,
    noise_floors: Mapping[str, Mapping[str, float]] | None = None,
) -> Verdict:
    """Judge one cell.

    Args:
        measurement: what was measured; where it covers a sample, the others are compared on the same ids.
        dense: probe -> examples of the dense model, from its baseline; None for the dense cell itself.
        stored: probe -> examples of the stored run of this cell; None where there is none (NEW).
        budgets: what the cell may lose; the dense cell has none.
        confidence: of each one-sided bound, in (0.5, 1).
        n_comparisons: cells of the run, one for each of their probes, at least 1; REGRESSED is corrected over them.
        noise_floors: probe -> metric -> fraction of the examples a run may lose net by noise, as stored with the dense baseline.

    Returns:
        The verdict.

    Raises:
        UnjudgeableError: the dense model is not shown to know more than the floor (COULD NOT MEASURE), in its own cell or under a
            budget; or a budget names a probe or metric that was not measured, or there is no dense run.
    """
    if measurement.cell == "dense":
        budgets = ()
        _check_dense(measurement.scores, confidence)
    judged = {(budget.probe, budget.metric) for budget in budgets} | {(score.probe, score.metric) for score in measurement.scores}
    found: dict[Key, tuple[Retention, stats.PairedCounts | Resampled]] = {}
    regressions: list[Regression] = []
    for score in measurement.scores:
        if dense is not None and measurement.cell != "dense" and score.probe in dense:
            found |= _retentions(*in_both(score, dense[score.probe]), judged, confidence)
        reference = None
        if stored and score.probe in stored:
            score, reference = in_both(score, stored[score.probe])  # noqa: PLW2901 - what both have is what is compared
        whole = reference is not None and len((stored or {})[score.probe]) == len(reference)
        for metric in sorted(metric for probe, metric in judged if probe == score.probe):
            noise = _noise(measurement.dtype, score, metric, noise_floors or {})
            record = _against_stored(score, reference, metric, stats.bonferroni(confidence, n_comparisons), noise)
            regressions.append(replace(record, whole=whole))
    return Verdict(
        cell=measurement.cell,
        dtype=measurement.dtype,
        confidence=confidence,
        n_comparisons=n_comparisons,
        retentions=tuple(record for record, _ in found.values()),
        checks=tuple(check_budget(budget, found, confidence, measurement.cell) for budget in budgets),
        regressions=tuple(regressions),
    )


def _check_dense(scores: Sequence[ProbeScore], confidence: float) -> None:
    """Refuse a dense model that knows nothing on some probe: the first is told in full, the others by name."""
    refused: dict[str, UnjudgeableError] = {}
    for score in scores:
        try:
            if (mean := score.mean(score.metric)) is None:
                check_knows(score, confidence)
            else:
                check_mean_known(score, mean, confidence)
        except UnjudgeableError as error:
            refused[score.probe] = error
    if refused:
        (_, first), *others = refused.items()
        if not others:
            raise first
        msg = f"{first} The same holds for {', '.join(probe for probe, _ in others)}."
        raise UnjudgeableError(msg) from first


def _retentions(
    score: ProbeScore, reference: Examples, judged: Collection[Key], confidence: float
) -> dict[Key, tuple[Retention, stats.PairedCounts | Resampled]]:
    """Compare one probe with the dense model under all its outcomes and means."""
    found: dict[Key, tuple[Retention, stats.PairedCounts | Resampled]] = {
        (score.probe, mean.name): mean_retention(score, reference, mean, confidence) for mean in score.means
    }
    for metric in outcome_metrics(score, reference):
        key, pairs = (score.probe, metric), paired(reference, score.examples, metric)
        worst = worst_groups(reference, score.examples, metric) if key in judged else ()
        found[key] = (_retention(score, reference, metric, pairs, confidence, worst), pairs)
    return found


def _retention(
    score: ProbeScore,
    reference: Examples,
    metric: str,
    pairs: stats.PairedCounts,
    confidence: float,
    worst: tuple[GroupLoss, ...],
) -> Retention:
    floor = float(score.floors[metric])
    judgeable = floor < 1 and stats.judgeable(pairs, floor, confidence)  # 1: ten answers or fewer are all among the first ten
    interval = stats.retention_interval(pairs, floor, confidence) if judgeable else stats.Interval(low=-math.inf, high=math.inf)
    return Retention(
        probe=score.probe,
        metric=metric,
        n=pairs.n,
        floor=floor,
        p_dense=pairs.p_dense,
        p_now=pairs.p_compressed,
        judgeable=judgeable,
        estimate=stats.retention(pairs, floor) if judgeable else None,
        low=_finite(interval.low) if judgeable else None,
        high=_finite(interval.high) if judgeable else None,
        raw=pairs.p_compressed / pairs.p_dense if pairs.p_dense else None,
        lost=pairs.lost,
        gained=pairs.gained,
        changed=changed_answers(score, reference, metric),
        flips=pairs.flips,
        lossless=lossless(reference, score.examples),
        worst=worst,
    )


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _against_stored(score: ProbeScore, reference: Examples | None, metric: str, threshold: float, noise: float) -> Regression:
    mean = score.mean(metric)
    if mean is None:
        return _regression(score, reference, metric, threshold, noise)
    return mean_regression(score, reference, mean, threshold, noise)


def _regression(score: ProbeScore, reference: Examples | None, metric: str, threshold: float, noise: float) -> Regression:
    """Compare one probe with the stored run under one outcome."""
    now = score.examples.outcome(metric)
    new = Regression(
        probe=score.probe,
        metric=metric,
        word=NEW,
        n=len(now),
        p_stored=None,
        p_now=float(np.mean(now)),
        lost=0,
        gained=0,
        changed=None,
        p_value=1.0,
        threshold=threshold,
        noise_floor=noise,
    )
    if reference is None:
        return new
    pairs = paired(reference, score.examples, metric)
    changed = changed_answers(score, reference, metric)
    more, less = max(pairs.lost, pairs.gained), min(pairs.lost, pairs.gained)
    p_value = stats.mcnemar_exact_one_sided(more, less)
    word = CHANGED if more or changed else UNCHANGED
    if p_value <= threshold and more - less > noise:
        word = REGRESSED if pairs.lost > pairs.gained else IMPROVED
    return replace(
        new,
        word=word,
        p_stored=pairs.p_dense,
        lost=pairs.lost,
        gained=pairs.gained,
        changed=changed,
        p_value=p_value,
        most_lost=stats.drop_interval(pairs, 1 - threshold).high,
        worst=worst_groups(reference, score.examples, metric),
    )


def _noise(dtype: str, score: ProbeScore, metric: str, floors: Mapping[str, Mapping[str, float]]) -> float:
    """Return the net loss that noise may cause, in examples, or in units of a mean: measured, or a cautious figure until it is.

    A cautious figure of a mean is only ever raised.
    """
    n = len(score.examples)
    measured = floors.get(score.probe, {}).get(metric)
    if score.mean(metric):
        # Passes of other sizes move a mean less than another machine does, and the dense model's distance from itself not at all.
        return max(NOISE[dtype], measured or 0.0)
    if measured is not None:
        return measured * n
    return assumed_noise(dtype, n)
