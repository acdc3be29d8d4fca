"""Make the layers of torchao and bitsandbytes that compute from packed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torchao.quantization import Float8WeightOnlyConfig, IntxWeightOnlyConfig, MappingType, PerAxis, PerGroup, quantize_

from pytest_kick.compress.formats import FLOATS
from pytest_kick.compress.kernels import InFloat32, Kernel, enter, refuse_others
from pytest_kick.compress.library_import import bitsandbytes, bitsandbytes_layers
from pytest_kick.compress.refusal import refuse
from pytest_kick.compress.rounding import PER_TENSOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

_ROWS = 32
"""Of bitsandbytes' kernel for bfloat16: other numbers of rows take the general one."""


def pack_integers(targets: Targets, step: CompressionStep, dense: Mapping[str, torch.Tensor], group: int) -> None:
    """Enter torchao's `IntxWeightOnlyConfig` layers for matrices that were rounded to its grids.

    Args:
        targets: the weights, rounded.
        step: with `level` and `symmetric`.
        dense: name of a matrix -> `(out, in)` as it was.
        group: as `rounding` takes it.

    Raises:
        CompressionError: matrices that its kernels do not take, or that it rounds otherwise; names them.
    """
    refuse_others(targets, step)
    odd = [item.matrix.name for item in targets.items if group == PER_TENSOR or (group and item.matrix.shape[1] % group)]
    refuse(step, odd, "got groups that do not divide the inputs", "whole groups for a packed kernel", "Take another group, or simulate it")
    config = IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{int(step.level)}"),
        granularity=PerGroup(group) if group else PerAxis(0),
        mapping_type=MappingType.SYMMETRIC if step.param("symmetric") else MappingType.ASYMMETRIC,
    )
    for item in targets.items:
        enter(targets, step, item, _torchao(dense[item.matrix.name], config))


def pack_floats(targets: Targets, step: CompressionStep, dense: Mapping[str, torch.Tensor]) -> None:
    """Enter torchao's `Float8WeightOnlyConfig` layers for matrices that were cast to 8 bits; arguments as for `pack_integers`."""
    refuse_others(targets, step)
    wide = [] if step.level == 8 else [item.matrix.name for item in targets.items]  # noqa: PLR2004 - the formats that torchao packs
    refuse(step, wide, "got a format of 16 bits", "one of 8, which has a packed kernel", "Simulate it")
    config = Float8WeightOnlyConfig(weight_dtype=FLOATS[str(step.param("format"))])
    for item in targets.items:
        kernel = _torchao(dense[item.matrix.name], config)
        enter(targets, step, item, Kernel(layer=InFloat32(kernel.layer), values=kernel.values))


def pack_blocks(targets: Targets, step: CompressionStep, dense: Mapping[str, torch.Tensor]) -> None:
    """Enter bitsandbytes' `Linear4bit` layers for matrices that were rounded in blocks; arguments as for `pack_integers`."""
    refuse_others(targets, step)
    # Its kernels for CPUs start every row with a new block, though its quantizer does not (0.50.2): other rows come out wrong.
    cut = [item.matrix.name for item in targets.items if item.matrix.shape[1] % int(step.param("block"))]
    refuse(step, cut, "got blocks that do not divide the inputs", "whole ones for a packed kernel", "Take another block, or simulate it")
    layers, functional = bitsandbytes_layers(), bitsandbytes()
    options = {"quant_type": str(step.param("format")), "compress_statistics": bool(step.param("double_quant"))}
    for item in targets.items:
        rows, columns = item.matrix.shape
        packed, state = functional.quantize_4bit(dense[item.matrix.name], blocksize=int(step.param("block")), **options)
        values = functional.dequantize_4bit(packed, state)
        layer = layers.Linear4bit(columns, rows, bias=False, device="meta", **options)
        layer.weight = layers.Params4bit(
            packed, requires_grad=False, quant_state=state, bnb_quantized=True, blocksize=int(step.param("block")), **options
        )
        layer.support_avx512bf16_for_cpu &= rows % _ROWS == 0
        enter(targets, step, item, Kernel(layer=layer, values=values))


def pack_rows(targets: Targets, step: CompressionStep, dense: Mapping[str, torch.Tensor]) -> None:
    """Enter bitsandbytes' `Linear8bitLt` layers in place of hooks on inputs; arguments as for `pack_integers`."""
    refuse_others(targets, step)
    tokens = [] if step.param("columns") == "batch" else [item.matrix.name for item in targets.items]
    refuse(step, tokens, "got columns = 'token'", "'batch', as the kernel of bitsandbytes has it", "Say so, or simulate it")
    layers = bitsandbytes_layers()
    for item in targets.items:
        rows, columns = item.matrix.shape
        layer = layers.Linear8bitLt(
            columns, rows, bias=False, has_fp16_weights=False, threshold=float(step.param("threshold")), device="meta"
        )
        layer.weight = layers.Int8Params(dense[item.matrix.name].clone(), requires_grad=False, has_fp16_weights=False).to("cpu")
        values = layer.weight.CB.float() * (layer.weight.SCB.unsqueeze(1) / 127)
        # It takes weights through float16, which moves some to the code beside.
        enter(targets, step, item, Kernel(layer=layer, values=values), room=1.1 / 127)


def _torchao(weight: torch.Tensor, config: Any) -> Kernel:  # noqa: ANN401 - torchao ships no types
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    box = nn.Sequential(layer)
    quantize_(box, config)
    values: Any = box[0].weight
    return Kernel(layer=box, values=values.dequantize())
