from __future__ import annotations

from typing import TYPE_CHECKING

import made_matrices as make
import pytest
import torch

from pytest_kick.compress.solvers import Moments, factorize
from pytest_kick.compress.solvers.sweep import sweep

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counting:
    """Zero each column, and note the threads at each; fail at one column where asked."""

    unit = 8

    def __init__(self, fails_at: int = -1) -> None:
        """Take the column."""
        self.threads: set[int] = set()
        self.fails_at = fails_at

    def prepare(self, now: torch.Tensor, start: int) -> None:
        """Look at nothing."""

    def fix_(self, j: int, column: torch.Tensor) -> None:
        """Zero a column."""
        if j == self.fails_at:
            msg = "a rule of a stranger"
            raise ValueError(msg)
        self.threads.add(torch.get_num_threads())
        column.zero_()


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Let torch have two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_columns_are_fixed_on_one_thread_and_the_others_given_back() -> None:
    """One thread fixes all columns, whatever torch may use; after it, and after an error, torch has its threads again."""
    weight, x = make.made(6, 24)
    moments = Moments(24)
    moments.add(x)
    factor = factorize(moments.hessian)
    rule = Counting()
    assert not sweep(weight, factor, rule).any()
    assert rule.threads == {1}
    assert torch.get_num_threads() == 2
    with pytest.raises(ValueError, match="stranger"):
        sweep(weight, factor, Counting(fails_at=3))
    assert torch.get_num_threads() == 2
