"""What a table and a failure say of a judge's scores, from made-up run records; and that nothing foreign steers the terminal."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_measurements import L1, make_examples, make_measurement, make_score

from pytest_kick.infos import MeanInfo
from pytest_kick.report import failure_lines, rows_from, table_lines
from pytest_kick.report.brief import plain
from pytest_kick.report.judged import judged_lines, judged_text
from pytest_kick.spec import Budget
from pytest_kick.verdict import judge

SCORES = ("coherence", "consistency", "fluency", "relevance")
N = 40


def score(repeats: int = 3, *, missing: int = 0, unread: int = 0, noise: float = 0.0312, mean: float = 3.4) -> dict[str, Any]:
    """Return the record of a probe with four scores."""
    metrics = dict.fromkeys(SCORES, mean)
    if repeats > 1:
        metrics |= {f"{name}_noise": noise for name in SCORES} | {f"{name}_sd_each": 0.52 for name in SCORES}
    work = {"judge_repeats": repeats, "judge_answers": 1.0, "judge_unparsable": unread, "judge_missing": missing}
    return {"probe": "s", "n": N, "metrics": metrics, "work": work | dict.fromkeys((f"unparsable_{name}" for name in SCORES), 0.0)}


def test_noise_stands_beside_each_score() -> None:
    """Each score with its noise, how often it was asked, and what is missing where something is."""
    assert judged_text(score()).startswith("coherence 3.400 (noise .031), consistency 3.400 (noise .031), ")
    assert judged_text(score()).endswith("; asked 3 times")
    assert judged_text(score(missing=2, unread=9)).endswith("; 2 of 42 not rated, 9 answers of the judge without a number")
    assert judged_text(score(repeats=1)).endswith("relevance 3.400; asked once, so its noise is not known")
    assert judged_text({"probe": "facts", "n": 3, "metrics": {"p1": 0.3}, "work": {"tokens": 3.0}}) == ""


def test_a_failure_says_what_the_noise_is() -> None:
    """With its definition, and of one answer; nothing for metrics that no judge gave; asked once it names the option."""
    said, missing = judged_lines(score(missing=1, unread=1), "fluency")
    assert said == "noise .031, the standard deviation of this mean over the 3 times that the judge was asked; of one answer .520"
    assert missing == "1 of 41 not rated, 1 answer of the judge without a number"
    assert judged_lines(score(), "rouge_l") == []
    assert judged_lines(score(repeats=1), "fluency") == ["noise not known: --kick-judge-repeats K asks the judge K times"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 160, 240])
def test_the_line_below_a_row_fits_and_loses_nothing(width: int) -> None:
    """Wrapped between scores, never between a score and its noise; from 80 columns on all of it is there, with the legend."""
    measurement = json.loads(json.dumps(make_measurement(compression=L1).to_json()))
    (row,) = rows_from("m", L1.id, measurement=measurement)
    assert row.judged == ""
    row = replace(row, judged=judged_text(score(missing=1, unread=2)))
    lines = table_lines([row, row], width=width)
    assert max(map(len, lines)) <= width
    if width >= 80:
        text = " ".join(" ".join(lines).split())
        assert text.count(f"judge: {row.judged}") == 2
        assert all(any(f"{name} 3.400 (noise .031)" in line for line in lines) for name in SCORES)
        assert lines[-1] == "noise: standard deviation of a judge's mean score between times of asking"


def test_a_failed_cell_shows_the_noise_below_its_verdict() -> None:
    """One line, of the metric that was judged and not of the others; the label stands like the others."""
    rng = np.random.default_rng(0)
    dense, now = (make_examples(np.ones(N, np.bool_), fluency=values) for values in (rng.uniform(4, 5, N), rng.uniform(1, 2, N)))
    means = (MeanInfo(name="fluency", kind="score"),)
    record = score(mean=1.5)
    changes = {"metrics": record["metrics"], "floors": {"fluency": 1.0}, "work": record["work"], "means": means, "metric": "fluency"}
    found = make_measurement(compression=L1, scores=(make_score(now, probe="s", **changes),))
    budget = Budget(probe="s", metric="fluency", kind="retention", limit=0.9)
    verdict = judge(found, dense={"s": dense}, stored=None, budgets=[budget])
    lines = failure_lines(verdict, model="m", command="c", scores=[each.plain() for each in found.scores])
    (line,) = [line for line in lines if line.startswith("judge")]
    assert line.startswith("judge       fluency: noise .031, the standard deviation of this mean over the 3 times")
    assert not [line for line in failure_lines(verdict, model="m", command="c") if line.startswith("judge")]


@given(text=st.text(max_size=80))
@settings(max_examples=60, deadline=None)
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    """An error is shown with its escapes written out, and a text without any as it is."""
    assert plain(text).isprintable()
    assert plain(text) == text or not text.isprintable()
    (row,) = rows_from("m", "dense", error=f"\x1b[31m{text}\x07")
    assert row.error.startswith("\\x1b[31m")
    assert row.error.isprintable()


def test_what_a_model_said_cannot_steer_the_terminal() -> None:
    """The words of an example are others' too: their escapes are written out in the text of a failure."""
    right = np.arange(1000) < 500
    dense = {"facts": make_examples(right)}
    budget = Budget(probe="facts", metric="p1", kind="retention", limit=0.95)
    verdict = judge(make_measurement(right & (np.arange(1000) > 100), compression=L1), dense=dense, stored=None, budgets=[budget])
    lines = failure_lines(verdict, model="m", command="c", describe=lambda name, _: f"{name} -> \x1b[2J\r\nkick: 9 pass")
    assert all(line.isprintable() for line in lines)
    assert any("\\x1b[2J\\r\\nkick: 9 pass" in line for line in lines)
