"""C25: pruning and quantization at equal bytes, pruning at a quarter, and N:M."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.finding import NOT_APPLICABLE, number
from pytest_kick.claims.ruling import ALIVE, KEPT, alive, loses, more

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.claims.ruling import Pair

PRUNERS = ("l1_per_matrix", "wanda", "sparsegpt")
QUARTER = (0.25, 0.3)
_ROUNDING = 1e-9


def quantization_beats_pruning(panel: Panel) -> list[Finding]:
    """Decide C25, three arms, each over the whole body.

    - `equal bytes`: each quantized cell retains more than the pruned one of as many bits per weight, or, where there is none, of the
      next more (`ruling.more`): pruned ones count 16 bits for each weight that is left, and the bitmask.
    - `25-30%`: every pruner retains less than .95 at 0.25 and 0.3 (`ruling.loses`).
    - `N:M`: so does every N:M, whatever it keeps: none matches the dense model.
    """
    pruned = [(step, cell) for step, cell in panel.single() if step.method in PRUNERS and step.scope == "overall"]
    quantized = [cell for step, cell in panel.single() if step.kind == "bits" and step.scope == "overall"]
    plain = [cell for step, cell in pruned if step.pattern is None]
    pairs = [(cell, other) for cell in quantized if (other := _next_larger(cell, plain)) is not None]
    quarter = [c for step, c in pruned if step.pattern is None and QUARTER[0] - _ROUNDING <= step.level <= QUARTER[1] + _ROUNDING]
    patterns = [cell for step, cell in pruned if step.pattern is not None]
    found = [_at_equal_bytes(panel, pairs)] if pairs else []
    found += [_all_lose(panel, arm, cells) for arm, cells in (("25-30%", quarter), ("N:M", patterns)) if cells]
    return found


def _next_larger(cell: Cell, pruned: Sequence[Cell]) -> Cell | None:
    """Return the pruned cell of the fewest bits that has at least as many as a quantized one; of several the best."""
    if cell.bits is None:
        return None
    able = [other for other in pruned if other.bits is not None and other.bits >= cell.bits - _ROUNDING]
    return min(able, key=lambda other: (round(other.bits or 0.0, 3), -int(other.right.sum())), default=None)


def _at_equal_bytes(panel: Panel, pairs: list[Pair]) -> Finding:
    n_cells = len({id(cell) for pair in pairs for cell in pair})
    if not panel.judgeable():
        return panel.unjudged("C25", "equal bytes", n_cells)
    used = alive(panel, pairs)
    if not used:
        return panel.finding("C25", "equal bytes", NOT_APPLICABLE, f"all retain at most {number(ALIVE)}", n_cells)
    ruling = more(panel, used)
    shown = [f"{_name(cell)} ({cell.bits:.2f} bits) {number(panel.retention(cell))}" for cell in used[ruling.index]]
    detail = f"{' against '.join(shown)}; {len(used)} pairs"
    return panel.finding("C25", "equal bytes", ruling.word, detail, n_cells, ruling.place)


def _all_lose(panel: Panel, arm: str, cells: list[Cell]) -> Finding:
    if not panel.judgeable():
        return panel.unjudged("C25", arm, len(cells))
    ruling = loses(panel, cells)
    detail = f"most is left by {_name(cells[ruling.index])}; limit {number(KEPT)}; {len(cells)} cells"
    return panel.finding("C25", arm, ruling.word, detail, len(cells), ruling.place)


def _name(cell: Cell) -> str:
    step = cell.compression.steps[0]
    return f"{step.method} {str(dict(step.params).get('pattern', f'{step.level:g}')).replace('of', ':')}"
