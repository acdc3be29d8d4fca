"""Check a method of which only its level is known, and what the weights can tell of that.

An unknown quantizer may leave any number of values (one that rotates, or looks up vectors, does), so counting them proves nothing
unless it says which inputs share a grid. What speaks against any is a matrix or a row left as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.compress.check import Checked, Count
from pytest_kick.compress.formats import in_proportion
from pytest_kick.compress.refusal import refuse
from pytest_kick.registration import UNCOUNTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

    Float32 = NDArray[np.float32]
    Flags = NDArray[np.bool_]

_SAME = 1e-6  # of a group's range: values nearer than that are one, rounded differently
_NULL = 1e-5  # of the largest singular value: what float32 makes of a zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Hold the format that a registered method says a matrix is in.

    Attributes:
        bits: of a code; 0 where the level is none of bits.
        side_bits: what the whole matrix takes besides.
        counted: whether the method said what a weight takes; else scales and the like are left out.
        group: inputs that share a grid, 0 for the whole row; None where the method does not say.
    """

    bits: int
    side_bits: int
    counted: bool
    group: int | None = None

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix, in proportion."""
        return in_proportion(self.side_bits, kept)

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether no group of a matrix `(out, in)` has more values than there are codes."""
        values = weight.numpy()
        return not crowded(values, values, self.bits, self.group or 0).any()


def crowded(weight: Float32, before: Float32, bits: int, group: int) -> Flags:
    """Say of each row whether a group of it has more different values than there are codes.

    A zero that was one before counts for none: it may have stayed pruned where the grid has no zero.

    Args:
        weight: `(out, in)`.
        before: likewise, before the step.
        bits: of a code.
        group: inputs that share a grid, the last group of a row may be shorter; 0 for the whole row.

    Returns:
        `(out,)` bool.
    """
    columns = weight.shape[1]
    width = min(group, columns) or columns
    found = np.zeros(len(weight), np.bool_)
    for start in range(0, columns if width > 2**bits else 0, width):
        part, old = weight[:, start : start + width], before[:, start : start + width]
        ordered = np.sort(part, axis=1)
        range_ = ordered[:, -1:] - ordered[:, :1]
        n_values = 1 + np.count_nonzero(np.diff(ordered, axis=1) > _SAME * range_, axis=1)
        found |= n_values > 2**bits + ((part == 0) & (old == 0)).any(axis=1)
    return found


def check(targets: Targets, step: CompressionStep, before: Mapping[str, torch.Tensor], counts: Mapping[str, Count]) -> Checked:
    """Check what weights can tell: a `compress.check.Check`.

    Raises:
        CompressionError: matrices, or rows, left as they were; more values in a group than there are codes; a higher rank.
    """
    if step.kind == "bits":
        return _check_bits(targets, step, before, counts)
    if step.kind == "rank":
        return _check_rank(targets, step)
    idle = [name for name, count in counts.items() if not count.changed]
    if step.kind == "sigma" or len(idle) == len(counts):
        refuse(step, idle, "got no weight changed", "some to change", "The method left these out")
    if step.kind == "count":
        note = f"what is counted is the method's own: {len(counts) - len(idle)} of {len(counts)} matrices changed"
        return Checked(notes=(note,), achieved=float(len(counts) - len(idle)))
    moved = sum(float((item.weight - before[item.matrix.name]).double().square().sum()) for item in targets.items)
    total = sum(float(before[item.matrix.name].double().square().sum()) for item in targets.items)
    return Checked(notes=("sigma found: size of the change over size of the weights",), achieved=math.sqrt(moved / total))


def _check_bits(targets: Targets, step: CompressionStep, before: Mapping[str, torch.Tensor], counts: Mapping[str, Count]) -> Checked:
    bits, forms = int(step.level), [targets.formats.get(item.matrix.name) for item in targets.items]
    empty = [item.matrix.name for item in targets.items if before[item.matrix.name].any() and not item.weight.any()]
    refuse(step, empty, "got all weights zero", "rounded ones", "Correct the method")
    idle: list[str] = []
    lay: list[str] = []
    left, full = [], []
    for item, form in zip(targets.items, forms, strict=True):
        name, new, old = item.matrix.name, item.weight.numpy(), before[item.matrix.name].numpy()
        assert isinstance(form, Declared)
        group = form.group or 0
        telling = (min(group, old.shape[1]) or old.shape[1]) > 2**bits
        over = crowded(new, old, bits, group)
        as_before = over & (new == old).all(axis=1)
        if not counts[name].changed and old.any():
            (idle if over.any() or not telling else lay).append(name)
        elif as_before.any():
            left.append(name)
        elif form.group is not None and over.any():
            full.append(name)
    refuse(step, idle, "got no weight changed", "each matrix to change", "The method left these out")
    refuse(step, left, f"got rows left as they were, with more than 2^{bits} values", "each row to change", "The method left these out")
    advice = "Correct the method, or rename its `group` where that is no group of a grid"
    refuse(step, full, f"got more than 2^{bits} values in a group", "at most as many as there are codes", advice)
    notes = [f"{len(lay)} of {len(counts)} matrices lay on such a grid before"] if lay else []
    if not all(isinstance(form, Declared) and form.counted for form in forms):
        notes.append(UNCOUNTED)
    if any(isinstance(form, Declared) and form.group is None for form in forms):
        notes.append("no group declared: values were not counted against the bits")
    return Checked(notes=tuple(notes))


def _check_rank(targets: Targets, step: CompressionStep) -> Checked:
    ranks = {item.matrix.name: _rank(item.weight) for item in targets.items}
    wrong = [name for name, rank in ranks.items() if rank > step.level]
    found = f"got a rank of {max((ranks[name] for name in wrong), default=0)}"
    refuse(step, wrong, found, f"at most {step.level:g}", "The method left these out or took a higher one")
    return Checked(achieved=float(max(ranks.values())))


def _rank(weight: torch.Tensor) -> int:
    """Return the number of singular values that are not null: by those of the smaller Gram matrix, in float64."""
    wide = weight.double() if weight.shape[0] <= weight.shape[1] else weight.double().T
    sizes = torch.linalg.eigvalsh(wide @ wide.T).clamp_(min=0).sqrt_()
    return int((sizes > _NULL * sizes.max()).sum())
