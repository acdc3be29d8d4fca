"""C5 and C21: int8 on top of pruning, and the order of pruning and quantizing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.finding import NOT_APPLICABLE, grid, number
from pytest_kick.claims.ruling import ALIVE, FLOAT32, alive, equal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.claims.ruling import Pair
    from pytest_kick.spec import CompressionStep

PRUNER, QUANTIZER = "l1_global", "dynamic_int8"
ORDERS = {(PRUNER, QUANTIZER): "prune then int8", (QUANTIZER, PRUNER): "int8 then prune"}


def int8_after_pruning(panel: Panel) -> list[Finding]:
    """Decide C5, in float32: int8 beside pruning retains what pruning alone does, to within 0.05 (`ruling.equal`).

    Two arms, one for each order; all scopes and levels at which pruning alone retains over 0.1.
    """
    if panel.dtype != FLOAT32:
        return []
    found = []
    for order, arm in ORDERS.items():
        pairs = [(cell, alone) for cell in panel.cells if (alone := _alone(panel, cell.compression.steps, order)) is not None]
        if pairs:
            found.append(_decided(panel, "C5", arm, pairs))
    return found


def _alone(panel: Panel, steps: Sequence[CompressionStep], order: tuple[str, str]) -> Cell | None:
    """Return the cell of a chain's pruning alone, None where it is no such chain or there is none."""
    if tuple(step.method for step in steps) != order or len({step.scope for step in steps}) > 1:
        return None
    pruning = steps[order.index(PRUNER)]
    return panel.find(PRUNER, pruning.scope, **dict(pruning.params)).get(pruning.level)


def either_order(panel: Panel) -> list[Finding]:
    """Decide C21: chains of the same steps in another order retain as much, to within 0.05 (`ruling.equal`).

    Two steps or more, interleaved ones as well, where each step stands in all orders compared: an arm for each set of methods, over all
    scopes and levels. The chain that prunes first is compared with the others. Pairs that both retain at most 0.1 are left out.
    """
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in panel.cells:
        if len(cell.compression.steps) > 1:
            groups.setdefault(tuple(sorted(step.id for step in cell.compression.steps)), []).append(cell)
    arms: dict[str, list[Pair]] = {}
    for chains in groups.values():
        first, *others = sorted(chains, key=lambda cell: [step.kind != "sparsity" for step in cell.compression.steps])
        methods = [step.method for step in first.compression.steps]
        more = " interleaved" if len(methods) > 2 else ""  # noqa: PLR2004 - two steps have two orders only
        arms.setdefault(", ".join(dict.fromkeys(methods)) + more, []).extend((first, other) for other in others)
    return [_decided(panel, "C21", arm, pairs) for arm, pairs in arms.items() if pairs]


def _decided(panel: Panel, claim: str, arm: str, pairs: list[Pair]) -> Finding:
    n_cells = len({id(cell) for pair in pairs for cell in pair})
    if not panel.judgeable():
        return panel.unjudged(claim, arm, n_cells)
    used = alive(panel, pairs)
    if not used:
        return panel.finding(claim, arm, NOT_APPLICABLE, f"all retain at most {number(ALIVE)}", n_cells)
    ruling = equal(panel, used)
    x, y = used[ruling.index]
    levels = sorted({step.level for cell, _ in used for step in cell.compression.steps if step.kind == "sparsity"})
    detail = f"{number(panel.retention(x))} against {number(panel.retention(y))} at {_place(x)}; {len(used)} pairs, levels {grid(levels)}"
    return panel.finding(claim, arm, ruling.word, detail, n_cells, ruling.place)


def _place(cell: Cell) -> str:
    steps = cell.compression.steps
    scopes = "+".join(dict.fromkeys(step.scope for step in steps))
    return f"{scopes} {' '.join(dict.fromkeys(f'{step.level:g}' for step in steps if step.kind == 'sparsity'))}".strip()
