"""C22: levels made for a model against one level everywhere."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.finding import NOT_APPLICABLE, number
from pytest_kick.claims.ruling import ALIVE, alive, calibration, more, settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.claims.ruling import Pair

AS_MANY = 0.01
"""How far the two sizes may differ, as a share."""


def looked_at(ids: Iterable[str]) -> NDArray[np.bool_]:
    """Return, `(n,)` bool, the half of the facts that a recipe may be made on; it is judged on the other half.

    The half follows from each fact's id alone.
    """
    return np.asarray([hashlib.blake2s(str(name).encode()).digest()[0] % 2 == 0 for name in ids], np.bool_)


def tailored(panel: Panel) -> list[Finding]:
    """Decide C22, method by method: levels made for the model keep more than one level everywhere at equal size.

    A recipe is a chain of one method over different scopes at different levels (`python -m tools.sensitivity` makes it from a sweep on
    one half of the facts); the cell that it is compared with has one level for all, its zeros, or for quantizers its bits, within 1%. The
    retention of the recipe less that of the other (`ruling.more`), on the half of the facts that the recipe was not made on.
    """
    arms: dict[str, list[Pair]] = {}
    for cell in panel.cells:
        steps = cell.compression.steps
        if _is_chain_of_one(cell) and len({step.level for step in steps}) > 1 and (even := _even(panel, cell)) is not None:
            arms.setdefault(steps[0].method, []).append((cell, even))
    judged = panel.on(~looked_at(panel.cells[0].ids)) if arms else panel
    found = []
    for method, pairs in arms.items():
        moved = [tuple(judged.cells[_place(panel, cell)] for cell in pair) for pair in pairs]
        found.append(_decided(judged, method, [(x, y) for x, y in moved]))
    return found


def _decided(panel: Panel, method: str, pairs: list[Pair]) -> Finding:
    if not panel.judgeable():
        return panel.unjudged("C22", method, 2 * len(pairs))
    used = alive(panel, pairs)
    if not used:
        return panel.finding("C22", method, NOT_APPLICABLE, f"both retain at most {number(ALIVE)}", 2 * len(pairs))
    ruling = more(panel, used)
    recipe, even = used[ruling.index]
    detail = (
        f"recipe {number(panel.retention(recipe))}, one level {number(panel.retention(even))} at {recipe.bits:.2f} bits"
        f"; {len(used)} recipes, on the half of the facts that was not looked at"
    )
    return panel.finding("C22", method, ruling.word, detail, 2 * len(used), ruling.place)


def _is_chain_of_one(cell: Cell) -> bool:
    """Return whether a cell is a chain of one method with the same settings, each scope once."""
    steps = cell.compression.steps
    alike = {(step.method, settings(step), calibration(step), step.kind) for step in steps}
    return len(steps) > 1 and len(alike) == 1 and len({step.scope for step in steps}) == len(steps)


def _even(panel: Panel, recipe: Cell) -> Cell | None:
    """Return the cell of the same method with one level everywhere that is nearest in size, None where none is within 1%."""
    first = recipe.compression.steps[0]
    able = []
    for cell in panel.cells:
        steps = cell.compression.steps
        same = steps[0].method == first.method and len({step.level for step in steps}) == 1 and steps[0].kind == first.kind
        whole = _is_chain_of_one(cell) or (len(steps) == 1 and steps[0].scope == "overall")
        apart = _apart(recipe, cell, by_bits=first.kind == "bits")
        if same and whole and apart <= AS_MANY and calibration(steps[0]) == calibration(first) and settings(steps[0]) == settings(first):
            able.append((apart, cell))
    return min(able, key=lambda found: found[0])[1] if able else None


def _apart(recipe: Cell, other: Cell, *, by_bits: bool) -> float:
    pair = (recipe.bits, other.bits) if by_bits else (recipe.zeros, other.zeros)
    if pair[0] is None or pair[1] is None or not pair[1]:
        return float("inf")
    return abs(pair[0] - pair[1]) / pair[1]


def _place(panel: Panel, cell: Cell) -> int:
    return next(i for i, known in enumerate(panel.cells) if known is cell)
