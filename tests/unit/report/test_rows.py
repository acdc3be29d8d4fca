"""Rows and the last line: taken from the JSON that crosses processes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_measurements import L1, make_examples, make_measurement, make_score

from pytest_kick.report import outcome_of, rows_from, summary_line
from pytest_kick.report.numbers import fraction, probability, seconds
from pytest_kick.report.rows import cell_parts
from pytest_kick.spec import Budget, CompressionSpec, CompressionStep
from pytest_kick.verdict import Verdict, judge

N = 1000
DENSE = {"facts": make_examples(np.arange(N) < 500)}
BUDGET = Budget(probe="facts", metric="p1", kind="retention", limit=0.95)


def judged(right: np.ndarray, *, new: bool = False) -> tuple[dict, dict]:
    """Return the JSON of a pruned cell's measurement and verdict."""
    measurement = make_measurement(right, compression=L1, seed=2)
    verdict = judge(measurement, dense=DENSE, stored=None if new else DENSE, budgets=[BUDGET], n_comparisons=3)
    return json.loads(json.dumps(measurement.to_json())), json.loads(json.dumps(verdict.to_json()))


@pytest.mark.parametrize(
    ("cell", "parts"),
    [
        ("dense", ("dense", "", "")),
        ("l1_global--ffn--s0.2", ("l1_global", "ffn", "s0.2")),
        ("random_unstructured--ffn--s0.2--seed-3", ("random_unstructured/seed-3", "ffn", "s0.2")),
        ("l1_global--ffn--s0.2+dynamic_int8--ffn--b8", ("l1_global+dynamic_int8", "ffn", "s0.2+b8")),
        ("dynamic_int8--overall--b8+l1_global--ffn--s0.2", ("dynamic_int8+l1_global", "overall+ffn", "b8+s0.2")),
    ],
)
def test_a_cell_splits_into_columns(cell: str, parts: tuple[str, str, str]) -> None:
    """Chains join with +, what all steps share stands once, parameters follow the method."""
    assert cell_parts(cell) == parts


def test_cells_split_as_specs_join() -> None:
    """The id of a spec and the columns made of it name the same method, scope and level, parameters included."""
    step = CompressionStep(method="ln_structured", scope="head", level=0.1, params=(("n", 2), ("dim", "columns")))
    assert cell_parts(CompressionSpec(steps=(step,)).id) == ("ln_structured/n-2/dim-columns", "head", "s0.1")


def test_a_row_holds_what_was_measured_and_judged() -> None:
    """Numbers come unrounded from the records; times are split at the evaluation, loading left out."""
    measurement, verdict = judged((np.arange(N) >= 100) & (np.arange(N) < 510))
    (row,) = rows_from("m", L1.id, measurement=measurement, verdict=verdict)
    assert (row.model, row.method, row.scope, row.level, row.dtype) == ("m", "l1_global", "ffn", "s0.2", "float32")
    assert (row.probe, row.metric, row.n, row.floor, row.accuracy) == ("facts", "p1", N, 0.05, 0.41)
    assert (row.lost, row.gained, row.word) == (100, 10, "REGRESSED")
    assert row.retention == pytest.approx(0.36 / 0.45)
    assert row.low < row.retention < row.high
    assert row.seconds_compress == pytest.approx(0.3)
    assert row.seconds_evaluate == 4.0
    assert row.stored == "regressed -100+10"


def test_notes() -> None:
    """What an undecided cell needs, what is lossless, what is better than dense."""
    measurement, verdict = judged((np.arange(N) >= 15) & (np.arange(N) < 500), new=True)
    (row,) = rows_from("m", L1.id, measurement=measurement, verdict=verdict)
    assert (row.word, row.note) == ("INCONCLUSIVE", f"{verdict['checks'][0]['n_more']:,} more decide")
    (row,) = rows_from("m", L1.id, **dict(zip(("measurement", "verdict"), judged(np.arange(N) < 600), strict=True)))
    assert row.note == "better than dense"
    same = make_measurement(compression=L1, scores=(make_score(DENSE["facts"]),))
    verdict = judge(same, dense=DENSE, stored=DENSE, budgets=[BUDGET]).to_json()
    (row,) = rows_from("m", L1.id, measurement=same.to_json(), verdict=verdict)
    assert (row.word, row.note, row.stored) == ("RETAINED", "lossless", "unchanged")


def test_what_was_measured_stands_beside_why_it_cannot_be_judged() -> None:
    """One probe that cannot judge a model hides no number of the others."""
    scores = tuple(make_score(DENSE["facts"], probe=probe) for probe in ("facts", "trivia"))
    *rows, why = rows_from("m", "dense", measurement=make_measurement(scores=scores).to_json(), error="trivia: COULD NOT MEASURE")
    assert [(row.probe, row.accuracy, row.n, row.word, row.error) for row in rows] == [
        ("facts", 0.5, N, "", ""),
        ("trivia", 0.5, N, "", ""),
    ]
    assert (why.word, why.error, why.accuracy) == ("ERROR", "trivia: COULD NOT MEASURE", None)


def test_dense_and_unjudged_rows() -> None:
    """The dense cell has no retention; a measurement that could not be judged still shows its numbers."""
    dense = make_measurement(np.arange(N) < 500)
    (row,) = rows_from("m", "dense", measurement=dense.to_json(), verdict=judge(dense, dense=None, stored=None).to_json())
    assert (row.method, row.retention, row.lost, row.word, row.stored) == ("dense", None, None, "NEW", "new")
    (row,) = rows_from("m", "dense", measurement=dense.to_json())
    assert (row.accuracy, row.word) == (0.5, "")


def test_an_error_row() -> None:
    """One line, whatever the message was; nothing measured and nothing said is an error too."""
    (row,) = rows_from("m", L1.id, error="a\n  b")
    assert (row.word, row.error, row.accuracy) == ("ERROR", "a b", None)
    assert rows_from("m", L1.id)[0].word == "ERROR"


def test_the_last_line() -> None:
    """It always has the same words in the same order, so that it can be searched for."""
    outcomes = ["pass"] * 39 + ["fail"] + ["inconclusive"] * 2
    assert summary_line(outcomes, ["baseline 2026-11-18"]) == (
        "kick: 42 cells, 39 pass, 1 fail, 2 inconclusive, 0 error, baseline 2026-11-18"
    )
    assert summary_line(["error"]) == "kick: 1 cell, 0 pass, 0 fail, 0 inconclusive, 1 error"
    assert summary_line(["pass", "skip"]) == "kick: 2 cells, 1 pass, 0 fail, 0 inconclusive, 0 error, 1 skip"


def test_the_outcome_of_a_cell() -> None:
    """Failed, undecided and unmeasured cells are never counted as passed."""
    assert outcome_of(None) == "error"
    assert outcome_of(judged(np.arange(N) < 500)[1], error="x") == "error"
    assert outcome_of(judged(np.arange(N) < 500)[1]) == "pass"
    assert outcome_of(judged(np.arange(N) < 300)[1]) == "fail"
    verdict = judged((np.arange(N) >= 15) & (np.arange(N) < 500), new=True)[1]
    assert outcome_of(verdict) == "inconclusive"
    assert Verdict.from_json(verdict).inconclusive


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.3424, ".342"),
        (1.0, "1.000"),
        (0.9999, "1.000"),
        (-0.0131, "-.013"),
        (-0.0001, ".000"),
        (0.0, ".000"),
        (12.5, "12.500"),
        (99.9994, "99.999"),
        (-8915.25, "-8915"),
        (11284.83, "11285"),
        (2.5e7, "2.5e+07"),
    ],
)
def test_fractions(value: float | None, text: str) -> None:
    """Three decimals, no leading zero, no minus before zero; a ratio that went through the roof takes no room from the verdict."""
    assert fraction(value) == text


def test_seconds_and_probabilities() -> None:
    """Short at every size."""
    assert [seconds(v) for v in (None, 0.0, 0.04, 0.997, 1.0, 9.94, 9.96, 412.4)] == ["-", ".00", ".04", "1.0", "1.0", "9.9", "10", "412"]
    assert [probability(v) for v in (0.03125, 0.00049, 3e-16)] == [".031", "4.9e-04", "3.0e-16"]
