"""C15: a few norm weights against as many weights of the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.finding import number
from pytest_kick.claims.ruling import loses, more

if TYPE_CHECKING:
    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel

METHOD, CONTROL = "l1_per_matrix", "random_unstructured"
LEVEL = 0.1
CATASTROPHE = 0.5
AS_MANY = 0.1
"""How far the two numbers of weights may differ, as a share."""


def norm_weights(panel: Panel) -> list[Finding]:
    """Decide C15: without a tenth of its norm weights, the smallest of each, the model keeps less than half of what it knows.

    The norms are those that a name pattern with `norm` in it names. Where as many random weights of the layers were taken from another
    cell, these must also be shown to cost less (`ruling.more`), or the claim does not hold: then it is the number that counts.
    """
    found = []
    for step, cell in panel.single():
        if step.method == METHOD and step.level == LEVEL and "*" in step.scope and "norm" in step.scope.lower():
            control = _control(panel, cell)
            n_cells = 1 if control is None else 2
            found.append(_decided(panel, cell, control, n_cells) if panel.judgeable() else panel.unjudged("C15", "", n_cells))
    return found[:1]


def _decided(panel: Panel, cell: Cell, control: Cell | None, n_cells: int) -> Finding:
    ruling = loses(panel, [cell], CATASTROPHE)
    detail = "no cell with as many random weights of the layers"
    word = ruling.word
    if control is not None:
        detail = f"{control.zeros} random weights of the layers leave {number(panel.retention(control))}"
        beside = more(panel, [(control, cell)])
        word = beside.word if word == "holds" else word
    return panel.finding("C15", "", word, f"{cell.zeros} norm weights gone; {detail}", n_cells, ruling.place)


def _control(panel: Panel, cell: Cell) -> Cell | None:
    zeros = cell.zeros or 0
    as_many = [
        other for step, other in panel.single() if step.method == CONTROL and abs((other.zeros or 0) - zeros) <= AS_MANY * max(zeros, 1)
    ]
    return min(as_many, key=lambda other: abs((other.zeros or 0) - zeros), default=None)
