"""Give each test a repository whose baselines are recorded: once for all, in this process, so that torch is imported once."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from workspace import BASE, SUITE, Workspace, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUDGET = """
[[budgets]]
sparsity = 0.1
retention = 0.9
"""


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record the baselines of the suite once."""
    root = tmp_path_factory.mktemp("recorded")
    write(root, SUITE + BUDGET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.chdir(root)
        code = pytest.main(["suites", "-q", "--capture=sys", *BASE, "-p", "no:faulthandler", "--kick-update"])
    assert code == pytest.ExitCode.OK
    sys.modules.pop("test_cells", None)
    shutil.rmtree(root / ".kick")
    return root


@pytest.fixture
def workspace(recorded: Path, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """Return a repository with baselines: five cells, a budget on two of them, all green."""
    shutil.copytree(recorded, pytester.path, dirs_exist_ok=True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("COLUMNS", raising=False)
    threads = torch.get_num_threads()
    yield Workspace(pytester=pytester)
    torch.set_num_threads(threads)


@pytest.fixture
def unrecorded(workspace: Workspace) -> Workspace:
    """Return one in which nothing has been recorded."""
    shutil.rmtree(workspace.path / "baselines")
    return workspace
