from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from workspace import BASE, CELLS, COMPRESSIONS, last_line, scores

if TYPE_CHECKING:
    from workspace import Workspace

TWO_MODELS = """\
schema = 1
facts = "few.jsonl"
models = ["tiny-decoder", { name = "twin", family = "decoder", source = "shipped:tiny-decoder" }]
"""
PLUGIN = """\
import os

from pytest_kick import runner

real = runner.Runner.run_case


def run_case(self, case, dtype, **more):
    with open("ran.txt", "a") as stream:
        stream.write(f"{os.getpid()} {case.model.name} {case.cell}\\n")
    if os.environ.get("KILL_AT") == f"{case.model.name} {case.cell}":
        os.kill(os.getpid(), 9)
    return real(self, case, dtype, **more)


runner.Runner.run_case = run_case
"""
ORDINARY = """\
def test_ordinary(tmp_path):
    pass
"""


def two_models(workspace: Workspace) -> None:
    """Write a suite of two models, an ordinary test beside it, and a plugin that notes which process runs what."""
    (workspace.path / "suites" / "mini.toml").write_text(TWO_MODELS + COMPRESSIONS, encoding="utf-8")
    (workspace.path / "suites" / "test_ordinary.py").write_text(ORDINARY, encoding="utf-8")
    (workspace.path / "noting.py").write_text(PLUGIN, encoding="utf-8")
    (workspace.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\npythonpath = .\n", encoding="utf-8")


def ran(workspace: Workspace) -> list[tuple[str, str, str]]:
    """Return (process, model, cell) of each measurement, in order, and forget them."""
    path = workspace.path / "ran.txt"
    found = [tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
    path.unlink()
    return found  # type: ignore[return-value]


def metrics(document: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of each cell, in the order of the run record."""
    return {name: values[1] for name, values in scores(document).items()}


def test_workers_agree_with_one_process(unrecorded: Workspace) -> None:
    """Recorded by four workers in shuffled order and judged by this process: one summary, all results, equal scores.

    Each cell is measured once, the dense model too; a worker goes through its cells model by model.
    """
    two_models(unrecorded)
    args = ("suites", "-p", "randomly", "-p", "noting", "-n4", "--kick-update", "--kick-json", "run.json")
    result = unrecorded.pytester.runpytest_subprocess(*args, timeout=200)
    result.assert_outcomes(passed=11)
    assert last_line(result) == "kick: 10 cells, 10 pass, 0 fail, 0 inconclusive, 0 error, 10 recorded"
    assert sum(line.strip("= ") == "kick" for line in result.outlines) == 1
    measured = ran(unrecorded)
    assert sorted(cell for _, _, cell in measured) == sorted([*CELLS, *CELLS])
    assert len({process for process, _, _ in measured}) > 1
    for process in {process for process, _, _ in measured}:
        models = [model for owner, model, _ in measured if owner == process]
        assert sum(one != two for one, two in itertools.pairwise(models)) <= 1
    spread, alone = unrecorded.read("run.json"), unrecorded.document("-n0")
    assert spread["complete"] is True
    assert {cell["measurement"]["timing"]["reliable"] for cell in spread["cells"]} == {False}
    assert [cell["id"] for cell in alone["cells"]] == [cell["id"] for cell in spread["cells"]]
    assert metrics(alone) == metrics(spread)
    assert {entry["word"] for cell in alone["cells"] for entry in cell["verdict"]["regressions"]} == {"UNCHANGED"}


def test_a_killed_worker_loses_its_own_item_only(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker killed in the middle of a cell: that cell is an error in table, last line and run record, the others are judged."""
    (workspace.path / "noting.py").write_text(PLUGIN, encoding="utf-8")
    (workspace.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\npythonpath = .\n", encoding="utf-8")
    monkeypatch.setenv("KILL_AT", "tiny-decoder l1_global--attention--s0.6")
    result = workspace.run_apart("-n2", "-p", "noting", "--kick-json", "run.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert last_line(result) == "kick: 5 cells, 4 pass, 0 fail, 0 inconclusive, 1 error"
    document = workspace.read("run.json")
    outcomes = {cell["id"].partition("decoder--")[2]: cell["outcome"] for cell in document["cells"]}
    words = {entry["word"] for cell in document["cells"] if cell["verdict"] for entry in cell["verdict"]["regressions"]}
    assert words == {"UNCHANGED"}
    assert outcomes == dict.fromkeys(CELLS, "pass") | {"l1_global--attention--s0.6": "error"}
    result.stdout.re_match_lines([r".*attn\s+s0\.6\s+ERROR( worker 'gw\d+' crashed|$)", r".*worker 'gw\d+'\s+crashed"])


def test_ctrl_c_reports_what_is_done(workspace: Workspace) -> None:
    """Interrupted in the middle of a cell: exit code 2, the finished cells in table and run record, which says it is not complete."""
    plugin = PLUGIN.replace(
        '    if os.environ.get("KILL_AT")',
        '    if case.cell.endswith("attention--s0.6"):\n        __import__("time").sleep(60)\n    if os.environ.get("KILL_AT")',
    )
    (workspace.path / "noting.py").write_text(plugin, encoding="utf-8")
    (workspace.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\npythonpath = .\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "suites", *BASE, "-p", "noting", "--kick-json", "run.json", "--kick-update"]
    before = workspace.baselines()
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": workspace.path}
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what a shell runs in the background ignores it, children included
    with subprocess.Popen(command, **pipes, preexec_fn=heard) as process:  # noqa: PLW1509 - this process has one thread
        deadline = time.monotonic() + 120
        note = workspace.path / "ran.txt"
        while not (note.exists() and "attention--s0.6" in note.read_text(encoding="utf-8")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert output.strip().splitlines()[-1] == "kick: 2 cells, 2 pass, 0 fail, 0 inconclusive, 0 error, interrupted, 0 recorded, 2 kept"
    document = json.loads((workspace.path / "run.json").read_bytes())
    assert document["complete"] is False
    assert [cell["outcome"] for cell in document["cells"]] == ["pass", "pass"]
    assert workspace.baselines() == before
