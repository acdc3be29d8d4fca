"""What a solver returns, and the error that all of them make small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pytest_kick.compress.solvers.factor import Factor

_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Say where quantized values may lie, so that a check can recompute that each of them does.

    Column j of a row lies on the grid of the row's scale and zero in group `group_of[j]`.

    Attributes:
        scale: `(out, groups)` float32, as the quantizer's `fit` gave it.
        zero: `(out, groups)`, in the quantizer's own dtype.
        group_of: `(in,)` int64, group of each column, in the order of the matrix.
        bits: per weight.
        symmetric: as given to the quantizer.
        order: `(in,)` int64, columns in the order they were rounded, or None where that is the matrix's own.
    """

    scale: torch.Tensor
    zero: torch.Tensor
    group_of: torch.Tensor
    bits: int
    symmetric: bool
    order: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """Hold a compressed matrix, and what a report says of how it was found.

    Attributes:
        values: `(out, in)` contiguous float32.
        damping: share of the mean diagonal that was added to the Hessian, or None where no Hessian was used.
        raised: whether that is more than was asked, because the Hessian was singular.
        dead: `(in,)` bool, columns whose input was always zero.
        grid: of quantized values, or None.
    """

    values: torch.Tensor
    damping: float | None
    raised: bool
    dead: torch.Tensor
    grid: Grid | None = None

    @classmethod
    def of(cls, values: torch.Tensor, factor: Factor, grid: Grid | None = None) -> Solution:
        """Return a solution that was found with a factor."""
        return cls(values=values, damping=factor.damping, raised=factor.raised, dead=factor.dead, grid=grid)


def output_error(weight: torch.Tensor, values: torch.Tensor, hessian: torch.Tensor) -> float:
    """Return the squared error of a layer's output per token, summed over its outputs: what the solvers make small.

    Args:
        weight: `(out, in)` float32, dense.
        values: `(out, in)` float32, compressed.
        hessian: `(in, in)` 2 X^T X / tokens, undamped.
    """
    hessian = hessian.double()
    total = 0.0
    for start in range(0, weight.shape[0], _BLOCK):
        difference = (weight[start : start + _BLOCK] - values[start : start + _BLOCK]).double()
        total += float(torch.sum((difference @ hessian) * difference))
    return total / 2
