"""Check on the weights that each matrix has the rank asked for, and is no farther from what it was than it has to be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.check import Checked, Count
from pytest_kick.compress.refusal import refuse_faults
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

# Of the largest singular value. Float32 leaves a product up to about 1e-7 of it off, and float64 squares tell 1e-8 from 0.
_NOUGHT = 1e-5
_ROUNDING = 1e-5
_FAULTS = {
    "format": ("got no factors of this rank recorded", "a record of each matrix that was factored", "The method left these out"),
    "rank": ("got a higher rank", "the one asked for", "The method kept too much, or left these out"),
    "below": ("got a lower rank", "the one asked for", "The method kept too little"),
    "aside": ("got a matrix that is no projection of what it was", "outputs in fewer directions, and no others", "Correct the method"),
    "far": ("got a larger error than the singular values left out", "the least for this rank", "Correct the method"),
}


def check_low_rank(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check the rank and the error of each matrix, and return the rank found, or the share of values that two factors leave out.

    The error is held against the singular values that were left out, which no matrix of the rank undercuts; with calibration, whose
    error is that of outputs, against what holds for every solution: the change is orthogonal to all that the new matrix can give.

    Raises:
        CompressionError: another rank, a change that is not the least, or no record of the factors; names the matrices.
    """
    faults: dict[str, str] = {}
    stored, whole, kept = 0, 0, 0
    for item in targets.items:
        name, (out, inputs) = item.matrix.name, item.matrix.shape
        rank = _asked(step, out, inputs)
        if rank >= min(out, inputs):
            kept += 1
            faults[name] = "aside" if counts[name].changed else ""
            stored += item.matrix.n
        else:
            record = targets.formats.get(name)
            mine = record is not None and (record.bits, record.side_bits) == (0, rank * (out + inputs) * 32)
            faults[name] = _fault(item.weight.double(), before[name].double(), rank, step) if mine or not counts[name].changed else "format"
            stored += rank * (out + inputs)
        whole += item.matrix.n
    refuse_faults(step, faults, _FAULTS)
    notes = (f"{kept} of {len(counts)} matrices left as they are: their rank cannot be higher",) if kept else ()
    return Checked(notes=notes, achieved=step.level if step.kind == "rank" else 1 - stored / whole)


def _asked(step: CompressionStep, out: int, inputs: int) -> int:
    """Return the rank asked for: the largest r, from 1, of which r (out + in) are no more than the share that stays."""
    if step.kind == "rank":
        return int(step.level)
    rank, room = 1, (1 - round(step.level, 12)) * out * inputs
    while (rank + 1) * (out + inputs) <= room * (1 + 1e-12):
        rank += 1
    return rank


def _fault(weight: torch.Tensor, before: torch.Tensor, rank: int, step: CompressionStep) -> str:
    """Return which of `_FAULTS` a matrix has, or ""; all in float64."""
    old, new = _squares(before), _squares(weight)
    top = float(old[-1])
    if int((new > _NOUGHT**2 * top).sum()) > rank:
        return "rank"
    if int((new > _NOUGHT**2 * top).sum()) < min(rank, int((old > 4 * _NOUGHT**2 * top).sum())):
        return "below"
    change = before - weight
    if METHODS.get(step.method, "step").calibrated:
        probes = torch.cos(torch.arange(weight.shape[1], dtype=torch.float64).outer(torch.arange(1.0, 9.0, dtype=torch.float64)))
        given = weight.T @ (change @ probes)
        return "aside" if float(given.norm()) > _ROUNDING * top * float(probes.norm()) else ""
    least = float(old[:-rank].clamp(min=0).sum())
    return "far" if float(change.square().sum()) > least * (1 + _ROUNDING) + _NOUGHT**2 * float(old.sum()) else ""


def _squares(matrix: torch.Tensor) -> torch.Tensor:
    """Return the squared singular values, rising."""
    side = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    squares: torch.Tensor = torch.linalg.eigvalsh(side @ side.T)
    return squares
