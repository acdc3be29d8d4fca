"""A suite that asks some facts first: they decide where they can, and all facts do where they cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from test_worse_methods import largest
from workspace import few_facts, last_line

from pytest_kick.claims import Cell
from pytest_kick.compress import prune
from pytest_kick.session import Session
from pytest_kick.spec import CompressionStep

if TYPE_CHECKING:
    from workspace import Workspace

    from pytest_kick.compress.targets import Targets

N_FIRST, N_ALL = 200, 400
CELL = "random_unstructured--overall--s0.1"
SUITE = f"""\
schema = 1
claims = true
facts = "more.jsonl"
first_look = {N_FIRST}
models = ["tiny-decoder"]
dense = false

[[compressions]]
method = "random_unstructured"
scope = "overall"
sparsity = 0.1
"""


@pytest.fixture
def looking(workspace: Workspace) -> Workspace:
    """Return a repository with one recorded cell of 400 facts, of which 200 are asked first."""
    sizes = dict.fromkeys(("city_country", "element_symbol", "region_country", "us_city_state"), N_ALL // 4)
    (workspace.path / "suites" / "more.jsonl").write_text(few_facts(sizes), encoding="utf-8")
    (workspace.path / "suites" / "mini.toml").write_text(SUITE, encoding="utf-8")
    workspace.run("--kick-update").assert_outcomes(passed=1)
    return workspace


def cell(looking: Workspace, *args: str) -> dict[str, Any]:
    """Run and return what the run record holds of the cell."""
    found: dict[str, Any] = looking.document(*args)["cells"][0]
    return found


def n_asked(found: dict[str, Any]) -> int:
    """Return the number of facts asked."""
    return int(found["measurement"]["scores"][0]["n"])


def test_recording_asks_all_facts(looking: Workspace) -> None:
    """The stored run covers every fact, so that any first look, and none, can be held against it."""
    document = json.loads(looking.baseline(CELL, model="tiny-decoder--more").read_bytes())
    assert document["probes"]["facts"]["n"] == N_ALL


def test_nothing_changed_is_settled_by_the_first_look(looking: Workspace) -> None:
    """Where the same facts are known, the others are not asked: a net loss of two points is ruled out, and the last line says so."""
    found = cell(looking)
    assert (found["outcome"], n_asked(found)) == ("pass", N_FIRST)
    assert 0 < found["verdict"]["regressions"][0]["most_lost"] < 0.02
    assert last_line(looking.run()) == "kick: 1 cell, 1 pass, 0 fail, 0 inconclusive, 0 error, 1 settled at first look"


def test_a_change_is_judged_on_all_facts(looking: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worse method is measured whole, and is REGRESSED on all facts."""
    monkeypatch.setattr(prune, "random_unstructured", largest)
    found = cell(looking)
    assert (found["outcome"], n_asked(found)) == ("fail", N_ALL)
    assert found["verdict"]["regressions"][0]["word"] == "REGRESSED"


def test_flips_that_leave_a_loss_possible_ask_all_facts(looking: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another draw of weights flips some answers without being worse: too many to rule a loss out, so all facts are asked."""
    real = prune.random_unstructured

    def another_draw(targets: Targets, step: CompressionStep) -> None:
        real(targets, CompressionStep(method=step.method, scope=step.scope, level=step.level, params=(("seed", 2),)))

    monkeypatch.setattr(prune, "random_unstructured", another_draw)
    found = cell(looking)
    assert n_asked(found) == N_ALL
    assert found["verdict"]["regressions"][0]["word"] == "CHANGED"


def test_too_few_facts_settle_nothing(looking: Workspace) -> None:
    """Where even no flip leaves a loss of two points possible, a first look never decides."""
    path = looking.path / "suites" / "mini.toml"
    path.write_text(SUITE.replace(f"first_look = {N_FIRST}", "first_look = 100"), encoding="utf-8")
    assert n_asked(cell(looking)) == N_ALL


def test_a_limit_goes_before_the_first_look(looking: Workspace) -> None:
    """`--kick-limit` asks what it names, and nothing more."""
    assert n_asked(cell(looking, "--kick-limit", "60")) == 60


def test_claims_are_decided_on_all_facts(looking: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that a first look left out have the answers of the stored run: the claims are those of a run that asked all."""
    levels = SUITE.replace("random_unstructured", "l1_global").replace("sparsity = 0.1", "sparsity = [0.2, 0.4, 0.6, 0.8]")
    levels = levels.replace(f"first_look = {N_FIRST}", "first_look = 300")  # four cells need more to settle
    (looking.path / "suites" / "mini.toml").write_text(levels, encoding="utf-8")
    monkeypatch.setenv("COLUMNS", "120")
    recorded = looking.run("--kick-update")
    recorded.assert_outcomes(passed=4)
    looks_first = Session._looks_first
    monkeypatch.setattr(Session, "_looks_first", lambda self, case: "s0.8" not in case.cell and looks_first(self, case))
    result = looking.run("--kick-json", "run.json")
    assert {n_asked(entry) for entry in looking.read("run.json")["cells"]} == {300, N_ALL}
    result.stdout.fnmatch_lines(["  l1_global  overall  s0.8 *n=400*"])
    assert claims(result) == claims(recorded) != []
    monkeypatch.setattr(Cell, "updated", lambda _, newer: newer)
    assert claims(looking.run()) != claims(recorded)


def claims(result: pytest.RunResult) -> list[str]:
    """Return the lines of the claims that a run printed."""
    return [line for line in result.outlines if line.startswith("  tiny-decoder--more")]
