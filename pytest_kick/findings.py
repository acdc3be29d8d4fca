"""The cells of a run as the claims take them; where a dtype's dense model was not measured, its stored run stands in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_kick.baseline import check_fresh
from pytest_kick.claims import Cell, cell_from
from pytest_kick.claims.asked import PROBES
from pytest_kick.claims.probed import Probed, probed_from
from pytest_kick.errors import BaselineError
from pytest_kick.result import Measurement
from pytest_kick.spec import CompressionSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kick.baseline import Baseline
    from pytest_kick.session import Session


def claim_cells(session: Session) -> list[Cell]:
    """Return what was measured, each model and dtype with its dense model.

    Of a cell that a first look settled, the facts that were not asked have the answers of the stored run, which it confirmed.
    """
    cells: list[Cell | None] = []
    needed: dict[tuple[str, str], tuple[str, Measurement]] = {}
    for outcome in session.finished():
        if outcome["measurement"] is None or outcome["problem"]:
            continue
        case = session.by_id[outcome["id"]]
        measurement = Measurement.from_json(outcome["measurement"])
        needed[case.shelf, measurement.dtype] = (case.model.family, measurement)
        cell = cell_from(case.shelf, case.model.family, case.compression, measurement)
        if cell and outcome["first_look"]:
            stored = cell_from(case.shelf, case.model.family, case.compression, session.store.read(case.shelf, cell.dtype, case.cell))
            cell = stored and stored.updated(cell)
        cells.append(cell)
    cells += _dense(session, needed, {(cell.model, cell.dtype) for cell in cells if cell and not cell.compression.steps})
    return [cell for cell in cells if cell]


def asked_scores(session: Session) -> dict[str, list[Probed]]:
    """Return the scores that claims about other probes look at, by the probe's name; a first look gives way to the run it confirmed."""
    found: dict[str, list[Probed]] = {probe: [] for probe in PROBES}
    for outcome in session.finished():
        if outcome["measurement"] is None or outcome["problem"]:
            continue
        case = session.by_id[outcome["id"]]
        measured: Measurement | Baseline = Measurement.from_json(outcome["measurement"])
        if outcome["first_look"]:
            stored = session.store.read(case.shelf, measured.dtype, case.cell)
            names = {score.probe for score in measured.scores}  # other suites may have recorded more than this run asks
            measured = replace(stored, scores=tuple(score for score in stored.scores if score.probe in names))
        if case.is_dense and not measured.noise_floor:
            measured = replace(measured, noise_floor=_stored_noise(session, case.shelf, measured))
        for probe, scores in found.items():
            scores.extend(probed_from(case.shelf, case.model.family, case.compression, measured, probe))
    return found


def _stored_noise(session: Session, shelf: str, measured: Measurement | Baseline) -> Mapping[str, Mapping[str, float]]:
    """Return the noise floors that are stored with a dense model, none where the stored run measured something else."""
    try:
        stored = session.store.read(shelf, measured.dtype, measured.cell)
        if isinstance(measured, Measurement):
            check_fresh(stored, measured, sampled=True)
    except BaselineError:
        return {}
    return stored.noise_floor


def _dense(session: Session, needed: dict[tuple[str, str], tuple[str, Measurement]], have: set[tuple[str, str]]) -> Iterator[Cell | None]:
    journalled = {(shelf, m.dtype): m for shelf, m in session.journal.measured() if m.cell == "dense"} if session.settings.updating else {}
    for (shelf, dtype), (family, now) in needed.items():
        if (shelf, dtype) in have:
            continue
        try:
            measured: Measurement | Baseline | None = journalled.get((shelf, dtype))
            if measured is None:
                measured = session.store.read(shelf, dtype, "dense")
                check_fresh(measured, now, sampled=True)  # of a first look or of a limit; whole cells have been checked in their items
        except BaselineError:
            continue  # the cells of this dtype say so themselves
        yield cell_from(shelf, family, CompressionSpec(), measured)
