"""Selection by rank against sorting."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_kick.compress import rank


@pytest.mark.parametrize(("level", "n", "count"), [(0.29, 100, 29), (0.57, 100, 57), (0.3, 10, 3), (0.1, 9, 0), (0.0, 5, 0), (0.7, 30, 21)])
def test_count_is_of_the_decimal_number(level: float, n: int, count: int) -> None:
    """floor(level * n) in decimal arithmetic, where binary would fall one short."""
    assert rank.exact_count(level, n) == count


def test_large_arrays_use_the_bracket() -> None:
    """On sizes where a sample decides the bracket, the threshold is that of a full sort, at both ends and in between."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(200_003, dtype=np.float32), rng.standard_normal(90_000, dtype=np.float32) * 3]
    full = np.sort(np.abs(np.concatenate(weights)))
    for k in (1, 2, 77, 145_000, full.size - 1, full.size):
        threshold, below = rank.kth_smallest(weights, k)
        assert threshold == full[k - 1]
        assert below == np.count_nonzero(full < threshold)


def test_a_bracket_that_misses_is_widened() -> None:
    """Where the sampled positions are not like the rest, the answer is exact all the same."""
    weights = np.arange(1, 400_001, dtype=np.float32)
    weights[:: rank._SAMPLE_ONE_IN | 1] = 1e9
    full = np.sort(weights)
    assert rank.kth_smallest([weights], 200_000)[0] == full[199_999]


def test_ties_go_by_position() -> None:
    """Among equal magnitudes the earlier weights become zero, signs aside, over block borders too."""
    weights = np.tile(np.array([0.5, -0.5, 2.0], np.float32), 60_000)
    rank.zero_smallest_([weights], 70_001)
    small = np.flatnonzero(np.tile([True, True, False], 60_000))
    want = np.tile(np.array([0.5, -0.5, 2.0], np.float32), 60_000)
    want[small[:70_001]] = 0
    assert np.array_equal(weights, want)
    assert not np.signbit(weights[weights == 0]).any()


def test_zeros_count_as_the_smallest() -> None:
    """Weights that are zero already, of either sign, are taken first."""
    weights = np.array([3.0, -0.0, 0.1, 0.0, 2.0], np.float32)
    rank.zero_smallest_([weights], 3)
    assert weights.tolist() == [3.0, 0.0, 0.0, 0.0, 2.0]
