"""Hooks that other plugins and `conftest.py` files may implement; `docs/hooks.md` has an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.spec import Case


@pytest.hookspec
def pytest_kick_cell_judged(config: pytest.Config, case: Case, outcome: Mapping[str, Any]) -> None:
    """See how a cell ended, as soon as the controller knows: once for each cell, in the order in which they end.

    Under xdist this is called in the controller only. A cell whose worker died is among them.

    Args:
        config: pytest's.
        case: the cell: `id`, `model`, `compression`, `budgets`, ...
        outcome: plain JSON types, not to be changed: `measurement` and `verdict` as in the run record (None where there is none),
            `problem` (one line, "" where there is none), `passed` and `skipped` of its test (bool), `nodeid`.
    """


@pytest.hookspec
def pytest_kick_update_json(config: pytest.Config, document: dict[str, Any]) -> None:
    """Add to the run record before it is written; called once, in the controller, where `--kick-json` is given.

    Args:
        config: pytest's.
        document: the record, plain JSON types, to be changed in place. What JSON cannot hold is told at the end of the run, which
            then fails, and nothing is written.
    """
