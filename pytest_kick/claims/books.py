"""C10 and C12: facts asked with and without their statement in a text before the prompt, and in longer texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.probed import Gap, correlation, drawn, found
from pytest_kick.claims.ruling import ALIVE, KEPT
from pytest_kick.stats import Interval, PairedCounts
from pytest_kick.stats.bootstrap import dense_margin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.probed import Probed

PROBE = "open_book"
OPEN_BOOK = ("C10", "what stands in the text is lost less than what has to be known")
LONGER = ("C12", "longer texts lose more than shorter ones")
UNIT = "retention"
_UNCHANGED = "no cell is alive and shown to lose anything"
_BLIND = "the dense model is not shown to know more than the floor"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arm:
    """The dense and a compressed model on the same examples under one way of asking: `(n,)` outcomes and the floor."""

    dense: NDArray[np.bool_]
    now: NDArray[np.bool_]
    floor: float

    def judgeable(self, confidence: float) -> bool:
        """Say whether the dense model is shown to know more than the floor."""
        counts = PairedCounts.from_outcomes(self.dense, self.now)
        return self.floor < 1.0 and stats.judgeable(counts, self.floor, confidence)

    def retention(self) -> float:
        """Return the retention, at least 0."""
        return max(stats.retention(PairedCounts.from_outcomes(self.dense, self.now), self.floor), 0.0)

    def interval(self, confidence: float) -> Interval:
        """Return the interval of the retention, its bounds at least 0."""
        wide = stats.retention_interval(PairedCounts.from_outcomes(self.dense, self.now), self.floor, confidence)
        return Interval(low=max(wide.low, 0.0), high=max(wide.high, 0.0))

    def draws(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the retention per resample of the examples, weights `(B, n)` to `(B,)`."""
        known = (weights @ self.now.astype(np.float64)) / len(self.now) - self.floor
        return np.asarray(np.maximum(known / dense_margin(weights, self.dense.astype(np.float64), self.floor), 0.0))

    def influence(self) -> NDArray[np.float64]:
        """Return what each example adds to the retention, up to a factor: the linear part of the ratio."""
        return np.asarray((self.now - self.floor) - self.retention() * (self.dense - self.floor), np.float64)


def open_against_closed(cells: Iterable[Probed], confidence: float = 0.95) -> list[Finding]:
    """Decide C10 for every model, dtype and number of distractors: open book retains more than closed book on the same facts.

    The difference of the two retentions, each above its own floor and from 0 on, in every cell in which one of the two is shown to be
    under .95 and one is over .1: where nothing is lost, or all is, nothing is compared. See `probed.rule`.

    Args:
        cells: scores of the probe `open_book`, the dense model's among them, in any order.
        confidence: of each bound, in (0.5, 1).
    """
    made = []
    for (_, _, distractors), (dense, compressed) in _by_asking(cells).items():
        pairs = [(cell, (_arm(dense, cell, "open"), _arm(dense, cell, "closed"))) for cell in compressed if _same(dense, cell)]
        blind = not all(arm.judgeable(confidence) for _, arms in pairs for arm in arms)
        gaps = [] if blind else [_gap(cell, arms) for cell, arms in pairs if _worth(arms, confidence)]
        why = _BLIND if blind else _UNCHANGED
        made.append(found(dense, OPEN_BOOK, f"{distractors} distractors", gaps, why, UNIT, confidence))
    return made


def long_against_short(cells: Iterable[Probed], confidence: float = 0.95) -> list[Finding]:
    """Decide C12 for every model and dtype, each longer text against the shortest: the shorter one retains more, on the facts in both.

    Which cells, and how they are decided, as of `open_against_closed`.
    """
    asked = _by_asking(cells)
    made = []
    for (model, dtype, distractors), (dense, compressed) in asked.items():
        shorter = [key[2] for key in asked if key[:2] == (model, dtype)]
        if distractors == min(shorter):
            continue
        short_dense, short = asked[model, dtype, min(shorter)]
        ids = np.intersect1d(short_dense.score.examples.ids, dense.score.examples.ids)
        twin = {cell.compression.id: cell for cell in short if _same(short_dense, cell)}
        pairs = [
            (cell, (_arm(short_dense, twin[cell.compression.id], "open", ids), _arm(dense, cell, "open", ids)))
            for cell in compressed
            if len(ids) and _same(dense, cell) and cell.compression.id in twin
        ]
        blind = not all(arm.judgeable(confidence) for _, arms in pairs for arm in arms)
        gaps = [] if blind else [_gap(cell, arms) for cell, arms in pairs if _worth(arms, confidence)]
        why = _BLIND if blind else _UNCHANGED
        made.append(found(dense, LONGER, f"{distractors} against {min(shorter)} distractors", gaps, why, UNIT, confidence))
    return made


def _by_asking(cells: Iterable[Probed]) -> dict[tuple[str, str, int], tuple[Probed, list[Probed]]]:
    """Return (model, dtype, distractors) -> the dense cell and the compressed ones, in rising order of distractors."""
    dense: dict[tuple[str, str, int], Probed] = {}
    compressed: dict[tuple[str, str, int], list[Probed]] = {}
    for cell in cells:
        key = (cell.model, cell.dtype, int(cell.score.settings["distractors"]))
        if cell.compression.steps:
            compressed.setdefault(key, []).append(cell)
        else:
            dense.setdefault(key, cell)
    return {key: (dense[key], compressed[key]) for key in sorted(compressed) if key in dense}


def _same(dense: Probed, cell: Probed) -> bool:
    """Return whether two cells were asked the same with the same texts."""
    x, y = dense.score.examples, cell.score.examples
    return np.array_equal(x.ids, y.ids) and np.array_equal(x.hashes, y.hashes)


def _arm(dense: Probed, cell: Probed, metric: str, ids: NDArray[np.str_] | None = None) -> Arm:
    wanted = dense.score.examples.ids if ids is None else ids
    return Arm(dense=dense.on(wanted, metric), now=cell.on(wanted, metric), floor=dense.score.floors[metric])


def _worth(arms: tuple[Arm, Arm], confidence: float) -> bool:
    loses = any(arm.interval(confidence).high < KEPT for arm in arms)
    return loses and max(arm.retention() for arm in arms) > ALIVE


def _gap(cell: Probed, arms: tuple[Arm, Arm]) -> Gap:
    first, second = arms
    weights = drawn(len(first.dense))
    return Gap(
        name=cell.compression.id,
        first=first.retention(),
        second=second.retention(),
        draws=first.draws(weights) - second.draws(weights),
        bounds=lambda confidence: (first.interval(confidence), second.interval(confidence)),
        correlation=correlation(first.influence(), second.influence()),
        n=len(first.dense),
    )
