"""Properties of pruning on any weights: exact counts, nesting, untouched survivors, whole lines."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from pytest_kick.compress import prune, rank
from pytest_kick.compress.check import check_step
from pytest_kick.compress.targets import Target, Targets
from pytest_kick.models.scopes import Matrix
from pytest_kick.spec import CompressionStep

# Few distinct values: ties and zeros are the rule.
VALUES = st.sampled_from([0.0, -0.0, 0.25, -0.25, 1.0, -1.0, 3.5])
MATRICES = st.lists(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=VALUES), min_size=1, max_size=4)
LEVELS = st.integers(0, 99).map(lambda percent: percent / 100)
UNSTRUCTURED = st.sampled_from(["l1_global", "l1_per_matrix", "random_unstructured"])


def run(method: str, level: float, arrays: list[np.ndarray], **params: str | int) -> list[np.ndarray]:
    """Apply a method to copies, check it as a cell would, and return the results."""
    items = tuple(
        Target(
            matrix=Matrix(name=f"m{i}", module=f"m{i}", parameter=f"m{i}.weight", role="ffn", shape=a.shape),
            weight=torch.from_numpy(a.copy()),
            layer=nn.Identity(),
        )
        for i, a in enumerate(arrays)
    )
    step = CompressionStep(method=method, scope="ffn", level=level, params=tuple(params.items()))
    targets = Targets(items=items, n_body=2 * sum(a.size for a in arrays), n_attention=0)
    getattr(prune, method)(targets, step)
    check_step(targets, step, {f"m{i}": torch.from_numpy(a) for i, a in enumerate(arrays)})
    return [item.weight.numpy() for item in items]


def floor(level: float, n: int) -> int:
    """Derive the asked count from the level as a fraction of hundredths."""
    return round(level * 100) * n // 100


@settings(max_examples=60, deadline=None)
@given(arrays=MATRICES, level=LEVELS, method=UNSTRUCTURED)
def test_counts_are_exact_and_survivors_keep_their_bits(arrays: list[np.ndarray], level: float, method: str) -> None:
    """Zeros are floor(level * n), or the zeros that were there; everything else is bit-equal."""
    results = run(method, level, arrays)
    groups = [arrays] if method == "l1_global" else [[a] for a in arrays]
    after = [results] if method == "l1_global" else [[r] for r in results]
    for before, now in zip(groups, after, strict=True):
        old, new = np.concatenate([a.ravel() for a in before]), np.concatenate([a.ravel() for a in now])
        assert np.count_nonzero(new == 0) == max(floor(level, new.size), np.count_nonzero(old == 0))
        kept = new != 0
        assert np.array_equal(new[kept].view(np.uint32), old[kept].view(np.uint32))


@settings(max_examples=60, deadline=None)
@given(arrays=MATRICES, low=LEVELS, high=LEVELS, method=UNSTRUCTURED)
def test_masks_are_nested(arrays: list[np.ndarray], low: float, high: float, method: str) -> None:
    """What is zero at a level is zero at every higher one."""
    low, high = sorted((low, high))
    for less, more in zip(run(method, low, arrays), run(method, high, arrays), strict=True):
        assert not np.any((less == 0) & (more != 0))


@settings(max_examples=60, deadline=None)
@given(arrays=MATRICES, level=LEVELS)
def test_global_l1_takes_the_first_of_a_stable_sort(arrays: list[np.ndarray], level: float) -> None:
    """The result equals a stable argsort of the magnitudes over the whole scope."""
    old = np.concatenate([a.ravel() for a in arrays])
    want = old.copy()
    want[np.argsort(np.abs(old), kind="stable")[: floor(level, old.size)]] = 0
    assert np.array_equal(np.concatenate([r.ravel() for r in run("l1_global", level, arrays)]), want)


@settings(max_examples=60, deadline=None)
@given(
    arrays=MATRICES, level=LEVELS, method=st.sampled_from(["ln_structured", "random_structured"]), dim=st.sampled_from(["rows", "columns"])
)
def test_lines_are_zero_as_a_whole(arrays: list[np.ndarray], level: float, method: str, dim: str) -> None:
    """Exactly floor(level * lines) rows or columns are zero (or those that were), and no other weight changed."""
    for before, now in zip(arrays, run(method, level, arrays, dim=dim), strict=True):
        old, new = (before, now) if dim == "rows" else (before.T, now.T)
        dead = [not row.any() for row in new]
        assert sum(dead) == max(floor(level, len(new)), sum(not row.any() for row in old))
        assert all(np.array_equal(n, o) for n, o, is_dead in zip(new, old, dead, strict=True) if not is_dead)


@settings(max_examples=40, deadline=None)
@given(array=hnp.arrays(np.float32, (6, 5), elements=VALUES), level=LEVELS, n=st.sampled_from([1, 2]))
def test_structured_pruning_drops_the_smallest_norms(array: np.ndarray, level: float, n: int) -> None:
    """The rows that go are the first of a stable sort by norm."""
    order = np.argsort([np.linalg.norm(row.astype(np.float64), ord=n) for row in array], kind="stable")
    (got,) = run("ln_structured", level, [array], n=n)
    want = array.copy()
    want[order[: floor(level, 6)]] = 0
    assert np.array_equal(got, want)


@settings(max_examples=60, deadline=None)
@given(keys=hnp.arrays(np.uint32, st.integers(1, 30), elements=st.integers(0, 4)), data=st.data())
def test_smallest_marks_exactly_k(keys: np.ndarray, data: st.DataObject) -> None:
    """The mask holds the first k of a stable sort."""
    k = data.draw(st.integers(0, keys.size))
    want = np.zeros(keys.size, bool)
    want[np.argsort(keys, kind="stable")[:k]] = True
    assert np.array_equal(rank.smallest(keys, k), want)


@given(level=LEVELS, n=st.integers(0, 10**9))
def test_count_is_the_exact_floor(level: float, n: int) -> None:
    """The count is the floor of the exact product for every level in hundredths."""
    assert rank.exact_count(level, n) == int(Fraction(round(level * 100), 100) * n)
