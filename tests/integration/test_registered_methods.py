"""Registered methods in whole runs: cells that no suite names, where the code may live, and what it cannot spoil."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from workspace import BASE, last_line

import pytest_kick
from pytest_kick.baseline import BaselineStore
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace import Workspace

MINE = '''
import pytest_kick


@pytest_kick.method("mine", level="sparsity", levels=(0.1, 0.6))
def mine(weight, sparsity):
    """Zero what is smallest."""
    flat = weight.flatten()
    flat[flat.abs().argsort(stable=True)[: int(flat.numel() * sparsity)]] = 0
    return flat.reshape(weight.shape)
'''
BAD = """
import os

import torch

import pytest_kick


@pytest_kick.method("raises")
def raises(weight, bits):
    return weight / undefined


@pytest_kick.method("returns_none")
def returns_none(weight, bits):
    weight.round_()


@pytest_kick.method("leaves_one")
class LeavesOne:
    def __init__(self, bits):
        self.n = 0

    def __call__(self, target):
        self.n += 1
        return target.weight if self.n == 3 else target.weight.round(decimals=1)


@pytest_kick.method("meddles")
class Meddles:
    def __init__(self, bits):
        pass

    def start(self, targets):
        for name, parameter in targets.module.named_parameters():
            if "norm" in name:
                parameter.data.mul_(2)

    def __call__(self, target):
        return target.weight.round(decimals=1)


@pytest_kick.method("deadly")
def deadly(weight, bits):
    os.kill(os.getpid(), 9)
"""
NAMED = "[[compressions]]\nmethod = [{}]\nbits = 4\n"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test registers in this process."""
    restore = METHODS.snapshot()
    yield
    restore()


def plugin(workspace: Workspace, text: str = MINE) -> None:
    """Write a plugin that the suite names."""
    (workspace.path / "suites" / "my.py").write_text(text, encoding="utf-8")
    workspace.suite("[[budgets]]\nsparsity = 0.1\nretention = 0.9\n", "schema = 1\n", 'schema = 1\nplugins = ["my.py"]\n')


def test_a_method_that_no_suite_names_is_new(workspace: Workspace) -> None:
    """`--kick-method` runs it at its levels, under the budgets of the suite, without a stored run; the others do not run.

    Beside it stand the stored runs of the usual pruners, compared fact by fact; the numbers are those of a plain count.
    """
    plugin(workspace)
    result = workspace.run("--kick-method", "mine", "--kick-json", "run.json")
    result.assert_outcomes(passed=3)
    assert last_line(result) == "kick: 3 cells, 2 pass, 0 fail, 0 inconclusive, 0 error, 1 new"
    result.stdout.re_match_lines([r"  mine +overall +s0\.1 .* RETAINED", r"  mine +overall +s0\.6 .* NEW"])
    result.stdout.fnmatch_lines(["kick: 2 cells new, judged on retention alone; record: *--kick-method mine*--kick-update-new-only"])
    document = workspace.read("run.json")
    found = {(entry["cell"], entry["peer"]): entry for entry in document["comparisons"]}
    entry = found["mine--overall--s0.6", "l1_global"]
    store = BaselineStore(workspace.path / "baselines")
    theirs = store.read("tiny-decoder--few", "float32", "l1_global--overall--s0.6").examples["facts"].outcome("p1")
    mine = next(cell for cell in document["cells"] if cell["id"].endswith("mine--overall--s0.6"))["measurement"]["scores"][0]["metrics"][
        "p1"
    ]
    assert entry["difference"] == pytest.approx(mine - float(np.mean(theirs)))
    assert entry["low"] <= entry["difference"] <= entry["high"]
    assert (entry["n"], entry["equal_bits"], entry["gained"] - entry["lost"]) == (120, True, round(120 * entry["difference"]))
    assert found["mine--overall--s0.1", "wanda"]["problem"] == "no stored run of wanda within 0.5 bits of 29.80"
    result.stdout.fnmatch_lines(
        ["beside stored runs: *", "*mine s0.1 *29.80 *l1_global s0.1 *29.80 *", "*mine s0.1: no stored run of wanda*"]
    )


def test_it_is_recorded_and_judged_from_then_on(workspace: Workspace) -> None:
    """Recording makes it a cell like any: UNCHANGED, no orphan as long as the suite registers it, REGRESSED when it gets worse."""
    plugin(workspace)
    args = ("--kick-method", "mine", "--kick-level", "0.1")
    first = workspace.run(*args, "--kick-update-new-only")
    assert last_line(first).endswith("0 error, 1 recorded, 1 kept")
    first.stdout.no_fnmatch_line("*new, judged*")
    again = workspace.run(*args)
    assert last_line(again) == "kick: 2 cells, 2 pass, 0 fail, 0 inconclusive, 0 error"
    again.stdout.no_fnmatch_line("*new, judged*")
    workspace.run("-q").stdout.no_fnmatch_line("*orphan*")
    worse = MINE.replace("flat.abs()", "(-flat.abs())")
    plugin(workspace, worse)
    workspace.run(*args).stdout.fnmatch_lines(["kick: REGRESSED: tiny-decoder | mine overall s0.1 *"])
    workspace.suite("")
    workspace.run().stdout.fnmatch_lines(["kick: orphan: *mine--overall--s0.1.{json,npz} belongs to no suite; remove it"])


def test_a_suite_that_names_it_adds_nothing(workspace: Workspace) -> None:
    """Where a suite names the method, only its cells run, and they are MISSING until recorded; an unknown name is told as ever."""
    plugin(workspace)
    path = workspace.path / "suites" / "mini.toml"
    path.write_text(path.read_text(encoding="utf-8") + '[[compressions]]\nmethod = "mine"\nsparsity = 0.2\n', encoding="utf-8")
    result = workspace.run("--kick-method", "mine")
    assert last_line(result) == "kick: 2 cells, 1 pass, 1 fail, 0 inconclusive, 0 error"
    wrong = workspace.run("--kick-method", "mnie")
    assert wrong.ret == pytest.ExitCode.USAGE_ERROR
    wrong.stderr.fnmatch_lines(["ERROR: --kick-method: method: got 'mnie', which matches nothing in the suites. Did you mean 'mine'?"])


def test_a_plugin_that_breaks_is_one_line(workspace: Workspace) -> None:
    """A file that does not import ends the run before it starts, with its name and line; so does one that is not there."""
    plugin(workspace, "\n\nimport nothing_like_that\n")
    result = workspace.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = ["ERROR: suites/mini.toml: plugins?0?: got ModuleNotFoundError (*) in my.py line 3, expected a file that imports. Correct it."]
    result.stderr.fnmatch_lines(lines)
    (workspace.path / "suites" / "my.py").unlink()
    workspace.run().stderr.fnmatch_lines(["ERROR: suites/mini.toml: plugins?0?: got '*my.py', expected a Python file at this path. *"])


def test_breaking_methods_disturb_nobody(workspace: Workspace) -> None:
    """Each way to break is an error of its cell in one line, and the cells after it are what they were."""
    names = ["raises", "returns_none", "leaves_one", "meddles"]
    plugin(workspace, BAD)
    path = workspace.path / "suites" / "mini.toml"
    bad = NAMED.format(", ".join(f'"{name}"' for name in names))
    text = path.read_text(encoding="utf-8").replace("[[compressions]]", f"{bad}\n[[compressions]]", 1)
    path.write_text(text, encoding="utf-8")
    result = workspace.run("--kick-missing", "warn", "-W", "default")
    assert last_line(result) == "kick: 9 cells, 5 pass, 0 fail, 0 inconclusive, 4 error"
    result.stdout.fnmatch_lines(
        [
            "raises--overall--b4: *_proj: got NameError (*undefined*) at my.py:11, expected it to run. Correct the method.",
            "returns_none--overall--b4: *_proj: got None returned, expected a tensor (*) of torch.float32 on cpu. *",
            "leaves_one--overall--b4: *_proj: got no weight changed, expected each matrix to change. The method left these out.",
            "meddles--overall--b4: *norm.weight*: got a change outside the scope 'overall' *",
        ]
    )
    words = {
        entry["word"] for cell in workspace.document("--kick-method", "l1_global")["cells"] for entry in cell["verdict"]["regressions"]
    }
    assert words == {"UNCHANGED"}


def test_a_conftest_registers_late(workspace: Workspace) -> None:
    """Where pytest loads a `conftest.py` only when it collects, the names of a suite are judged then, as an error there."""
    conftest = workspace.path / "suites" / "conftest.py"
    conftest.write_text(MINE, encoding="utf-8")
    workspace.suite('[[compressions]]\nmethod = "mine"\nsparsity = 0.1\n')
    assert last_line(workspace.run("--kick-method", "mine", "--kick-update", at="")).endswith("0 error, 1 recorded, 1 kept")
    assert last_line(workspace.run("--kick-method", "mine")) == "kick: 2 cells, 2 pass, 0 fail, 0 inconclusive, 0 error"
    workspace.suite("")
    assert last_line(workspace.run("--kick-method", "mine", at="")).endswith("0 error, 1 new")
    workspace.suite('[[compressions]]\nmethod = "mnie"\nsparsity = 0.1\n')
    late = workspace.run(at="")
    assert late.ret == pytest.ExitCode.INTERRUPTED
    late.stdout.fnmatch_lines(["suites/mini.toml: compressions?1?: method: got 'mnie', expected a known method. Did you mean 'mine'?"])
    conftest.unlink()
    early = workspace.run(at="")
    assert early.ret == pytest.ExitCode.USAGE_ERROR
    early.stderr.fnmatch_lines(["ERROR: suites/mini.toml: compressions?1?: method: got 'mnie', *"])


def test_workers_and_a_method_that_kills_one(workspace: Workspace) -> None:
    """Under xdist the controller knows what a late `conftest.py` registers, and a method that kills its worker loses its cells alone."""
    (workspace.path / "suites" / "conftest.py").write_text(MINE + BAD.replace("import pytest_kick\n", ""), encoding="utf-8")
    args = ["-n2", "--kick-method", "mine", "--kick-method", "deadly", "--kick-level", "0.1", "--kick-level", "b4"]
    result = workspace.pytester.runpytest_subprocess(*BASE, *args, "--kick-json", "run.json", timeout=120)
    assert last_line(result) == "kick: 3 cells, 2 pass, 0 fail, 0 inconclusive, 1 error"
    outcomes = {cell["id"].partition("decoder--")[2]: cell["outcome"] for cell in workspace.read("run.json")["cells"]}
    assert outcomes == {"dense": "pass", "mine--overall--s0.1": "pass", "deadly--overall--b4": "error"}
    result.stdout.fnmatch_lines(["kick: *, suites mini; *", "*mine s0.1 *l1_global s0.1*"])


class Point:
    """Stand in for an entry point."""

    name, value = "theirs", "their.package:theirs"

    def load(self) -> Any:
        """Return what a package decorated."""

        @pytest_kick.method("theirs", level="sparsity", levels=(0.1,))
        def theirs(weight: Any, level: float) -> Any:
            flat = weight.flatten()
            flat[: int(flat.numel() * level)] = 0
            return flat.reshape(weight.shape)

        return theirs


def test_another_package_registers_by_its_entry_point(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decorated function behind an entry point is a method: a suite may name it, and `--kick-method` finds it without one."""
    monkeypatch.setattr(metadata, "entry_points", lambda **which: [Point()] if which["group"] == "pytest_kick.methods" else [])
    monkeypatch.setattr(METHODS, "_looked_up", False)
    result = workspace.run("--kick-method", "theirs", "--kick-inconclusive", "warn", "-W", "default", "-v")
    result.stdout.fnmatch_lines(["*mini--tiny-decoder--theirs--overall--s0.1]*"])
    assert last_line(result).startswith("kick: 2 cells, ")
    workspace.suite('[[compressions]]\nmethod = "theirs"\nsparsity = 0.2\n')
    workspace.run("-v", "--collect-only").stdout.fnmatch_lines(["*mini--tiny-decoder--theirs--overall--s0.2]*"])
