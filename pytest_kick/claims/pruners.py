"""C7 and C8: pruners that look at activations against magnitude, and N:M patterns against single weights."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from pytest_kick.claims.finding import NOT_APPLICABLE, grid, number
from pytest_kick.claims.ruling import ALIVE, alive, calibration, equal, loses, more, plain

if TYPE_CHECKING:
    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.claims.ruling import Pair, Params

MAGNITUDE = "l1_per_matrix"
CALIBRATED = ("wanda", "sparsegpt")
MILD = 0.3
HALF = 0.5
COLLAPSED = 0.5
_ROUNDING = 1e-9


def magnitude_against_calibrated(panel: Panel) -> list[Finding]:
    """Decide C7, per matrix over the whole body: the three pruners are alike up to 0.3, and magnitude collapses by 0.5.

    Two arms. `up to 0.3`: at every level up to there, any two of the three, the calibrated ones on the same data, retain as much to
    within 0.05 (`ruling.equal`). `collapse`: magnitude retains less than half at 0.5 (`ruling.loses`); what the others keep there
    stands in the detail.
    """
    data = {calibration(step) for method in CALIBRATED for step, _ in plain(panel, method)}
    found = []
    mild = [(at, pair) for seen in sorted(data, key=str) for at, pair in _pairs(panel, seen)]
    if mild:
        pairs = [pair for _, pair in mild]
        if not panel.judgeable():
            found.append(panel.unjudged("C7", "up to 0.3", len(pairs)))
        else:
            ruling = equal(panel, pairs)
            level, (x, y) = mild[ruling.index]
            levels = sorted({at for at, _ in mild})
            detail = f"{_name(x)} less {_name(y)} at {level:g}; {len(pairs)} pairs at levels {grid(levels)}"
            found.append(panel.finding("C7", "up to 0.3", ruling.word, detail, len({id(c) for p in pairs for c in p}), ruling.place))
    at_half = panel.find(MAGNITUDE, "overall").get(HALF)
    if at_half is not None and data:
        found.append(_collapse(panel, at_half))
    return found


def _pairs(panel: Panel, seen: Params) -> list[tuple[float, Pair]]:
    """Return (level, pair) of the pruners up to 0.3; the calibrated ones on the same data."""
    curves = [_curve(panel, MAGNITUDE, ()), *(_curve(panel, method, seen) for method in CALIBRATED)]
    levels = sorted({level for curve in curves for level in curve if 0 < level <= MILD + _ROUNDING})
    return [(level, (x[level], y[level])) for level in levels for x, y in itertools.combinations(curves, 2) if level in x and level in y]


def _curve(panel: Panel, method: str, seen: Params) -> dict[float, Cell]:
    return {step.level: cell for step, cell in plain(panel, method) if step.pattern is None and calibration(step) == seen}


def _collapse(panel: Panel, at_half: Cell) -> Finding:
    others = [(step.method, cell) for m in CALIBRATED for step, cell in plain(panel, m) if step.pattern is None and step.level == HALF]
    if not panel.judgeable():
        return panel.unjudged("C7", "collapse", 1 + len(others))
    ruling = loses(panel, [at_half], COLLAPSED)
    beside = ", ".join(f"{method} {number(panel.retention(cell))}" for method, cell in others) or "no other pruner"
    return panel.finding("C7", "collapse", ruling.word, f"magnitude at 0.5; beside it {beside}", 1 + len(others), ruling.place)


def patterns_against_weights(panel: Panel) -> list[Finding]:
    """Decide C8, pruner by pruner: every N:M that keeps half the weights is worse than keeping half of them anywhere.

    At equal scope and data, the retention at 0.5 less that of each pattern (`ruling.more`). Pairs that both retain at most 0.1 are
    left out.
    """
    found = []
    for method in (MAGNITUDE, *CALIBRATED):
        cells = list(plain(panel, method))
        free = {calibration(step): cell for step, cell in cells if step.pattern is None and step.level == HALF}
        tied = [(step, cell) for step, cell in cells if step.pattern is not None and step.level == HALF and calibration(step) in free]
        if not tied:
            continue
        names = {id(cell): str(dict(step.params)["pattern"]).replace("of", ":") for step, cell in tied}
        pairs = alive(panel, [(free[calibration(step)], cell) for step, cell in tied]) if panel.judgeable() else []
        if not pairs:
            detail = f"both retain at most {number(ALIVE)}"
            word = panel.finding("C8", method, NOT_APPLICABLE, detail, 2 * len(tied))
            found.append(word if panel.judgeable() else panel.unjudged("C8", method, 2 * len(tied)))
            continue
        ruling = more(panel, pairs)
        x, y = pairs[ruling.index]
        detail = f"half anywhere {number(panel.retention(x))}, {names[id(y)]} {number(panel.retention(y))}"
        found.append(panel.finding("C8", method, ruling.word, f"{detail}; {len(pairs)} patterns", len(pairs) + len(free), ruling.place))
    return found


def _name(cell: Cell) -> str:
    return "magnitude" if (method := cell.compression.steps[0].method) == MAGNITUDE else method
