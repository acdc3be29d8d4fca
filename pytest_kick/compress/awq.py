"""The method `awq`: the grids of `rtn` over columns multiplied by a factor each, found on the inputs that a matrix reads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.formats import Grid
from pytest_kick.compress.library_formats import Scaled
from pytest_kick.compress.rounding import apply, fit, grouped
from pytest_kick.compress.solvers import Solution
from pytest_kick.compress.solvers.awq import search, shrink
from pytest_kick.compress.weight_only import group_of, refuse_int8

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.compress.inputs import Inputs, Seen
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep


def awq(targets: Targets, step: CompressionStep, inputs: Inputs) -> None:
    """Round each weight to the nearest of its group's grid, its column multiplied before and divided after.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, which rounding its weights again would break.

    Source: Lin et al. (2023), "AWQ", arXiv 2306.00978; see `solvers.awq`.
    """
    refuse_int8(targets, step)
    clip = bool(step.param("clip"))

    def grid_of(weight: torch.Tensor) -> Grid:
        return Grid.of(weight, bits=int(step.level), group=group_of(step), symmetric=bool(step.param("symmetric")))

    def rounding(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        return lambda other: _on(grid_of(weight), other)

    def solve(item: Target, seen: Seen) -> Solution:
        hessian = seen.hessian
        factor = search(item.weight, seen.means, hessian, rounding)
        grid = grid_of(item.weight * factor)
        if clip:
            grid = _clipped(item.weight * factor, hessian / (factor[:, None] * factor), grid)
        found = Scaled(grid=grid, factor=factor)
        targets.formats[item.matrix.name] = found
        return Solution(values=found.rounded(item.weight), damping=None, raised=False, dead=seen.means == 0)

    inputs.solve(targets, solve, gram=True, magnitudes=True)


def _on(grid: Grid, weight: torch.Tensor) -> torch.Tensor:
    values = weight.clone()
    grid.round_(values)
    return values


def _clipped(weight: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> Grid:
    """Narrow the grid of each group to where its outputs err least."""

    def fitted(part: torch.Tensor, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        top = part.abs().amax(dim=-1, keepdim=True) * share
        return fit(torch.clamp(part, -top, top), grid.bits, symmetric=grid.symmetric)

    def round_to(part: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        return apply(part, *fitted(part, share), grid.bits, symmetric=grid.symmetric)

    parts = grouped(weight, grid.group)
    found = [fitted(part, share) for part, share in zip(parts, shrink(parts, hessian, round_to), strict=True)]
    scale, zero = (torch.cat(pieces, dim=1).squeeze(2) for pieces in zip(*found, strict=True))
    return replace(grid, scale=scale, zero=zero)
