"""C11: a large model pruned to the size of a small one, against the small one."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, number
from pytest_kick.claims.panel import panels
from pytest_kick.claims.ruling import EQUAL, over_seeds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel

NAME = re.compile(r"(?P<pair>.+)-(?P<size>small|large)-(?P<seed>\d+)")
"""Names of the models of a pair: `body-small-0` and `body-large-0` are trained alike, with one seed."""

LEAST_SEEDS = 3
AS_MANY = 0.02
"""How far the weights left of the large model may differ from those of the small one, as a share."""


def twins(cells: Iterable[Cell], confidence: float) -> list[Finding]:
    """Decide C11, pruner by pruner: the large model pruned to the small one's body is no better than the small one.

    The retention of the pruned large model with the small dense one as what is to be retained, less 1: the mean over at least 3
    training seeds, with an interval that allows for seeds and facts (`ruling.over_seeds`). `holds` where the upper bound lies under
    0.05, `does not hold` where the lower bound lies above it, else `undecided`.
    """
    known = list(cells)
    small = {(*key, cell.dtype): cell for cell in known if (key := _key(cell, "small")) and not cell.compression.steps}
    arms: dict[tuple[str, str, str], dict[int, tuple[Panel, Cell]]] = {}
    for cell in known:
        key = _key(cell, "large")
        twin = small.get((*key, cell.dtype)) if key else None
        if key and twin is not None and _as_large(cell, twin):
            (panel,) = panels([twin, replace(cell, model=twin.model)], confidence) or (None,)
            if panel is not None:
                arms.setdefault((key[0], cell.dtype, cell.compression.id), {})[key[1]] = (panel, cell)
    return [_decided(pair, arm, found) for (pair, _, arm), found in arms.items() if len(found) >= LEAST_SEEDS]


def _key(cell: Cell, size: str) -> tuple[str, int] | None:
    """Return name of the pair and seed of a model of this size, None for any other."""
    match = NAME.fullmatch(cell.model)
    return (match["pair"], int(match["seed"])) if match and match["size"] == size else None


def _as_large(cell: Cell, twin: Cell) -> bool:
    """Return whether as many weights are left of the body as the small model has."""
    if cell.zeros is None or cell.body is None or not twin.body or not cell.zeros:
        return False
    return abs(cell.body - cell.zeros - twin.body) <= AS_MANY * twin.body


def _decided(pair: str, arm: str, found: dict[int, tuple[Panel, Cell]]) -> Finding:
    first, cell = found[min(found)]
    renamed = replace(first, model=pair)
    shown = arm.replace("--overall", "").replace("--", " ")
    if not all(panel.judgeable() for panel, _ in found.values()):
        return renamed.finding("C11", shown, NOT_APPLICABLE, "a small model is not shown to know more than the floor", len(found))
    of_seed = [panel.retention(panel.cells[0]) - 1.0 for panel, _ in found.values()]
    draws = np.mean([np.maximum(panel.drawn[:, 0], 0.0) - 1.0 for panel, _ in found.values()], axis=0)
    estimate, interval = over_seeds(of_seed, draws, first.confidence)
    word = HOLDS if interval.high < EQUAL else DOES_NOT_HOLD if interval.low > EQUAL else UNDECIDED
    left = (cell.body or 0) - (cell.zeros or 0)
    scores = " against ".join(
        number(float(np.mean(rows)))
        for rows in ([panel.cells[0].right.mean() for panel, _ in found.values()], [panel.dense.mean() for panel, _ in found.values()])
    )
    detail = f"{len(found)} seeds; {left:,} weights left; P@1 {scores}"
    return renamed.finding("C11", shown, word, detail, len(found), (estimate, interval))
