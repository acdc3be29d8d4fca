"""The lines below a model's heading: n, what knowing nothing scores, trivial baselines, what was left out; and names that stay apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kick.report import Row, rows_from, table_lines
from pytest_kick.report.brief import short_probes

SCORE = {
    "probe": "facts",
    "metric": "p1",
    "metrics": {"p1": 0.5, "p10": 0.7},
    "floors": {"p1": 0.087, "p10": 0.3},
    "trivial": {"chance": 0.02, "majority": 0.087},
    "n": 1000,
    "excluded": {"answer of several tokens": 142},
    "work": {"tokens": 9.0, "truncated": 20.0},
}
CLOSED, OPEN = "retrieval_qa:squad--sample-100", "retrieval_qa:squad--book-open--sample-100"
EASY, PIQA = "lm_eval:arc_easy--sample-500", "lm_eval:piqa--sample-500"
LINE = "knowing nothing .087 (majority .087, chance .020), 142 left out (answer of several tokens), 20 texts cut to the window"


def _row(verdict: dict[str, Any] | None = None, **changed: Any) -> Row:
    """Return the row of a cell whose only score is `SCORE`, changed."""
    measured = {"dtype": "bfloat16", "timing": {"seconds": {"evaluate": 21.0, "compress": 0.4}}, "scores": [SCORE | changed]}
    return rows_from("m", "l1_global--overall--s0.3", measurement=measured, verdict=verdict)[0]


def _wide(probe: str) -> Row:
    """Return a row whose numbers leave the names little room at 80 columns."""
    whole = {"retention": 0.93, "low": 0.9, "high": 0.96, "lost": 161, "gained": 32, "word": "INCONCLUSIVE"}
    return replace(_row(probe=probe), method="l1_global+dynamic_int8", level="s0.3+b8", **whole)  # type: ignore[arg-type]


def _names(probes: list[str], width: int = 80) -> list[str]:
    """Return what stands in the column probe of a table."""
    head, *lines = table_lines([_wide(probe) for probe in probes], width=width)
    start, end = head.index("probe"), head.index(" acc")
    return [line[start:end].strip() for line in lines if "INCONCLUSIVE" in line]


def test_several_probes_have_a_line_each() -> None:
    """Below the heading stands of each probe with a row n, what knowing nothing scores, what that is the best of, and what is missing."""
    rows = [_row(), _row(probe="mmlu", metric="acc", metrics={"acc": 0.4}, floors={"acc": 0.25}, trivial={}, excluded={}, work={})]
    lines = table_lines([*rows, replace(rows[0], level="s0.4")], width=160)
    assert lines[1:4] == ["m  bfloat16", f"  facts p1: n=1,000, {LINE}", "  mmlu acc: n=1,000, knowing nothing .250"]
    assert len(lines) == 1 + 3 + 3


def test_one_probe_stays_in_the_heading() -> None:
    """With one probe the heading says n and the floor, and the line below only the rest, where there is any."""
    lines = table_lines([_row()], width=160)
    assert lines[1] == "m  bfloat16  facts p1, n=1,000, knowing nothing .087"
    said = "142 left out (answer of several tokens), 20 texts cut to the window"
    assert lines[2] == f"  trivial: majority .087, chance .020; {said}"
    assert len(table_lines([_row(trivial={}, excluded={}, work={})], width=160)) == len(lines) - 1


@pytest.mark.parametrize("width", [30, 60, 80, 100])
def test_the_lines_are_wrapped(width: int) -> None:
    """No line is wider than the terminal, and nothing is lost of what they say."""
    lines = table_lines([_row(), _row(probe=OPEN)], width=width)
    assert max(map(len, lines)) <= width
    assert f"facts p1: n=1,000, {LINE}" in " ".join(line.strip() for line in lines)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"excluded": {}, "work": {}}, ""),
        ({"excluded": {"too long": 0}, "work": {"truncated": 0.0, "documents_cut": 0.0}}, ""),
        ({"excluded": {"a": 1200, "b": 34}, "work": {}}, "1,234 left out (1,200 a, 34 b)"),
        ({"excluded": {}, "work": {"documents_cut": 1.0}}, "1 text cut to the window"),
        ({"excluded": {"a\x1b[31m": 2}, "work": {}}, r"2 left out (a\x1b[31m)"),
    ],
)
def test_what_is_left_out_is_counted_by_reason(changed: dict[str, Any], said: str) -> None:
    """Nothing is said of nothing; several reasons have a number each; a reason may not steer the terminal."""
    assert _row(**changed).left_out == said


def test_the_best_trivial_baseline_stands_first() -> None:
    """The best of a loss is the lowest; baselines of another metric than the row's say whose they are."""
    loss = {"metric": "nats", "metrics": {"nats": 2.0}, "floors": {"nats": 3.0}, "trivial": {"uniform": 9.0, "unigram": 3.0}}
    assert _row(**loss, means=[{"name": "nats", "kind": "loss"}]).trivial == "unigram 3.000, uniform 9.000"
    verdict = {"checks": [{"probe": "facts", "metric": "p10", "word": "RETAINED", "n_more": None}]}
    row = _row(verdict)
    assert (row.metric, row.floor, row.trivial) == ("p10", 0.3, "of p1: majority .087, chance .020")


def test_probes_of_a_table_differ_at_80_columns() -> None:
    """The size of the sample and the shared kind go before what tells two probes apart is cut."""
    assert short_probes([OPEN, CLOSED, EASY, PIQA, "facts"]) == {
        OPEN: "squad--book-open",
        CLOSED: "squad",
        EASY: "arc_easy",
        PIQA: "piqa",
        "facts": "facts",
    }
    assert _names([OPEN, CLOSED, EASY, PIQA, "facts"]) == ["squad..-open", "squad", "arc_easy", "piqa", "facts"]


def test_what_tells_probes_apart_is_kept() -> None:
    """A sample's size stays where only it differs, a parameter that not all of a kind share, a kind whose rest others have too."""
    probes = ["facts--sample-5", "facts--sample-50", "open_book--distractors-0", "open_book--distractors-4", "a:x", "a:y", "b:x", "b:z"]
    assert short_probes(probes) == {
        **dict(zip(probes[:4], probes[:4], strict=True)),
        "a:x": "a:x",
        "a:y": "y",
        "b:x": "b:x",
        "b:z": "z",
    }


def test_names_that_would_be_cut_alike_are_numbered() -> None:
    """Where two names have the same ends, numbers stand in the rows and before the names below the heading."""
    probes = [f"lm_eval:{group}_of_several_long_names" for group in ("mmlu_law_and_more", "mmlu_physics_and_more")]
    assert _names(probes) == ["[1]", "[2]"]
    text = "\n".join(table_lines([_wide(probe) for probe in probes], width=80))
    assert f"  [1] {probes[0]} p1: n=1,000" in text
    assert f"  [2] {probes[1]} p1: n=1,000" in text
    assert "[1]" not in "\n".join(table_lines([_wide(probe) for probe in probes], width=240))


@given(
    probes=st.lists(
        st.builds(
            lambda kind, task, params: "--".join([kind + task, *params]),
            st.sampled_from(["facts", "lm_eval", "a"]),
            st.sampled_from(["", ":a", ":arc_easy", ":arc_challenge", ":a:a", ":"]),
            st.lists(st.sampled_from(["sample-5", "sample-50", "book-open", "shots-1", "shots-2"]), max_size=3),
        ),
        min_size=1,
        max_size=9,
        unique=True,
    ),
    width=st.sampled_from([79, 80, 100, 160]),
)
@settings(max_examples=80, deadline=None)
def test_any_two_probes_read_differently(probes: list[str], width: int) -> None:
    """Whatever probes a table has, no two rows show the same name, and no line is too wide."""
    short = short_probes(probes)
    assert len(set(short.values())) == len(probes)
    assert all(short.values())
    if len(probes) > 1:
        assert len(set(_names(probes, width))) == len(probes)
    assert max(map(len, table_lines([_wide(probe) for probe in probes], width=width))) <= width
