"""C6: what is already forgotten where perplexity has hardly moved."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Finding, number
from pytest_kick.claims.ruling import KEPT
from pytest_kick.means import value_of, values_of, weights_of
from pytest_kick.stats import PairedCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_kick.claims.probed import Probed

    Floats = NDArray[np.float64]

FLUENT = ("C6", "where perplexity is a tenth above dense, knowledge is already lost")
RATIO = 1.1
_METRIC = "p1"
_UNREACHED = "no grid of levels crosses a perplexity ratio of 1.1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Point:
    """One level: estimates and resamples `(B,)` of the perplexity ratio and of the retention of facts."""

    level: float
    ratio: float
    retention: float
    ratios: Floats
    retentions: Floats
    n: int


def forgotten_while_fluent(facts: Iterable[Probed], perplexity: Iterable[Probed], confidence: float = 0.95) -> list[Finding]:
    """Decide C6 for every model and dtype, each method of scope `overall` an arm: retention at a perplexity ratio of 1.1 is under .95.

    Between the last level whose ratio is at most 1.1 and the next one, retention is interpolated along the ratio, in every resample of
    facts and, apart from them, of windows. The dense model is the level 0. An arm that never reaches the ratio says nothing.

    Args:
        facts: scores of the probe `facts`, the dense model's among them, in any order.
        perplexity: scores of the probe `perplexity` of the same cells; of several texts that which most cells of a model were asked.
        confidence: of each bound, in (0.5, 1).
    """
    texts = {(cell.model, cell.dtype, cell.compression.id): cell for cell in _of_one_text(perplexity)}
    known = {(cell.model, cell.dtype, cell.compression.id): cell for cell in facts}
    made = []
    for model, dtype in dict.fromkeys(key[:2] for key in known):
        dense, text = known.get((model, dtype, "dense")), texts.get((model, dtype, "dense"))
        if dense is None or text is None:
            continue
        arms: dict[str, list[tuple[Probed, Probed]]] = {}
        for key, cell in known.items():
            steps = cell.compression.steps
            plain = len(steps) == 1 and steps[0].kind == "sparsity" and steps[0].scope == "overall" and not steps[0].params
            if key[:2] == (model, dtype) and plain and key in texts:
                arms.setdefault(steps[0].method, []).append((cell, texts[key]))
        for arm, pairs in arms.items():
            made.append(_found(dense, arm, [_point(dense, text, *pair) for pair in pairs], confidence))
    return made


def _of_one_text(perplexity: Iterable[Probed]) -> list[Probed]:
    """Return the scores on one text for each model and dtype."""
    cells = list(perplexity)
    asked = Counter((cell.model, cell.dtype, cell.score.probe) for cell in cells)
    chosen: dict[tuple[str, str], str] = {}
    for (model, dtype, text), _ in sorted(asked.items(), key=lambda entry: (-entry[1], entry[0])):
        chosen.setdefault((model, dtype), text)
    return [cell for cell in cells if chosen[cell.model, cell.dtype] == cell.score.probe]


def _point(dense: Probed, text: Probed, cell: Probed, asked: Probed) -> _Point:
    ids = cell.score.examples.ids
    before, now = dense.on(ids, _METRIC), cell.on(ids, _METRIC)
    floor = cell.score.floors[_METRIC]
    (mean,) = [mean for mean in asked.score.means if mean.name == asked.score.metric]
    windows = text.score.examples.subset(asked.score.examples.ids)
    nats = [values_of(mean, examples) for examples in (windows, asked.score.examples)]
    weights = weights_of(mean, windows)
    drawn = [(w * weights) / (w * weights).sum(1, keepdims=True) for w in _draws(len(weights), 1)]
    known = [(w @ before - w.sum(1) * floor, w @ now - w.sum(1) * floor) for w in _draws(len(ids), 0)]
    above, kept = (np.concatenate(part) for part in zip(*known, strict=True))
    return _Point(
        level=float(cell.compression.steps[0].level),
        ratio=float(np.exp(value_of(mean, asked.score.examples) - value_of(mean, windows))),
        retention=stats.retention(PairedCounts.from_outcomes(before, now), floor),
        ratios=np.exp(np.concatenate([w @ (nats[1] - nats[0]) for w in drawn])),
        retentions=np.divide(kept, above, out=np.zeros_like(kept), where=above > 0),
        n=len(ids),
    )


def _draws(n: int, seed: int) -> list[Floats]:
    return list(stats.resamples(n, groups=None, n_resamples=2000, seed=seed))


def _found(dense: Probed, arm: str, points: Sequence[_Point], confidence: float) -> Finding:
    ordered = sorted(points, key=lambda point: point.level)
    ones = np.ones_like(ordered[0].ratios)
    grid = [_Point(level=0.0, ratio=1.0, retention=1.0, ratios=ones, retentions=ones, n=ordered[0].n), *ordered]
    estimate = _interpolated(np.array([[p.ratio] for p in grid]), np.array([[p.retention] for p in grid]))[0]
    drawn = _interpolated(np.array([p.ratios for p in grid]), np.array([p.retentions for p in grid]))
    reached = bool(np.isfinite(estimate))
    # A resample that never reaches the ratio could be anything: it widens the interval on both sides.
    low = stats.percentile_interval(np.where(np.isnan(drawn), -np.inf, drawn), confidence).low if reached else None
    high = stats.percentile_interval(np.where(np.isnan(drawn), np.inf, drawn), confidence).high if reached else None
    bounded = low is not None and high is not None and np.isfinite([low, high]).all()
    word = UNDECIDED
    if not reached:
        word = NOT_APPLICABLE
    elif bounded and high is not None and high < KEPT:
        word = HOLDS
    elif bounded and low is not None and low >= KEPT:
        word = DOES_NOT_HOLD
    levels = ", ".join(f"{p.level:g}: {number(p.ratio)} / {number(p.retention)}" for p in ordered[:4])
    return Finding(
        claim=FLUENT[0],
        model=dense.model,
        family=dense.family,
        dtype=dense.dtype,
        arm=arm,
        statement=FLUENT[1],
        word=word,
        estimate=float(estimate) if reached else None,
        low=low if bounded else None,
        high=high if bounded else None,
        unit="retention",
        detail=f"perplexity ratio / retention at {levels}" if reached else _UNREACHED,
        n=ordered[0].n,
        n_cells=len(points),
    )


def _interpolated(ratios: Floats, retentions: Floats) -> Floats:
    """Return retention where the ratio first passes 1.1, `(levels, B)` to `(B,)`; NaN where it never does."""
    found = np.full(ratios.shape[1], np.nan)
    for (r0, k0), (r1, k1) in pairwise(zip(ratios, retentions, strict=True)):
        crosses = np.isnan(found) & (r0 <= RATIO) & (r1 > RATIO)
        share = np.divide(RATIO - r0, r1 - r0, out=np.zeros_like(r0), where=crosses)
        found = np.where(crosses, k0 + share * (k1 - k0), found)
    return found
