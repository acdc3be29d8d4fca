from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from workspace import CELLS, is_root, last_line

if TYPE_CHECKING:
    from workspace import Workspace

FORGOTTEN = '[[budgets]]\nretention = 0.99\nsparsity = 0.6\nscope = "overall"\n'


def test_an_unchanged_run_rewrites_nothing(workspace: Workspace) -> None:
    """A second `--kick-update` of the same thing leaves every file as it is, time of change included: version control sees nothing."""
    before = workspace.baselines()
    result = workspace.run("--kick-update")
    assert result.ret == 0
    assert last_line(result).endswith("0 recorded, 5 kept")
    assert workspace.baselines() == before


def test_update_accepts_a_changed_run(workspace: Workspace) -> None:
    """A stale cell fails, is recorded by `--kick-update`, and is green then; cells that did not change keep their files."""
    document = workspace.read(str(workspace.baseline("dense")))
    workspace.edit_facts("The chemical symbol of [X] is [Y].", "In chemistry the symbol of [X] is [Y].")
    workspace.run().assert_outcomes(failed=len(CELLS))
    assert last_line(workspace.run("--kick-update")).endswith("5 recorded")
    workspace.run().assert_outcomes(passed=len(CELLS))
    assert workspace.read(str(workspace.baseline("dense")))["fingerprint"] != document["fingerprint"]


def test_update_over_a_damaged_run_is_new(workspace: Workspace) -> None:
    """What cannot be read is no run to compare with: the cell is NEW and recorded."""
    workspace.baseline("dense").write_text("{", encoding="utf-8")
    document = workspace.document("--kick-update", "-k", "dense or attention--s0.1")
    assert [cell["verdict"]["regressions"][0]["word"] for cell in document["cells"]] == ["NEW", "UNCHANGED"]
    assert [cell["outcome"] for cell in document["cells"]] == ["pass", "pass"]


def test_the_noise_floor_is_measured_and_used(workspace: Workspace) -> None:
    """`--kick-noise` asks the dense model again and stores its floors; cells are judged by them, and a later update keeps them."""
    before = workspace.document("--kick-level", "0.1", "-k", "attention")["cells"][0]["verdict"]["regressions"][0]
    assert before["noise_floor"] == 2.0  # the cautious one
    result = workspace.run("--kick-update", "--kick-noise", "2", "--kick-method", "dense")
    assert last_line(result).endswith("1 recorded")
    result.stdout.fnmatch_lines(["kick: noise floor: tiny-decoder float32: facts p1 0.0083 (n=120)"])
    floors = workspace.read(str(workspace.baseline("dense")))["noise_floor"]
    assert floors["facts"].keys() >= {"p1", "free_p1"}
    assert floors["facts"]["p1"] * before["n"] == pytest.approx(1)  # in float32 no near-tie falls otherwise
    assert last_line(workspace.run("--kick-update")).endswith("0 recorded, 5 kept")
    after = workspace.document("--kick-level", "0.1", "-k", "attention")["cells"][0]["verdict"]["regressions"][0]
    assert after["noise_floor"] == pytest.approx(1)


def test_new_only_keeps_what_stands(workspace: Workspace) -> None:
    """`--kick-update-new-only` writes the missing cell and touches no other file, and holds the others against what stands."""
    before = workspace.baselines()
    for suffix in ("json", "npz"):
        workspace.baseline("l1_global--overall--s0.1", suffix).unlink()
    document = workspace.document("--kick-update-new-only")
    words = {cell["id"].partition("decoder--")[2]: cell["verdict"]["regressions"][0]["word"] for cell in document["cells"]}
    assert words == dict.fromkeys(CELLS, "UNCHANGED") | {"l1_global--overall--s0.1": "NEW"}
    after = workspace.baselines()
    new = {name for name in after if "overall--s0.1" in name}
    assert len(new) == 2
    assert {name: after[name] for name in after.keys() - new} == {name: before[name] for name in before.keys() - new}


def test_new_only_leaves_a_stale_cell_red(workspace: Workspace) -> None:
    """What stands and measured something else is not recorded over: it stays red, and on disk as it was."""
    workspace.edit_facts("The chemical symbol of [X] is [Y].", "In chemistry the symbol of [X] is [Y].")
    before = workspace.baselines()
    result = workspace.run("--kick-update-new-only")
    result.assert_outcomes(failed=len(CELLS))
    assert last_line(result).endswith("0 recorded")
    assert workspace.baselines() == before


def test_update_never_turns_forgot_green(workspace: Workspace) -> None:
    """A cell outside its budget is recorded and stays red, in the run that records it and in the next."""
    workspace.suite(FORGOTTEN)
    for args in (("--kick-update",), ()):
        result = workspace.run(*args, "-k", "overall--s0.6 or dense")
        result.assert_outcomes(failed=1, passed=1)
        result.stdout.fnmatch_lines(["kick: FORGOT: *", "accept * --kick-update keeps FORGOT red"])


def test_a_cell_that_broke_is_not_recorded(unrecorded: Workspace) -> None:
    """Of a run with an errored cell the others are recorded, and nothing of that cell."""
    unrecorded.suite('[[compressions]]\nmethod = "l1_global"\nscope = "*.no_such_matrix"\nsparsity = 0.2\n')
    result = unrecorded.run("--kick-update")
    result.assert_outcomes(passed=len(CELLS), errors=1)
    assert last_line(result) == "kick: 6 cells, 5 pass, 0 fail, 0 inconclusive, 1 error, 5 recorded"
    assert {name.removesuffix(".json") for name in (p.name for p in unrecorded.baseline("dense").parent.glob("*.json"))} == set(CELLS)


def test_what_cannot_be_judged_is_not_recorded(unrecorded: Workspace) -> None:
    """Where the dense model knows nothing, its own cell and budgets are errors, and none of these is recorded."""
    facts = unrecorded.path / "suites" / "few.jsonl"
    text = facts.read_text(encoding="utf-8")
    for name in ("city", "element", "month"):
        text = "".join(line for line in text.splitlines(keepends=True) if f'"{name}' not in line)
    # The one relation left, asked in nonsense.
    text = text.replace("The American city of [X] is located in the state of [Y].", "[X] zzzz qqq [Y].")
    text = text.replace("[X] is a city in the U.S. state of [Y].", "qqq [X] qq [Y].")
    facts.write_text(text, encoding="utf-8")
    unrecorded.suite("[[budgets]]\nretention = 0.9\nsparsity = 0.1\n")
    result = unrecorded.run("--kick-update", "--kick-json", "run.json")
    result.assert_outcomes(errors=3, passed=2)
    result.stdout.fnmatch_lines(["*budget retention:facts.p1: COULD NOT MEASURE: got a dense score of *"])
    assert len([line for line in result.outlines if line.startswith("  dense ") and "ERROR" not in line]) == 1  # its score all the same
    document = json.loads((unrecorded.path / "run.json").read_bytes())
    wrong = [cell for cell in document["cells"] if cell["outcome"] == "error"]
    assert all(cell["measurement"] and cell["verdict"] is None and "COULD NOT MEASURE" in cell["error"] for cell in wrong)
    assert len(wrong) == 3
    recorded = {path.name for path in unrecorded.baseline("dense").parent.glob("*.json")}
    assert recorded == {f"{cell}.json" for cell in CELLS if cell.endswith("s0.6")}  # not the dense one that they were held against


@pytest.mark.parametrize("option", ["--kick-update", "--kick-update-new-only"])
def test_a_sample_is_not_recorded(workspace: Workspace, option: str) -> None:
    """Recording with `--kick-limit` is refused in one line before anything runs."""
    before = workspace.baselines()
    result = workspace.run(option, "--kick-limit", "50")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line.strip()] == [
        "ERROR: --kick-update: value: got it with --kick-limit, expected all examples. Record without --kick-limit."
    ]
    assert workspace.baselines() == before


def test_baselines_that_cannot_be_written_are_told(unrecorded: Workspace) -> None:
    """Where the directory cannot be made, one line says so, the exit code is not 0, and the table and the run record are there."""
    (unrecorded.path / "baselines").mkdir(exist_ok=True)
    (unrecorded.path / "baselines" / "tiny-decoder--few").write_text("in the way", encoding="utf-8")
    result = unrecorded.run("--kick-update", "--kick-json", "run.json", "-k", "dense")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["kick: baselines/tiny-decoder--few/*: file: got *, expected a place to write to.*"])
    result.stdout.fnmatch_lines(["  dense *NEW*"])
    assert last_line(result).endswith("not all recorded")
    assert unrecorded.read("run.json")["counts"]["pass"] == 1


@pytest.mark.parametrize("option", ["--kick-update", "--kick-update-new-only"])
def test_a_place_that_takes_no_baselines_is_refused_before_anything_runs(unrecorded: Workspace, option: str) -> None:
    """A file where the directory should be, or above it, ends a run that records in one line; other runs do not mind."""
    (unrecorded.path / "file").write_text("in the way", encoding="utf-8")
    for name in ("file", "file/below"):
        result = unrecorded.run(option, "--kick-baselines", name)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        expected = f"*--kick-baselines: *{name}: got *file, which is no writable directory, expected one to record in. Choose another."
        result.stderr.fnmatch_lines([expected])
    assert unrecorded.run("--kick-baselines", "file").ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.skipif(is_root(), reason="permissions do not bind root")
def test_read_only_baselines(workspace: Workspace) -> None:
    """A read-only directory is told the same way, and keeps its files."""
    directory = workspace.baseline("dense").parent
    workspace.baseline("l1_global--overall--s0.1").unlink()
    before = workspace.baselines()
    directory.chmod(0o500)
    try:
        result = workspace.run("--kick-update")
    finally:
        directory.chmod(0o700)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["kick: baselines/*Permission denied*"])
    assert workspace.baselines() == before
