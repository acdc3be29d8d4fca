"""Factor matrices: `low_rank`, by their singular values, and `low_rank_aware`, by those of what they give on calibration data.

Either way a matrix W `(out, in)` becomes P W, where P projects onto `rank` directions of its outputs: the leading left singular
vectors of W, or of W L, where L L^T are the second moments of its inputs. That is the least-squares solution of both problems, so
nothing has to be inverted. It is kept in the dense layout; a model stores two factors, `(out, rank)` and `(rank, in)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.compress.outside import Sums, block_sums
from pytest_kick.compress.solvers import Solution
from pytest_kick.compress.weight_only import refuse_int8
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from pytest_kick.compress.inputs import Inputs, Seen
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep

FACTOR_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """Hold that a matrix is the product of two factors.

    Attributes:
        rank: columns of the first, rows of the second.
        shape: `(out, in)`.
        sums: of the bits of the product, see `outside.block_sums`.
    """

    rank: int
    shape: tuple[int, int]
    sums: Sums

    @property
    def bits(self) -> int:
        """Return 0: nothing is stored for each weight."""
        return 0

    @property
    def side_bits(self) -> int:
        """Return the bits of both factors."""
        return self.rank * sum(self.shape) * FACTOR_BITS

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: of the factors' rows and columns that have weights left."""
        return self.rank * int(kept.any(dim=0).sum() + kept.any(dim=1).sum()) * FACTOR_BITS

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` is still this product, bit for bit."""
        return np.array_equal(block_sums(weight), self.sums)


def rank_of(step: CompressionStep, shape: tuple[int, int]) -> int:
    """Return the rank of a matrix `(out, in)`: the one asked for, or the largest whose factors leave out the share asked for, from 1.

    Never more than the rank that the matrix can have. At a share of 0 the factors hold as many values as the matrix: the rank of
    square matrices is half their width then.
    """
    out, inputs = shape
    asked = int(step.level) if step.kind == "rank" else int((1 - Fraction(repr(float(step.level)))) * out * inputs / (out + inputs))
    return min(max(asked, 1), out, inputs)


def low_rank(targets: Targets, step: CompressionStep) -> None:
    """Replace each matrix by the nearest of its rank, in the sum of squares.

    Matrices with no more rows or columns than the rank stay as they are, and so do those that an earlier step brought to it.

    Raises:
        CompressionError: no matrix has a higher rank, or one has int8 activations by an earlier step.

    Source: Eckart and Young (1936), by the eigenvectors of the smaller Gram matrix in float64: off by less than float32 rounds.
    """
    for item, rank in _open(targets, step):
        weight = item.weight.double()
        tall = weight.shape[0] > weight.shape[1]
        side = weight.T if tall else weight
        lead = _leading(side @ side.T, rank)
        found = lead @ (lead.T @ side)
        _enter(targets, item, rank, found.T if tall else found)


def low_rank_aware(targets: Targets, step: CompressionStep, inputs: Inputs) -> None:
    """Replace each matrix by the one of its rank whose outputs on the calibration data are nearest, in the sum of squares.

    Source: Wang et al. (2024), SVD-LLM, arXiv 2403.07378, section 3.1: the truncated SVD of W L, divided by L, is the projection of W
    onto the leading left singular vectors of W L. Damping as in the other solvers; SVD-LLM adds to the diagonal when it has to.

    Raises:
        CompressionError: as `low_rank`, or second moments that no damping makes regular.
    """
    damping = float(step.param("damping"))
    ranks = {item.matrix.name: (item, rank) for item, rank in _open(targets, step)}
    chosen = replace(targets, items=tuple(item for item, _ in ranks.values()))

    def solve(item: Target, seen: Seen) -> Solution:
        factor = seen.factor(damping=damping)
        # H + damping = R R^T, R upper triangular; `factorize` gives its columns over their diagonal, transposed.
        root = (factor.spread.double().T + torch.eye(factor.spread.shape[0], dtype=torch.float64)) * factor.pivots.double()
        weight, rank = item.weight.double(), ranks[item.matrix.name][1]
        seen_by = weight @ root
        if weight.shape[0] > weight.shape[1]:
            lead, _ = torch.linalg.qr(seen_by @ _leading(seen_by.T @ seen_by, rank))
        else:
            lead = _leading(seen_by @ seen_by.T, rank)
        return Solution.of((lead @ (lead.T @ weight)).float(), factor)

    if ranks:
        inputs.solve(chosen, solve, gram=True)
    for item, rank in ranks.values():
        _enter(targets, item, rank, item.weight)


def _open(targets: Targets, step: CompressionStep) -> list[tuple[Target, int]]:
    """Return the matrices to factor, and their ranks."""
    refuse_int8(targets, step)
    ranks = [(item, rank_of(step, item.matrix.shape)) for item in targets.items]
    higher = [(item, rank) for item, rank in ranks if rank < min(item.matrix.shape)]
    if not higher:
        most = max(min(item.matrix.shape) for item in targets.items)
        msg = f"{step.id}: {step.kind}: got {step.level:g}, expected one that leaves a rank below {most}, the highest here. Change it."
        raise CompressionError(msg)
    known = {item.matrix.name: targets.formats.get(item.matrix.name) for item, _ in higher}
    return [
        (item, rank)
        for item, rank in higher
        if not (isinstance(held := known[item.matrix.name], LowRank) and held.rank <= rank and held.holds(item.weight))
    ]


def _leading(gram: torch.Tensor, rank: int) -> torch.Tensor:
    """Return the eigenvectors of the largest eigenvalues, `(n, rank)`."""
    vectors: torch.Tensor = torch.linalg.eigh(gram).eigenvectors[:, -rank:]
    return vectors


def _enter(targets: Targets, item: Target, rank: int, values: torch.Tensor) -> None:
    item.weight.copy_(values)
    targets.formats[item.matrix.name] = LowRank(rank=rank, shape=item.matrix.shape, sums=block_sums(item.weight))
