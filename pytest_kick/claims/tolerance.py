"""C16: how much pruning attention and ffn take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, grid, number
from pytest_kick.stats import Interval
from pytest_kick.stats.bootstrap import percentile_interval
from pytest_kick.stats.levels import first_crossing, non_increasing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel

METHOD = "l1_per_matrix"
ARMS = (("equal scope", "ffn"), ("equal weights", "ffn_like_attention"))
TARGETS = (0.9, 0.5)
LEAST_LEVELS = 3


def attention_takes_more(panel: Panel) -> list[Finding]:
    """Decide C16, per matrix: retention falls to .9 (s90), and to .5 (s50), at a higher sparsity of attention than of ffn.

    The difference of the two levels, each by an isotonic fit and interpolation over the levels that both scopes have; resamples are
    shared. `holds` where the lower bound lies above 0, `does not hold` where the upper bound lies at or below 0, else `undecided`. A
    curve that never falls so far counts as if it did at the last level, so the difference is understated; where neither does it is
    `not applicable`. Two arms: the whole ffn, and the ffn of as many evenly spaced layers as add up to attention's weights.
    """
    attention = panel.find(METHOD, "attention")
    found = []
    for arm, scope in ARMS:
        other = panel.find(METHOD, scope)
        levels = [level for level in attention if level > 0 and level in other]
        if len(levels) >= LEAST_LEVELS:
            curves = tuple([curve[level] for level in levels] for curve in (attention, other))
            found += [_decided(panel, f"{arm}, s{target * 100:.0f}", levels, curves, target) for target in TARGETS]
    return found


def _decided(panel: Panel, arm: str, levels: list[float], curves: tuple[list[Cell], ...], target: float) -> Finding:
    if not panel.judgeable():
        return panel.unjudged("C16", arm, 2 * len(levels))
    whole = [_crossings(levels, np.asarray([[panel.retention(cell) for cell in curve]]), target)[0] for curve in curves]
    shown = f"attention {number(whole[0])}, ffn {number(whole[1])}; levels {grid(levels)}"
    if np.isinf(whole).all():
        return panel.finding("C16", arm, NOT_APPLICABLE, f"neither falls so far: {shown}", 2 * len(levels))
    first, second = (np.minimum(_crossings(levels, _drawn(panel, curve), target), levels[-1]) for curve in curves)
    estimate = float(min(whole[0], levels[-1]) - min(whole[1], levels[-1]))
    drawn = percentile_interval(first - second, panel.confidence)
    interval = Interval(low=min(drawn.low, estimate), high=max(drawn.high, estimate))
    word = HOLDS if interval.low > 0 else DOES_NOT_HOLD if interval.high <= 0 else UNDECIDED
    return panel.finding("C16", arm, word, shown, 2 * len(levels), (estimate, interval))


def _drawn(panel: Panel, curve: list[Cell]) -> NDArray[np.float64]:
    """Return the retention per resample and level, `(B, levels)`."""
    places = {id(cell): i for i, cell in enumerate(panel.cells)}
    return panel.drawn[:, [places[id(cell)] for cell in curve]]


def _crossings(levels: list[float], curves: NDArray[np.float64], target: float) -> NDArray[np.float64]:
    whole = np.concatenate([np.ones((len(curves), 1)), curves], axis=1)
    return first_crossing(np.asarray([0.0, *levels]), non_increasing(whole), target)
