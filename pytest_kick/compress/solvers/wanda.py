"""Wanda: prune by magnitude times the norm of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.compress.solvers.masks import Level, drop_in_rows
from pytest_kick.compress.solvers.solution import Solution
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    import torch

_GONE = -1.0  # below every score


def wanda(weight: torch.Tensor, norms: torch.Tensor, level: Level) -> Solution:
    """Zero the weights of each row that matter least to its output; the others keep their bits.

    Each row (output) loses the same number of weights, `masks.drop_count(level, in)`, smallest |W_ij| * ||X_j||_2 first and the earlier
    of equal ones first. Weights that are zero already go before all others, so a row that has more zeros than asked keeps them and
    loses nothing else.

    Source: Sun et al. (2023), "A Simple and Effective Pruning Approach for Large Language Models", arXiv 2306.11695, sections 3 and 4
    (comparison per output; N:M within each group).

    Args:
        weight: `(out, in)` float32, left as it is.
        norms: `(in,)`, ||X_j||_2 of each input column, on any common scale.
        level: sparsity in [0, 1], or a pattern along the input dimension.

    Returns:
        Values without a damping; dead are the columns of norm 0.

    Raises:
        CompressionError: norms of another number of columns.
    """
    if norms.shape != weight.shape[1:]:
        got, want = tuple(norms.shape), tuple(weight.shape[1:])
        msg = f"calibration: norms: got shape {got}, expected {want}, one per column. Give the norms of this matrix's inputs."
        raise CompressionError(msg)
    scores = weight.abs() * (norms / norms.max().clamp(min=1e-300)).to(weight.dtype)
    scores.masked_fill_(weight == 0, _GONE)
    values = weight.masked_fill(drop_in_rows(scores, level), 0.0)
    return Solution(values=values.contiguous(), damping=None, raised=False, dead=norms == 0)
