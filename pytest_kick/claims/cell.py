"""The outcomes of one cell, as the claims need them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_kick.result import ProbeScore
    from pytest_kick.spec import CompressionSpec

PROBE = "facts"
METRIC = "p1"
GONE = "gold_row_gone"


class Measured(Protocol):
    """Describe what a `Measurement` and a stored `Baseline` share."""

    @property
    def dtype(self) -> str:
        """Return the dtype of the forward pass."""

    @property
    def scores(self) -> Sequence[ProbeScore]:
        """Return the scores, one per probe."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cell:
    """Hold which facts one compressed (or the dense) model knows.

    Attributes:
        model: name of the model.
        family: its family.
        compression: what was done; no steps for the dense model.
        dtype: of the forward pass.
        ids: `(n,)` unicode, sorted: the facts.
        hashes: `(n,)` uint32: content hash of each fact.
        right: `(n,)` bool: whether P@1 within the answer space is met.
        floor: P@1 of a model that knows nothing, in [0, 1).
        gold_row_gone: `(n,)` bool, or None where not recorded: whether the vocabulary row of the gold answer was removed.
    """

    model: str
    family: str
    compression: CompressionSpec
    dtype: str
    ids: NDArray[np.str_]
    hashes: NDArray[np.uint32]
    right: NDArray[np.bool_]
    floor: float
    gold_row_gone: NDArray[np.bool_] | None = None

    def updated(self, newer: Cell) -> Cell:
        """Return the cell with the answers of another run of it, which asked some of its facts."""
        right = self.right.copy()
        right[np.searchsorted(self.ids, newer.ids)] = newer.right
        return replace(self, right=right)


def cell_from(model: str, family: str, compression: CompressionSpec, measured: Measured) -> Cell | None:
    """Take from a measurement, or from a stored run, what the claims need.

    Args:
        model: name of the model; of the shelf, where a suite brings its own facts.
        family: its family.
        compression: what was done to it.
        measured: a `Measurement` or a `Baseline`.

    Returns:
        The cell, or None where the facts were not asked.
    """
    score = next((score for score in measured.scores if score.probe == PROBE), None)
    if score is None or METRIC not in score.floors:
        return None
    order = np.argsort(score.examples.ids)
    gone = score.examples.arrays.get(GONE)
    return Cell(
        model=model,
        family=family,
        compression=compression,
        dtype=measured.dtype,
        ids=score.examples.ids[order],
        hashes=score.examples.hashes[order],
        right=score.examples.outcome(METRIC)[order],
        floor=score.floors[METRIC],
        gold_row_gone=None if gone is None else np.asarray(gone[order], np.bool_),
    )
