"""AWQ: multiply columns by powers of how large their inputs are before rounding, so that those that matter err less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Callable

RATIOS = 20
_SMALLEST = 1e-4
_SHRINKS = 10
_SHRINK = 0.05


class Fit(Protocol):
    """Find the grids of a matrix."""

    def __call__(self, weight: torch.Tensor, /) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return what rounds a matrix `(out, in)` to the grids found for `weight`."""


def search(weight: torch.Tensor, means: torch.Tensor, hessian: torch.Tensor, fit: Fit) -> torch.Tensor:
    """Return the factor of each column under which rounding costs the layer's output least.

    Factors are means**a over the root of their largest times their smallest, for a in 0, 1/20, ... 19/20; the smallest of equal ones.

    Source: Lin et al. (2023), "AWQ", arXiv 2306.00978, section 3.2, equations 4 and 5; its code for the 20 ratios, and for what it
    takes factors over. The error is that of one layer on all tokens, as torchao has it; AWQ's code takes the block's on some tokens.

    Args:
        weight: `(out, in)` float32, left as it is.
        means: `(in,)` float32, mean magnitude of each input.
        hessian: `(in, in)` float32, 2 X^T X / tokens.
        fit: finds the grids of a matrix.

    Returns:
        `(in,)` float32, above 0.

    Raises:
        CompressionError: means or Hessian of another number of columns.
    """
    n = weight.shape[1]
    if means.shape != (n,) or hessian.shape != (n, n):
        got = f"{tuple(means.shape)} and {tuple(hessian.shape)}"
        msg = f"calibration: inputs: got means and Hessian of shapes {got}, expected {n} columns. Give those of this matrix's inputs."
        raise CompressionError(msg)
    best, least = torch.ones(n), float("inf")
    for step in range(RATIOS):
        factor = means.pow(step / RATIOS).clamp_(min=_SMALLEST)
        factor = factor / (factor.max() * factor.min()).sqrt()
        scaled = weight * factor
        moved = fit(scaled)(scaled).div_(factor).sub_(weight)
        error = float(((moved @ hessian).mul_(moved)).sum(dtype=torch.float64))
        if error < least:
            best, least = factor, error
    return best


def shrink(
    parts: tuple[torch.Tensor, ...], hessian: torch.Tensor, round_to: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Return the share of its largest weight to which each group is clipped best: 1, 0.95, ... 0.55, the largest of equal ones.

    Source: the code of AWQ, `auto_clip_layer`; there not for queries and keys, whose product it does not look at.

    Args:
        parts: groups, `(out, n, width)` float32 each, in the order of columns.
        hessian: `(in, in)` float32 of the inputs that these weights meet.
        round_to: gives groups their values when clipped to a share of their largest: called with groups and `(out, n, 1)` shares.

    Returns:
        `(out, n, 1)` float32 for each part.
    """
    shares, start = [], 0
    for part in parts:
        n, width = part.shape[1:]
        blocks = torch.stack([hessian[a : a + width, a : a + width] for a in range(start, start + n * width, width)])
        best, least = torch.ones(*part.shape[:2], 1), torch.full((*part.shape[:2], 1), float("inf"))
        for number in range(_SHRINKS):
            share = torch.full_like(best, 1 - _SHRINK * number)
            moved = (round_to(part, share) - part).transpose(0, 1)
            error = torch.bmm(moved, blocks).mul_(moved).sum(dim=-1).T.unsqueeze(-1)
            best, least = torch.where(error < least, share, best), torch.minimum(error, least)
        shares.append(best)
        start += n * width
    return tuple(shares)
