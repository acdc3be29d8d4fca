from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest
from workspace import CELLS, last_line

if TYPE_CHECKING:
    from workspace import Workspace


def test_green_run_is_unchanged(workspace: Workspace) -> None:
    """A recorded suite is green: budgets RETAINED, every other cell UNCHANGED, nothing changed."""
    document = workspace.document()
    assert {cell["outcome"] for cell in document["cells"]} == {"pass"}
    words = {entry["word"] for cell in document["cells"] for entry in cell["verdict"]["regressions"]}
    assert words == {"UNCHANGED"}
    assert document["counts"]["cells"] == len(CELLS)


def test_missing_fails_with_the_command_that_records_it(unrecorded: Workspace) -> None:
    """Without stored runs every cell fails before a model is loaded; the command printed records that cell, which is then green."""
    result = unrecorded.run()
    result.assert_outcomes(failed=len(CELLS))
    assert last_line(result) == "kick: 5 cells, 0 pass, 5 fail, 0 inconclusive, 0 error"
    assert not (unrecorded.path / ".kick").exists()  # nothing was measured for nothing
    line = next(line for line in result.outlines if "s0.6.json" in line or ("overall--s0.6]" in line and "Record it" in line))
    command = shlex.split(line.partition("Record it: ")[2])
    assert command[0] == "pytest"
    recorded = unrecorded.run(*command[1:], at="")
    recorded.assert_outcomes(passed=1)
    assert last_line(recorded).endswith("2 recorded")  # the cell and the dense model it needs
    unrecorded.run(unrecorded.node("l1_global--overall--s0.6"), at="").assert_outcomes(passed=1)


def test_the_command_names_the_suite_and_the_dtype_it_needs(unrecorded: Workspace) -> None:
    """A cell of a suite that does not run by default, in another dtype, into another directory: the command printed says all three."""
    unrecorded.suite("", old="schema = 1\n", new="schema = 1\ndefault = false\n")
    args = ("--kick-suite", "mini", "--kick-dtype", "bfloat16", "--kick-baselines", "elsewhere")
    result = unrecorded.run(*args, "-k", "dense")
    line = next(line for line in result.outlines if "Record it" in line)
    command = shlex.split(line.partition("Record it: ")[2])
    unrecorded.run(*command[1:], at="").assert_outcomes(passed=1)
    unrecorded.run(*args, "-k", "dense").assert_outcomes(passed=1)


@pytest.mark.parametrize(("missing", "word"), [("skip", "skipped"), ("warn", "pass")])
def test_missing_may_be_skipped_or_warned_of(unrecorded: Workspace, missing: str, word: str) -> None:
    """`--kick-missing` decides how a cell without stored run ends; the last line and the run record count it alike."""
    result = unrecorded.run("-k", "dense", f"--kick-missing={missing}", "--kick-json", "run.json")
    assert result.ret == 0
    assert f"1 {word}" in last_line(result)
    assert unrecorded.read("run.json")["cells"][0]["outcome"] == word
    if missing == "warn":
        result.stdout.fnmatch_lines(["*KickWarning: mini--tiny-decoder--dense: no stored run*"])


def test_a_warned_cell_is_judged_on_retention_alone(workspace: Workspace) -> None:
    """With a dense baseline and no stored run, `warn` still holds the cell against its budget."""
    workspace.suite('[[budgets]]\nretention = 0.99\nsparsity = 0.6\nscope = "overall"\n')
    workspace.baseline("l1_global--overall--s0.6").unlink()
    result = workspace.run("--kick-missing=warn", "-k", "overall--s0.6")
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(["kick: FORGOT: tiny-decoder*", "stored run *: none, this cell is new"])
