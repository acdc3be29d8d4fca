"""What compressing notes reaches the screen, and what could not be judged is not called missing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
from made_measurements import L1, make_measurement

from pytest_kick.counting import noted_lines
from pytest_kick.outcome import Outcome

LEAK = "calibration names subject and answer of 3 facts, in 14 sequences"


def session_of(*notes: tuple[str, ...]) -> Any:
    """Return a session of cells with these notes; the last one could not be measured."""
    outcomes: list[dict[str, Any]] = []
    for number, own in enumerate(notes):
        measured = make_measurement(np.arange(40) < 20, compression=L1)
        step = replace(measured.compression.steps[0], notes=own)
        measured = replace(measured, compression=replace(measured.compression, steps=(step,)))
        outcomes.append({"id": str(number), "measurement": measured.to_json()})
    outcomes.append({"id": str(len(notes)), "measurement": None})
    models = {outcome["id"]: SimpleNamespace(model=SimpleNamespace(name=f"m{int(outcome['id']) % 2}")) for outcome in outcomes}
    return SimpleNamespace(finished=lambda: iter(outcomes), by_id=models)


def test_a_note_is_told_once() -> None:
    """With the models and the number of cells that have it, however many they are."""
    assert noted_lines(session_of((LEAK, "damping raised in 2 matrices"), (LEAK,), (), (LEAK,))) == [
        f"kick: noted: {LEAK} (3 cells: m0, m1)",
        "kick: noted: damping raised in 2 matrices (1 cell: m0)",
    ]
    assert noted_lines(session_of()) == []


def test_many_notes_are_cut() -> None:
    """The run record has the rest."""
    lines = noted_lines(session_of(*((f"note {number}",) for number in range(25))))
    assert len(lines) == 21
    assert lines[-1] == "kick: noted: 5 more; see --kick-json"


def test_what_cannot_be_judged_is_an_error_also_where_nothing_was_stored() -> None:
    """The table shows why, instead of calling it MISSING and cutting the reason."""
    case: Any = SimpleNamespace(id="s--m--dense")
    outcome = Outcome(case=case, nodeid="t", problem="dense: COULD NOT MEASURE", missing=True)
    assert outcome.to_json()["state"] == "MISSING"
    assert replace(outcome, unjudgeable=True).to_json()["state"] == ""
