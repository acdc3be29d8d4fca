"""The outcomes of one cell, as the claims need them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.result import CompressionReport, ProbeScore
    from pytest_kick.spec import CompressionSpec

PROBE = "facts"
METRIC = "p1"
GONE = "gold_row_gone"
PLAIN_BITS, MASTER_BITS = 16, 32
"""Of a weight that nothing was done to, as models are deployed, and as it is compressed."""
FACTORED = ("low_rank", "low_rank_aware")
"""Methods that store other numbers than weights: their bits are not counted here."""


class Measured(Protocol):
    """Describe what a `Measurement` and a stored `Baseline` share."""

    @property
    def dtype(self) -> str:
        """Return the dtype of the forward pass."""

    @property
    def scores(self) -> Sequence[ProbeScore]:
        """Return the scores, one per probe."""

    @property
    def compression(self) -> CompressionReport:
        """Return what the steps achieved."""

    @property
    def noise_floor(self) -> Mapping[str, Mapping[str, float]]:
        """Return probe -> metric -> how far chance alone moves it; of dense models, where it was measured."""


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
        body: weights of the matrices inside the blocks; None where not recorded.
        zeros: weights of the scopes that are zero, as the last step of each scope left them; None where scopes overlap.
        bits: bits per weight of the body by the format, side information included, 16 where nothing was done; None likewise.
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
    body: int | None = None
    zeros: int | None = None
    bits: float | None = None

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
        body=measured.compression.n_body,
        **_size(compression, measured.compression),
    )


def _size(compression: CompressionSpec, report: CompressionReport) -> dict[str, Any]:
    """Return zeros and bits per weight of the body, where the scopes of the steps are the same or lie apart within it."""
    last = {step.scope: step for step in report.steps}
    within = sum(step.n_weights for step in last.values())
    if within > report.n_body or not report.n_body or "head" in last:
        return {"zeros": None, "bits": None}
    zeros = sum(step.n_zeros for step in last.values())
    quantized = {step.scope for step in compression.steps if step.kind == "bits"}
    bits = float(PLAIN_BITS) * (report.n_body - within)
    for scope, step in last.items():
        # Reports count a weight that is left at the 32 bits of the master.
        left = 0 if scope in quantized else step.n_weights - step.n_zeros
        bits += step.bits_per_weight * step.n_weights - (MASTER_BITS - PLAIN_BITS) * left
    factored = any(step.method in FACTORED for step in compression.steps)
    return {"zeros": zeros, "bits": None if factored else bits / report.n_body}
