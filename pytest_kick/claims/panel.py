"""All cells of one model on the same facts in one dtype, with the dense model they are compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.contrast import Contrast
from pytest_kick.claims.finding import NOT_APPLICABLE, PLACES, STATEMENTS, Finding
from pytest_kick.stats import Interval, PairedCounts
from pytest_kick.stats.bootstrap import resamples

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Cell
    from pytest_kick.spec import CompressionStep

N_RESAMPLES = 2000  # the smallest p-value is 1/2001: Holm can still reject among 100 comparisons
KNOWS_NOTHING = "the dense model is not shown to know more than the floor"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Panel:
    """Hold the cells of one model that can be compared fact by fact.

    Attributes:
        model: name of the model.
        family: its family.
        dtype: of the forward pass.
        dense: `(n,)` bool: whether the dense model is right.
        floor: score of a model that knows nothing.
        cells: compressed cells, one per compression.
        weights: `(B, n)` float32: resamples of the facts, shared by all comparisons, so that all of them are paired.
        drawn: `(B, k)` float64: the retention of each cell per resample.
        confidence: of each one-sided bound.
    """

    model: str
    family: str
    dtype: str
    dense: NDArray[np.bool_]
    floor: float
    cells: tuple[Cell, ...]
    weights: NDArray[np.float32]
    drawn: NDArray[np.float64]
    confidence: float

    def single(self) -> Iterator[tuple[CompressionStep, Cell]]:
        """Iterate over the cells of one step."""
        yield from ((cell.compression.steps[0], cell) for cell in self.cells if len(cell.compression.steps) == 1)

    def find(self, method: str, scope: str, **params: str | float) -> dict[float, Cell]:
        """Return level -> cell of a method at its default parameters, but for those given; levels rise."""
        found = {}
        for step, cell in self.single():
            if step.method == method and step.scope == scope and dict(step.params) == _named(step, params):
                found[step.level] = cell
        return dict(sorted(found.items()))

    def seeds(self, method: str, scope: str) -> list[int]:
        """Return the seeds with which a random method was run."""
        return sorted({int(step.param("seed")) for step, _ in self.single() if step.method == method and step.scope == scope})

    def judgeable(self, rest: NDArray[np.bool_] | None = None) -> bool:
        """Say whether the dense model is shown to know something of all facts, or of those marked in `rest`, `(n,)` bool."""
        dense = self.dense if rest is None else self.dense[rest]
        return len(dense) > 0 and stats.judgeable(PairedCounts.from_outcomes(dense, dense), self.floor, self.confidence)

    def retention(self, cell: Cell, rest: NDArray[np.bool_] | None = None) -> float:
        """Return the retention of a cell over all facts, or over those marked in `rest`, at least 0."""
        kept = slice(None) if rest is None else rest
        return max(stats.retention(PairedCounts.from_outcomes(self.dense[kept], cell.right[kept]), self.floor), 0.0)

    def draws(self, x: Cell, y: Cell, rest: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return the retentions of two cells per resample, `(B, 2)`, not cut at 0."""
        if rest is None:
            places = [next(i for i, cell in enumerate(self.cells) if cell is wanted) for wanted in (x, y)]
            return self.drawn[:, places]
        return retention_draws(self.weights, np.asarray([self.dense, x.right, y.right]), self.floor, rest)

    def contrast(self, x: Cell, y: Cell, rest: NDArray[np.bool_] | None = None) -> Contrast:
        """Compare two cells over all facts, or over those marked in `rest`, `(n,)` bool."""
        kept = slice(None) if rest is None else rest
        drawn = self.draws(x, y, rest)
        return Contrast(
            x=PairedCounts.from_outcomes(self.dense[kept], x.right[kept]),
            y=PairedCounts.from_outcomes(self.dense[kept], y.right[kept]),
            pair=PairedCounts.from_outcomes(x.right[kept], y.right[kept]),
            floor=self.floor,
            draws=drawn[:, 0] - drawn[:, 1],
        )

    def on(self, facts: NDArray[np.bool_]) -> Panel:
        """Return the panel of the facts marked in `(n,)` bool, its cells in the same order."""
        kept = tuple(replace(cell, ids=cell.ids[facts], hashes=cell.hashes[facts], right=cell.right[facts]) for cell in self.cells)
        return _panel(kept, self.dense[facts], _weights(int(facts.sum())), self.confidence)

    def finding(self, claim: str, arm: str, word: str, detail: str, n_cells: int, place: tuple[float, Interval] | None = None) -> Finding:
        """Make a finding of this panel; `place` is what was estimated, with its interval."""
        return Finding(
            claim=claim,
            model=self.model,
            family=self.family,
            dtype=self.dtype,
            arm=arm,
            statement=STATEMENTS[claim],
            word=word,
            estimate=None if place is None else place[0],
            low=None if place is None else place[1].low,
            high=None if place is None else place[1].high,
            unit="sparsity" if claim in PLACES else "retention",
            detail=detail,
            n=len(self.dense),
            n_cells=n_cells,
        )

    def unjudged(self, claim: str, arm: str, n_cells: int) -> Finding:
        """Make the finding of a model of which nothing can be said."""
        return self.finding(claim, arm, NOT_APPLICABLE, KNOWS_NOTHING, n_cells)


def retention_draws(weights: NDArray[np.float32], rows: NDArray[np.bool_], floor: float, rest: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the retention per resample and compressed model, `(B, k)`, over the facts in `rest`, `(n,)` bool; `rows[0]` is dense."""
    columns = np.concatenate([(rows & rest).T, rest[:, None]], axis=1).astype(np.float32)
    sums = (weights @ columns).astype(np.float64)  # whole numbers below 2**24: exact
    known = sums[:, :-1] - floor * sums[:, -1:]
    # Half an example instead of nothing known, as `stats.bootstrap.dense_margin` has it: the sign stays right.
    return np.asarray(known[:, 1:] / np.maximum(known[:, :1], 0.5), np.float64)


def _named(step: CompressionStep, params: Mapping[str, str | float]) -> dict[str, str | float]:
    """Return those of the parameters that the step would name: those that differ from its defaults."""
    return {name: value for name, value in params.items() if name in dict(step.params) or step.param(name) != value}


def panels(cells: Iterable[Cell], confidence: float) -> list[Panel]:
    """Bring together the cells of one model, dtype and set of facts; of equal compressions the first given counts.

    A group without a dense model of that dtype on (at least) the same facts is left out.
    """
    groups: dict[tuple[str, str, bytes], dict[str, Cell]] = {}
    dense: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        steps = cell.compression.steps
        if not steps:
            dense.setdefault((cell.model, cell.dtype), []).append(cell)
        else:
            same = groups.setdefault((cell.model, cell.dtype, cell.ids.tobytes() + cell.hashes.tobytes()), {})
            same.setdefault(cell.compression.id, cell)
    weights: dict[int, NDArray[np.float32]] = {}
    made = []
    for (model, dtype, _), same in groups.items():
        first = next(iter(same.values()))
        right = next((found for cell in dense.get((model, dtype), ()) if (found := _on(cell, first)) is not None), None)
        if right is not None:
            if len(right) not in weights:
                weights[len(right)] = _weights(len(right))
            made.append(_panel(tuple(same.values()), right, weights[len(right)], confidence))
    return made


def _weights(n: int) -> NDArray[np.float32]:
    return np.concatenate([block.astype(np.float32) for block in resamples(n, groups=None, n_resamples=N_RESAMPLES, seed=0)])


def _panel(cells: tuple[Cell, ...], dense: NDArray[np.bool_], weights: NDArray[np.float32], confidence: float) -> Panel:
    rows = np.asarray([dense, *(cell.right for cell in cells)])
    return Panel(
        model=cells[0].model,
        family=cells[0].family,
        dtype=cells[0].dtype,
        dense=dense,
        floor=cells[0].floor,
        cells=cells,
        weights=weights,
        drawn=retention_draws(weights, rows, cells[0].floor, np.ones(len(dense), np.bool_)),
        confidence=confidence,
    )


def _on(dense: Cell, cell: Cell) -> NDArray[np.bool_] | None:
    """Return the dense outcomes on the facts of a cell, None where a fact is missing or has changed."""
    if not len(cell.ids) or not np.isin(cell.ids, dense.ids).all():
        return None
    place = np.searchsorted(dense.ids, cell.ids)
    return dense.right[place] if np.array_equal(dense.hashes[place], cell.hashes) else None
