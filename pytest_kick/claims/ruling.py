"""The rules that the claims share: equal, more, keeps, loses; and means over seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, UNDECIDED
from pytest_kick.infos import CALIBRATION
from pytest_kick.registry import METHODS
from pytest_kick.stats import Interval, PairedCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.panel import Panel
    from pytest_kick.infos import Scalar
    from pytest_kick.spec import CompressionStep

EQUAL = 0.05
"""A difference of retentions that counts as none."""
KEPT = 0.95
ALIVE = 0.1
"""Retention below which two models are too dead to be compared."""
FLOAT32 = "float32"
"""Claims about 8 bits and more are decided there: rounding to bfloat16 is as large as rounding to int8."""

Params = tuple[tuple[str, "Scalar"], ...]
Pair = tuple["Cell", "Cell"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """Hold what some comparisons show together.

    Attributes:
        word: `holds`, `does not hold` or `undecided`.
        index: of the comparison that decides.
        estimate: of that one.
        interval: of that one.
    """

    word: str
    index: int
    estimate: float
    interval: Interval

    @property
    def place(self) -> tuple[float, Interval]:
        """Return estimate and interval."""
        return self.estimate, self.interval


def equal(panel: Panel, pairs: Sequence[Pair]) -> Ruling:
    """Decide whether the two cells of every pair retain as much, to within 0.05 (two one-sided tests each).

    `does not hold` where one pair is shown to differ by more, either way (Holm over all). What decides is the pair whose interval
    reaches farthest, or, where the rule does not hold, the clearest one.
    """
    contrasts = [panel.contrast(x, y) for x, y in pairs]
    p_differ = [min(c.p_more(EQUAL), c.swapped().p_more(EQUAL)) for c in contrasts]
    apart = any(stats.holm([min(1.0, 2.0 * p) for p in p_differ], 1.0 - panel.confidence))
    intervals = [contrast.interval(panel.confidence) for contrast in contrasts]
    all_equal = all(stats.equivalent(interval, EQUAL) for interval in intervals)
    word = DOES_NOT_HOLD if apart else HOLDS if all_equal else UNDECIDED
    shown = int(np.argmin(p_differ)) if apart else int(np.argmax([max(interval.high, -interval.low) for interval in intervals]))
    return Ruling(word=word, index=shown, estimate=contrasts[shown].estimate, interval=intervals[shown])


def more(panel: Panel, pairs: Sequence[Pair], margin: float = 0.0) -> Ruling:
    """Decide whether the first cell of every pair retains more than the second, by over `margin`.

    `holds` where that is shown of each pair at the confidence asked for (all have to be shown: nothing is gained by many trials);
    `does not hold` where the lead of one pair is shown to be less than `margin` + 0.05 and not shown to be above it (Bonferroni).
    What decides is the pair of the smallest lower bound, or, where the rule does not hold, of the smallest upper one.
    """
    contrasts = [panel.contrast(x, y) for x, y in pairs]
    intervals = [contrast.interval(panel.confidence) for contrast in contrasts]
    strict = [contrast.interval(_bonferroni(panel.confidence, len(pairs))) for contrast in contrasts]
    behind = [i for i, wide in enumerate(strict) if wide.high < margin + EQUAL and intervals[i].low <= margin]
    word = HOLDS if all(interval.low > margin for interval in intervals) else DOES_NOT_HOLD if behind else UNDECIDED
    shown = min(behind, key=lambda i: intervals[i].high) if behind else int(np.argmin([interval.low for interval in intervals]))
    return Ruling(word=word, index=shown, estimate=contrasts[shown].estimate, interval=intervals[shown])


def keeps(panel: Panel, cells: Sequence[Cell], limit: float = KEPT) -> Ruling:
    """Decide whether every cell retains at least `limit`.

    `holds` where that is shown of each, `does not hold` where one is shown to retain less (Bonferroni). What decides is the cell that
    retains least.
    """
    intervals = [retained(panel, cell, panel.confidence) for cell in cells]
    fails = any(retained(panel, cell, _bonferroni(panel.confidence, len(cells))).high < limit for cell in cells)
    word = HOLDS if all(interval.low >= limit for interval in intervals) else DOES_NOT_HOLD if fails else UNDECIDED
    shown = int(np.argmin([interval.low for interval in intervals]))
    return Ruling(word=word, index=shown, estimate=panel.retention(cells[shown]), interval=intervals[shown])


def loses(panel: Panel, cells: Sequence[Cell], limit: float = KEPT) -> Ruling:
    """Decide whether every cell retains less than `limit`.

    `holds` where that is shown of each, `does not hold` where one is shown to retain at least `limit` (Bonferroni). What decides is
    the cell that retains most.
    """
    intervals = [retained(panel, cell, panel.confidence) for cell in cells]
    kept = any(retained(panel, cell, _bonferroni(panel.confidence, len(cells))).low >= limit for cell in cells)
    word = HOLDS if all(interval.high < limit for interval in intervals) else DOES_NOT_HOLD if kept else UNDECIDED
    shown = int(np.argmax([interval.high for interval in intervals]))
    return Ruling(word=word, index=shown, estimate=panel.retention(cells[shown]), interval=intervals[shown])


def retained(panel: Panel, cell: Cell, confidence: float) -> Interval:
    """Return the interval of the retention of a cell, its bounds at least 0."""
    found = stats.retention_interval(PairedCounts.from_outcomes(panel.dense, cell.right), panel.floor, confidence)
    return Interval(low=max(found.low, 0.0), high=max(found.high, 0.0))


def over_seeds(of_seed: Sequence[float], draws: NDArray[np.float64], confidence: float) -> tuple[float, Interval]:
    """Return a mean over seeds with an interval that allows for seeds and facts.

    The variance of the mean over seeds, from their spread, plus the variance over resamples of the facts, at Student's t with
    seeds - 1 degrees of freedom. (Facts count in both: a little too wide.)

    Args:
        of_seed: a value for each seed, two or more.
        draws: `(B,)`: their mean per resample of the facts.
        confidence: of each bound.
    """
    from scipy import special  # noqa: PLC0415 - 0.15 s that collection need not pay

    estimate = float(np.mean(of_seed))
    deviation = math.sqrt(float(np.var(of_seed, ddof=1)) / len(of_seed) + float(np.var(draws, ddof=1)))
    reach = float(special.stdtrit(len(of_seed) - 1, confidence)) * deviation
    return estimate, Interval(low=estimate - reach, high=estimate + reach)


def alive(panel: Panel, pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs of which one cell retains over 0.1."""
    return [pair for pair in pairs if max(panel.retention(cell) for cell in pair) > ALIVE]


def calibration(step: CompressionStep) -> Params:
    """Return the parameters of a step that say what data it saw; none of a method that looks at none."""
    known = dict(CALIBRATION) if METHODS.get(step.method, "claims").calibrated else {}
    return tuple((name, value) for name, value in step.params if name in known)


def settings(step: CompressionStep) -> Params:
    """Return the parameters of a step that say something else than the data and the pattern."""
    known = {"pattern", *(name for name, _ in calibration(step))}
    return tuple((name, value) for name, value in step.params if name not in known)


def plain(panel: Panel, method: str, scope: str = "overall") -> Iterator[tuple[CompressionStep, Cell]]:
    """Iterate over the cells of one step of a method, its own settings at their defaults, on whatever data."""
    yield from ((step, cell) for step, cell in panel.single() if (step.method, step.scope) == (method, scope) and not settings(step))


def _bonferroni(confidence: float, n: int) -> float:
    return 1.0 - (1.0 - confidence) / n
