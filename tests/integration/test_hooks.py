"""The hooks of the plugin, as `docs/hooks.md` shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from workspace import CELLS

if TYPE_CHECKING:
    from workspace import Workspace

DOC = Path(__file__).parents[2] / "docs" / "hooks.md"
MILD = tuple(cell for cell in CELLS if not cell.endswith("s0.6"))


def example() -> str:
    """Return the code of the page."""
    return re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), re.DOTALL)[0]


def implement(workspace: Workspace, code: str) -> None:
    """Write hooks into the suite's `conftest.py`."""
    (workspace.path / "suites" / "conftest.py").write_text(code, encoding="utf-8")


@pytest.mark.parametrize("workers", ["", "2"])
def test_the_example_of_the_page_works(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    """Each cell is told once, with its end and its word, also one that fails; the record has what was added to it."""
    implement(workspace, example())
    monkeypatch.setenv("BUILD_ID", "b42")
    workspace.baseline(MILD[1]).unlink()
    args = ("--kick-level", "0.1", *(("-n", workers) if workers else ()))
    document = workspace.document(*args, apart=bool(workers))
    assert document["build"] == "b42"
    told = sorted((workspace.path / "cells.log").read_text(encoding="utf-8").splitlines())
    assert [line.split()[:2] for line in told] == sorted(
        ["FAILED" if cell == MILD[1] else "ok", f"mini--tiny-decoder--{cell}"] for cell in MILD
    )
    words = {cell["id"]: cell["verdict"]["word"] for cell in document["cells"] if cell["verdict"]}
    assert {line.split()[1]: line.split()[2] for line in told if line.startswith("ok")}.items() <= words.items()


def test_what_json_cannot_hold_is_told(workspace: Workspace) -> None:
    """A hook that adds an object to the record makes the run fail in one line, and no record is written."""
    implement(workspace, "def pytest_kick_update_json(document):\n    document['build'] = object()\n")
    result = workspace.run("--kick-level", "0.1", "--kick-json", "run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["kick: *run.json: value: got something JSON cannot hold*Nothing was written."])
    assert not (workspace.path / "run.json").exists()


@pytest.mark.parametrize("workers", ["", "2"])
def test_a_hook_that_raises_costs_no_cell(workspace: Workspace, workers: str) -> None:
    """All cells are judged and written; the run names hook, error and line once, and is red."""
    judged = "def pytest_kick_cell_judged(case):\n    raise ValueError('no\\nroom')\n\n\n"
    implement(workspace, judged + "def pytest_kick_update_json():\n    1 / 0\n")
    run = workspace.run_apart if workers else workspace.run
    result = run("--kick-level", "0.1", "--kick-json", "run.json", *(("-n", workers) if workers else ()))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    said = [line for line in result.outlines if line.startswith("kick: pytest_kick_")]
    assert [line.partition(": hook: got ")[2] for line in said] == [
        "ValueError (no room) at suites/conftest.py:2, expected it to return. Correct it.",
        "ZeroDivisionError (division by zero) at suites/conftest.py:6, expected it to return. Correct it.",
    ]
    assert {cell["outcome"] for cell in json.loads((workspace.path / "run.json").read_bytes())["cells"]} == {"pass"}


def test_a_hook_may_end_the_run(workspace: Workspace) -> None:
    """`pytest.exit` in a hook is not taken for a fault."""
    implement(workspace, "import pytest\n\n\ndef pytest_kick_cell_judged():\n    pytest.exit('enough', returncode=7)\n")
    assert workspace.run("--kick-level", "0.1").ret == 7


def test_a_misspelt_hook_is_an_error(workspace: Workspace) -> None:
    """Pytest names a hook of ours that does not exist: the specifications are declared."""
    implement(workspace, "def pytest_kick_cell_juged(case):\n    pass\n")
    result = workspace.run()
    assert result.ret != pytest.ExitCode.OK
    assert any("unknown hook 'pytest_kick_cell_juged'" in line for line in [*result.outlines, *result.errlines])
