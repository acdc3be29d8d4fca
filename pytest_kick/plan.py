"""What a run would do: its cells, what its budgets can detect, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick import stats
from pytest_kick.errors import KickError, MissingBaselineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.session import Session
    from pytest_kick.spec import Budget, Case

DISCORDANCE = 0.07
"""Share of examples that flip, assumed where no stored run tells."""


def plan_lines(session: Session, cases: Sequence[Case]) -> list[str]:
    """Return the lines of `--kick-plan` on the cells that would run."""
    known = [session.recorded_seconds(case) for case in cases]
    seconds = [value for value in known if value is not None]
    lines = [_line(session, case) for case in cases]
    mean = sum(seconds) / len(seconds) if seconds else 0.0
    total = (sum(seconds) + mean * (len(known) - len(seconds))) / session.settings.n_workers
    time = f"about {total / 60:.1f} min of work on the machine that recorded them" if seconds else "time unknown: nothing recorded yet"
    return [*lines, f"kick: {len(cases)} cells, {time}, {len(known) - len(seconds)} never recorded"]


def _line(session: Session, case: Case) -> str:
    """Say of one cell what each of its budgets could detect."""
    parts = [f"{b.kind}:{b.metric} {b.limit:g} ({_detectable(session, case, b)})" for b in case.budgets]
    return f"{case.id}: {', '.join(parts) or 'no budget'}"


def _detectable(session: Session, case: Case, budget: Budget) -> str:
    try:
        dense = session.store.read(case.shelf, session.dtype_of(case), "dense")
    except MissingBaselineError:
        return "no dense baseline yet"
    except KickError:
        return "a dense baseline that does not read"
    score = next((score for score in dense.scores if score.probe == budget.probe), None)
    if score is None:
        return "no dense baseline yet"
    n = min(score.n, session.settings.limit or case.first_look or score.n)
    confidence = session.settings.confidence
    if budget.kind == "flips" or score.mean(budget.metric):
        return f"n={n}"  # of a mean the spread decides, which only a run shows
    if budget.kind == "drop":
        return f"detects a drop of {stats.smallest_detectable_drop(n, DISCORDANCE, confidence):.3f} at n={n}"
    known, floor = score.metrics[budget.metric], score.floors[budget.metric]
    loss = stats.smallest_detectable_retention_loss(n, known, DISCORDANCE, floor, confidence)
    return f"detects a loss of {loss:.3f} at n={n}"
