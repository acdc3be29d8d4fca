"""The two verdicts of a cell: retention against the dense model, and regression against its stored run.

See `docs/verdicts.md` for what the words mean.
"""

from __future__ import annotations

from pytest_kick.verdict.judge import judge
from pytest_kick.verdict.records import (
    CHANGED,
    FORGOT,
    IMPROVED,
    INCONCLUSIVE,
    NEW,
    REGRESSED,
    RETAINED,
    UNCHANGED,
    Check,
    GroupLoss,
    LostExample,
    Regression,
    Retention,
    Verdict,
)

__all__ = [
    "CHANGED",
    "FORGOT",
    "IMPROVED",
    "INCONCLUSIVE",
    "NEW",
    "REGRESSED",
    "RETAINED",
    "UNCHANGED",
    "Check",
    "GroupLoss",
    "LostExample",
    "Regression",
    "Retention",
    "Verdict",
    "judge",
]
