"""The run as one JSON document: complete, valid when interrupted, atomic."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_measurements import L1, make_examples, make_measurement

from pytest_kick.errors import KickError
from pytest_kick.report import cell_entry, run_document, write_json
from pytest_kick.result import Measurement
from pytest_kick.verdict import Verdict, judge

GOLDEN = Path(__file__).parents[2] / "golden" / "run-schema1.json"
DENSE = {"facts": make_examples(np.arange(40) % 3 > 0)}


def document(*, examples: bool = False, complete: bool = True) -> dict:
    """Return the document of a run with one judged cell and one that could not be measured."""
    measurement = make_measurement(np.arange(40) % 4 > 0, compression=L1, seed=1)
    verdict = judge(measurement, dense=DENSE, stored=None, n_comparisons=2)
    cells = [
        cell_entry(
            case_id=f"s--m--{L1.id}",
            nodeid="t.py::t[a]",
            model="m",
            measurement=measurement.to_json(),
            verdict=verdict.to_json(),
            examples=examples,
        ),
        cell_entry(case_id="s--m--dense", nodeid="t.py::t[b]", model="m", measurement=None, verdict=None, error="no weights"),
    ]
    return run_document(
        cells=cells,
        started="2026-11-18T10:00:00+00:00",
        seconds=12.5,
        options={"confidence": 0.95},
        environment={"torch": "2.13.0"},
        complete=complete,
    )


def test_the_document_says_how_each_cell_ended(tmp_path: Path) -> None:
    """Counts, outcomes and errors; metrics and verdicts without the examples, which are kept on demand."""
    write_json(tmp_path / "new" / "run.json", document())
    text = (tmp_path / "new" / "run.json").read_text()
    found = json.loads(text)
    assert text == json.dumps(found, sort_keys=True, indent=2) + "\n"
    assert found["counts"] == {"cells": 2, "pass": 1, "fail": 0, "inconclusive": 0, "error": 1}
    assert [cell["outcome"] for cell in found["cells"]] == ["pass", "error"]
    assert found["cells"][1]["error"] == "no weights"
    assert "examples" not in found["cells"][0]["measurement"]["scores"][0]
    assert Verdict.from_json(found["cells"][0]["verdict"]).word == "NEW"
    assert not document(complete=False)["complete"]


def test_examples_are_kept_on_demand() -> None:
    """With them the document holds the whole measurement."""
    entry = json.loads(json.dumps(document(examples=True)))["cells"][0]
    assert len(Measurement.from_json(entry["measurement"]).scores[0].examples) == 40


def test_a_full_disk_keeps_the_old_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and what stood there stands."""
    path = tmp_path / "run.json"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(KickError, match="No space left on device"):
        write_json(path, document())
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]
    assert path.read_text() == "old"


def test_nan_and_odd_values_are_refused(tmp_path: Path) -> None:
    """NaN is not JSON; nothing is written."""
    for value in (float("nan"), object()):
        with pytest.raises(KickError, match="JSON cannot hold") as error:
            write_json(tmp_path / "run.json", {"value": value})
        assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_golden_schema_1() -> None:
    """A change of the document is a new schema."""
    assert json.loads(GOLDEN.read_text()) == json.loads(json.dumps(document()))
