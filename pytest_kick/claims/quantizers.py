"""C9 and C23: how many bits keep what the model knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.finding import number
from pytest_kick.claims.ruling import FLOAT32, KEPT, keeps, settings

if TYPE_CHECKING:
    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel

EIGHT = 8
PLAIN = {16: "cast", 8: "rtn", 4: "rtn"}


def eight_bits(panel: Panel) -> list[Finding]:
    """Decide C9, in float32, quantizer by quantizer over the whole body: 8 bits keep at least .95 of what is known (`ruling.keeps`)."""
    return _found(panel, "C9", {name: cells for (_, bits, name), cells in _arms(panel).items() if bits == EIGHT})


def fewer_bits(panel: Panel) -> list[Finding]:
    """Decide C23, in float32: whether 16 (plain casts), 8 and 4 bits (round to nearest) each keep at least .95 (`ruling.keeps`).

    Formats, groups and symmetry are those of the cells: an arm each.
    """
    arms = [(bits, name, cells) for (method, bits, name), cells in _arms(panel).items() if PLAIN.get(bits) == method]
    return _found(panel, "C23", {f"{bits} bits, {name}": cells for bits, name, cells in sorted(arms, key=lambda arm: -arm[0])})


def _arms(panel: Panel) -> dict[tuple[str, int, str], list[Cell]]:
    """Return the cells over the whole body by method, width and shown name, on whatever data; none in another dtype."""
    arms: dict[tuple[str, int, str], list[Cell]] = {}
    for step, cell in panel.single() if panel.dtype == FLOAT32 else ():
        if step.kind == "bits" and step.scope == "overall":
            named = [f"{name} {str(value).lower()}" for name, value in settings(step) if name != "format"]
            shown = str(step.param("format")) if step.method == "cast" else step.method
            arms.setdefault((step.method, int(step.level), " ".join([shown, *named])), []).append(cell)
    return arms


def _found(panel: Panel, claim: str, arms: dict[str, list[Cell]]) -> list[Finding]:
    found = []
    for arm, cells in arms.items():
        if not panel.judgeable():
            found.append(panel.unjudged(claim, arm, len(cells)))
            continue
        ruling = keeps(panel, cells)
        low = cells[ruling.index]
        lost = int((panel.dense & ~low.right).sum())
        gained = int((~panel.dense & low.right).sum())
        detail = f"limit {number(KEPT)}; {lost} facts lost, {gained} gained"
        found.append(panel.finding(claim, arm, ruling.word, detail, len(cells), ruling.place))
    return found
