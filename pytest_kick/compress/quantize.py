"""Quantizers to int8: their numerics on the float32 master. `pytest_kick.compress.int8` packs the result for the forward pass."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from pytest_kick.compress.refusal import refuse
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep

QMIN, QMAX = -128, 127
_EPS = torch.finfo(torch.float32).eps


def dynamic_int8(targets: Targets, step: CompressionStep) -> None:
    """Round each output channel onto its own int8 grid, as torchao's Int8DynamicActivationInt8WeightConfig does.

    A matrix that an earlier step put on a grid stays there: torchao's grid reaches to -128 but is scaled for 127.5, so finding it
    again from rounded (or pruned) weights would give another one.

    Raises:
        CompressionError: inputs that an earlier step rounds.
    """
    refuse_rounded(targets, step)
    for item in targets.items:
        if item.matrix.name not in targets.grids:
            scale = row_scale(item.weight)
            targets.grids[item.matrix.name] = scale
            item.weight.copy_(to_grid(item.weight, scale).float().mul_(scale))


def refuse_rounded(targets: Targets, step: CompressionStep) -> None:
    """Refuse matrices whose inputs a hook of an earlier step rounds.

    Raises:
        CompressionError: there are some; names them.
    """
    twice = [item.matrix.name for item in targets.items if item.matrix.module in targets.hooks]
    refuse(step, twice, "got inputs that an earlier step rounds", "one rounding", "Leave one of the two steps out")


def row_scale(weight: torch.Tensor) -> torch.Tensor:
    """Return the step of each output channel's int8 grid.

    Source: torchao.quantization.quant_primitives.choose_qparams_affine, symmetric, per row, float32, eps of float32.

    Args:
        weight: `(out, in)` float32.

    Returns:
        `(out, 1)` float32.
    """
    low, high = weight.aminmax(dim=1, keepdim=True)
    return (torch.maximum(-low, high) / ((QMAX - QMIN) / 2)).clamp_(min=_EPS)


def to_grid(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return the int8 code of each weight: nearest on the grid, ties to even.

    Source: torchao.quantization.quant_primitives.quantize_affine, which multiplies by the reciprocal too.

    Args:
        weight: `(..., in)` float32.
        scale: `(..., 1)` float32.
    """
    return (weight * scale.reciprocal()).round_().clamp_(QMIN, QMAX).to(torch.int8)


def quantize_dynamic(targets: Targets, step: CompressionStep) -> None:
    """Run `torch.ao.quantization.quantize_dynamic` with its default configuration, one scale per matrix.

    Raises:
        CompressionError: a matrix is not the whole weight of an nn.Linear, which is all that it swaps.
    """
    from torch.ao.quantization import default_dynamic_qconfig  # noqa: PLC0415 - deprecated: a torch without it runs the rest
    from torch.ao.quantization import quantize_dynamic as swap  # noqa: PLC0415

    refuse_rounded(targets, step)
    other = next((item.matrix for item in targets.items if type(item.layer) is not nn.Linear or item.matrix.part), None)
    if other is not None:
        msg = (
            f"{step.id}: {other.name}: got a matrix that is no nn.Linear of its own, expected nn.Linear: quantize_dynamic would"
            " leave it out without a word. Use dynamic_int8, or name other modules."
        )
        raise CompressionError(msg)
    box = nn.ModuleDict({str(i): _copy(item) for i, item in enumerate(targets.items)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated since torch 2.8, and so are the dtypes it uses
        swap(box, dict.fromkeys(box, default_dynamic_qconfig), dtype=torch.qint8, inplace=True)  # type: ignore[no-untyped-call]
        for key, item in zip(box, targets.items, strict=True):
            values = box[key].weight()  # type: ignore[operator]  # a method of the packed module
            item.weight.copy_(values.dequantize())
            targets.grids[item.matrix.name] = torch.full((1, 1), values.q_scale())
            targets.packed[item.matrix.module] = box[key]


def _copy(item: Target) -> nn.Linear:
    rows, columns = item.matrix.shape
    layer = nn.Linear(columns, rows, bias=item.layer.bias is not None, device="meta")
    layer.weight = nn.Parameter(item.weight, requires_grad=False)
    if item.layer.bias is not None:
        layer.bias = item.layer.bias  # type: ignore[assignment]  # a parameter, by the type of the layer
    return layer.eval()
