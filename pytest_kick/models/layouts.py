"""The packed layouts in which compressed checkpoints store a matrix, turned into float32.

Each function takes the tensors of one module, by their names within it, and returns `(out, in)` float32. Products of codes and steps are
taken in float32, whatever dtype the steps are stored in.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    Tensors = Mapping[str, torch.Tensor]

_WORD = 32
_BYTE = 8
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_MAX_CODE = 127.0


def bit_fields(words: torch.Tensor, bits: int, n: int) -> torch.Tensor:
    """Cut rows of 32-bit words into fields of `bits`, from the lowest bit on; a field may go on in the next word.

    Writers that leave the rest of a word empty instead are told by the number of words; where that is the same, by the empty bits.

    Args:
        words: `(rows, words)` int32.
        bits: of a field, 1 to 8.
        n: fields of a row.

    Returns:
        `(rows, n)` int64, each in [0, 2**bits).

    Source: `compressed_tensors.compressors.pack_quantized.helpers`; AutoGPTQ packs 3 bits likewise.
    """
    index = torch.arange(n)
    per_word = _WORD // bits
    wide = torch.nn.functional.pad(words.long() & (2**_WORD - 1), (0, 1))
    dense = words.shape[1] == -(-n * bits // _WORD)
    if dense and words.shape[1] == -(-n // per_word):
        dense = bool((wide >> (per_word * bits)).any())
    word, shift = (index * bits // _WORD, index * bits % _WORD) if dense else (index // per_word, index % per_word * bits)
    return torch.bitwise_and(((wide[:, word + 1] << _WORD) | wide[:, word]) >> shift, 2**bits - 1)


def spread(table: torch.Tensor, shape: tuple[int, int], group: int = 0, index: torch.Tensor | None = None, lines: int = 0) -> torch.Tensor:
    """Return steps or zero points as float32 that broadcast over a matrix: per tensor, row, group of inputs or block.

    Args:
        table: `(out or blocks of rows or 1, groups)`, or fewer axes.
        shape: `(out, in)` of the matrix.
        group: inputs that share a column; 0 for as many as make the columns equal.
        index: `(in,)` group of each input, where they are out of order.
        lines: outputs that share a row; 0 for as many as make the rows equal.
    """
    wide = table.float().reshape(-1, table.shape[-1] if table.ndim > 1 else 1)
    rows, columns = wide.shape
    if rows not in {1, shape[0]}:
        wide = wide.repeat_interleave(lines or -(-shape[0] // rows), 0)[: shape[0]]
    if columns == 1:
        return wide
    if index is None:
        index = torch.arange(shape[1]) // (group if group > 0 else -(-shape[1] // columns))
    return wide[:, index.long()]


def compressed_tensors(tensors: Tensors, scheme: Mapping[str, Any]) -> torch.Tensor:
    """Read `pack-quantized`, `int-quantized`, `naive-quantized` or `float-quantized`.

    Args:
        tensors: `weight_packed` and `weight_shape`, or `weight`; `weight_scale`; `weight_zero_point` and `weight_g_idx` where given.
        scheme: `weights` of the module's group in the configuration.

    Source: compressed_tensors 0.20, `compressors.pack_quantized` and `compressors.naive_quantized`.
    """
    bits, group = int(scheme["num_bits"]), int(scheme.get("group_size") or 0)
    scale, zero, index = tensors["weight_scale"], tensors.get("weight_zero_point"), tensors.get("weight_g_idx")
    if "weight_packed" in tensors:
        rows, columns = (int(size) for size in tensors["weight_shape"])
        codes = bit_fields(tensors["weight_packed"], bits, columns).float() - 2 ** (bits - 1)
        if zero is not None and zero.dtype == torch.int32:
            zero = bit_fields(zero.t(), bits, rows).t() - 2 ** (bits - 1)
    else:
        codes = tensors["weight"].float()
    shape = (codes.shape[0], codes.shape[1])
    lines, group = scheme.get("block_structure") or (0, group)
    if zero is not None:
        codes = codes - spread(zero.reshape(scale.shape), shape, group, index, lines)
    return torch.mul(codes, spread(scale, shape, group, index, lines))


def gptq(tensors: Tensors, config: Mapping[str, Any]) -> torch.Tensor:
    """Read GPTQ's `qweight` (packed along the inputs), `qzeros` (along the outputs), `scales` and `g_idx`.

    The first version of the format stores each zero point less one.

    Source: AutoGPTQ, `nn_modules/qlinear/qlinear_cuda_old.py`.
    """
    bits = int(config["bits"])
    scales = tensors["scales"].float()  # (groups, out)
    groups, n_out = scales.shape
    n_in = tensors["g_idx"].numel() if "g_idx" in tensors else tensors["qweight"].shape[0] * _WORD // bits
    size = int(config.get("group_size", -1))
    index = tensors["g_idx"].long() if "g_idx" in tensors else torch.arange(n_in) // (size if size > 0 else n_in)
    codes = bit_fields(tensors["qweight"].t(), bits, n_in)
    less = 0 if config.get("checkpoint_format") == "gptq_v2" else 1
    zeros = (bit_fields(tensors["qzeros"].reshape(groups, -1), bits, n_out) + less) & (2**bits - 1)
    return torch.mul((codes - zeros.t()[:, index]).float(), scales.t()[:, index])


def awq(tensors: Tensors, config: Mapping[str, Any]) -> torch.Tensor:
    """Read AutoAWQ's `gemm` layout: codes of 4 bits packed along the outputs, eight to a word in an order of their own.

    Source: AutoAWQ, `awq/modules/linear/gemm.py`.
    """
    n_in, bits = tensors["qweight"].shape[0], int(config.get("bits", 4))
    order = torch.tensor(_AWQ_ORDER)

    def columns(words: torch.Tensor) -> torch.Tensor:
        fields = bit_fields(words, bits, words.shape[1] * _BYTE).reshape(words.shape[0], -1, _BYTE)
        return torch.empty_like(fields).index_copy_(2, order, fields).reshape(words.shape[0], -1)

    groups = tensors["scales"].shape[0]
    index = torch.arange(n_in) // -(-n_in // groups)
    return ((columns(tensors["qweight"]) - columns(tensors["qzeros"])[index]).float() * tensors["scales"].float()[index]).t()


def bitsandbytes4(tensors: Tensors) -> torch.Tensor:
    """Read 4-bit codes into a table of 16 numbers, two to a byte, with a largest magnitude per block that may be packed itself.

    Source: bitsandbytes, `functional.QuantState` and `dequantize_4bit`.
    """
    key = next(name for name in tensors if name.startswith("weight.quant_state.bitsandbytes__"))
    state = json.loads(bytes(tensors[key].tolist()))
    packed = tensors["weight"].reshape(-1)
    codes = torch.stack([packed >> 4, packed & 15], 1).reshape(-1).long()
    top = tensors["weight.absmax"]
    if "weight.nested_absmax" in tensors:
        blocks = torch.arange(top.numel()) // int(state["nested_blocksize"])
        top = tensors["weight.nested_quant_map"][top.long()] * tensors["weight.nested_absmax"][blocks] + float(state["nested_offset"])
    rows, columns = state["shape"]
    codes = codes[: rows * columns]
    values = tensors["weight.quant_map"].float()[codes] * top.float()[torch.arange(codes.numel()) // int(state["blocksize"])]
    return values.reshape(rows, columns)


def bitsandbytes8(tensors: Tensors) -> torch.Tensor:
    """Read LLM.int8 weights: codes in [-127, 127], and the largest magnitude of each row.

    Source: bitsandbytes, `functional.int8_vectorwise_dequant`.
    """
    return tensors["weight"].float() * (tensors["SCB"].float() / _MAX_CODE).unsqueeze(1)


def hqq(tensors: Tensors) -> torch.Tensor:
    """Read HQQ's groups, packed along their first axis from the highest bits on, with float steps and zero points.

    Source: hqq, `core/bitpack.py` and `core/quantize.py`.
    """
    bits, axis = int(tensors["nbits"]), int(tensors["axis"])
    rows, columns = (int(size) for size in tensors["shape"])
    size = rows * columns
    group = int(tensors["group_size"]) if "group_size" in tensors else (columns if axis else rows)
    lines = size // group if axis else group
    wide = bits == 3  # noqa: PLR2004 - ten fields of 3 bits stand in a word of 32
    width = 10 if wide else _BYTE // bits
    packed = tensors["W_q"]
    packed = packed.view(torch.int32 if wide else torch.uint8) if packed.is_floating_point() else packed
    parts = [(packed.long() >> (bits * (width - 1 - i))) & (2**bits - 1) for i in range(width)]
    codes = torch.cat(parts, 0)[:lines].float()
    return ((codes - tensors["zero"].float()) * tensors["scale"].float()).reshape(rows, columns)
