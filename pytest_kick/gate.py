"""How a judged cell ends its test: passed, failed, skipped or xfailed, and with which words."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

from pytest_kick.errors import RegressionError
from pytest_kick.report import failure_lines

if TYPE_CHECKING:
    from pytest_kick.session import Outcome, Session


class KickWarning(UserWarning):
    """Warn of a cell that passes for an option's sake: without a stored run, or undecided."""


def enforce(session: Session, outcome: Outcome) -> None:
    """End the test of a cell as its outcome and the options say.

    Raises:
        RegressionError: the gate is red.
    """
    settings = session.settings
    problem = outcome.problem
    if outcome.missing and settings.missing == "skip":
        pytest.skip(problem)
    if outcome.missing and settings.missing == "warn":
        warnings.warn(KickWarning(problem or f"{outcome.case.id}: no stored run, judged on retention alone"), stacklevel=2)
    elif problem:
        raise RegressionError(problem)
    verdict = outcome.verdict
    if verdict is None or not (verdict.failed or verdict.inconclusive):
        return
    lines = failure_lines(
        verdict,
        model=outcome.case.model.name,
        command=session.command(outcome.nodeid),
        describe=session.describe(outcome.case),
        recorded=outcome.recorded,
        noted=outcome.noted,
    )
    if verdict.failed or settings.inconclusive == "fail":
        raise RegressionError("\n".join(lines))
    if settings.inconclusive == "xfail":
        pytest.xfail(lines[0])
    warnings.warn(KickWarning(lines[0]), stacklevel=2)
