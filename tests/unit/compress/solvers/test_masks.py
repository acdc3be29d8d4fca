"""Masks of scores: counts of patterns, refusals."""

from __future__ import annotations

import pytest
import torch

from pytest_kick.compress.solvers import Pattern, masks
from pytest_kick.errors import CompressionError


def test_a_pattern_counts_what_it_keeps() -> None:
    """1:4 keeps one of four; a shorter last group keeps its share rounded up."""
    assert Pattern(keep=1, of=4).count(8) == 6
    assert Pattern(keep=1, of=4).count(9) == 6
    assert Pattern(keep=2, of=4).count(7) == 3
    assert Pattern(keep=4, of=8).count(576) == 288
    assert Pattern(keep=3, of=3).count(10) == 0
    assert Pattern(keep=0, of=3).count(10) == 10
    assert masks.drop_count(0.29, 100) == 29


@pytest.mark.parametrize(("keep", "of"), [(3, 2), (-1, 2), (0, 0), (1, 0)])
def test_a_pattern_that_is_none_is_refused(keep: int, of: int) -> None:
    """N must lie between 0 and M, M above 0."""
    with pytest.raises(CompressionError, match=f"got {keep}:{of}"):
        Pattern(keep=keep, of=of)


def test_ties_go_by_position() -> None:
    """Of equal scores the earlier goes first, in rows, groups and blocks alike."""
    scores = torch.ones(2, 6)
    assert masks.drop_in_rows(scores, 0.5).int().tolist() == [[1, 1, 1, 0, 0, 0]] * 2
    assert masks.drop_in_rows(scores, Pattern(keep=1, of=3)).int().tolist() == [[1, 1, 0, 1, 1, 0]] * 2
    assert masks.drop_in_all(scores, 8).int().tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]]
    scores[0, 4] = 0
    assert masks.drop_in_rows(scores, 0.5).int().tolist() == [[1, 1, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0]]


def test_groups_lie_along_the_inputs() -> None:
    """A group is M consecutive weights of one row, not of one column."""
    scores = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [4.0, 3.0, 2.0, 1.0], [8.0, 7.0, 6.0, 5.0]])
    up, down = [1, 1, 0, 0], [0, 0, 1, 1]
    assert masks.drop_in_rows(scores, Pattern(keep=2, of=4)).int().tolist() == [up, up, down, down]
