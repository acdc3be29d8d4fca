"""Registered methods beside the usual ones: the same facts, from the stored runs, at equal effective bits; nothing is measured again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick import stats
from pytest_kick.errors import KickError
from pytest_kick.infos import LEVELS
from pytest_kick.registration import UNCOUNTED
from pytest_kick.registry import METHODS
from pytest_kick.result import Measurement
from pytest_kick.spec import scope_slug

if TYPE_CHECKING:
    from pytest_kick.baseline import Baseline
    from pytest_kick.result import ProbeScore
    from pytest_kick.session import Session
    from pytest_kick.spec import Case, CompressionStep

PEERS = {"bits": ("rtn", "gptq"), "sparsity": ("l1_global", "l1_per_matrix", "wanda", "sparsegpt")}
"""Kind of level -> the methods that every new one of this kind is held against."""
EQUAL_BITS = 0.05
"""Bits per weight that two methods may differ in and still be compared as equals."""
NEAR_BITS = 0.5
"""Bits per weight up to which they are compared at all, as unequal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Hold the difference of a cell and a stored run of another method, fact by fact.

    Attributes:
        id: of the cell, suite included.
        model: name of the model.
        dtype: of the forward pass.
        cell: id of the cell without suite and model.
        peer: name of the other method.
        bits: effective bits per weight of the cell.
        uncounted: the method did not say what a weight takes: scales and the like are not in `bits`.
        against: id of the stored cell, "" where there is none.
        against_bits: its effective bits per weight; None where there is none, as with the others below.
        recorded: its date.
        probe: that both answered.
        metric: the outcome compared.
        n: examples both were asked.
        difference: accuracy of the cell less that of the stored run.
        low: lower end of its interval (Tango), of the two bounds' confidence each.
        high: upper end.
        lost: right in the stored run, wrong in the cell.
        gained: the reverse.
        equal_bits: whether both take the same bits, to `EQUAL_BITS`.
        problem: why there is no comparison, one line, or "".
    """

    id: str
    model: str
    dtype: str
    cell: str
    peer: str
    bits: float
    uncounted: bool
    against: str = ""
    against_bits: float | None = None
    recorded: str = ""
    probe: str = ""
    metric: str = ""
    n: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    lost: int | None = None
    gained: int | None = None
    equal_bits: bool = False
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def compare(session: Session) -> list[Comparison]:
    """Compare what the run measured of registered methods, one step each, with the stored runs of the usual ones."""
    found = []
    for outcome in session.finished():
        case = session.by_id[outcome["id"]]
        if outcome["measurement"] is None or outcome["problem"] or len(case.compression.steps) != 1:
            continue
        step = case.compression.steps[0]
        if step.method not in METHODS.builtin:
            now = Measurement.from_json(outcome["measurement"])
            found += [_against(session, case, now, peer) for peer in PEERS.get(step.kind, ())]
    return found


def _against(session: Session, case: Case, now: Measurement, peer: str) -> Comparison:
    report = now.compression.steps[0]
    bare = Comparison(
        id=case.id,
        model=case.model.name,
        dtype=now.dtype,
        cell=case.cell,
        peer=peer,
        bits=report.bits_per_weight,
        uncounted=UNCOUNTED in report.notes,
    )
    stored, problem = _nearest(session, case, now, peer)
    if stored is None:
        return replace(bare, problem=problem or f"no stored run of {peer} within {NEAR_BITS:g} bits of {report.bits_per_weight:.2f}")
    return _compared(bare, now, stored, session.settings.confidence)


def _nearest(session: Session, case: Case, now: Measurement, peer: str) -> tuple[Baseline | None, str]:
    """Return the stored run of another method that is most like a cell, or None and why one that there is cannot be used."""
    step, bits, problem = case.compression.steps[0], now.compression.steps[0].bits_per_weight, ""
    known: list[tuple[tuple[bool, int, float, int, str], Baseline]] = []
    for cell in session.store.cells(case.shelf, now.dtype):
        name, *rest = cell.split("--")
        if "+" in cell or name != peer or rest[0] != scope_slug(step.scope) or not rest[1].startswith(LEVELS[step.kind]):
            continue
        try:
            stored = session.store.read(case.shelf, now.dtype, cell)
        except KickError as error:
            problem = session.near(str(error))
            continue
        gap = abs(stored.compression.steps[0].bits_per_weight - bits)
        if gap > NEAR_BITS:
            continue
        if why := _unlike(stored, now):
            problem = f"stored run {stored.name} {why}"
            continue
        params = dict(param.split("-", 1) for param in rest[2:])
        known.append(((gap > EQUAL_BITS, _differing(step, peer, params), round(gap, 3), len(params), cell), stored))
    return (min(known, key=lambda entry: entry[0])[1] if known else None), problem


def _differing(step: CompressionStep, peer: str, params: dict[str, str]) -> int:
    """Return how many parameters that both methods have are different."""
    mine = {key: str(step.param(key)) for key, _ in METHODS.get(step.method, "step").params}
    theirs = {key: str(value) for key, value in METHODS.get(peer, "step").params} | params
    return sum(mine[key] != theirs[key] for key in mine.keys() & theirs.keys())


def _shared(stored: Baseline, now: Measurement) -> ProbeScore | None:
    """Return the first score of right and wrong answers whose probe a stored run answered too: suites may ask different probes."""
    return next((s for s in now.scores if s.probe in stored.examples and s.examples.is_outcome(s.metric)), None)


def _unlike(stored: Baseline, now: Measurement) -> str:
    """Return what of the dense model, or of the probe that is compared, was another in a stored run, or ""."""
    score = _shared(stored, now)
    if score is None:
        return "has no answers to the same probe"
    old, new = stored.fingerprint["blocking"], now.fingerprint["blocking"]
    fields = ("weights", "architecture", "tokenizer", f"{score.probe}.version", f"{score.probe}.settings")
    return next((f"is of another {field}" for field in fields if old.get(field) != new.get(field)), "")


def _compared(bare: Comparison, now: Measurement, stored: Baseline, confidence: float) -> Comparison:
    score = _shared(stored, now)
    assert score is not None, "a stored run without it is none to compare with"
    before = stored.examples[score.probe]
    place = {(name, int(digest)): i for i, (name, digest) in enumerate(zip(before.ids.tolist(), before.hashes.tolist(), strict=True))}
    pairs_of = [
        (place[key], i)
        for i, key in enumerate(zip(score.examples.ids.tolist(), score.examples.hashes.tolist(), strict=True))
        if key in place
    ]
    if not pairs_of:
        return replace(bare, problem=f"stored run {stored.name} answered other facts")
    theirs, mine = (np.asarray(index) for index in zip(*pairs_of, strict=True))
    pairs = stats.PairedCounts.from_outcomes(before.outcome(score.metric)[theirs], score.examples.outcome(score.metric)[mine])
    drop = stats.drop_interval(pairs, confidence)
    bits = stored.compression.steps[0].bits_per_weight
    return replace(
        bare,
        against=stored.cell,
        against_bits=bits,
        recorded=stored.recorded,
        probe=score.probe,
        metric=score.metric,
        n=pairs.n,
        difference=(pairs.gained - pairs.lost) / pairs.n,
        low=-drop.high,
        high=-drop.low,
        lost=pairs.lost,
        gained=pairs.gained,
        equal_bits=abs(bits - bare.bits) <= EQUAL_BITS,
    )
