"""Checkpoints made elsewhere, gated from a suite: a GGUF file, a directory saved by compressed-tensors, a run of fine-tuning."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

import pytest_kick
from pytest_kick import cli
from pytest_kick.catalog import catalog
from pytest_kick.models.load import load
from tools.write_gguf import write_gguf

if TYPE_CHECKING:
    from workspace import Workspace

DENSE = Path(next(iter(pytest_kick.__path__))) / "data" / "models" / "tiny-decoder"
ENTRY = """
[[compressions]]
method = "checkpoint"
"""
BUDGET = """
[[budgets]]
method = "checkpoint"
retention = 0.9
"""
COMPRESSIONS = '\n[[compressions]]\nmethod = "l1_global"\nscope = ["attention", "overall"]\nsparsity = [0.1, 0.6]\n'


def suite(workspace: Workspace, more: str) -> None:
    """Write a suite of checkpoints alone, and their budget."""
    workspace.suite(more + BUDGET, old=COMPRESSIONS, new="")


def found(workspace: Workspace, *args: str) -> dict[str, Any]:
    """Run and return the compressed cells, by the last part of their ids."""
    cells = workspace.document(*args)["cells"]
    return {cell["id"].rpartition("--")[2]: cell for cell in cells if not cell["id"].endswith("--dense")}


def words(cell: dict[str, Any]) -> list[str]:
    """Return the words of a verdict: of its budget, and against the stored run."""
    return [entry["word"] for entry in (*cell["verdict"]["checks"], *cell["verdict"]["regressions"])]


def times(directory: Path, factor: float) -> None:
    """Write the dense model with its query matrices multiplied: as much as a bad step of fine-tuning."""
    shutil.copytree(DENSE, directory)
    values = {name: t * factor if "q_proj" in name else t.clone() for name, t in load_file(DENSE / "model.safetensors").items()}
    save_file(values, directory / "model.safetensors", {"format": "pt"})


def test_gguf_and_compressed_tensors(workspace: Workspace) -> None:
    """Both are judged against the stored dense model, and their next run against the recorded one; bits are those of the files."""
    pytest.importorskip("compressed_tensors")
    from pytest_kick.models.quiet import quiet  # noqa: PLC0415 - after the check
    from tools.write_compressed import write_compressed  # noqa: PLC0415 - likewise

    model = load(catalog()["tiny-decoder"], DENSE)
    made = workspace.path / "made"
    made.mkdir()
    write_gguf(model, made / "m-q8_0.gguf", "q8_0")
    with quiet():
        write_compressed(model, made / "w8a8", "w8a8")
    suite(workspace, ENTRY + 'path = ["../made/m-q8_0.gguf", "../made/w8a8"]\n')
    cells = found(workspace, "--kick-update")
    assert {name: words(cell) for name, cell in cells.items()} == {"m-q8_0": ["RETAINED", "NEW"], "w8a8": ["RETAINED", "NEW"]}
    steps = {name: cell["measurement"]["compression"]["steps"][0] for name, cell in cells.items()}
    assert steps["m-q8_0"]["bits_per_weight"] == 8.5
    assert 8 < steps["w8a8"]["bits_per_weight"] < 8.5
    assert all(len(step["checkpoint"]) == 32 for step in steps.values())
    assert str(workspace.path) not in workspace.baseline("checkpoint--overall--m-q8_0").read_text(encoding="utf-8")
    assert {name: words(cell)[1] for name, cell in found(workspace).items()} == {"m-q8_0": "UNCHANGED", "w8a8": "UNCHANGED"}


def test_a_run_of_fine_tuning(workspace: Workspace) -> None:
    """Each step is a cell, by number; where the run forgets, the gate is red; the dense model itself is lossless."""
    for number, factor in ((5, 1.0), (10, 1.02), (100, -1.0)):
        times(workspace.path / "run" / f"checkpoint-{number}", factor)
    suite(workspace, ENTRY + 'steps = "../run/checkpoint-*"\n')
    cells = found(workspace, "--kick-update")
    assert {name: words(cell)[0] for name, cell in cells.items()} == {"run-5": "RETAINED", "run-10": "RETAINED", "run-100": "FORGOT"}
    assert cells["run-5"]["verdict"]["retentions"][0]["lossless"]
    assert cells["run-5"]["measurement"]["compression"]["steps"][0]["notes"] == ["all 14 matrices bit-identical to dense"]


def test_content_counts_and_place_does_not(workspace: Workspace) -> None:
    """A recorded cell stays fresh when its checkpoint moves, and is STALE when a weight changes."""
    times(workspace.path / "a" / "tuned", 1.02)
    suite(workspace, ENTRY + 'path = "../a/tuned"\n')
    assert found(workspace, "--kick-update")["tuned"]["outcome"] == "pass"
    (workspace.path / "a").rename(workspace.path / "b")
    suite(workspace, ENTRY + 'path = "../b/tuned"\n')
    assert words(found(workspace)["tuned"]) == ["RETAINED", "UNCHANGED"]
    shutil.rmtree(workspace.path / "b" / "tuned")
    times(workspace.path / "b" / "tuned", 1.021)
    cell = found(workspace)["tuned"]
    assert cell["outcome"] == "fail"
    assert "checkpoint.0: " in cell["error"]


def test_what_is_not_there(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """A path and a pattern without a match are listed, planned and collected; their cells are errors of one line."""
    suite(workspace, ENTRY + 'path = "../nothing"\n' + ENTRY + 'steps = "../run/checkpoint-*"\n')
    assert cli.main(["list", "suites", "--suites", str(workspace.path / "suites")]) == 0
    assert "3 cells" in capsys.readouterr().out
    assert workspace.run("--kick-plan").ret == 0
    document = workspace.document("--kick-update")
    errors = {cell["id"].rpartition("--")[2]: cell["error"] for cell in document["cells"] if cell["outcome"] == "error"}
    assert sorted(errors) == ["nothing", "run-none"]
    assert "expected a model directory or a .gguf file. Check the path in the suite." in errors["nothing"]
    assert "steps: got nothing at '" in errors["run-none"]
    assert "run/checkpoint-*', expected a whole number in place of '*'. Check the pattern in the suite." in errors["run-none"]
    assert not any("\n" in error for error in errors.values())


def test_the_command_that_makes_it_is_told(workspace: Workspace) -> None:
    """Where a suite says what makes its models and checkpoints, a missing one is an error that shows that; what is there runs."""
    more = f'made_by = "python  -m made"\nmodels = [{{ name = "own", family = "decoder", source = "path:{DENSE}" }}, '
    more += '{ name = "small", family = "decoder", source = "path:small" }]'
    workspace.suite(ENTRY + 'path = "../nothing"\nmodels = "own"\n' + BUDGET, old='models = ["tiny-decoder"]', new=more)
    document = workspace.document("--kick-update", "-k", "checkpoint or dense")
    errors = {cell["id"].partition("--")[2]: cell["error"] for cell in document["cells"] if cell["outcome"] == "error"}
    assert sorted(errors) == ["own--checkpoint--overall--nothing", "small--dense"]
    expected = "expected what the suite's command makes. Run python -m made."
    assert errors["small--dense"] == f"model 'small': path: got nothing at 'suites/small', {expected}"
    said = f"checkpoint--overall--nothing: path: got nothing at 'nothing', {expected}"
    assert errors["own--checkpoint--overall--nothing"] == said
    assert "own--dense" in {cell["id"].partition("--")[2] for cell in document["cells"] if cell["outcome"] != "error"}


def test_what_has_no_number_is_told(workspace: Workspace) -> None:
    """A directory beside the steps stops no run: it is left out, and the header and the plan name it and the key."""
    for name in ("5", "final"):
        shutil.copytree(DENSE, workspace.path / "run" / f"step-{name}")
    suite(workspace, ENTRY + 'steps = "../run/step-*"\n')
    says = "suites/mini.toml: compressions[[]0]: steps: ../run/step-final left out: no whole number in place of '[*]'"
    result = workspace.run("--kick-update")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines([f"kick: {says}"])
    workspace.run("--kick-plan").stdout.fnmatch_lines([f"note: {says}"])
