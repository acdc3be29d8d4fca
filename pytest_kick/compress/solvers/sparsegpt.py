"""SparseGPT: prune by the loss each weight costs, and let the weights that stay make up for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.rank import exact_count
from pytest_kick.compress.solvers.masks import Level, Pattern, drop_in_all, drop_in_groups
from pytest_kick.compress.solvers.solution import Solution
from pytest_kick.compress.solvers.sweep import sweep
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from pytest_kick.compress.solvers.factor import Factor

_GONE = -1.0  # below every score


def sparsegpt(weight: torch.Tensor, factor: Factor, level: Level, *, block: int = 128) -> Solution:
    """Zero weights column by column, adding each one's error to the columns still to come.

    A sparsity is met block by block of columns: the weights of smallest loss of the whole block go, over all rows, chosen when the
    block begins. Zeros up to the end of each block are the floor of their share, so the whole matrix has exactly
    `exact_count(level, weight.numel())`. With a pattern each group of each row is chosen for itself.

    Weights that are zero already stay zero and count; a block or group with more of them than asked loses nothing else, and the
    following blocks lose less. Weights of dead columns cost nothing and go next, but no more of them than asked: those left keep
    their values (the published code zeroes them all).

    Source: Frantar and Alistarh (2023), "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", arXiv 2301.00774,
    algorithm 1, with adaptive mask selection per block (section 3.2) and N:M (section 3.3).

    Args:
        weight: `(out, in)` float32, left as it is.
        factor: of the Hessian of its inputs, columns in their own order.
        level: sparsity in [0, 1], or a pattern along the input dimension.
        block: columns over which a sparsity's weights are compared.

    Raises:
        CompressionError: the factor is of another matrix, or in act-order.
    """
    if factor.order is not None:
        msg = "sparsegpt: factor: got one in act-order, expected columns in their own order, which groups are made of. Leave act_order out."
        raise CompressionError(msg)
    return Solution.of(sweep(weight, factor, _Prune(weight, factor, level, block)), factor)


class _Prune:
    """Choose which weights of each unit go, and zero them column by column."""

    def __init__(self, weight: torch.Tensor, factor: Factor, level: Level, block: int) -> None:
        self.unit = level.of if isinstance(level, Pattern) else block
        self.level = level
        self.n_out = weight.shape[0]
        self.price = factor.pivots.masked_fill(factor.dead, 0.0)[:, None]
        self.gone = (weight == 0).T.contiguous()
        self.keep = torch.empty(self.gone.shape)
        self.zeros = 0

    def prepare(self, now: torch.Tensor, start: int) -> None:
        """Choose the weights of one unit by their loss, whose root |w| * pivot ranks them alike."""
        stop = start + len(now)
        gone = self.gone[start:stop]
        scores = (now.abs() * self.price[start:stop]).masked_fill_(gone, _GONE)
        if isinstance(self.level, Pattern):
            drop = drop_in_groups(scores, self.level)
        else:
            missing = exact_count(self.level, stop * self.n_out) - self.zeros
            drop = drop_in_all(scores, min(max(missing, 0), scores.numel()))
        drop |= gone
        self.zeros += int(drop.sum())
        torch.logical_not(drop, out=self.keep[start:stop])

    def fix_(self, j: int, column: torch.Tensor) -> None:
        """Zero what was chosen."""
        column.mul_(self.keep[j])
