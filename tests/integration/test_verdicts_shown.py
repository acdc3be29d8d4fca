from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest
from workspace import last_line, lines_wider

from pytest_kick import claims
from pytest_kick.report import json_report
from pytest_kick.session import Session

if TYPE_CHECKING:
    from workspace import Workspace

OVERALL = "overall--s0.6"


def budget(workspace: Workspace, retention: float) -> None:
    """Ask the cell with the loss to retain a share."""
    workspace.suite(f'[[budgets]]\nretention = {retention}\nsparsity = 0.6\nscope = "overall"\n')


def failure(result: pytest.RunResult) -> list[str]:
    """Return the lines a failed cell prints."""
    start = next(i for i, line in enumerate(result.outlines) if line.startswith("kick: ") and "paired" in line)
    end = next(i for i, line in enumerate(result.outlines[start:], start) if line.startswith("==="))
    return result.outlines[start:end]


def test_forgot_prints_ten_lines(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell outside its budget fails with about ten lines: scores, interval, budget, flips, lost facts in words, what to do."""
    budget(workspace, 0.95)
    monkeypatch.setenv("CI", "1")
    result = workspace.run("-k", OVERALL)
    result.assert_outcomes(failed=1)
    lines = failure(result)
    assert 8 <= len(lines) <= 12
    assert lines[0] == "kick: FORGOT: tiny-decoder | l1_global overall s0.6 | facts (n=120, paired) | float32"
    result.stdout.re_match_lines(
        [
            r"retention +p1: dense 1\.000 -> now \.\d{3}; retention \.\d{3}, 90% interval \[\.\d{3}, \.\d{3}\]",
            r" +budget at least \.950: FORGOT",
            r"vs dense +\d+ lost, \d+ gained, \d+ wrong ones answered otherwise; flips \.\d{3}",
            r"regression +p1: stored \.\d{3} -> now \.\d{3}: UNCHANGED",
            r"worst +\w+: \d+ lost, \d+ gained of \d+ vs dense; then \w+ \d+",
            r" +[A-Z].* -> .+, now .+",
            r"stored +\d{4}-\d\d-\d\d; same weights, tokenizer and examples; same versions and machine",
            r"accept +a budget is accepted in its suite only.*",
        ]
    )
    result.stdout.fnmatch_lines(["FAILED suites/test_cells.py::*s0.6] - *kick: FORGOT: tiny-decoder | l1_global overall s0.6 *"])


@pytest.mark.parametrize(
    ("option", "outcomes"),
    [("fail", {"failed": 1}), ("warn", {"passed": 1, "warnings": 1}), ("xfail", {"xfailed": 1})],
)
def test_inconclusive(workspace: Workspace, option: str, outcomes: dict[str, int]) -> None:
    """An undecided cell ends as the option says, says how many more examples would decide, and is counted as inconclusive."""
    budget(workspace, 0.6)
    result = workspace.run("-k", OVERALL, f"--kick-inconclusive={option}", "--kick-json", "run.json")
    result.assert_outcomes(**outcomes)
    assert last_line(result) == "kick: 1 cell, 0 pass, 0 fail, 1 inconclusive, 0 error"
    assert workspace.read("run.json")["cells"][0]["outcome"] == "inconclusive"
    if option == "fail":
        assert any("INCONCLUSIVE (" in line and "more examples like these would decide)" in line for line in failure(result))


def test_junit_tells_errors_from_failures(workspace: Workspace) -> None:
    """In the JUnit file a red verdict is a failure with its words, a cell that could not be measured is an error."""
    workspace.suite(
        '[[budgets]]\nretention = 0.95\nsparsity = 0.6\nscope = "overall"\n'
        '[[compressions]]\nmethod = "l1_global"\nscope = "*.no_such"\nsparsity = 0.6\n'
    )
    workspace.run("-k", "s0.6 and not attention", "--junitxml", "junit.xml", "--kick-missing=warn")
    suite = ET.parse(workspace.path / "junit.xml").getroot()[0]  # noqa: S314 - our own file
    assert (suite.get("errors"), suite.get("failures"), suite.get("tests")) == ("1", "1", "2")
    assert (suite.find(".//failure").get("message") or "").startswith("kick: FORGOT: tiny-decoder")  # type: ignore[union-attr]
    assert "no_such" in (suite.find(".//error").get("message") or "")  # type: ignore[union-attr]
    assert "base64" not in (workspace.path / "junit.xml").read_text(encoding="utf-8")


def table_row(result: pytest.RunResult, *words: str) -> str:
    """Return the row of the table that holds all words."""
    return next(line for line in result.outlines if line.startswith("  ") and all(word in line for word in words))


def test_narrow_and_wide_tables(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """At 80 columns no line is wider; at 160 nothing is left out."""
    workspace.narrow(80, monkeypatch)
    assert not lines_wider(workspace.run("-k", "s0.6"), 80)
    workspace.narrow(160, monkeypatch)
    wide = workspace.run("-k", "s0.6")
    assert not lines_wider(wide, 160)
    heading = next(line for line in wide.outlines if line.strip().startswith("method"))
    columns = ("scope", "level", "acc", "retention", "-lost+gained", "compress s", "evaluate s", "verdict", "stored run")
    assert all(column in heading for column in columns)
    assert "UNCHANGED" in table_row(wide, "l1_global", "overall", "s0.6")


@pytest.mark.parametrize(("option", "table"), [("-q", False), ("-qq", False), ("-v", True), ("-vv", True)])
def test_verbosity(workspace: Workspace, option: str, table: bool) -> None:
    """`-q` leaves the table out, never the last line; no colour where none is asked for."""
    result = workspace.run("-k", "dense", option)
    assert any("retention" in line or "  dense" in line for line in result.outlines) is table
    assert last_line(result) == "kick: 1 cell, 1 pass, 0 fail, 0 inconclusive, 0 error"
    result.stdout.no_fnmatch_line("*\x1b[[]*")


def test_no_color(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verdict is coloured where pytest colours, and is not where NO_COLOR forbids it."""
    assert "\x1b[32mUNCHANGED" in workspace.run("-k", "dense", "--color=yes").stdout.str()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32mUNCHANGED" not in workspace.run("-k", "dense", "--color=yes").stdout.str()


def test_without_a_terminal_reporter(workspace: Workspace) -> None:
    """Without pytest's terminal the cells are judged and the run record is written."""
    result = workspace.run("-k", "dense", "-p", "no:terminal", "--kick-json", "run.json")
    assert result.ret == 0
    assert workspace.read("run.json")["counts"]["pass"] == 1


def test_run_record_is_complete(workspace: Workspace) -> None:
    """`--kick-json` holds every cell with measurement and verdict, and no per-example data."""
    document = workspace.document("--kick-confidence", "0.9")
    assert document["schema"] == 1
    assert document["complete"] is True
    assert document["options"]["confidence"] == 0.9
    assert document["counts"] == {"cells": 5, "pass": 5, "fail": 0, "inconclusive": 0, "error": 0}
    for cell in document["cells"]:
        assert cell["measurement"]["timing"]["reliable"] is True
        assert cell["verdict"]["confidence"] == 0.9
        assert all("examples" not in score for score in cell["measurement"]["scores"])


def test_run_record_of_a_run_that_stopped(workspace: Workspace) -> None:
    """A run that `-x` ends early is not complete, and what it measured is there."""
    workspace.suite('[[budgets]]\nretention = 1.4\nscope = "attention"\n')
    result = workspace.run("-x", "--kick-json", "run.json")
    assert last_line(result) == "kick: 2 cells, 1 pass, 1 fail, 0 inconclusive, 0 error, stopped early"
    document = workspace.read("run.json")
    assert document["complete"] is False
    assert [cell["outcome"] for cell in document["cells"]] == ["pass", "fail"]


def test_an_unwritable_run_record_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that can no longer be written at the end is one line and an exit code that is not 0; the table is there all the same."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json_report, "replace_all", full)
    result = workspace.run("-k", "dense", "--kick-json", "run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["  dense *UNCHANGED*", "kick: */run.json: file: got No space left on device, expected a place to write to.*"]
    )
    assert last_line(result) == "kick: 1 cell, 1 pass, 0 fail, 0 inconclusive, 0 error"


def test_ctrl_c_before_a_cell_has_ended(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the first cell: a valid run record that is not complete."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "judged", interrupt)
    with pytest.raises(KeyboardInterrupt):  # as pytester hands it on
        workspace.run("--kick-json", "run.json")
    assert (workspace.read("run.json")["cells"], workspace.read("run.json")["complete"]) == ([], False)


def test_ctrl_c_while_claims_are_decided(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted after the last cell: no traceback, exit code 2, all cells in table and run record, the last line as ever."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    workspace.suite("", "schema = 1\n", "schema = 1\nclaims = true\n")
    monkeypatch.setattr(claims, "decide", interrupt)
    result = workspace.run("-k", "dense or attention", "--kick-json", "run.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.fnmatch_lines(["  dense *UNCHANGED*", "kick: interrupted before the claims were decided"])
    assert last_line(result) == "kick: 3 cells, 3 pass, 0 fail, 0 inconclusive, 0 error, interrupted"
    assert workspace.read("run.json")["counts"]["pass"] == 3
