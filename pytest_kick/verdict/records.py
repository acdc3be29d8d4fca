"""What a judgement holds: plain numbers, words, and the examples that were lost; JSON-able throughout."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RETAINED, FORGOT, INCONCLUSIVE = "RETAINED", "FORGOT", "INCONCLUSIVE"
UNCHANGED, CHANGED, IMPROVED, REGRESSED, NEW = "UNCHANGED", "CHANGED", "IMPROVED", "REGRESSED", "NEW"
TWO_POINTS = 0.02
"""Net loss, as a share of the examples, that a run must be able to see before it stops at a first look."""
# The headline of a cell is the first of these that any of its records says.
_GRAVITY = (REGRESSED, FORGOT, INCONCLUSIVE, RETAINED, IMPROVED, CHANGED, NEW, UNCHANGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LostExample:
    """Name an example that was right before and is wrong now.

    Attributes:
        id: of the example.
        was: index of the answer predicted before, into the answer space; -1 where none is stored.
        now: likewise now.
    """

    id: str
    was: int
    now: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLoss:
    """Hold what one group (relation, subject) lost.

    Attributes:
        name: of the group.
        n: its examples.
        lost: right before, wrong now.
        gained: wrong before, right now.
        examples: up to three of the lost ones, those that had been known best first.
    """

    name: str
    n: int
    lost: int
    gained: int
    examples: tuple[LostExample, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> GroupLoss:
        """Rebuild from plain dicts."""
        return cls(**{**data, "examples": tuple(LostExample(**example) for example in data["examples"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Compare a cell with the dense model under one metric.

    Attributes:
        probe: name of the probe.
        metric: name of the outcome.
        n: examples compared.
        floor: score of a model that knows nothing, b.
        p_dense: share that the dense model has right.
        p_now: share that this cell has right.
        judgeable: whether the dense score is shown to lie above the floor.
        estimate: `(p_now - b) / (p_dense - b)`; None where that is not judgeable.
        low: lower end of the two-sided interval; None where it is not bounded.
        high: upper end likewise.
        raw: `p_now / p_dense`, LLM-KICK's "matching"; None where the dense model has nothing right.
        lost: right in dense, wrong now.
        gained: wrong in dense, right now.
        changed: wrong in both with another answer; None where the metric is not the one whose answers are stored.
        flips: `(lost + gained) / n`.
        lossless: every stored outcome, answer and score equals dense.
        worst: groups that lost most, for judged metrics.
        kind: `outcome`, or of a mean of numbers its `MeanInfo.kind`; then `p_dense` and `p_now` are means, and `estimate` is of a
            `score` the retention, of a `loss` the ratio `exp(p_now - p_dense)`, of a `distance` `p_now` itself.
    """

    probe: str
    metric: str
    n: int
    floor: float
    p_dense: float
    p_now: float
    judgeable: bool
    estimate: float | None
    low: float | None
    high: float | None
    raw: float | None
    lost: int
    gained: int
    changed: int | None
    flips: float
    lossless: bool
    worst: tuple[GroupLoss, ...] = ()
    kind: str = "outcome"

    @property
    def better(self) -> bool:
        """Return whether this cell is shown to know more than the dense model: its whole interval lies above 1.

        Of a loss or a distance nothing is said: a lower perplexity than dense is no better knowledge.
        """
        return self.low is not None and self.low > 1.0 and self.kind in {"outcome", "score"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Hold one budget against its interval.

    Attributes:
        probe: name of the probe.
        metric: name of the outcome.
        kind: `retention`, `drop`, `flips`, `ratio` or `at_most`.
        limit: the least retention, or the largest drop, share of flips, ratio or distance.
        estimate: what was found.
        low: lower end of the two-sided interval.
        high: upper end.
        word: RETAINED, FORGOT or INCONCLUSIVE.
        n_more: examples beside those there are that would decide an INCONCLUSIVE one; None where no number would.
    """

    probe: str
    metric: str
    kind: str
    limit: float
    estimate: float
    low: float
    high: float
    word: str
    n_more: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """Compare a cell with its stored run under one metric.

    Attributes:
        probe: name of the probe.
        metric: name of the outcome.
        word: UNCHANGED, CHANGED, IMPROVED, REGRESSED, or NEW where nothing is stored.
        n: examples compared.
        p_stored: share right in the stored run; None for NEW.
        p_now: share right now.
        lost: right in the stored run, wrong now.
        gained: wrong in the stored run, right now.
        changed: wrong in both with another answer; None where the metric is not the one whose answers are stored.
        p_value: one-sided exact McNemar of the direction that prevails.
        threshold: significance level of one comparison: (1 - confidence) / comparisons of the run.
        noise_floor: net loss, in examples, that noise alone may cause.
        most_lost: upper bound of the net loss against the stored run, as a share of all examples, at that level; None for NEW.
        worst: groups that lost most.
        whole: all examples of the stored run were asked, so that there is nothing more to ask.
        kind: as of `Retention`; of a mean, `p_stored` and `p_now` are means, `lost` and `gained` count examples that got worse and better,
            and noise floor and `most_lost` are in its own units.
    """

    probe: str
    metric: str
    word: str
    n: int
    p_stored: float | None
    p_now: float
    lost: int
    gained: int
    changed: int | None
    p_value: float
    threshold: float
    noise_floor: float
    most_lost: float | None = None
    worst: tuple[GroupLoss, ...] = ()
    whole: bool = False
    kind: str = "outcome"

    @property
    def settled(self) -> bool:
        """Return whether nothing speaks for more examples: a net loss of two points is ruled out, and nothing is significant.

        So it is where there are no more examples.
        """
        return self.whole or (self.word in {UNCHANGED, CHANGED} and self.most_lost is not None and self.most_lost < TWO_POINTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Hold everything that was judged about one cell.

    Attributes:
        cell: id of the cell.
        dtype: of the forward pass.
        confidence: of each one-sided bound; RETAINED is not corrected over the cells of a run.
        n_comparisons: cells of the run, one for each of their probes; REGRESSED is corrected over them.
        retentions: one per probe and outcome metric; empty for the dense cell.
        checks: one per budget.
        regressions: one per probe and judged metric.
    """

    cell: str
    dtype: str
    confidence: float
    n_comparisons: int
    retentions: tuple[Retention, ...] = ()
    checks: tuple[Check, ...] = ()
    regressions: tuple[Regression, ...] = ()

    @property
    def word(self) -> str:
        """Return the gravest word of all records."""
        return _gravest([*(check.word for check in self.checks), *(record.word for record in self.regressions)])

    @property
    def retention_word(self) -> str:
        """Return the gravest word of the budgets, or "" where there is none."""
        return _gravest([check.word for check in self.checks]) if self.checks else ""

    @property
    def regression_word(self) -> str:
        """Return the gravest word against the stored run."""
        return _gravest([record.word for record in self.regressions])

    @property
    def failed(self) -> bool:
        """Return whether a budget is exceeded or the stored run was better: FORGOT or REGRESSED."""
        return self.word in {FORGOT, REGRESSED}

    @property
    def inconclusive(self) -> bool:
        """Return whether nothing failed and a budget could not be decided."""
        return self.word == INCONCLUSIVE

    @property
    def settled(self) -> bool:
        """Return whether a first look at some of the examples is enough: every comparison with the stored run is settled."""
        return bool(self.regressions) and all(record.settled for record in self.regressions)

    @property
    def lossless(self) -> bool:
        """Return whether every probe answers exactly as the dense model does."""
        return bool(self.retentions) and all(record.lossless for record in self.retentions)

    @property
    def worst_against(self) -> str:
        """Return what `worst_groups` compares with: `stored` or `dense`."""
        return "stored" if self.regression_word == REGRESSED or not self.retentions else "dense"

    @property
    def worst_groups(self) -> tuple[GroupLoss, ...]:
        """Return the groups that lost most: against the stored run where that is what failed, else against dense."""
        judged = {(check.probe, check.metric) for check in self.checks if check.word == self.retention_word}
        if self.worst_against == "stored":
            found = [record.worst for record in self.regressions if record.word == self.regression_word]
        else:
            found = [record.worst for record in self.retentions if not judged or (record.probe, record.metric) in judged]
        return next((worst for worst in found if worst), ())

    def retention(self, probe: str, metric: str) -> Retention | None:
        """Return the comparison with dense under one metric, or None where there is none."""
        return next((r for r in self.retentions if (r.probe, r.metric) == (probe, metric)), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types, the derived words included."""
        plain = _plain(asdict(self))
        derived = {"word": self.word, "failed": self.failed, "inconclusive": self.inconclusive, "lossless": self.lossless}
        return {**plain, **derived}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Rebuild from `to_json`."""
        return cls(
            cell=data["cell"],
            dtype=data["dtype"],
            confidence=data["confidence"],
            n_comparisons=data["n_comparisons"],
            retentions=tuple(Retention(**{**record, "worst": _groups(record["worst"])}) for record in data["retentions"]),
            checks=tuple(Check(**record) for record in data["checks"]),
            regressions=tuple(Regression(**{**record, "worst": _groups(record["worst"])}) for record in data["regressions"]),
        )


def _gravest(words: Iterable[str]) -> str:
    return min(words, key=_GRAVITY.index, default=UNCHANGED)


def _groups(groups: Iterable[Mapping[str, Any]]) -> tuple[GroupLoss, ...]:
    return tuple(GroupLoss.from_json(group) for group in groups)


def _plain(value: Any) -> Any:  # noqa: ANN401 - JSON values
    """Turn tuples into lists, as JSON does, so that a document equals what is read back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
