"""Properties of the calibrated solvers on random matrices and correlated inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pytest_kick.compress.rank import exact_count
from pytest_kick.compress.solvers import Pattern, Quantizer, factorize, gptq, masks, output_error, sparsegpt, wanda

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEEDS = st.integers(0, 10**6)
LEVELS = st.integers(0, 100).map(lambda percent: percent / 100)
PATTERNS = st.integers(1, 9).flatmap(lambda of: st.builds(Pattern, keep=st.integers(0, of), of=st.just(of)))
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 40))


def made(shape: tuple[int, int], seed: int, *, tokens: int | None = None, decay: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight matrix and the Hessian of inputs whose principal components fall off as a power."""
    rng = np.random.default_rng(seed)
    columns = shape[1]
    spectrum = np.arange(1, columns + 1.0)[:, None] ** -decay
    x = rng.normal(size=(tokens or 4 * columns, columns)) * spectrum.T @ rng.normal(size=(columns, columns))
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32)), torch.from_numpy((2 / len(x) * x.T @ x).astype(np.float32))


def fit(weight: torch.Tensor, bits: int, *, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose scale and zero point of each row."""
    low, high = weight.amin(dim=1, keepdim=True).clamp(max=0), weight.amax(dim=1, keepdim=True).clamp(min=0)
    if symmetric:
        return torch.maximum(-low, high) / (2 ** (bits - 1) - 0.5) + 1e-20, torch.zeros_like(low)
    scale = (high - low) / (2**bits - 1) + 1e-20
    return scale, torch.round(-low / scale)


def apply(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
    """Round to the nearest value of the grid."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    return (torch.clamp(torch.round(weight / scale) + zero, low, high) - zero) * scale


def rtn(weight: torch.Tensor, q: Quantizer, group: int) -> torch.Tensor:
    """Round each group of columns to nearest."""
    parts = torch.split(weight, group, dim=1)
    return torch.cat([apply(part, *fit(part, q.bits, symmetric=q.symmetric), q.bits, symmetric=q.symmetric) for part in parts], dim=1)


@settings(max_examples=60, deadline=None)
@given(scores=hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 4)), data=st.data())
def test_masks_take_the_first_of_a_stable_sort(scores: NDArray[np.float32], data: Any) -> None:
    """Rows and groups of rows lose the first of a stable sort of their scores, ties and all."""
    pattern, level = data.draw(PATTERNS), data.draw(LEVELS)
    in_rows = masks.drop_in_rows(torch.from_numpy(scores), level).numpy()
    in_groups = masks.drop_in_rows(torch.from_numpy(scores), pattern).numpy()
    for row, of_row, of_groups in zip(scores, in_rows, in_groups, strict=True):
        gone = np.argsort(row, kind="stable")[: exact_count(level, row.size)]
        assert set(gone) == set(np.flatnonzero(of_row))
        for start in range(0, row.size, pattern.of):
            group = row[start : start + pattern.of]
            n_gone = int(np.floor((pattern.of - pattern.keep) * group.size / pattern.of))
            assert set(np.argsort(group, kind="stable")[:n_gone]) == set(np.flatnonzero(of_groups[start : start + pattern.of]))


@settings(max_examples=50, deadline=None)
@given(shape=SHAPES, seed=SEEDS, pattern=PATTERNS, tokens=st.integers(1, 50))
def test_patterns_hold_in_every_group_of_inputs(shape: tuple[int, int], seed: int, pattern: Pattern, tokens: int) -> None:
    """Each M consecutive inputs of each row hold exactly N weights, the last group its share, whatever the inputs were."""
    weight, hessian = made(shape, seed, tokens=tokens)
    for values in (
        wanda(weight, hessian.diagonal().sqrt(), pattern).values,
        sparsegpt(weight, factorize(hessian), pattern).values,
    ):
        for start in range(0, shape[1], pattern.of):
            group = values[:, start : start + pattern.of]
            n_kept = int(np.ceil(pattern.keep * group.shape[1] / pattern.of))
            assert (group != 0).sum(dim=1).tolist() == [n_kept] * shape[0]


@settings(max_examples=50, deadline=None)
@given(shape=SHAPES, seed=SEEDS, level=LEVELS, block=st.sampled_from([1, 8, 33, 128]), tokens=st.integers(1, 50))
def test_counts_are_exact(shape: tuple[int, int], seed: int, level: float, block: int, tokens: int) -> None:
    """Wanda zeroes floor(s * in) of each row, sparsegpt floor(s * n) of the matrix and up to the end of each block of columns."""
    weight, hessian = made(shape, seed, tokens=tokens)
    pruned = wanda(weight, hessian.diagonal().sqrt(), level).values
    assert (pruned == 0).sum(dim=1).tolist() == [exact_count(level, shape[1])] * shape[0]
    assert torch.equal(pruned[pruned != 0], weight[pruned != 0])
    values = sparsegpt(weight, factorize(hessian), level, block=block).values
    for stop in {*range(block, shape[1], block), shape[1]}:
        assert int((values[:, :stop] == 0).sum()) == exact_count(level, stop * shape[0])


@settings(max_examples=60, deadline=None)
@given(
    shape=SHAPES,
    seed=SEEDS,
    bits=st.sampled_from([2, 3, 4, 6, 8]),
    symmetric=st.booleans(),
    group=st.none() | st.integers(1, 50),
    act_order=st.booleans(),
    tokens=st.integers(1, 50),
)
def test_quantized_values_lie_on_their_grid(
    shape: tuple[int, int], seed: int, bits: int, symmetric: bool, group: int | None, act_order: bool, tokens: int
) -> None:
    """Every weight is a code times the scale of its row and group, codes in range; groups are counted in the order of rounding."""
    weight, hessian = made(shape, seed, tokens=tokens)
    quantizer = Quantizer(fit=fit, apply=apply, bits=bits, symmetric=symmetric)
    got = gptq(weight, factorize(hessian, act_order=act_order), quantizer, group_size=group)
    grid = got.grid
    assert grid is not None
    assert (grid.bits, grid.symmetric, grid.order is None) == (bits, symmetric, not act_order)
    order = np.arange(shape[1]) if grid.order is None else grid.order.numpy()
    assert sorted(order) == list(range(shape[1]))
    assert grid.group_of.numpy()[order].tolist() == [place // (group or shape[1]) for place in range(shape[1])]
    assert grid.scale.shape == grid.zero.shape == (shape[0], -(-shape[1] // (group or shape[1])))
    codes = got.values.double() / grid.scale[:, grid.group_of].double() + grid.zero[:, grid.group_of].double()
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    assert bool(((codes - codes.round()).abs() < 1e-4).all())
    assert bool(((codes.round() >= low) & (codes.round() <= high)).all())


@settings(max_examples=30, deadline=None)
@given(
    seed=SEEDS, bits=st.sampled_from([3, 4, 6, 8]), symmetric=st.booleans(), group=st.sampled_from([16, 20, 48]), act_order=st.booleans()
)
def test_gptq_is_no_worse_than_rounding_to_nearest(seed: int, bits: int, symmetric: bool, group: int, act_order: bool) -> None:
    """The error of the layer's output is at most that of rtn with the same groups, where inputs correlate."""
    weight, hessian = made((16, 48), seed)
    quantizer = Quantizer(fit=fit, apply=apply, bits=bits, symmetric=symmetric)
    values = gptq(weight, factorize(hessian, act_order=act_order), quantizer, group_size=group).values
    assert output_error(weight, values, hessian) <= output_error(weight, rtn(weight, quantizer, group), hessian)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, level=st.sampled_from([0.2, 0.5, 0.7, Pattern(keep=2, of=4), Pattern(keep=1, of=2), Pattern(keep=4, of=8)]))
def test_sparsegpt_is_no_worse_than_wanda(seed: int, level: float | Pattern) -> None:
    """Over a layer of 16 outputs the error of what sparsegpt leaves is at most that of wanda, where inputs correlate."""
    weight, hessian = made((16, 48), seed)
    ours = sparsegpt(weight, factorize(hessian), level).values
    assert output_error(weight, ours, hessian) <= output_error(weight, wanda(weight, hessian.diagonal().sqrt(), level).values, hessian)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, exponents=st.tuples(st.integers(-20, 20), st.integers(-20, 20)), level=st.sampled_from([0.5, Pattern(keep=2, of=4)]))
def test_scale_does_not_matter(seed: int, exponents: tuple[int, int], level: float | Pattern) -> None:
    """Inputs and weights times powers of two give the same masks and codes: values scale with the weights."""
    weight, hessian = made((6, 40), seed)
    more, size = hessian * 4.0 ** exponents[0], 2.0 ** exponents[1]
    quantizer = Quantizer(fit=fit, apply=apply, bits=4, symmetric=False)
    for one, two in (
        (wanda(weight, hessian.diagonal().sqrt(), level), wanda(weight * size, more.diagonal().sqrt(), level)),
        (sparsegpt(weight, factorize(hessian), level), sparsegpt(weight * size, factorize(more), level)),
        (gptq(weight, factorize(hessian), quantizer, group_size=8), gptq(weight * size, factorize(more), quantizer, group_size=8)),
    ):
        assert torch.equal(one.values * size, two.values)
