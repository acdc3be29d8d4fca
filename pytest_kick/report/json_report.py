"""The whole run as one JSON document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kick.baseline.files import json_bytes, replace_all
from pytest_kick.errors import KickError
from pytest_kick.report.rows import OUTCOMES, outcome_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA = 1


def cell_entry(
    *,
    case_id: str,
    nodeid: str,
    model: str,
    measurement: Mapping[str, Any] | None,
    verdict: Mapping[str, Any] | None,
    error: str = "",
    outcome: str = "",
    examples: bool = False,
) -> dict[str, Any]:
    """Return what the document holds of one cell.

    Args:
        case_id: id of the cell, suite included.
        nodeid: of its test item.
        model: name of the model.
        measurement: `Measurement.to_json()`, None where nothing was measured.
        verdict: `Verdict.to_json()`, None where nothing was judged.
        error: why the cell could not be measured or judged.
        outcome: what the cell is counted as, where its test ended otherwise than the verdict says.
        examples: keep the outcomes of each example, one base64 npz string per probe.
    """
    measured = dict(measurement) if measurement else None
    if measured and not examples:
        measured["scores"] = [{key: value for key, value in score.items() if key != "examples"} for score in measured["scores"]]
    return {
        "id": case_id,
        "nodeid": nodeid,
        "model": model,
        "outcome": outcome or outcome_of(verdict, error),
        "error": error or None,
        "measurement": measured,
        "verdict": dict(verdict) if verdict else None,
    }


def run_document(
    *,
    cells: Iterable[Mapping[str, Any]],
    started: str,
    seconds: float,
    options: Mapping[str, Any],
    environment: Mapping[str, Any],
    complete: bool = True,
) -> dict[str, Any]:
    """Return the document of a run.

    Args:
        cells: one `cell_entry` each.
        started: ISO time, UTC.
        seconds: wall-clock duration.
        options: options in force, JSON-able.
        environment: versions and machine, JSON-able.
        complete: False where the run was interrupted: then `cells` are those that finished.
    """
    entries = [dict(cell) for cell in cells]
    words = [*OUTCOMES, *sorted({entry["outcome"] for entry in entries} - set(OUTCOMES))]
    counts = {word: sum(entry["outcome"] == word for entry in entries) for word in words}
    return {
        "schema": SCHEMA,
        "started": started,
        "seconds": seconds,
        "complete": complete,
        "options": dict(options),
        "environment": dict(environment),
        "counts": {"cells": len(entries), **counts},
        "cells": entries,
    }


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document atomically: sorted keys, indent 2, final newline.

    Raises:
        KickError: the place cannot be written to, or a value is not JSON; what stood there stays.
    """
    try:
        replace_all([(path, json_bytes(document))])
    except OSError as error:
        msg = f"{path}: file: got {error.strerror or error}, expected a place to write to. Name another path or free space."
        raise KickError(msg) from error
    except (ValueError, TypeError) as error:
        msg = f"{path}: value: got something JSON cannot hold ({error}), expected finite numbers and text. Nothing was written."
        raise KickError(msg) from error
