"""Which weights go, given scores: exact counts, ties by position. A mask is True where a weight is dropped.

Counts are floors, as in `pytest_kick.compress.rank`; of equal scores the earlier goes first, so that a mask does not depend on the
machine. NumPy partitions rows four times faster than torch selects in them, hence the detour over its view of the same memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pytest_kick.compress.rank import exact_count, smallest
from pytest_kick.errors import CompressionError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Keep N of each M consecutive weights along the input dimension; 1:4 is sparsity 0.75.

    A last, shorter group of m weights keeps ceil(N m / M): never a smaller share than the pattern's, and never more than N, so that
    hardware that pads the row with zeros still finds at most N.

    Attributes:
        keep: N, from 0 to M.
        of: M, at least 1.
    """

    keep: int
    of: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.keep <= self.of or self.of < 1:
            msg = f"compression: pattern: got {self.keep}:{self.of}, expected N:M with N from 0 to M, N of each M kept. Correct it."
            raise CompressionError(msg)

    def n_dropped(self, group: int) -> int:
        """Return how many weights of a group of this length go."""
        return group - -(-self.keep * group // self.of)

    def count(self, n_in: int) -> int:
        """Return how many weights of a row go."""
        return n_in // self.of * self.n_dropped(self.of) + self.n_dropped(n_in % self.of)


Level = float | Pattern
"""A sparsity in [0, 1], or a pattern."""


def drop_count(level: Level, n_in: int) -> int:
    """Return how many weights of each row `drop_in_rows` drops."""
    return level.count(n_in) if isinstance(level, Pattern) else exact_count(level, n_in)


def drop_in_rows(scores: torch.Tensor, level: Level) -> torch.Tensor:
    """Mark the weights of smallest score of each row, or of each group of a row.

    Args:
        scores: `(out, in)` float32, no NaN.
        level: share of each row, or a pattern along it.

    Returns:
        `(out, in)` bool.
    """
    if not isinstance(level, Pattern):
        return _smallest_of_rows(scores, exact_count(level, scores.shape[1]))
    return drop_in_groups(scores.T, level).T


def drop_in_groups(scores: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Mark the weights of smallest score of each group of M consecutive inputs, inputs along dimension 0.

    Args:
        scores: `(in, out)`, no NaN.
        pattern: which share of a group stays.

    Returns:
        `(in, out)` bool.
    """
    n_in, n_out = scores.shape
    drop = torch.empty(n_in, n_out, dtype=torch.bool)
    whole = n_in // pattern.of * pattern.of
    if whole:
        groups = scores[:whole].reshape(-1, pattern.of, n_out).transpose(0, 1)
        drop[:whole] = _smallest_along(groups, pattern.n_dropped(pattern.of)).transpose(0, 1).reshape(whole, n_out)
    if whole < n_in:
        drop[whole:] = _smallest_along(scores[whole:], pattern.n_dropped(n_in - whole))
    return drop


def drop_in_all(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Mark the k smallest of all scores; of equal ones the earlier row by row.

    Args:
        scores: of any shape, no NaN.
        k: from 0 to their number.
    """
    return torch.from_numpy(smallest(scores.contiguous().numpy().reshape(-1), k)).reshape(scores.shape)


def _smallest_of_rows(scores: torch.Tensor, k: int) -> torch.Tensor:
    if k == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    values = scores.contiguous().numpy()
    threshold = np.partition(values, k - 1, axis=1)[:, k - 1 : k]
    drop, equal = values < threshold, values == threshold
    wanted = k - drop.sum(axis=1, keepdims=True)
    if np.array_equal(equal.sum(axis=1, keepdims=True), wanted):  # no ties: the rule
        drop |= equal
    else:
        drop |= equal & (np.cumsum(equal, axis=1) <= wanted)
    return torch.from_numpy(drop)


def _smallest_along(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Mark the k smallest along dimension 0, by counting how many go before each: groups are too short to be worth sorting."""
    before = torch.zeros(scores.shape, dtype=torch.int16)
    for later in range(1, scores.shape[0]):
        for earlier in range(later):
            first = scores[earlier] <= scores[later]
            before[later] += first
            before[earlier] += ~first
    return before < k
