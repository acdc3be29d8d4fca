"""The lines of a failed cell: what was lost, against what, and what to do about it."""

from __future__ import annotations

import numpy as np
from made_measurements import L1, make_examples, make_measurement, make_score

from pytest_kick.report import failure_lines
from pytest_kick.spec import Budget
from pytest_kick.verdict import Verdict, judge

N = 1000
DENSE = {"facts": make_examples(np.arange(N) < 500)}
COMMAND = 'pytest "suites/test_kick.py::test_cell[a--m--l1_global--ffn--s0.2]" --kick-update'


def verdict(lost: int, gained: int = 0, *, stored_lost: int | None = None, budget: bool = True) -> Verdict:
    """Return the verdict of a cell that lost the first facts; the stored run had lost `stored_lost`, None for no stored run."""
    right = ((np.arange(N) >= lost) & (np.arange(N) < 500)) | (np.arange(N) >= N - gained)
    stored = None if stored_lost is None else {"facts": make_examples((np.arange(N) >= stored_lost) & (np.arange(N) < 500))}
    budgets = [Budget(probe="facts", metric="p1", kind="retention", limit=0.95)] if budget else []
    return judge(make_measurement(right, compression=L1, seed=3), dense=DENSE, stored=stored, budgets=budgets, n_comparisons=20)


def lines_of(found: Verdict, **kwargs: object) -> list[str]:
    """Return the lines for model `m`."""
    return failure_lines(found, model="m", command=COMMAND, **kwargs)  # type: ignore[arg-type]


def test_forgot() -> None:
    """About ten lines: cell, dense and now, interval, budget, flips, the worst relation with examples, the stored run, what to do."""
    lines = lines_of(
        verdict(100, 10, stored_lost=100),
        describe=lambda name, now: f"the capital of {name} -> Lima, now #{now}",
        recorded="2026-11-18",
        noted=["torch: 2.12.0 -> 2.13.0"],
    )
    assert lines[0] == "kick: FORGOT: m | l1_global ffn s0.2 | facts (n=1,000, paired) | float32"
    assert lines[1].startswith("retention   p1: dense .500 -> now .410; retention .800, 90% interval [.7")
    assert lines[2].strip() == "budget at least .950: FORGOT"
    assert lines[3].startswith("vs dense    100 lost, 10 gained, ")
    assert lines[3].endswith("; flips .110")
    assert lines[4].startswith("regression  p1: stored .400 -> now .410; 0 lost, 10 gained (p=")
    assert lines[5] == "worst       g0: 25 lost, 4 gained of 250 vs dense; then g1 25; then g2 25" or lines[5].startswith("worst       g")
    assert all(" -> Lima, now #" in line for line in lines[6:9])
    assert lines[9] == "stored      2026-11-18; same weights, tokenizer and examples; differs since: torch: 2.12.0 -> 2.13.0"
    assert lines[10] == "accept      a budget is accepted in its suite only: change it there, --kick-update keeps FORGOT red"
    assert len(lines) == 11
    assert not any(COMMAND in line for line in lines)


def test_regressed() -> None:
    """The counts and the test against the stored run, what was lost since, and the command that accepts it."""
    lines = lines_of(verdict(60, stored_lost=0, budget=False), recorded="2026-11-18")
    assert lines[0].startswith("kick: REGRESSED: m | ")
    assert lines[1].startswith(
        "regression  p1: stored .500 -> now .440; 60 lost, 0 gained (p=8.7e-19, limit .003; noise 2.0 net): REGRESSED"
    )
    assert "vs stored" in lines[2]
    assert lines[3].split()[0].startswith("g")
    assert lines[-2] == "stored      2026-11-18; same weights, tokenizer and examples; same versions and machine"
    assert lines[-1] == f"accept      {COMMAND}"


def test_inconclusive() -> None:
    """How many more examples would decide, and which options there are."""
    found = verdict(15)
    lines = lines_of(found)
    assert f"({found.checks[0].n_more:,} more examples like these would decide)" in lines[2]
    assert "none, this cell is new" in lines[4]
    assert lines[-1].endswith("--kick-inconclusive=warn")


def test_a_budget_and_the_stored_run() -> None:
    """Where both are red both are shown, and both ways to accept."""
    lines = lines_of(verdict(200, stored_lost=0))
    assert lines[0].startswith("kick: REGRESSED")
    assert [line.split()[0] for line in lines if line.endswith(("FORGOT", "REGRESSED"))] == ["budget", "regression"]
    assert sum(line.startswith("accept") for line in lines) == 2


def test_probes_are_named_where_there_are_several() -> None:
    """Two probes may share a metric: each line says whose it is; one alone needs no name."""
    scores = tuple(make_score(make_examples(np.arange(1000) < right), probe=probe) for probe, right in (("facts", 300), ("trivia", 500)))
    known = {probe: make_examples(np.arange(1000) < 500) for probe in ("facts", "trivia")}
    budget = Budget(probe="facts", metric="p1", kind="retention", limit=0.95)
    lines = lines_of(judge(make_measurement(compression=L1, scores=scores), dense=known, stored=known, budgets=[budget]))
    assert any(line.startswith("retention   facts p1: dense .500 -> now .300") for line in lines)
    assert any(line.startswith("regression  trivia p1: stored .500 -> now .500") for line in lines)
    assert not any("facts p1:" in line for line in lines_of(verdict(100)))


def test_every_line_is_one_line() -> None:
    """No line breaks inside, so that the order of the lines is the layout."""
    assert all("\n" not in line for line in lines_of(verdict(100)))
