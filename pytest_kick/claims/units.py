"""C20: heads, neurons and blocks against single weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.finding import NOT_APPLICABLE, number
from pytest_kick.claims.ruling import ALIVE, alive, more

if TYPE_CHECKING:
    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.claims.ruling import Pair

UNITS = {"drop_heads": "attention", "drop_neurons": "ffn", "drop_layers": "overall"}
"""Methods that drop whole parts, and the scope that these parts lie in."""
SINGLE = ("l1_per_matrix", "l1_global")
AS_MANY = 0.02
"""How far the two numbers of removed weights may differ, as a share."""


def units_against_weights(panel: Panel) -> list[Finding]:
    """Decide C20, for each kind of part: dropping parts hurts more than pruning as many weights of the same scope by magnitude.

    What counts as as many: the exact zeros left, within 2%. Of several such cells the nearest is taken, per matrix before global. The
    retention with single weights gone less that with parts gone, at every level (`ruling.more`). Pairs that both retain at most 0.1 are
    left out. Parts taken at random are not compared.
    """
    found = []
    for method, scope in UNITS.items():
        dropped = [cell for step, cell in panel.single() if step.method == method and dict(step.params).get("order") != "random"]
        pairs = [(single, cell) for cell in dropped if (single := _as_many(panel, cell, scope)) is not None]
        if not pairs:
            continue
        if not panel.judgeable():
            found.append(panel.unjudged("C20", method, 2 * len(pairs)))
        else:
            found.append(_decided(panel, method, pairs))
    return found


def _decided(panel: Panel, method: str, pairs: list[Pair]) -> Finding:
    used = alive(panel, pairs)
    if not used:
        return panel.finding("C20", method, NOT_APPLICABLE, f"all retain at most {number(ALIVE)}", 2 * len(pairs))
    ruling = more(panel, used)
    single, parts = used[ruling.index]
    share = number((parts.zeros or 0) / (parts.body or 1))
    detail = (
        f"{share} of the body gone: single weights leave {number(panel.retention(single))}, parts {number(panel.retention(parts))}"
        f"; {len(used)} pairs"
    )
    return panel.finding("C20", method, ruling.word, detail, 2 * len(used), ruling.place)


def _as_many(panel: Panel, cell: Cell, scope: str) -> Cell | None:
    zeros = cell.zeros or 0
    able = [
        (SINGLE.index(step.method), abs((other.zeros or 0) - zeros), other)
        for step, other in panel.single()
        if step.method in SINGLE and step.scope == scope and step.pattern is None
    ]
    near = [found for found in able if zeros and found[1] <= AS_MANY * zeros]
    return min(near, key=lambda found: found[:2])[2] if near else None
