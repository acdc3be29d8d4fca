from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from workspace import CELLS, SUITE, last_line

if TYPE_CHECKING:
    from workspace import Workspace


def test_green_run_is_unchanged(workspace: Workspace) -> None:
    """A recorded suite is green: budgets RETAINED, every other cell UNCHANGED, nothing changed."""
    document = workspace.document()
    assert {cell["outcome"] for cell in document["cells"]} == {"pass"}
    words = {entry["word"] for cell in document["cells"] for entry in cell["verdict"]["regressions"]}
    assert words == {"UNCHANGED"}
    assert document["counts"]["cells"] == len(CELLS)


def record_command(result: pytest.RunResult) -> list[str]:
    """Return the arguments of the one command that a run prints for all cells without a stored run."""
    told = [line for line in result.outlines if "without a stored run; record: " in line]
    assert len(told) == 1
    command = shlex.split(told[0].partition("record: ")[2])
    assert command[0] == "pytest"
    return command[1:]


def test_missing_fails_and_one_command_records_all(unrecorded: Workspace) -> None:
    """Without stored runs every cell fails, shortly, before a model is loaded; the one command printed at the end makes all green."""
    result = unrecorded.run()
    result.assert_outcomes(failed=len(CELLS))
    assert last_line(result) == "kick: 5 cells, 0 pass, 5 fail, 0 inconclusive, 0 error"
    assert not (unrecorded.path / ".kick").exists()  # nothing was measured for nothing
    assert sum("pytest suites" in line for line in result.outlines) == 1
    result.stdout.fnmatch_lines(["baselines/*/dense.json: baseline: got none (missing), *. Record it with --kick-update-new-only."])
    recorded = unrecorded.run(*record_command(result), at="")
    recorded.assert_outcomes(passed=len(CELLS))
    unrecorded.run().assert_outcomes(passed=len(CELLS))


def test_the_command_for_few_cells_names_them(unrecorded: Workspace) -> None:
    """A run that misses one cell prints the command for that cell, and it records no other but the dense model it needs."""
    result = unrecorded.run("-k", "overall--s0.6")
    recorded = unrecorded.run(*record_command(result), at="")
    recorded.assert_outcomes(passed=1)
    assert last_line(recorded).endswith("2 recorded")
    unrecorded.run(unrecorded.node("l1_global--overall--s0.6"), at="").assert_outcomes(passed=1)


@pytest.mark.parametrize("cells", ["dense", "s"])
def test_the_command_names_what_the_run_named(unrecorded: Workspace, cells: str) -> None:
    """A suite that does not run by default, in another dtype, another directory, narrowed: the command printed says it all."""
    unrecorded.suite("", old="schema = 1\n", new="schema = 1\ndefault = false\n")
    (unrecorded.path / "suites" / "more.toml").write_text(SUITE, encoding="utf-8")
    args = ("--kick-suite", "mi*", "--kick-dtype", "bfloat16", "--kick-baselines", "else where", "-k", cells)
    command = record_command(unrecorded.run(*args))
    unrecorded.run(*command, at="").assert_outcomes(passed=1 if cells == "dense" else 5, deselected=0)
    assert unrecorded.run(*args).ret == 0


def test_the_other_dtype_is_named(workspace: Workspace) -> None:
    """A cell recorded in the other dtype only says so, with the option that runs it as it was recorded."""
    result = workspace.run("-k", "dense", "--kick-dtype", "bfloat16")
    says = "*bfloat16/dense.json: baseline: got none (missing): it is recorded in float32 only, *Run with --kick-dtype float32, or record *"
    result.stdout.fnmatch_lines(
        [says, "kick: 1 cell recorded in float32 only: run with --kick-dtype float32, or record: pytest *bfloat16*"]
    )
    workspace.baseline("dense").unlink()
    result = workspace.run("-k", "dense", "--kick-dtype", "bfloat16")
    result.stdout.no_fnmatch_line("*it is recorded in*")


@pytest.mark.parametrize("missing", ["skip", "warn"])
def test_missing_may_be_skipped_or_warned_of(workspace: Workspace, missing: str) -> None:
    """`--kick-missing` decides how a cell without stored run ends; the last line and the run record count it as unjudged."""
    workspace.baseline("l1_global--overall--s0.6").unlink()
    result = workspace.run("-k", "overall--s0.6 or dense", f"--kick-missing={missing}", "--kick-json", "run.json")
    assert result.ret == 0
    assert "1 unjudged" in last_line(result)
    assert [cell["outcome"] for cell in workspace.read("run.json")["cells"]] == ["pass", "unjudged"]
    if missing == "warn":
        result.stdout.fnmatch_lines(["*KickWarning: mini--tiny-decoder--l1_global--overall--s0.6: no stored run*"])


def test_a_warned_cell_is_judged_on_retention_alone(workspace: Workspace) -> None:
    """With a dense baseline and no stored run, `warn` still holds the cell against its budget."""
    workspace.suite('[[budgets]]\nretention = 0.99\nsparsity = 0.6\nscope = "overall"\n')
    workspace.baseline("l1_global--overall--s0.6").unlink()
    result = workspace.run("--kick-missing=warn", "-k", "overall--s0.6")
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(["kick: FORGOT: tiny-decoder*", "stored run *: none, this cell is new"])
