"""How a judged cell ends its test: passed, failed, skipped or xfailed, and with which words."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_kick.errors import RegressionError
from pytest_kick.facts import load_facts, shipped_facts
from pytest_kick.report import failure_lines
from pytest_kick.verdict import FORGOT, INCONCLUSIVE, REGRESSED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.outcome import Outcome
    from pytest_kick.session import Session
    from pytest_kick.spec import Case


class KickWarning(UserWarning):
    """Warn of a cell that passes for an option's sake: without a stored run, or undecided."""


def describe(case: Case) -> Callable[[str, int], str]:
    """Return what puts an example into words: (its id, index of the answer given now) -> `France -> Paris, now Lyon`."""
    facts = load_facts(Path(case.facts)) if case.facts else shipped_facts()
    by_id = {fact.id: fact for fact in facts.facts}

    def words(name: str, now: int) -> str:
        fact = by_id.get(name)
        if fact is None:
            return name
        answers = facts.relations[fact.relation].answers
        given = f", now {answers[now]}" if 0 <= now < len(answers) else ""  # a probe of one's own may tell no answer
        return f"{facts.relations[fact.relation].prompt(fact.subject)[0]} -> {fact.answer}{given}"

    return words


def enforce(session: Session, outcome: Outcome) -> None:
    """End the test of a cell as its outcome and the options say.

    Raises:
        RegressionError: the gate is red.
    """
    settings = session.settings
    problem = outcome.problem
    if outcome.skipped or (outcome.missing and settings.missing == "skip"):
        pytest.skip(problem)
    if outcome.missing and settings.missing == "warn":
        warnings.warn(KickWarning(problem or f"{outcome.case.id}: no stored run, judged on retention alone"), stacklevel=2)
    elif problem:
        raise RegressionError(problem)
    verdict = outcome.verdict
    if verdict is None:
        return
    word = verdict.retention_word if settings.update else verdict.word  # a stored run is replaced, a budget stands
    failed = word in {FORGOT, REGRESSED}
    if not failed and word != INCONCLUSIVE:
        return
    lines = failure_lines(
        verdict,
        model=outcome.case.model.name,
        command=session.command(outcome.case, outcome.nodeid),
        describe=describe(outcome.case),
        recorded=outcome.recorded,
        noted=outcome.noted,
        accepted=settings.update,
        scores=[score.plain() for score in outcome.measurement.scores] if outcome.measurement else (),
    )
    if failed or settings.inconclusive == "fail":
        raise RegressionError("\n".join(lines))
    if settings.inconclusive == "xfail":
        pytest.xfail(lines[0])
    warnings.warn(KickWarning(lines[0]), stacklevel=2)
