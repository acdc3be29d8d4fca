"""Run every cell of the suites beside this file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.plugin import KickRun
    from pytest_kick.spec import Case


def test_cell(kick_case: Case, kick_run: KickRun) -> None:
    """Hold the cell against its budgets, the dense baseline and its stored run."""
    kick_run(kick_case)
