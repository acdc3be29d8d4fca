"""C1 and C2: what pruning by magnitude costs, scope by scope and level by level."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, grid, number, spelled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.stats import CriticalLevel, Interval

METHOD = "l1_global"
PARTS = ("attention", "ffn")
SCOPES = ("overall", *PARTS)
EQUAL = 0.05  # a difference of retentions that counts as none, as in C7
CLIFF = 0.5
COLLAPSED = 0.5
LEAST_LEVELS = 3
N_RESAMPLES = 1000
N_RESAMPLES_CRITICAL = 500  # s90 and s50 mostly stand in the detail, and are drawn twice for every scope
_ROUNDING = 1e-9


def overall_against_parts(panel: Panel) -> list[Finding]:
    """Decide C1: pruning everything hurts at least as much as pruning attention or ffn alone, at equal fraction.

    Every level that all three scopes share gives two paired differences of retentions, overall less attention and overall less
    ffn. "At least as much" allows for a margin of 0.05 of retention: what is closer counts as equal.

    - `does not hold`: somewhere overall is shown to retain more than a part by over 0.05 (Holm over all differences).
    - `holds`: at every level overall is shown to retain at most 0.05 more than either part (each at the confidence asked for: all
      have to be shown, so nothing is gained by many trials), and somewhere less (Holm): a grid that harms no scope decides nothing.
    - `undecided`: else.

    The interval is that of the difference that decides: the one with the highest upper bound, or, where the claim does not hold,
    the clearest one.
    """
    curves = {scope: panel.find(METHOD, scope) for scope in SCOPES}
    levels = [level for level in curves["overall"] if all(level in curves[part] for part in PARTS)]
    n_cells = len(SCOPES) * len(levels)
    if not levels:
        return []
    if not panel.judgeable():
        return [panel.unjudged("C1", "", n_cells)]
    places = [(level, part) for level in levels for part in PARTS]
    contrasts = [panel.contrast(curves["overall"][level], curves[part][level]) for level, part in places]
    alpha = 1.0 - panel.confidence
    p_better = [contrast.p_more(EQUAL) for contrast in contrasts]
    better = sum(stats.holm(p_better, alpha))
    worse = sum(stats.holm([contrast.swapped().p_more() for contrast in contrasts], alpha))
    intervals = [contrast.interval(panel.confidence) for contrast in contrasts]
    bounded = all(interval.high < EQUAL for interval in intervals)
    word = DOES_NOT_HOLD if better else HOLDS if bounded and worse else UNDECIDED
    shown = int(np.argmin(p_better)) if better else int(np.argmax([interval.high for interval in intervals]))
    detail = (
        f"overall retains less at {worse} of {len(places)}, over {number(EQUAL)} more at {better}"
        f"; closest at {places[shown][0]:g} against {places[shown][1]}; levels {grid(levels)}"
    )
    return [panel.finding("C1", "", word, detail, n_cells, (contrasts[shown].estimate, intervals[shown]))]


def cliff(panel: Panel) -> list[Finding]:
    """Decide C2, scope by scope: the steepest step of retention along the grid begins at or above sparsity 0.5.

    - `holds`: the interval of the place of the steepest step lies at or above 0.5; `does not hold`: at or below. A grid on which
      retention is not shown to fall to half has no cliff: `undecided`.
    - On a grid that ends at or before 0.5 the claim cannot hold. It `does not hold` where retention is shown to have fallen to half
      within the grid (the upper bound of s50 lies on it): most of what there is to lose is lost before 0.5. Else `not applicable`.

    The interval is that of the steepest step (from a lower bound of its start to an upper bound of its end), or of s50 where that
    decides. s90 and s50, the levels at which retention is .9 and .5, stand in the detail.
    """
    found = []
    for scope in SCOPES:
        cells = panel.find(METHOD, scope)
        cells.pop(0.0, None)
        if len(cells) >= LEAST_LEVELS:
            found.append(_cliff_of(panel, scope, cells) if panel.judgeable() else panel.unjudged("C2", scope, len(cells)))
    return found


def _cliff_of(panel: Panel, scope: str, cells: dict[float, Cell]) -> Finding:
    levels, outcomes = list(cells), np.asarray([cell.right for cell in cells.values()])
    s90, s50 = (_critical(panel, levels, outcomes, target) for target in (0.9, COLLAPSED))
    tail = f"; s90 {_place(s90)}, s50 {_place(s50)}; levels {grid(levels)}"
    if levels[-1] <= CLIFF + _ROUNDING:
        if s50.interval.high > levels[-1]:
            return panel.finding("C2", scope, NOT_APPLICABLE, f"the grid ends at {levels[-1]:g} before any cliff{tail}", len(levels))
        detail = f"half is lost by {number(s50.interval.high)}, the grid ends at {levels[-1]:g}{tail}"
        return panel.finding("C2", scope, DOES_NOT_HOLD, detail, len(levels), (s50.estimate, s50.interval))
    step = stats.steepest_step(levels, outcomes, panel.dense, panel.floor, panel.confidence, n_resamples=N_RESAMPLES)
    word = UNDECIDED if math.isinf(s50.interval.high) else _side(step.interval)
    detail = f"steepest from {step.start:g} to {step.end:g}, losing {number(step.drop)}{tail}"
    return panel.finding("C2", scope, word, detail, len(levels), ((step.start + step.end) / 2.0, step.interval))


def _critical(panel: Panel, levels: list[float], outcomes: NDArray[np.bool_], target: float) -> CriticalLevel:
    n_resamples = N_RESAMPLES_CRITICAL
    return stats.critical_level(levels, outcomes, panel.dense, panel.floor, target, panel.confidence, n_resamples=n_resamples)


def _side(place: Interval) -> str:
    if place.low >= CLIFF - _ROUNDING:
        return HOLDS
    return DOES_NOT_HOLD if place.high <= CLIFF + _ROUNDING else UNDECIDED


def _place(level: CriticalLevel) -> str:
    return f"{number(level.estimate)} {spelled(level.interval.low, level.interval.high)}"
