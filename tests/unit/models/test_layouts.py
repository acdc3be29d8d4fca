"""Packed layouts: values packed here, bit by bit in NumPy, and by the libraries that write them, come back as they were."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from packing import packed

from pytest_kick.models import layouts

RNG = np.random.default_rng(5)


def halves(*shape: int) -> np.ndarray:
    """Return steps that a float16 holds."""
    return (RNG.uniform(0.01, 0.1, shape)).astype(np.float16).astype(np.float32)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("n", [64, 80, 96])
def test_bit_fields(bits: int, dense: bool, n: int) -> None:
    """Codes of every width come back, from one stream of bits and from words with idle bits."""
    codes = RNG.integers(0, 2**bits, (3, n))
    assert np.array_equal(layouts.bit_fields(packed(codes, bits, dense=dense), bits, n).numpy(), codes)


@pytest.mark.parametrize(("bits", "group"), [(4, 16), (3, 32), (8, 0), (4, 24)])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("shuffled", [True, False])
def test_compressed_tensors_packed(bits: int, group: int, symmetric: bool, shuffled: bool) -> None:
    """Signed codes minus zero points times steps, per group or channel; the group of an input may be given by an index."""
    rows, columns = 40, 96
    n_groups = columns // group if group else 1
    codes = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, columns))
    scale, zero = halves(rows, n_groups), RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (rows, n_groups))
    index = RNG.permutation(np.arange(columns) // (group or columns)) if shuffled else np.arange(columns) // (group or columns)
    tensors = {
        "weight_packed": packed(codes + 2 ** (bits - 1), bits),
        "weight_shape": torch.tensor([rows, columns]),
        "weight_scale": torch.tensor(scale).half(),
    }
    if not symmetric:
        tensors["weight_zero_point"] = packed(zero.T + 2 ** (bits - 1), bits).t().contiguous()
    if shuffled:
        tensors["weight_g_idx"] = torch.tensor(index, dtype=torch.int32)
    want = (codes - (0 if symmetric else zero[:, index])) * scale[:, index]
    scheme = {"num_bits": bits, "group_size": group or None}
    assert np.array_equal(layouts.compressed_tensors(tensors, scheme).numpy(), want.astype(np.float32))


@pytest.mark.parametrize("shape", [(), (1,), (40, 1), (40, 3), (3, 3)])
def test_compressed_tensors_plain(shape: tuple[int, ...]) -> None:
    """int8 codes with a step per tensor, row or group, and float8 ones with a step per block of 16 x 32, the last one cut off."""
    codes, scale = RNG.integers(-128, 128, (40, 96)), halves(*shape)
    blocks = [16, 32] if shape == (3, 3) else None
    wide = np.broadcast_to(scale.reshape(-1, 1) if len(shape) == 1 else scale, scale.shape if len(shape) != 1 else (1, 1))
    if blocks:
        wide = np.kron(scale, np.ones((16, 32)))[:40]
    elif shape == (40, 3):
        wide = np.repeat(scale, 32, axis=1)
    tensors = {"weight": torch.tensor(codes, dtype=torch.int8), "weight_scale": torch.tensor(scale)}
    found = layouts.compressed_tensors(tensors, {"num_bits": 8, "block_structure": blocks})
    assert np.array_equal(found.numpy(), (codes * wide).astype(np.float32))
    eighth = torch.tensor(codes / 2).to(torch.float8_e4m3fn)
    found = layouts.compressed_tensors({**tensors, "weight": eighth}, {"num_bits": 8, "block_structure": blocks})
    assert np.array_equal(found.numpy(), (eighth.float().numpy() * wide).astype(np.float32))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("version", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("act_order", [True, False])
def test_gptq(bits: int, version: str, act_order: bool) -> None:
    """Codes packed along the inputs, zero points along the outputs, less one in the first version: 0 is stored as the largest code."""
    n_in, n_out, group = 64, 96, 16
    codes, scale = RNG.integers(0, 2**bits, (n_in, n_out)), halves(n_in // group, n_out)
    zero = RNG.integers(0, 2**bits, scale.shape)
    index = RNG.permutation(np.arange(n_in) // group) if act_order else np.arange(n_in) // group
    less = 0 if version == "gptq_v2" else 1
    tensors = {
        "qweight": packed(codes.T, bits).t().contiguous(),
        "qzeros": packed((zero - less) % 2**bits, bits),
        "scales": torch.tensor(scale).half(),
    }
    if act_order:
        tensors["g_idx"] = torch.tensor(index, dtype=torch.int32)
    want = ((codes - zero[index]) * scale[index]).T
    found = layouts.gptq(tensors, {"bits": bits, "group_size": group, "checkpoint_format": version})
    assert np.array_equal(found.numpy(), want.astype(np.float32))


def test_gptq_of_one_group() -> None:
    """A group size of -1 is one group for all inputs."""
    codes, scale = RNG.integers(0, 16, (32, 8)), halves(1, 8)
    tensors = {"qweight": packed(codes.T, 4).t(), "qzeros": packed(np.full((1, 8), 7), 4), "scales": torch.tensor(scale)}
    want = ((codes - 8) * scale).T
    assert np.array_equal(layouts.gptq(tensors, {"bits": 4, "group_size": -1}).numpy(), want.astype(np.float32))


def test_awq() -> None:
    """Eight outputs share a word, in the order 0 2 4 6 1 3 5 7 from its lowest bits on."""
    n_in, n_out, group = 32, 24, 16
    codes, zero, scale = RNG.integers(0, 16, (n_in, n_out)), RNG.integers(0, 16, (2, n_out)), halves(2, n_out)

    def pack(values: np.ndarray) -> torch.Tensor:
        order = [start + i for start in range(0, n_out, 8) for i in (0, 2, 4, 6, 1, 3, 5, 7)]
        return packed(values[:, order], 4)

    tensors = {"qweight": pack(codes), "qzeros": pack(zero), "scales": torch.tensor(scale).half()}
    index = np.arange(n_in) // group
    want = ((codes - zero[index]) * scale[index]).T
    assert np.array_equal(layouts.awq(tensors, {"bits": 4}).numpy(), want.astype(np.float32))


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_bitsandbytes4(kind: str, double: bool) -> None:
    """The library's own numbers, with the magnitudes of blocks packed or not."""
    library = pytest.importorskip("bitsandbytes.functional")
    weight = torch.tensor(RNG.normal(0, 0.1, (40, 64)), dtype=torch.float32)
    values, state = library.quantize_4bit(weight.view(1, -1), blocksize=64, quant_type=kind, compress_statistics=double)
    tensors = {f"weight.{name}": tensor for name, tensor in state.as_dict(packed=True).items()}
    key = next(name for name in tensors if "bitsandbytes__" in name)
    said = json.loads(bytes(tensors[key].tolist())) | {"shape": [40, 64]}
    tensors[key] = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
    found = layouts.bitsandbytes4({**tensors, "weight": values})
    assert torch.allclose(found, library.dequantize_4bit(values, state).view(40, 64), rtol=0, atol=1e-7)
    assert float((found - weight).abs().max()) < 0.17 * float(weight.abs().max())


def test_bitsandbytes8() -> None:
    """Codes over 127 times the largest magnitude of the row."""
    codes, top = RNG.integers(-127, 128, (6, 8)), halves(6)
    found = layouts.bitsandbytes8({"weight": torch.tensor(codes, dtype=torch.int8), "SCB": torch.tensor(top)})
    assert np.allclose(found.numpy(), codes * top[:, None] / 127, rtol=1e-6, atol=0)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("bits", "group"), [(1, 16), (2, None), (3, 16), (4, 16), (4, None), (8, None)])
def test_hqq(bits: int, axis: int, group: int | None) -> None:
    """The library's own state, whatever width, axis and group."""
    pytest.importorskip("hqq")
    from pytest_kick.compress.library import hqq_quantizer  # noqa: PLC0415 - an extra

    quantizer: Any = hqq_quantizer()
    weight = torch.tensor(RNG.normal(0, 0.1, (24, 32)), dtype=torch.float32)
    codes, meta = quantizer.quantize(weight, nbits=bits, group_size=group, axis=axis, device="cpu", compute_dtype=torch.float32)
    state = {name: torch.as_tensor(meta[name]) for name in ("nbits", "axis", "scale", "zero")}
    state |= {"W_q": codes, "shape": torch.tensor(list(meta["shape"]))}
    if group:
        state["group_size"] = torch.tensor(group)
    assert layouts.hqq(state).equal(quantizer.dequantize(codes, meta).float())
