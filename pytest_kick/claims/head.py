"""C4: rows of the final layer against single weights of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, grid, number
from pytest_kick.claims.ruling import over_seeds
from pytest_kick.stats import Interval
from pytest_kick.stats.bootstrap import percentile_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel

SCOPE = "head"
FAR_MORE = 0.1
LEAST_SEEDS = 5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """Hold single weights against rows at one level and seed, compared on the facts whose gold row is still there."""

    level: float
    seed: int
    single: Cell
    rows: Cell

    @property
    def rest(self) -> NDArray[np.bool_] | None:
        """Return `(n,)` bool: the facts to decide on, None for all, where the rows removed are not recorded."""
        return None if self.rows.gold_row_gone is None else ~self.rows.gold_row_gone


def rows_against_weights(panel: Panel) -> list[Finding]:
    """Decide C4: removing rows of the final layer hurts far more than removing as many single weights.

    Near a tautology: the logit of a removed row becomes its bias, so a fact whose gold answer lost its row is lost whatever the model
    knows. The share of such facts is reported, and the claim is decided on the rest (on all, and said so, where it is not recorded).

    What decides is one number: the retention without single weights less that without rows, the mean over the levels at which the
    former is above 0.1 on the estimate (elsewhere a difference of 0.1 cannot be; no such level: `not applicable`). `holds` where
    its lower bound lies above 0.1, `does not hold` where its upper bound lies below, else `undecided`.

    Two arms: the smallest (`l1_per_matrix`, `ln_structured`) and, at the levels with at least 5 common seeds, random ones. The
    interval of the latter allows for seeds and facts (`ruling.over_seeds`).
    """
    arms = (("smallest", _smallest(panel)), ("random", _random(panel)))
    return [_decided(panel, arm, pairs) for arm, pairs in arms if pairs]


def _smallest(panel: Panel) -> list[Pair]:
    single, rows = panel.find("l1_per_matrix", SCOPE), panel.find("ln_structured", SCOPE)
    return [Pair(level=level, seed=0, single=single[level], rows=rows[level]) for level in single if level in rows]


def _random(panel: Panel) -> list[Pair]:
    """Return the pairs of all levels that at least five seeds share, for the seeds that all of these levels have."""
    pairs = []
    for seed in panel.seeds("random_structured", SCOPE):
        single, rows = (panel.find(method, SCOPE, seed=seed) for method in ("random_unstructured", "random_structured"))
        pairs += [Pair(level=level, seed=seed, single=single[level], rows=rows[level]) for level in single if level in rows]
    seeds: dict[float, set[int]] = {}
    for pair in pairs:
        seeds.setdefault(pair.level, set()).add(pair.seed)
    enough = {level: found for level, found in seeds.items() if len(found) >= LEAST_SEEDS}
    common = set.intersection(*enough.values()) if enough else set()
    return [pair for pair in pairs if pair.level in enough and pair.seed in common] if len(common) >= LEAST_SEEDS else []


def _decided(panel: Panel, arm: str, pairs: list[Pair]) -> Finding:
    if not panel.judgeable():
        return panel.unjudged("C4", arm, 2 * len(pairs))
    used = _informative(panel, pairs)
    if not used:
        detail = f"without single weights the model retains at most {number(FAR_MORE)} at every level, or too few gold rows are left"
        return panel.finding("C4", arm, NOT_APPLICABLE, detail, 2 * len(pairs))
    estimate, interval = _pooled(panel, used)
    word = HOLDS if interval.low > FAR_MORE else DOES_NOT_HOLD if interval.high < FAR_MORE else UNDECIDED
    return panel.finding("C4", arm, word, _detail(panel, used), 2 * len(used), (estimate, interval))


def _informative(panel: Panel, pairs: list[Pair]) -> list[Pair]:
    """Return the pairs of the levels at which a difference of 0.1 could be."""
    used = []
    for level in sorted({pair.level for pair in pairs}):
        here = [pair for pair in pairs if pair.level == level]
        if all(panel.judgeable(p.rest) for p in here) and np.mean([panel.retention(p.single, p.rest) for p in here]) > FAR_MORE:
            used += here
    return used


def _pooled(panel: Panel, pairs: list[Pair]) -> tuple[float, Interval]:
    """Return the mean difference over levels and seeds, with its interval over facts and, where there are several, seeds."""
    contrasts = [panel.contrast(pair.single, pair.rows, pair.rest) for pair in pairs]
    kept = [np.maximum(panel.draws(pair.single, pair.rows, pair.rest), 0.0) for pair in pairs]
    draws = np.mean([drawn[:, 0] - drawn[:, 1] for drawn in kept], axis=0)
    estimate = float(np.mean([contrast.estimate for contrast in contrasts]))
    # No flip in the sample does not mean no flip: as in a single contrast, Tango's interval is the least width.
    below, above = np.mean([contrast.least_widths(panel.confidence) for contrast in contrasts], axis=0)
    seeds = sorted({pair.seed for pair in pairs})
    drawn = percentile_interval(draws, panel.confidence)
    if len(seeds) > 1:
        of_seed = [float(np.mean([c.estimate for c, pair in zip(contrasts, pairs, strict=True) if pair.seed == seed])) for seed in seeds]
        _, drawn = over_seeds(of_seed, draws, panel.confidence)
    return estimate, Interval(low=min(drawn.low, estimate - below), high=max(drawn.high, estimate + above))


def _detail(panel: Panel, pairs: list[Pair]) -> str:
    levels, n_seeds = sorted({pair.level for pair in pairs}), len({pair.seed for pair in pairs})
    over = "" if n_seeds == 1 else f", {n_seeds} seeds"
    everywhere = np.mean([panel.retention(pair.single) - panel.retention(pair.rows) for pair in pairs])
    if any(pair.rest is None for pair in pairs):
        return f"decided on all facts: the rows removed are not recorded; levels {grid(levels)}{over}"
    gone = [float(np.mean([np.mean(~p.rest) for p in pairs if p.level == level and p.rest is not None])) for level in levels]
    span = number(gone[0]) if len(gone) == 1 else f"{number(min(gone))} to {number(max(gone))}"
    return f"gold row gone for {span} of the facts, decided on the rest; on all {number(float(everywhere))}; levels {grid(levels)}{over}"
