"""The cells of a run as the claims take them; where a dtype's dense model was not measured, its stored run stands in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims import Cell, cell_from
from pytest_kick.errors import BaselineError
from pytest_kick.result import Measurement
from pytest_kick.spec import CompressionSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kick.session import Session


def claim_cells(session: Session) -> list[Cell]:
    """Return what was measured, each model and dtype with its dense model."""
    cells = []
    needed: dict[tuple[str, str], str] = {}
    for outcome in session.finished():
        if outcome["measurement"] is None:
            continue
        case = session.by_id[outcome["id"]]
        measurement = Measurement.from_json(outcome["measurement"])
        needed[case.shelf, measurement.dtype] = case.model.family
        cells.append(cell_from(case.shelf, case.model.family, case.compression, measurement))
    cells += _dense(session, needed, {(cell.model, cell.dtype) for cell in cells if cell and not cell.compression.steps})
    return [cell for cell in cells if cell]


def _dense(session: Session, needed: dict[tuple[str, str], str], have: set[tuple[str, str]]) -> Iterator[Cell | None]:
    journalled = {(shelf, m.dtype): m for shelf, m in session.journal.measured() if m.cell == "dense"} if session.settings.updating else {}
    for (shelf, dtype), family in needed.items():
        if (shelf, dtype) in have:
            continue
        try:
            measured = journalled.get((shelf, dtype)) or session.store.read(shelf, dtype, "dense")
        except BaselineError:
            continue  # the cells of this dtype say so themselves
        yield cell_from(shelf, family, CompressionSpec(), measured)
