"""Fix the columns of a matrix one after the other, and let the columns still free make up for each error.

Source: the column loop with lazy batched updates of Frantar et al. (2022), arXiv 2210.17323, section 3.3 (there for GPTQ; SparseGPT,
arXiv 2301.00774, has the same), written with the factor of `pytest_kick.compress.solvers.factor`: the best value of column j, given
errors e_i = original - fixed of all columns before it, is its original value plus the sum of e_i * spread[j, i]. Rows do not touch
each other, so matrices that read the same inputs may be stacked.

The matrix is held transposed: a column is then a contiguous vector. Sums over earlier columns are taken by matrix products for a
whole block and for a segment of it, and only inside a segment by one matrix-vector product per column, which reads what stays in
the cache and allocates nothing.

All of it runs on one thread. Steps of some ten microseconds gain nothing from a second one, and wait for it, at every column, where
other processes want the cores: 20 times longer was seen. The values are the same bit for bit.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch

from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kick.compress.solvers.factor import Factor

BLOCK, SEGMENT = 128, 32


class Rule(Protocol):
    """Decide what becomes of columns."""

    unit: int
    """Columns that `prepare` looks at together."""

    def prepare(self, now: torch.Tensor, start: int) -> None:
        """Look at one unit before its first column is fixed.

        Args:
            now: `(unit, out)`, the unit's columns as rows, with the values that make up best for all columns before the unit.
            start: first column of the unit, in the order of the factor.
        """

    def fix_(self, j: int, column: torch.Tensor) -> None:
        """Replace the best values of column j, `(out,)`, by those it is to have."""


def sweep(weight: torch.Tensor, factor: Factor, rule: Rule) -> torch.Tensor:
    """Fix all columns of a matrix.

    Args:
        weight: `(out, in)` float32, left as it is.
        factor: of the Hessian of its inputs.
        rule: what to do with each column.

    Returns:
        `(out, in)` contiguous float32.

    Raises:
        CompressionError: the factor is of another number of columns.
    """
    n = factor.pivots.numel()
    if weight.ndim != 2 or weight.shape[1] != n:  # noqa: PLR2004 - rows and columns
        msg = f"calibration: Hessian: got {n} columns, expected those of a matrix of shape {tuple(weight.shape)}. Give that matrix's own."
        raise CompressionError(msg)
    order, spread = factor.order, factor.spread
    free = (weight.T if order is None else weight.T[order]).contiguous()
    free = free.clone() if free.data_ptr() == weight.data_ptr() else free
    errors = free.clone()  # the original columns, until each is fixed
    with _one_thread():
        _fix_all_(free, errors, spread, rule)
    return free.T.contiguous() if order is None else _back(free, order)


def _fix_all_(free: torch.Tensor, errors: torch.Tensor, spread: torch.Tensor, rule: Rule) -> None:
    n = len(free)
    for start, stop, segment in blocks(n, rule.unit):
        for a in range(start, stop, segment):
            b = min(a + segment, stop)
            if a > start:
                free[a:b].addmm_(spread[a:b, start:a], errors[start:a])
            if a % rule.unit == 0:
                rule.prepare(_now(free, errors, spread, a, min(a + rule.unit, n)), a)
            for j in range(a, b):
                column = free[j]
                if j > a:
                    column.addmv_(errors[a:j].T, spread[j, a:j])
                rule.fix_(j, column)
                errors[j] -= column
        if stop < n:
            free[stop:].addmm_(spread[stop:, start:stop], errors[start:stop])


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _now(free: torch.Tensor, errors: torch.Tensor, spread: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return the best values of the columns of a unit as long as none of them is fixed.

    `free` has the errors of the columns before the unit in it; what they make each column of the unit take on is in turn made up for by
    the columns after it.
    """
    original = errors[start:stop]
    if start == 0:
        return original
    taken: torch.Tensor = torch.linalg.solve_triangular(
        spread[start:stop, start:stop], free[start:stop] - original, upper=False, unitriangular=True
    )
    return taken.add_(original)


def _back(free: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    values = torch.empty_like(free)
    values[order] = free
    return values.T.contiguous()


def blocks(n: int, unit: int) -> Iterator[tuple[int, int, int]]:
    """Cut n columns into blocks, so that the columns of a unit hold their best values when the unit begins.

    A unit of up to a segment's length is a segment of its own, which is brought up to date when it begins. A longer one begins with a
    block, when all later columns are up to date.

    Args:
        n: columns.
        unit: columns that must be up to date together; the last unit may be shorter.

    Yields:
        Start, stop and length of a segment of each block; starts of units are starts of segments.
    """
    segment = min(unit, SEGMENT)
    length = BLOCK // unit * unit if unit <= SEGMENT else BLOCK
    for first in range(0, n, unit if unit > SEGMENT else n):
        last = min(first + unit, n) if unit > SEGMENT else n
        for start in range(first, last, length):
            yield start, min(start + length, last), segment
