"""GPTQ: round column by column, and let the columns not yet rounded make up for each error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from pytest_kick.compress.solvers.solution import Grid, Solution
from pytest_kick.compress.solvers.sweep import sweep
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from pytest_kick.compress.solvers.factor import Factor


class Fit(Protocol):
    """Choose the grid of each row of a block."""

    def __call__(self, weight: torch.Tensor, bits: int, *, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale and zero, `(out, 1)` each, for a block `(out, k)` float32."""


class Apply(Protocol):
    """Round weights onto a grid and back."""

    def __call__(self, weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
        """Return values `(out, k)` float32 on the grid; scale and zero are `(out, 1)`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """Hold the grid that weights are rounded onto, as two functions such as those of `pytest_kick.compress.rounding`.

    Attributes:
        fit: chooses the grid of each row of a block.
        apply: rounds to it, each weight for itself.
        bits: per weight.
        symmetric: handed to both.
    """

    fit: Fit
    apply: Apply
    bits: int
    symmetric: bool


def gptq(weight: torch.Tensor, factor: Factor, quantizer: Quantizer, *, group_size: int | None = None) -> Solution:
    """Round a matrix onto a grid, adding each column's error to the columns still to come.

    Each group's grid is fitted when its first column is reached, to weights that already make up for the columns before it; a last,
    shorter group has its own. In act-order (a factor made so) groups are consecutive in the order of rounding, as in the published
    code without static groups: a format then stores a group index per column, which `Grid.group_of` holds. Differences to the published
    code: a group that begins inside a block of 128 columns is fitted to weights that are up to date there too; columns of dead inputs
    are rounded, not zeroed; weights that are zero already stay zero, so that GPTQ may follow pruning.

    Source: Frantar et al. (2022), "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", arXiv
    2210.17323, algorithm 1; groups from its section 4.

    Args:
        weight: `(out, in)` float32, left as it is; rows may be those of several matrices with the same inputs.
        factor: of the Hessian of its inputs.
        quantizer: grid and bits.
        group_size: columns that share a scale, None for all.

    Raises:
        CompressionError: the factor is of another matrix, or the group size is below 1.
    """
    n_in = weight.shape[1]
    if group_size is not None and group_size < 1:
        msg = f"gptq: group size: got {group_size}, expected at least 1, or none for one group per row. Correct it."
        raise CompressionError(msg)
    rule = _Round(weight, factor, quantizer, min(group_size or n_in, n_in))
    values = sweep(weight, factor, rule)
    place = torch.arange(n_in) // rule.unit
    group_of = place if factor.order is None else torch.empty_like(place).scatter_(0, factor.order, place)
    grid = Grid(
        scale=torch.cat(rule.scales, dim=1),
        zero=torch.cat(rule.zeros, dim=1),
        group_of=group_of,
        bits=quantizer.bits,
        symmetric=quantizer.symmetric,
        order=factor.order,
    )
    return Solution.of(values, factor, grid)


class _Round:
    """Fit a grid to each group, and round the columns of the group onto it."""

    def __init__(self, weight: torch.Tensor, factor: Factor, quantizer: Quantizer, unit: int) -> None:
        self.unit = unit
        self.quantizer = quantizer
        self.scales: list[torch.Tensor] = []
        self.zeros: list[torch.Tensor] = []
        self.keep: torch.Tensor | None = None
        if not bool(weight.all()):
            keep = (weight != 0).T.float()
            self.keep = keep.contiguous() if factor.order is None else keep[factor.order]

    def prepare(self, now: torch.Tensor, start: int) -> None:
        """Fit the grid of one group."""
        block = now if self.keep is None else now * self.keep[start : start + len(now)]
        scale, zero = self.quantizer.fit(block.T.contiguous(), self.quantizer.bits, symmetric=self.quantizer.symmetric)
        self.scales.append(scale)
        self.zeros.append(zero)

    def fix_(self, j: int, column: torch.Tensor) -> None:
        """Round a column onto the grid of its group."""
        q = self.quantizer
        rounded = q.apply(column[:, None], self.scales[-1], self.zeros[-1], q.bits, symmetric=q.symmetric)
        column.copy_(rounded[:, 0])
        if self.keep is not None:
            column.mul_(self.keep[j])
