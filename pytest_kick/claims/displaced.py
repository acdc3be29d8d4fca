"""C18: facts lost to compression come back in part when a few others of their relation stand before the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.probed import Gap, correlation, drawn, found
from pytest_kick.claims.ruling import ALIVE, KEPT
from pytest_kick.stats import Interval, PairedCounts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.probed import Probed
    from pytest_kick.examples import Examples

PROBE = "displacement"
DISPLACED = ("C18", "facts lost to compression come back in part after a few others of their relation")
UNIT = "share of facts"
CALIPER = 0.5
"""Nats: how far the margins of two facts of equal margin may differ."""
LEAST_PAIRS = 5
_BLIND = "the dense model is not shown to know more than the floor, with or without exemplars"
_NOTHING = "no cell is alive and shown to lose facts"
_UNMATCHED = "too few lost facts with a never-known one of equal margin"


def displaced(cells: Iterable[Probed], confidence: float = 0.95) -> list[Finding]:
    """Decide C18 for every model and dtype, two arms, over the cells that are shown to lose facts without exemplars and are alive.

    - `all facts`: the difference in differences (`in_differences`): exemplars help the compressed model more than the dense one.
    - `lost facts`: of the lost facts more are right after exemplars than of facts the dense model never knew, matched one to one
      within the relation by the compressed model's margin without exemplars (`against_never_known`).

    Args:
        cells: scores of the probe `displacement` with its dense reference, in any order; those of dense models are passed over.
        confidence: of each bound, in (0.5, 1).
    """
    by_model: dict[tuple[str, str], list[Probed]] = {}
    for cell in cells:
        if cell.compression.steps and "dense_zero" in cell.score.examples.arrays:
            by_model.setdefault((cell.model, cell.dtype), []).append(cell)
    made = []
    for same in by_model.values():
        able = [cell for cell in same if _judgeable(cell, confidence)]
        used = [cell for cell in able if _loses(cell, confidence)]
        whole = [in_differences(cell.score.examples, cell.compression.id) for cell in used]
        matched = [gap for cell in used if (gap := against_never_known(cell.score.examples, cell.compression.id)) is not None]
        why = _NOTHING if able else _BLIND
        made.append(found(same[0], DISPLACED, "all facts", whole, why, UNIT, confidence))
        made.append(found(same[0], DISPLACED, "lost facts", matched, _UNMATCHED if used else why, UNIT, confidence))
    return made


def in_differences(examples: Examples, name: str = "") -> Gap:
    """Return (compressed few-shot - zero-shot) - (dense few-shot - zero-shot), as shares of the n facts."""
    zero, few, dense_zero, dense_few = (examples.outcome(metric) for metric in ("zero", "few", "dense_zero", "dense_few"))
    now, before = _step(zero, few), _step(dense_zero, dense_few)
    return Gap(
        name=name,
        first=float(now.mean()),
        second=float(before.mean()),
        draws=drawn(len(now)) @ (now - before) / len(now),
        bounds=lambda confidence: (_rise(zero, few, confidence), _rise(dense_zero, dense_few, confidence)),
        correlation=correlation(now, before),
        n=len(now),
    )


def against_never_known(examples: Examples, name: str = "") -> Gap | None:
    """Return the share of lost facts that are back less that of matched never-known ones that come right; None for under 5 pairs."""
    lost, control = matched_pairs(examples)
    if len(lost) < LEAST_PAIRS:
        return None
    few = examples.outcome("few")
    back, right = few[lost], few[control]
    gap = back.astype(np.float64) - right
    tango = PairedCounts.from_outcomes(back, right)
    middle = float(gap.mean())

    def bounds(confidence: float) -> tuple[Interval, Interval]:
        # One paired interval of the whole difference: what is subtracted from has all of it, what is subtracted none.
        wide = stats.drop_interval(tango, confidence)
        share = float(back.mean())
        own = Interval(low=share - (middle - wide.low), high=share + (wide.high - middle))
        return own, Interval(low=float(right.mean()), high=float(right.mean()))

    draws = drawn(len(gap)) @ gap / len(gap)
    return Gap(name=name, first=float(back.mean()), second=float(right.mean()), draws=draws, bounds=bounds, correlation=0.0, n=len(gap))


def matched_pairs(examples: Examples) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return places of lost facts and of the never-known facts matched with them, `(m,)` each.

    Within a relation, each at most once, so that the margins of the compressed model without exemplars differ by as little as
    possible in sum and by at most half a nat each. Both are wrong there: a fact that any nudge would set right is matched with another
    such fact. Lost facts without a match are left out.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415 - 0.15 s that collection need not pay

    margin = np.asarray(examples.arrays["zero_margin"], np.float64)
    lost, wrong = examples.outcome("lost"), ~examples.outcome("zero")
    never = examples.outcome("never_known") & wrong
    pairs: list[tuple[int, int]] = []
    for group in np.unique(examples.groups[lost]):
        inside = examples.groups == group
        rows, columns = np.flatnonzero(lost & inside), np.flatnonzero(never & inside)
        apart = np.abs(margin[rows][:, None] - margin[columns][None])
        # A pair too far apart costs more than all that are near: as many near ones as possible are made.
        cost = np.where(apart <= CALIPER, apart, CALIPER * (1 + len(rows)))
        chosen = zip(*linear_sum_assignment(cost), strict=True)
        pairs += [(int(rows[i]), int(columns[j])) for i, j in chosen if apart[i, j] <= CALIPER]
    places = np.asarray(pairs, np.intp).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def _step(zero: NDArray[np.bool_], few: NDArray[np.bool_]) -> NDArray[np.float64]:
    return few.astype(np.float64) - zero


def _rise(zero: NDArray[np.bool_], few: NDArray[np.bool_], confidence: float) -> Interval:
    """Return Tango's interval of the share that exemplars add."""
    return stats.drop_interval(PairedCounts.from_outcomes(few, zero), confidence)


def _judgeable(cell: Probed, confidence: float) -> bool:
    examples, floors = cell.score.examples, cell.score.floors
    dense = {"zero": examples.outcome("dense_zero"), "few": examples.outcome("dense_few")}
    return all(stats.judgeable(PairedCounts.from_outcomes(right, right), floors[name], confidence) for name, right in dense.items())


def _loses(cell: Probed, confidence: float) -> bool:
    examples, floors = cell.score.examples, cell.score.floors
    pairs = {name: PairedCounts.from_outcomes(examples.outcome(f"dense_{name}"), examples.outcome(name)) for name in ("zero", "few")}
    kept = stats.retention_interval(pairs["zero"], floors["zero"], confidence)
    return kept.high < KEPT and max(stats.retention(counts, floors[name]) for name, counts in pairs.items()) > ALIVE
