from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from workspace import CELLS, MODULE, last_line

if TYPE_CHECKING:
    from workspace import Workspace

FORGOTTEN = '[[budgets]]\nretention = 0.99\nsparsity = 0.6\nscope = "overall"\n'
CALL = "    kick_run(kick_case)\n"
SWALLOWING = "    try:\n        kick_run(kick_case)\n    except Exception:\n        pass\n"
NEVER = "    assert kick_run\n"


def module(workspace: Workspace, text: str) -> None:
    """Write the test module."""
    (workspace.path / "suites" / "test_cells.py").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("option", ["skip", "warn"])
def test_a_run_that_judged_nothing_is_not_green(unrecorded: Workspace, option: str) -> None:
    """With nothing recorded, letting missing cells by leaves none judged: not 0, and one line says why; one judged cell is enough."""
    result = unrecorded.run(f"--kick-missing={option}", "--kick-limit", "50", "-q", "-k", "dense or attention--s0.6")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = [line for line in result.outlines if "does not pass" in line]
    assert told == ["kick: cells: got 0 judged of 2, expected at least one: a run that judges nothing does not pass."]
    assert last_line(result) == "kick: 2 cells, 0 pass, 0 fail, 0 inconclusive, 0 error, 2 unjudged"


@pytest.mark.parametrize("option", ["skip", "warn"])
def test_some_cells_may_be_let_by(workspace: Workspace, option: str) -> None:
    """What an option lets by is counted as unjudged beside the cells that were judged, and the run is green."""
    workspace.baseline("l1_global--attention--s0.6").unlink()
    result = workspace.run(f"--kick-missing={option}", "--kick-json", "run.json", "-k", "dense or attention--s0.6")
    assert result.ret == 0
    assert last_line(result) == "kick: 2 cells, 1 pass, 0 fail, 0 inconclusive, 0 error, 1 unjudged"
    assert [cell["outcome"] for cell in workspace.read("run.json")["cells"]] == ["pass", "unjudged"]


def test_a_test_that_swallows_a_red_cell_fails(workspace: Workspace) -> None:
    """A verdict caught in the test fails it all the same, with the verdict's own words; green cells stay green."""
    workspace.suite(FORGOTTEN)
    module(workspace, MODULE.replace(CALL, SWALLOWING))
    workspace.baseline("l1_global--overall--s0.1").unlink()
    result = workspace.run("-k", "dense or overall", "--junitxml", "junit.xml")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(["test: got a red cell and passed, expected it to fail. *", "kick: FORGOT: tiny-decoder*"])
    assert last_line(result) == "kick: 3 cells, 1 pass, 2 fail, 0 inconclusive, 0 error"
    assert 'failures="2"' in (workspace.path / "junit.xml").read_text(encoding="utf-8")


def test_a_test_that_never_judges_fails(workspace: Workspace) -> None:
    """A test that asks for `kick_run` and does not call it fails in one line; the table says UNJUDGED."""
    module(workspace, MODULE.replace(CALL, NEVER))
    result = workspace.run("-k", "dense")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["test: got no call of kick_run, expected kick_run(kick_case): *", "  dense *UNJUDGED test: got no call*"])
    assert last_line(result) == "kick: 1 cell, 0 pass, 1 fail, 0 inconclusive, 0 error"


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
def test_a_test_that_only_looks_at_cells_judges_none(workspace: Workspace, workers: tuple[str, ...]) -> None:
    """Tests that take cells and never ask for `kick_run` leave them unjudged: not 0, one line names the test."""
    module(workspace, "def test_looks(kick_case):\n    assert kick_case.id\n")
    result = workspace.run_apart(*workers) if workers else workspace.run(*workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    says = "kick: suites/test_cells.py::test_looks: got 5 cell(s) run and none judged, expected `kick_run(kick_case)` in it. *"
    result.stdout.fnmatch_lines([says])
    result.stdout.fnmatch_lines(["  dense *UNJUDGED its test judged nothing"])
    assert last_line(result) == "kick: 5 cells, 0 pass, 0 fail, 0 inconclusive, 0 error, 5 unjudged"


def test_a_test_beside_the_judge_may_look_at_cells(workspace: Workspace) -> None:
    """Where another test judges the cells, one that only looks at them is no mistake, in whichever order they run."""
    for text in (
        MODULE + "\n\ndef test_looks(kick_case):\n    assert kick_case.id\n",
        "def test_looks(kick_case):\n    pass\n\n\n" + MODULE,
    ):
        module(workspace, text)
        result = workspace.run("-k", "dense")
        result.assert_outcomes(passed=2)
        assert last_line(result) == "kick: 1 cell, 1 pass, 0 fail, 0 inconclusive, 0 error"
        assert result.ret == 0


def test_cells_that_are_all_skipped_are_not_green(workspace: Workspace) -> None:
    """A mark that skips every cell leaves nothing judged."""
    module(workspace, "import pytest\n\n\n@pytest.mark.skip\n" + MODULE.partition('"""\n')[2].lstrip())
    result = workspace.run()
    result.assert_outcomes(skipped=len(CELLS))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["  dense *SKIPPED by its test"])
    assert last_line(result) == "kick: 5 cells, 0 pass, 0 fail, 0 inconclusive, 0 error, 5 skipped"


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
def test_a_suite_that_no_test_asks_for_is_told(workspace: Workspace, workers: tuple[str, ...]) -> None:
    """A suite whose cells no test runs is one line, and the run is not green though other tests passed."""
    module(workspace, "def test_ordinary():\n    pass\n")
    result = workspace.run_apart(*workers) if workers else workspace.run()
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["kick: suites/mini.toml: test: got none for its 5 cells, expected one that asks for `kick_case` beside it.*"]
    )


@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_a_marked_module_leaves_another_suite_alone(workspace: Workspace, workers: str) -> None:
    """Of two suites, the one that the only test's mark does not name is told; a run of a file or a node says nothing."""
    shutil.copy(workspace.path / "suites" / "mini.toml", workspace.path / "suites" / "more.toml")
    marked = MODULE.replace("def test_cell", '@pytest.mark.kick(suite="mini")\ndef test_cell')
    module(workspace, marked.replace("\n\n", "\n\nimport pytest\n", 1))
    result = workspace.run_apart(workers, "-k", "dense")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    told = [line for line in result.outlines if "test: got none" in line]
    assert len(told) == 1
    assert told[0].startswith("kick: suites/more.toml: test: got none for its 5 cells")
    assert workspace.run("-k", "dense", at="suites/test_cells.py").ret == 0
