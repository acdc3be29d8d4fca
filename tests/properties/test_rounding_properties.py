"""Properties of rounding on any weights: on the grid, at most half a step away, zeros stay, twice is once."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from pytest_kick.compress.check import check_step
from pytest_kick.compress.formats import FLOATS, Float, Grid
from pytest_kick.compress.targets import Target, Targets
from pytest_kick.compress.weight_only import cast, rtn
from pytest_kick.models.scopes import Matrix
from pytest_kick.spec import CompressionStep

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=9)
# Few distinct values beside any others: ties, zeros and groups of one value are the rule.
SIZES = st.floats(-1000, 1000, width=32).filter(lambda value: abs(value) > 1e-20)
VALUES = st.sampled_from([0.0, -0.0, 0.25, -0.25, 1.0, -1.0, 3.5]) | SIZES
MATRICES = hnp.arrays(np.float32, SHAPES, elements=VALUES)
BITS = st.integers(2, 8)
GROUPS = st.sampled_from([0, "tensor", 1, 2, 3, 4, 64])


def run(array: np.ndarray, *steps: CompressionStep) -> tuple[np.ndarray, Targets]:
    """Apply steps to a copy, check each as a cell would, and return the result."""
    matrix = Matrix(name="m", module="m", parameter="m.weight", role="ffn", shape=array.shape)
    item = Target(matrix=matrix, weight=torch.from_numpy(array.copy()), layer=nn.Identity())
    targets = Targets(items=(item,), n_body=array.size, n_attention=0)
    for step in steps:
        before = item.weight.clone()
        (rtn if step.method == "rtn" else cast)(targets, step)
        check_step(targets, step, {"m": before})
    return item.weight.numpy(), targets


def rtn_step(bits: int, group: int | str, *, symmetric: bool) -> CompressionStep:
    """Make a step of rtn."""
    return CompressionStep(method="rtn", scope="ffn", level=bits, params=(("group", group), ("symmetric", symmetric)))


@settings(max_examples=150, deadline=None)
@given(array=MATRICES, bits=BITS, group=GROUPS, symmetric=st.booleans())
def test_rounded_weights(array: np.ndarray, bits: int, group: int | str, symmetric: bool) -> None:
    """Few levels, at most half a step from where they were, zeros exact, and the same again by a second step."""
    step = rtn_step(bits, group, symmetric=symmetric)
    rounded, targets = run(array, step)
    grid = targets.formats["m"]
    assert isinstance(grid, Grid)
    assert np.array_equal(rounded[array == 0], np.zeros((array == 0).sum()))
    if group == "tensor":
        wide = np.broadcast_to(grid.scale.numpy(), array.shape)
        assert len(np.unique(rounded)) <= 2**bits
    else:
        width = int(group) or array.shape[1]
        wide = np.repeat(grid.scale.numpy(), width, axis=1)[:, : array.shape[1]]
        for start in range(0, array.shape[1], width):
            assert all(len(np.unique(row)) <= 2**bits for row in rounded[:, start : start + width])
    assert (np.abs(rounded.astype(float) - array) <= wide * (0.5 + 1e-4)).all()
    again, _ = run(array, step, step)
    assert np.array_equal(again, rounded)


@settings(max_examples=60, deadline=None)
@given(array=MATRICES, bits=BITS, group=GROUPS, symmetric=st.booleans(), data=st.data())
def test_pruned_weights_stay_pruned(array: np.ndarray, bits: int, group: int | str, symmetric: bool, data: st.DataObject) -> None:
    """Zeros set at random before are zeros afterwards, whatever the grid; and pruning afterwards leaves the grid."""
    mask = data.draw(hnp.arrays(bool, array.shape))
    pruned = np.where(mask, np.float32(0), array)
    step = rtn_step(bits, group, symmetric=symmetric)
    rounded, targets = run(pruned, step)
    assert not rounded[mask].any()
    weight = targets.items[0].weight
    weight[torch.from_numpy(data.draw(hnp.arrays(bool, array.shape)))] = 0
    assert targets.formats["m"].holds(weight)


@settings(max_examples=60, deadline=None)
@given(array=MATRICES, name=st.sampled_from(list(FLOATS)))
def test_cast_weights(array: np.ndarray, name: str) -> None:
    """Zeros stay, signs stay, the relative error is at most half a spacing for numbers that are not subnormal, and twice is once."""
    info = torch.finfo(FLOATS[name])
    step = CompressionStep(method="cast", scope="ffn", level=info.bits, params=(("format", name),))
    result, targets = run(array, step)
    form = targets.formats["m"]
    assert isinstance(form, Float)
    assert np.array_equal(result[array == 0], np.zeros((array == 0).sum()))
    assert (result * array >= 0).all()
    least = info.smallest_normal * (1.0 if form.scale is None else form.scale.numpy().astype(float))
    error = np.abs(result.astype(float) - array)
    assert (error <= np.maximum(np.abs(array), least) * info.eps * 0.5001).all()
    again, _ = run(array, step, step)
    assert np.array_equal(again, result)
