"""Rounding to grids and to small floats: against NumPy and scalar arithmetic, against torchao, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.quant_primitives import (
    MappingType,
    _choose_scale_float8,
    _dequantize_affine_float8,
    _quantize_affine_float8,
)

from pytest_kick.compress.formats import FLOATS, Float, Grid
from pytest_kick.compress.rounding import PER_CHANNEL, PER_TENSOR, apply, code_range, codes, fit, grouped, n_groups

WIDTHS = (2, 3, 4, 5, 6, 7, 8)


def awkward(rows: int = 6, columns: int = 20) -> torch.Tensor:
    """Return a matrix with rows and groups of zeros, of one sign, constant, and with their extreme at either end."""
    weight = torch.randn((rows, columns), generator=torch.Generator().manual_seed(0)) * 0.1
    weight[0, 3], weight[1, 3], weight[2], weight[3, :8], weight[4, :8] = 0.7, -0.7, 0.0, 0.5, -0.5
    weight[5] = weight[5].abs() + 0.2
    return weight


def by_hand(weight: np.ndarray, bits: int, group: int, *, symmetric: bool) -> np.ndarray:
    """Derive the rounded matrix group by group, weight by weight, in plain arithmetic of float32."""
    out = np.empty_like(weight)
    rows, columns = weight.shape
    if group == PER_TENSOR:
        cells = [[(r, c) for r in range(rows) for c in range(columns)]]
    else:
        width = group or columns
        cells = [[(r, c) for c in range(start, min(start + width, columns))] for r in range(rows) for start in range(0, columns, width)]
    for places in cells:
        values = [np.float32(weight[place]) for place in places]
        if symmetric:
            low, high, zero = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0
            step = np.float32(max(abs(v) for v in values)) / np.float32(2 ** (bits - 1) - 0.5)
        else:
            low, high = 0, 2**bits - 1
            least, most = min(*values, np.float32(0)), max(*values, np.float32(0))
            step = (most - least) / np.float32(high)
            zero = round(float(-least / step)) if step else 0
        for place, value in zip(places, values, strict=True):
            code = min(max(round(float(value * (np.float32(1) / step))) + zero, low), high) if step else zero
            out[place] = np.float32(code - zero) * step
    return out


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [PER_CHANNEL, PER_TENSOR, 1, 4, 8, 20, 64])
@pytest.mark.parametrize("bits", WIDTHS)
def test_grids_against_numpy(bits: int, group: int, symmetric: bool) -> None:
    """Every value equals the one derived weight by weight, in groups with a shorter last one, per channel and per tensor."""
    weight = awkward()
    want = by_hand(weight.numpy(), bits, group, symmetric=symmetric)
    grid = Grid.of(weight, bits=bits, group=group, symmetric=symmetric)
    assert grid.scale.shape == grid.zero.shape == n_groups((6, 20), group)
    grid.round_(weight)
    assert np.array_equal(weight.numpy(), want)
    assert grid.holds(weight)
    assert np.array_equal(weight[2].numpy(), np.zeros(20))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("group", "granularity"), [(16, PerGroup(16)), (48, PerGroup(48)), (PER_CHANNEL, PerAxis(0))])
@pytest.mark.parametrize("bits", WIDTHS)
def test_values_equal_torchaos(bits: int, group: int, granularity: object, symmetric: bool) -> None:
    """Where the group divides the inputs, every value equals that of torchao's IntxWeightOnlyConfig, bit for bit."""
    layer = nn.Linear(48, 24, bias=False).requires_grad_(requires_grad=False)
    layer.weight.copy_(torch.randn((24, 48), generator=torch.Generator().manual_seed(bits)))
    layer.weight[3], layer.weight[4, :16], layer.weight[5, 7] = 0, 0.25, 9
    weight = layer.weight.detach().clone()
    mapping = MappingType.SYMMETRIC if symmetric else MappingType.ASYMMETRIC
    config = IntxWeightOnlyConfig(weight_dtype=getattr(torch, f"int{bits}"), granularity=granularity, mapping_type=mapping)
    quantize_(layer, config)
    Grid.of(weight, bits=bits, group=group, symmetric=symmetric).round_(weight)
    assert torch.equal(weight, layer.weight.dequantize())


def test_code_ranges() -> None:
    """Signed codes use the full range, as GPTQ's and torchao's do; unsigned ones begin at zero."""
    assert [code_range(b, symmetric=True) for b in (2, 4, 8)] == [(-2, 1), (-8, 7), (-128, 127)]
    assert [code_range(b, symmetric=False) for b in (2, 4, 8)] == [(0, 3), (0, 15), (0, 255)]
    weight = torch.tensor([[-0.75, 0.5, 0.1]])
    scale, zero = fit(weight, 4, symmetric=True)
    assert (scale.item(), zero.item()) == (pytest.approx(0.1), 0)
    assert codes(weight, scale, zero, 4, symmetric=True).tolist() == [[-8, 5, 1]]
    scale, zero = fit(weight, 4, symmetric=False)
    assert (scale.item(), zero.item()) == (pytest.approx(1.25 / 15), 9)
    assert codes(weight, scale, zero, 4, symmetric=False).tolist() == [[0, 15, 10]]


def test_a_column_is_rounded_on_a_grid_found_before() -> None:
    """What a solver does: find the grid of a block, then round one column at a time after it moved, clipped to the range."""
    block = awkward()[:, :8].contiguous()
    for symmetric in (True, False):
        scale, zero = fit(block, 3, symmetric=symmetric)
        whole = apply(block, scale, zero, 3, symmetric=symmetric)
        columns = [apply(block[:, i : i + 1], scale, zero, 3, symmetric=symmetric) for i in range(8)]
        assert torch.equal(torch.cat(columns, dim=1), whole)
        far = apply(block[:, :1] + 100, scale, zero, 3, symmetric=symmetric)
        assert torch.equal(far, (code_range(3, symmetric=symmetric)[1] - zero) * scale)


def test_groups_are_views() -> None:
    """Groups run along the inputs, cover every weight once, and share the matrix's memory."""
    weight = torch.arange(576.0 * 2).reshape(2, 576)
    whole, rest = grouped(weight, 128)
    assert (whole.shape, rest.shape) == ((2, 4, 128), (2, 1, 64))
    assert whole[1, 2, 3] == weight[1, 2 * 128 + 3]
    assert rest[1, 0, 5] == weight[1, 512 + 5]
    for part in grouped(weight, 128):
        part.zero_()
    assert not weight.any()
    assert [tuple(p.shape) for g in (PER_CHANNEL, PER_TENSOR, 576, 600) for p in grouped(weight, g)] == [
        (2, 1, 576),
        (1, 1, 1152),
        (2, 1, 576),
        (2, 1, 576),
    ]


def test_bits_beside_the_codes() -> None:
    """Steps and zero points count 16 bits each: 4-bit asymmetric in groups of 128 comes to 4.25, symmetric to 4.125."""
    weight = torch.randn((8, 256))
    beside = {symmetric: Grid.of(weight, bits=4, group=128, symmetric=symmetric).side_bits / weight.numel() for symmetric in (True, False)}
    assert beside == {True: 0.125, False: 0.25}
    assert Grid.of(torch.ones(2, 576), bits=4, group=128, symmetric=True).side_bits == 2 * 5 * 16
    assert Grid.of(weight, bits=4, group=PER_TENSOR, symmetric=False).side_bits == 32
    assert [Float.of(weight, name).side_bits for name in FLOATS] == [0, 0, 8 * 16, 8 * 16]


FIELDS = {"bf16": (8, 7), "fp16": (5, 10), "fp8_e4m3": (4, 3), "fp8_e5m2": (5, 2)}


def nearest_float(value: float, name: str) -> float:
    """Round a number to a format by its fields: exponent bits and mantissa bits, ties to an even mantissa."""
    exponent_bits, mantissa = FIELDS[name]
    least = 2 - 2 ** (exponent_bits - 1)
    exponent = max(int(np.floor(np.log2(abs(value)))), least) if value else least
    spacing = 2.0 ** (exponent - mantissa)
    return round(value / spacing) * spacing


@pytest.mark.parametrize("name", list(FLOATS))
def test_floats_against_their_fields(name: str) -> None:
    """Every value is the nearest with so many exponent and mantissa bits; 8-bit formats are scaled row by row."""
    weight = awkward(6, 20)
    weight[0, 5], weight[0, 6] = 1e-9, 3e-6
    form = Float.of(weight, name)
    scale = np.ones((6, 1), np.float32) if form.scale is None else form.scale.numpy()
    if form.scale is not None:
        top = {"fp8_e4m3": 448, "fp8_e5m2": 57344}[name]
        want_scale = np.abs(weight.numpy()).max(axis=1, keepdims=True) / np.float32(top)
        assert np.array_equal(np.where(want_scale == 0, np.finfo(np.float32).tiny, want_scale), scale)
    scaled = weight.numpy() / scale
    want = np.float32([[nearest_float(float(v), name) for v in row] for row in scaled]) * scale
    form.round_(weight)
    assert np.array_equal(weight.numpy(), want)
    assert form.holds(weight)
    assert not weight[2].any()


@pytest.mark.parametrize("name", ["fp8_e4m3", "fp8_e5m2"])
def test_float8_equals_torchaos(name: str) -> None:
    """Values equal those of torchao's float8 primitives, per row."""
    weight = torch.randn((24, 48), generator=torch.Generator().manual_seed(1))
    scale = _choose_scale_float8(weight, [1, 48], FLOATS[name])
    want = _dequantize_affine_float8(_quantize_affine_float8(weight, scale, FLOATS[name]), scale)
    Float.of(weight, name).round_(weight)
    assert torch.equal(weight, want)
