"""Quantizers as people deploy them, on any matrix: values on their grids, errors bounded, zero kept, nothing moved twice."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kick.compress import Targets, library
from pytest_kick.compress.activations import RoundBelow, RoundSmoothed
from pytest_kick.compress.formats import Grid
from pytest_kick.compress.library_formats import Int8Rows, Scaled
from pytest_kick.compress.solvers import Moments
from pytest_kick.compress.solvers.awq import search
from pytest_kick.compress.targets import Target
from pytest_kick.models.matrices import Matrix
from pytest_kick.spec import CompressionStep

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 2**16)
needs_bnb = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="pip install 'pytest-kick[bnb]'")
needs_hqq = pytest.mark.skipif(importlib.util.find_spec("hqq") is None, reason="pip install 'pytest-kick[hqq]'")


def weights(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Return weights of many sizes, some of them zero."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-2, 2, size=(rows, 1))
    found[rng.random((rows, columns)) < 0.1] = 0
    return torch.from_numpy(found.astype(np.float32))


def apply(method: Any, weight: torch.Tensor, level: float, **params: Any) -> tuple[torch.Tensor, Any]:
    """Return what a method makes of one matrix, and its format."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    matrix = Matrix(name="one", module="one", parameter="one.weight", role="ffn", shape=(weight.shape[0], weight.shape[1]))
    item = Target(matrix=matrix, weight=weight.clone(), layer=layer)
    targets = Targets(items=(item,), n_body=weight.numel(), n_attention=0)
    with torch.no_grad():
        method(targets, CompressionStep(method=method.__name__, scope="overall", level=level, params=tuple(params.items())))
    return item.weight, targets.formats["one"]


@needs_bnb
@settings(deadline=None, max_examples=25)
@given(SIZES, SIZES, SEEDS, st.sampled_from(["nf4", "fp4"]), st.sampled_from([32, 64]))
def test_blocks_of_any_matrix(rows: int, columns: int, seed: int, name: str, block: int) -> None:
    """At most 16 values per block, the largest kept, zero kept, errors at most half the widest gap; a second time nothing moves."""
    weight = weights(rows, columns, seed)
    got, form = apply(library.nf4, weight, 4, format=name, block=block)
    assert got[weight == 0].eq(0).all()
    gap = {"nf4": 1 - 0.6961928, "fp4": 1 / 3}[name]
    for old, new in zip(weight.reshape(-1).split(block), got.reshape(-1).split(block), strict=True):
        top = float(old.abs().max())
        assert new.unique().numel() <= 16
        assert float(new.abs().max()) == pytest.approx(top)
        assert float((new - old).abs().max()) <= top * (gap / 2 + 1e-4)
    assert form.holds(got)
    again, _ = apply(library.nf4, got, 4, format=name, block=block)
    assert torch.allclose(again, got, rtol=1e-6, atol=0)


@needs_hqq
@settings(deadline=None, max_examples=25)
@given(SIZES, st.integers(1, 8), SEEDS, st.sampled_from([1, 2, 3, 4, 8]), st.sampled_from([0, 1]))
def test_grids_of_any_matrix(rows: int, groups: int, seed: int, bits: int, axis: int) -> None:
    """At most 2**bits values per group, within the range of the weights widened by a step."""
    weight = weights(rows, groups * 8, seed)
    got, form = apply(library.hqq, weight, bits, group=8, axis=axis)
    shape = (-1, 8) if axis else (8, -1)
    old, new = (m.reshape(shape) if axis else m.reshape(shape).T for m in (weight, got))
    assert all(row.unique().numel() <= 2**bits for row in new)
    step = form.scale.reshape(-1, 1)
    assert ((new <= old.amax(1, keepdim=True) + 2 * step) & (new >= old.amin(1, keepdim=True) - 2 * step)).all()
    assert form.holds(got)


@settings(deadline=None, max_examples=25)
@given(SIZES, st.integers(2, 40), SEEDS, st.sampled_from([2, 3, 4, 8]), st.booleans())
def test_scaled_grids_err_no_more_than_plain_ones(rows: int, columns: int, seed: int, bits: int, symmetric: bool) -> None:
    """Whatever factors AWQ finds, the layer's output errs no more than with factors of 1, zero stays, half a step is the most."""
    weight, x = weights(rows, columns, seed), weights(50, columns, seed + 1)
    seen = Moments(columns, magnitudes=True)
    seen.add(x)

    def grid_of(matrix: torch.Tensor) -> Grid:
        return Grid.of(matrix, bits=bits, group=8, symmetric=symmetric)

    def fit(matrix: torch.Tensor) -> Any:
        return lambda other: Scaled(grid=grid_of(matrix), factor=torch.ones(columns)).rounded(other)

    factor = search(weight, seen.means, seen.hessian, fit)
    found = Scaled(grid=grid_of(weight * factor), factor=factor)
    got, plain = found.rounded(weight), fit(weight)(weight)
    assert found.holds(got)
    assert got[weight == 0].eq(0).all()
    step = found.grid.scale.repeat_interleave(8, dim=1)[:, :columns]
    assert (((got - weight) * factor).abs() <= step * 0.5001).all()
    errors = [float(((values - weight).double() @ x.double().T).norm()) for values in (got, plain)]
    assert errors[0] <= errors[1] * (1 + 1e-4) + 1e-6


@settings(deadline=None, max_examples=25)
@given(SIZES, st.integers(2, 40), SEEDS, st.floats(0.5, 8))
def test_inputs_of_any_size(rows: int, columns: int, seed: int, threshold: float) -> None:
    """Inputs below the threshold move by half of their token's step at most, those above not at all; smoothed ones likewise."""
    x = weights(rows, columns, seed)
    got = RoundBelow(threshold=threshold, batch=False).rounded(x)
    outlier = x.abs() >= threshold
    assert got[outlier].equal(x[outlier])
    step = x.masked_fill(outlier, 0).abs().amax(1, keepdim=True) / 127
    assert ((got - x).abs() <= step * 0.5001).all()
    factor = weights(1, columns, seed + 1)[0].abs() + 0.1
    smoothed = RoundSmoothed(factor=factor).rounded(x)
    step = ((x / factor).abs().amax(1, keepdim=True) / 127.5).clamp(min=1.2e-7)
    assert (((smoothed - x) / factor).abs() <= step * 0.501).all()


@settings(deadline=None, max_examples=25)
@given(SIZES, SIZES, SEEDS)
def test_rows_of_any_size(rows: int, columns: int, seed: int) -> None:
    """Int8 rows hold what they rounded, bit for bit, factors or none."""
    weight = weights(rows, columns, seed)
    for smooth in (None, torch.rand(columns) + 0.5):
        scaled = weight if smooth is None else weight * smooth
        form = Int8Rows(scale=(scaled.abs().amax(1, keepdim=True) / 127).clamp(min=1e-30), smooth=smooth)
        got = form.rounded(weight)
        assert form.holds(got)
        assert got[weight == 0].eq(0).all()
        assert not form.holds(got + 0.3 * form.scale)
