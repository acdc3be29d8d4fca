"""How one cell of a run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_kick.result import Measurement
    from pytest_kick.spec import Case
    from pytest_kick.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Hold how one cell ended.

    Attributes:
        case: the cell.
        nodeid: of its test item.
        measurement: None where it could not be measured.
        verdict: None where it could not be judged.
        problem: why it could not be judged, one line, or "".
        missing: the problem is that nothing has been recorded yet.
        recorded: date of the stored run it was held against, or "".
        noted: noted fingerprint fields that differ from the stored run.
        stale: the problem is that the stored run measured something else.
        first_look: the facts asked first decided, and the others were not asked.
        skipped: the problem is that an extra is not installed.
        unjudgeable: the problem is that what was measured cannot be judged.
        new: no suite names it, and nothing is stored for it: judged on retention alone.
    """

    case: Case
    nodeid: str
    measurement: Measurement | None = None
    verdict: Verdict | None = None
    problem: str = ""
    missing: bool = False
    recorded: str = ""
    noted: tuple[str, ...] = ()
    stale: bool = False
    first_look: bool = False
    skipped: bool = False
    unjudgeable: bool = False
    new: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what travels from a worker to the controller: plain JSON types."""
        absent = self.missing and self.problem and not self.unjudgeable
        why = (("SKIPPED", self.skipped), ("MISSING", absent), ("STALE", self.stale), ("NEW", self.new))
        return {
            "id": self.case.id,
            "nodeid": self.nodeid,
            "measurement": self.measurement.to_json() if self.measurement else None,
            "verdict": self.verdict.to_json() if self.verdict else None,
            "problem": self.problem,
            "missing": self.missing,
            "state": next((state for state, so in why if so), ""),
            "recorded": self.recorded,
            "noted": list(self.noted),
            "first_look": self.first_look,
        }
