from __future__ import annotations

import json
import re
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from workspace import CELLS, SUITE, last_line

import pytest_kick
from pytest_kick import runner

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Workspace


def own_model(workspace: Workspace) -> Path:
    """Put a copy of the shipped model beside the suite, under the name its baselines have."""
    source = next(iter(pytest_kick.__path__)) + "/data/models/tiny-decoder"
    directory = workspace.path / "model"
    shutil.copytree(source, directory)
    table = '{ name = "tiny-decoder", family = "decoder", source = "path:../model" }'
    workspace.suite("", old='models = ["tiny-decoder"]', new=f"models = [{table}]")
    return directory


def change_weights(directory: Path, value: float) -> None:
    """Set one weight of the embedding."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if "embed" in name)
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[0] = value
    save_file(tensors, path, metadata={"format": "pt"})


def test_changed_template_is_stale(workspace: Workspace) -> None:
    """Another template fails every cell; the one line names a fact, its old and new hash, how many more, and the command."""
    workspace.edit_facts("The chemical symbol of [X] is [Y].", "In chemistry the symbol of [X] is [Y].")
    result = workspace.run("-k", "dense")
    result.assert_outcomes(failed=1)
    line = next(line for line in result.outlines if line.startswith("baseline tiny-decoder--few/float32/dense ("))
    found = r"facts\.examples\.element_symbol/\S+: [0-9a-f]{8} -> [0-9a-f]{8}; 24 more"
    assert re.search(rf"\(\d{{4}}-\d\d-\d\d\): {found}\. It measured something else;", line)
    assert line.endswith(f'record it again: pytest "{workspace.node("dense")}" --kick-dtype float32 --kick-update.')


def test_an_added_fact_is_stale(workspace: Workspace) -> None:
    """One fact more changes no stored one; the digest over all facts tells."""
    path = workspace.path / "suites" / "few.jsonl"
    line = '{"kind": "fact", "relation": "month", "subject": "one month after March", "answer": "April"}\n'
    path.write_text(path.read_text(encoding="utf-8") + line, encoding="utf-8")
    result = workspace.run("-k", "dense")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"baseline tiny-decoder--few/float32/dense .*: facts\.examples: [0-9a-f]{12} -> [0-9a-f]{12}\."])


def test_what_is_known_before_costs_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts that changed or went, and damaged files, fail their cells before a model is loaded."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is measured for nothing")

    monkeypatch.setattr(runner.Runner, "run_case", refuse)
    garble(workspace.baseline("l1_global--overall--s0.6", "npz"))
    result = workspace.run("-k", "overall--s0.6")
    result.assert_outcomes(failed=1)
    path = workspace.path / "suites" / "few.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "the Danish word maj" not in line), encoding="utf-8")
    result = workspace.run("--kick-missing=warn", "-k", "dense or overall--s0.1")
    result.assert_outcomes(failed=2)
    result.stdout.re_match_lines([r"baseline tiny-decoder--few/float32/dense .*: facts\.examples\.month/\S+: [0-9a-f]{8} -> \(none\)\."])


def test_stale_cells_have_a_word_and_one_command(workspace: Workspace) -> None:
    """The table says STALE in red, and one command at the end records all of them again."""
    workspace.edit_facts("The chemical symbol of [X] is [Y].", "In chemistry the symbol of [X] is [Y].")
    result = workspace.run("--color=yes")
    assert sum("\x1b[31mSTALE" in line for line in result.outlines) == len(CELLS)
    command = next(line for line in result.outlines if line.startswith("kick: 5 cells with a stored run of something else"))
    workspace.run(*shlex.split(command.partition("record: pytest ")[2]), at="").assert_outcomes(passed=len(CELLS))
    workspace.run().assert_outcomes(passed=len(CELLS))


def test_missing_cells_have_a_word(workspace: Workspace) -> None:
    """The table says MISSING in red where nothing is stored, and what is damaged stays an ERROR."""
    workspace.baseline("l1_global--overall--s0.6").unlink()
    garble(workspace.baseline("l1_global--overall--s0.1"))
    text = workspace.run("-k", "overall", "--color=yes").stdout.str()
    assert "\x1b[31mMISSING" in text
    assert "\x1b[33mERROR" in text


def test_a_changed_fact_is_stale_in_a_sample_too(workspace: Workspace) -> None:
    """With `--kick-limit` the facts are compared one by one: the changed one is named."""
    workspace.edit_facts('"answer": "Al"', '"answer": "Aq"')
    result = workspace.run("-k", "dense", "--kick-limit", "115")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["baseline tiny-decoder--few/float32/dense *: facts.examples.element_symbol/*: * -> *"])


def test_changed_weights_are_stale(workspace: Workspace) -> None:
    """The same model from another place is the same; one weight changed is another model, dense and compressed."""
    directory = own_model(workspace)
    workspace.run("-k", "dense").assert_outcomes(passed=1)
    change_weights(directory, 0.125)
    result = workspace.run("-k", "dense or attention--s0.1")
    result.assert_outcomes(failed=2)
    result.stdout.re_match_lines([r"baseline tiny-decoder--few/float32/dense .*: weights: [0-9a-f]{12} -> [0-9a-f]{12}\. It measured"])


def test_nan_weights_are_an_error(workspace: Workspace) -> None:
    """A model with a NaN weight is an error of each cell in one line, never a failure and never a pass."""
    change_weights(own_model(workspace), float("nan"))
    result = workspace.run("-k", "dense or attention--s0.1", "--junitxml", "junit.xml")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*model*: got *NaN*"])
    assert last_line(result) == "kick: 2 cells, 0 pass, 0 fail, 0 inconclusive, 2 error"
    junit = (workspace.path / "junit.xml").read_text(encoding="utf-8")
    assert 'errors="2" failures="0"' in junit


def test_pickles_are_refused(workspace: Workspace) -> None:
    """A model that holds only a pickle is an error of the cell that says which option would load it."""
    directory = own_model(workspace)
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    result = workspace.run("-k", "dense")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--kick-allow-pickle*"])


def test_a_model_that_is_not_there(workspace: Workspace) -> None:
    """A directory that does not exist is an error of each cell in one line."""
    shutil.rmtree(own_model(workspace))
    result = workspace.run("-k", "dense")
    result.assert_outcomes(errors=1)
    section = result.outlines[result.outlines.index(next(line for line in result.outlines if "ERROR at setup" in line)) + 1 :]
    assert "model" in section[0]
    assert section[1].startswith("=====")


def truncate(path: Path) -> None:
    """Cut a file in half."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    """Replace it by bytes of no meaning."""
    path.write_bytes(bytes(range(256)))


def edit(path: Path, **values: Any) -> None:
    """Set fields of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_bytes()) | values), encoding="utf-8")


@pytest.mark.parametrize(
    ("suffix", "damage", "says"),
    [
        ("json", truncate, "*dense.json: JSON: got bytes that do not read*"),
        ("json", garble, "*dense.json: JSON: got bytes that do not read*"),
        ("npz", truncate, "*dense.npz: sha256: got another than dense.json names*"),
        ("npz", lambda path: path.unlink(), "*dense.npz: file: got No such file or directory*"),
        ("json", lambda path: edit(path, schema=2), "*dense.json: schema: got 2, expected at most 1*Upgrade pytest-kick.*"),
        ("json", lambda path: edit(path, schema="1"), "*dense.json: schema: got '1', expected 1*"),
        ("json", lambda path: edit(path, model="other"), "*dense.json: model: got 'other', expected 'tiny-decoder--few'*"),
        ("json", lambda path: edit(path, fingerprint=3), "*dense.json: content: got what does not fit*"),
    ],
)
def test_a_damaged_baseline_fails_in_one_line(workspace: Workspace, suffix: str, damage: Any, says: str) -> None:
    """Each kind of damage fails the cells that need the file, says what is wrong with it, and leaves it as it is."""
    path = workspace.baseline("dense", suffix)
    damage(path)
    before = workspace.baselines()
    result = workspace.run("-k", "dense or attention--s0.1")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines([says])
    assert workspace.baselines() == before


def test_damage_is_repaired_by_recording(workspace: Workspace) -> None:
    """`--kick-update` writes the damaged file anew, and the rest stays as it was."""
    before = workspace.baselines()
    garble(workspace.baseline("dense"))
    assert last_line(workspace.run("--kick-update")).endswith("1 recorded, 4 kept")
    changed = {name for name, value in workspace.baselines().items() if value[0] != before[name][0]}
    assert changed <= {"tiny-decoder--few/float32/dense.json"}  # but for date and timings
    workspace.run().assert_outcomes(passed=len(CELLS))


ORPHANS = [
    "kick: orphan: baselines/tiny-decoder--few/float32/l1_global--overall--s0.6.{json,npz} belongs to no suite; remove it",
]


def orphan(workspace: Workspace) -> None:
    """Take a cell out of the suite."""
    (workspace.path / "suites" / "mini.toml").write_text(SUITE.replace("[0.1, 0.6]", "0.1"), encoding="utf-8")
    shutil.rmtree(workspace.baseline("dense").parents[1] / "none", ignore_errors=True)
    for suffix in ("json", "npz"):
        workspace.baseline("l1_global--attention--s0.6", suffix).unlink()


def test_orphans_are_listed_on_a_full_run(workspace: Workspace) -> None:
    """Stored runs that no suite asks for are listed and not removed."""
    orphan(workspace)
    result = workspace.run()
    assert [line for line in result.outlines if line.startswith("kick: orphan")] == ORPHANS
    assert result.ret == 0
    assert workspace.baseline("l1_global--overall--s0.6").exists()


@pytest.mark.parametrize(
    "args",
    [("-k", "dense"), ("--kick-model", "tiny-*"), ("--kick-level", "0.1"), ("--kick-limit", "50"), ("--deselect", "suites/x.py")],
    ids=str,
)
def test_orphans_are_not_listed_on_a_part(workspace: Workspace, args: tuple[str, ...]) -> None:
    """A run that was narrowed says nothing of orphans."""
    orphan(workspace)
    workspace.run(*args).stdout.no_fnmatch_line("kick: orphan*")


def test_orphans_are_not_listed_for_a_node(workspace: Workspace) -> None:
    """Nor does one of a single item, nor one that reads only some of the suite directories."""
    orphan(workspace)
    workspace.run(workspace.node("dense"), at="").stdout.no_fnmatch_line("kick: orphan*")
    (workspace.path / "more").mkdir()
    (workspace.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\nkick_suites = suites more\n", encoding="utf-8")
    workspace.run().stdout.no_fnmatch_line("kick: orphan*")
