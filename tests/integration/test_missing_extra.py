"""A cell whose method needs an extra that is not installed is skipped, and says what installs it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from workspace import last_line

from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from workspace import Workspace

REASON = "needy--attention--b8: extra: got no module 'no_such_module', expected it for needy. pip install 'pytest-kick[bnb]'"
COMPRESSION = '\n[[compressions]]\nmethod = "needy"\nscope = "attention"\nbits = 8\n'


@pytest.fixture(autouse=True)
def _needy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register rtn as a method that needs what nobody has."""
    info = replace(METHODS.get("rtn", "test"), name="needy", extra="bnb", needs="no_such_module")
    monkeypatch.setitem(METHODS._known, "needy", info)


@pytest.mark.parametrize("option", ["--kick-missing=fail", "--kick-missing=warn", "--kick-update-new-only"])
def test_it_is_skipped_with_the_line_that_installs_it(workspace: Workspace, option: str) -> None:
    """Neither red for its missing stored run nor green nor recorded: SKIPPED in the table, counted in the last line."""
    workspace.suite(COMPRESSION)
    result = workspace.run(option, "-rs")
    result.assert_outcomes(passed=5, skipped=1)
    assert " 1 skipped" in last_line(result)
    assert any("SKIPPED" in line and "needy" in line and "pip install" in line for line in result.outlines)
    assert any(REASON in line for line in result.outlines)
    assert not workspace.baseline("needy--attention--b8").exists()


def test_a_run_of_nothing_else_is_not_green(workspace: Workspace) -> None:
    """Where all that is selected needs the extra, nothing was judged, and the run says so."""
    workspace.suite(COMPRESSION)
    result = workspace.run("-k", "needy")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["kick: cells: got 0 judged of 1, *"])


def test_the_run_record_says_so(workspace: Workspace) -> None:
    """In the run record the cell is there, with its outcome and the reason."""
    workspace.suite(COMPRESSION)
    (cell,) = [cell for cell in workspace.document()["cells"] if "needy" in cell["id"]]
    assert (cell["outcome"], cell["error"]) == ("skipped", REASON)
