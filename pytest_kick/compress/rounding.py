"""Round weights to the nearest value of a uniform grid: pure functions on tensors, for every quantizer that uses such grids.

The code ranges and steps are those of GPTQ and of torchao's `IntxWeightOnlyConfig`:

- symmetric: codes -2**(bits-1) .. 2**(bits-1) - 1, zero at code 0, and a step of the largest magnitude over 2**(bits-1) - 1/2. So
  the range is the full one and not the restricted -7 .. 7 of 4 bits: the largest weight falls half a step beyond the last code
  on its side where that is the positive one, and is clipped to it.
- asymmetric: codes 0 .. 2**bits - 1 from the smallest to the largest weight, zero taken among them, with a whole-numbered zero
  point: zero is a value of the grid, so that pruned weights stay pruned.

Source: Frantar et al. (2023), "GPTQ", the quantizer of its code; torchao.quantization.quant_primitives.choose_qparams_affine and
quantize_affine (which multiply by the reciprocal of the step, as is done here, so that values are equal bit for bit). torchao's own
are not called since they want groups that divide the inputs (576 is no multiple of 128), and a solver calls these per column.
"""

from __future__ import annotations

import torch

PER_CHANNEL = 0
PER_TENSOR = -1
_SMALLEST = torch.finfo(torch.float32).tiny  # the step of a group of zeros: any would do but 0


def code_range(bits: int, *, symmetric: bool) -> tuple[int, int]:
    """Return the smallest and the largest code."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)


def fit(weight: torch.Tensor, bits: int, *, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the grid of each group of weights, from their extremes.

    Args:
        weight: `(..., n)` float32; the n of the last axis share a grid.
        bits: of a code, 2 to 16.
        symmetric: see the module.

    Returns:
        The step, above 0, and the zero point, a whole number (0 where symmetric): both `(..., 1)` float32.
    """
    low, high = weight.aminmax(dim=-1, keepdim=True)
    if symmetric:
        scale = (torch.maximum(-low, high) / ((2**bits - 1) / 2)).clamp_(min=_SMALLEST)
        return scale, torch.zeros_like(scale)
    low = low.clamp(max=0)
    scale = ((high.clamp(min=0) - low) / (2**bits - 1)).clamp_(min=_SMALLEST)
    return scale, (low / scale).round_().neg_().clamp_(0, 2**bits - 1)


def codes(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
    """Return the code of each weight: the nearest, ties to even, clipped to the range.

    Args:
        weight: `(..., n)` float32.
        scale: step, broadcastable to `weight`.
        zero: zero point, likewise; not looked at where symmetric.
        bits: of a code.
        symmetric: see the module.

    Returns:
        Whole numbers as float32, of the shape of `weight`.
    """
    found = (weight * scale.reciprocal()).round_()
    if not symmetric:
        found.add_(zero)
    return found.clamp_(*code_range(bits, symmetric=symmetric))


def apply(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
    """Return the nearest value of the grid for each weight, at most half a step away inside the range that `fit` saw.

    Args:
        weight: `(..., n)` float32.
        scale: step, broadcastable to `weight`.
        zero: zero point, likewise; not looked at where symmetric.
        bits: of a code.
        symmetric: see the module.
    """
    found = codes(weight, scale, zero, bits, symmetric=symmetric)
    if not symmetric:
        found.sub_(zero)
    return found.mul_(scale)


def n_groups(shape: tuple[int, int], group: int) -> tuple[int, int]:
    """Return the shape of the steps of a matrix.

    Args:
        shape: `(out, in)`.
        group: inputs that share a step, `PER_CHANNEL` or `PER_TENSOR`.
    """
    rows, columns = shape
    return (1, 1) if group == PER_TENSOR else (rows, -(-columns // group) if group else 1)


def grouped(weight: torch.Tensor, group: int) -> tuple[torch.Tensor, ...]:
    """Cut a matrix into its groups along the inputs, as views that share its memory.

    Args:
        weight: `(out, in)` contiguous.
        group: inputs that share a step, `PER_CHANNEL` or `PER_TENSOR`.

    Returns:
        One `(out, n, group)` view of all whole groups, and `(out, 1, rest)` of a last, shorter one; `(1, 1, out * in)` per tensor.
    """
    if group == PER_TENSOR:
        return (weight.view(1, 1, -1),)
    columns = weight.shape[1]
    width = min(group, columns) or columns
    whole = columns - columns % width
    parts = (torch.unflatten(weight[:, :whole], 1, (-1, width)), weight[:, whole:].unsqueeze(1))
    return parts if whole < columns else parts[:1]
