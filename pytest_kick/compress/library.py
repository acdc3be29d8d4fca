"""Round weights by the code of bitsandbytes (`nf4`) and of HQQ (`hqq`), imported when they are first run; the numerics are theirs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.kernels import to_pack
from pytest_kick.compress.library_formats import Affine, Blocks
from pytest_kick.compress.library_import import bitsandbytes, hqq_quantizer
from pytest_kick.compress.packing import pack_blocks
from pytest_kick.compress.refusal import refuse
from pytest_kick.compress.weight_only import refuse_int8

if TYPE_CHECKING:
    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep


def nf4(targets: Targets, step: CompressionStep) -> None:
    """Round each weight to the nearest of 16 numbers times the largest magnitude of its block.

    Blocks run over the rows of a matrix, one after the other, as bitsandbytes packs it.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, which rounding its weights again would break.

    Source: Dettmers et al. (2023), "QLoRA", arXiv 2305.14314, section 3; `bitsandbytes.functional.quantize_4bit`.
    """
    refuse_int8(targets, step)
    library = bitsandbytes()
    name, block, double = str(step.param("format")), int(step.param("block")), bool(step.param("double_quant"))
    table = _table(name)
    dense = to_pack(targets, step)
    for item in targets.items:
        known = targets.formats.get(item.matrix.name)
        same = isinstance(known, Blocks) and (known.name, known.block, known.double) == (name, block, double)
        if known is not None and same and known.holds(item.weight):
            continue
        # One long row of an even length: blocks run over the rows in any case, and others are compiled for when they are met.
        flat = torch.nn.functional.pad(item.weight.view(1, -1), (0, item.matrix.n % 2))
        packed, state = library.quantize_4bit(flat, blocksize=block, quant_type=name, compress_statistics=double)
        item.weight.copy_(library.dequantize_4bit(packed, state).reshape(-1)[: item.matrix.n].view_as(item.weight))
        scale = library.dequantize_blockwise(state.absmax, state.state2) + state.offset if double else state.absmax
        targets.formats[item.matrix.name] = Blocks(name=name, block=block, double=double, table=table, scale=scale.float())
    if dense:
        pack_blocks(targets, step, dense)


def hqq(targets: Targets, step: CompressionStep) -> None:
    """Round each weight to its group's grid, whose zero point is moved so that large weights may err for the others.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, or weights that the group does not divide.

    Source: Badri and Shaji (2023), "Half-Quadratic Quantization of Large Machine Learning Models"; `hqq.core.quantize.Quantizer`.
    """
    refuse_int8(targets, step)
    bits, group, axis = int(step.level), int(step.param("group")), int(step.param("axis"))
    odd = [item.matrix.name for item in targets.items if group and item.matrix.n % group]
    refuse(step, odd, f"got a number of weights that is no multiple of {group}", "whole groups", "Take another group, or leave them out")
    quantizer = hqq_quantizer()
    for item in targets.items:
        known = targets.formats.get(item.matrix.name)
        same = isinstance(known, Affine) and (known.bits, known.group, known.axis) == (bits, group, axis)
        if known is not None and same and known.holds(item.weight):
            continue
        codes, meta = quantizer.quantize(
            item.weight, nbits=bits, group_size=group or None, axis=axis, device="cpu", compute_dtype=torch.float32, bitpack=False
        )
        item.weight.copy_(quantizer.dequantize(codes, {**meta, "compute_dtype": torch.float32}))
        scale, zero = meta["scale"].float().clone(), meta["zero"].float().clone()
        targets.formats[item.matrix.name] = Affine(bits=bits, group=group, axis=axis, n=item.matrix.n, scale=scale, zero=zero)


@functools.cache
def _table(name: str) -> torch.Tensor:
    """Return the number of each code, `(16,)` float32, as the library's own kernel has it: each times a scale of 1."""
    packed, state = bitsandbytes().quantize_4bit(torch.ones(1, 64), blocksize=64, quant_type=name)
    codes = torch.arange(16, dtype=torch.uint8).repeat(4)
    values: torch.Tensor = bitsandbytes().dequantize_4bit((codes[::2] << 4 | codes[1::2]).view_as(packed), state)
    return values.reshape(-1)[:16].clone()
