"""Check on the weights that a quantizer left each matrix in the format that it recorded, and that this is the one asked for.

Nothing is taken from the code that rounds: values are divided by the recorded steps and must come out whole and in the range of the
bits that were asked for, or representable in the floating-point format by its number of mantissa bits; the width of a grid is held
against the weights as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.formats import FLOATS, Float, Format, Grid
from pytest_kick.compress.refusal import refuse_faults
from pytest_kick.compress.rounding import PER_TENSOR, n_groups
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

# Of a step. Float32 leaves a product of a code below 2**8 and a step, divided by it again, 2**-15 off at most.
_OFF_GRID = 1e-3
_EXPONENT = 0x7F800000  # the bits of a float32 that hold it
_NEAREST = frozenset({"rtn", "cast"})
_FAULTS = {
    "format": ("got no such format recorded", "one per matrix", "The method left these out or took another width, group or axis"),
    "scale": ("got steps or zero points that are none", "finite steps above 0 and zero points that are codes", "Correct the method"),
    "range": ("got values beyond the last of their format", "codes of the bits asked for", "The method took more bits or other steps"),
    "grid": ("got weights off their grid", "values of the format that was recorded", "The method took another width, group or axis"),
    "moved": ("got weights moved by more than half a step", "the nearest value of the format", "Correct the method"),
    "wide": ("got a grid wider than its weights, so fewer bits", "one from the smallest to the largest weight", "Correct the steps"),
}


def check_formats(targets: Targets, step: CompressionStep, before: Mapping[str, torch.Tensor]) -> None:
    """Check the format of each matrix of a step.

    Args:
        targets: the weights after the step, and the formats recorded.
        step: what was asked: its level in bits, and its `group`, `symmetric` and `format` where the method has them.
        before: name of a matrix -> `(out, in)` float32 as it was.

    Raises:
        CompressionError: no format or another than asked, weights off it, or, for methods that round to nearest, moved by more than
            half a step or rounded on a grid wider than they are; names the matrices.
    """
    named = [(item.matrix.name, item.weight) for item in targets.items]
    refuse_faults(step, {name: _fault(weight, before[name], targets.formats.get(name), step) for name, weight in named}, _FAULTS)


def _fault(weight: torch.Tensor, before: torch.Tensor, found: Format | None, step: CompressionStep) -> str:
    """Return which of `_FAULTS` a matrix has, or ""."""
    if not isinstance(found, Grid | Float) or not _asked(found, step, (weight.shape[0], weight.shape[1])):
        return "format"
    fault = _off_grid(weight, found) if isinstance(found, Grid) else _off_float(weight, found)
    # What lay on the grid before keeps it, and may have lost its extremes to pruning.
    if fault or step.method not in _NEAREST or weight.equal(before):
        return fault
    if isinstance(found, Float):
        return _float_moved(weight, before, found)
    return _grid_moved(weight, before, found)


def _asked(found: Grid | Float, step: CompressionStep, shape: tuple[int, int]) -> bool:
    """Say whether a record is of the width, the groups and the kind that the step asks for."""
    params = dict(METHODS.get(step.method, "step").params) | dict(step.params)
    if found.bits != step.level:
        return False
    if isinstance(found, Float):
        scaled = found.scale is not None
        return found.name == params.get("format", found.name) and scaled == (step.level <= 8) and _fits(found.scale, (shape[0], 1))  # noqa: PLR2004 - as in `Float.of`
    group = params.get("group", found.group)
    group = PER_TENSOR if group == "tensor" else group
    size = n_groups(shape, found.group)
    same = (found.group, found.symmetric) == (group, params.get("symmetric", found.symmetric))
    return same and _fits(found.scale, size) and _fits(found.zero, size)


def _fits(tensor: torch.Tensor | None, shape: tuple[int, int]) -> bool:
    return tensor is None or (tuple(tensor.shape) == shape and tensor.dtype == torch.float32)


def _off_grid(weight: torch.Tensor, grid: Grid) -> str:
    # Maxima, not `all`: NaN stays NaN in them and fails the comparison, and they are faster.
    top = 2**grid.bits - 1
    whole = bool((grid.zero == grid.zero.round()).all()) and float(grid.zero.min()) >= 0 and float(grid.zero.max()) <= top
    if not (whole and _positive(grid.scale)) or (grid.symmetric and bool(grid.zero.any())):
        return "scale"
    base = 2 ** (grid.bits - 1) if grid.symmetric else 0
    for part, scale, zero in grid.per_group(weight):
        code = part / scale
        near = code.round()
        if not float(code.sub_(near).abs_().max()) <= _OFF_GRID:
            return "grid"
        low, high = near.add_(zero + base).aminmax()
        if float(low) < 0 or float(high) > top:
            return "range"
    return ""


def _grid_moved(weight: torch.Tensor, before: torch.Tensor, grid: Grid) -> str:
    steps = 2**grid.bits - 1
    for (part, scale, _), (old, _, _) in zip(grid.per_group(weight), grid.per_group(before), strict=True):
        if not float((part - old).div_(scale).abs_().max()) <= 0.5 + _OFF_GRID:
            return "moved"
        low, high = (end.unsqueeze(-1) for end in old.aminmax(dim=-1))
        width = 2 * torch.maximum(-low, high) if grid.symmetric else high.clamp(min=0) - low.clamp(max=0)
        if bool((scale * steps > width * (1 + _OFF_GRID)).logical_and(width > torch.finfo(torch.float32).tiny * steps).any()):
            return "wide"
    return ""


def _positive(scale: torch.Tensor) -> bool:
    return float(scale.min()) > 0 and float(scale.max()) < float("inf")


def _off_float(weight: torch.Tensor, found: Float) -> str:
    if found.scale is not None and not _positive(found.scale):
        return "scale"
    numbers = weight if found.scale is None else weight / found.scale
    if not float(numbers.abs().max()) <= torch.finfo(FLOATS[found.name]).max * (1 + _OFF_GRID):
        return "range"
    counts = numbers / _spacing(numbers, found.name)
    return "" if float(counts.sub_(counts.round()).abs_().max()) <= _OFF_GRID else "grid"


def _float_moved(weight: torch.Tensor, before: torch.Tensor, found: Float) -> str:
    scale = torch.ones(()) if found.scale is None else found.scale
    moved = (weight - before).div_(scale).abs_().div_(_spacing(before / scale, found.name))
    if not float(moved.max()) <= 0.5 + _OFF_GRID:
        return "moved"
    if found.scale is not None:
        largest = before.abs().amax(dim=1, keepdim=True)
        top = torch.finfo(FLOATS[found.name]).max
        if bool((scale * top > largest * (1 + _OFF_GRID)).logical_and(largest > torch.finfo(torch.float32).tiny * top).any()):
            return "wide"
    return ""


def _spacing(numbers: torch.Tensor, name: str) -> torch.Tensor:
    """Return the distance of neighbours of a format around each number: a power of two, least among the subnormal ones.

    The exponent bits of a float32 alone are the power of two below it; `frexp` and `ldexp` give the same 15 times slower.
    """
    info = torch.finfo(FLOATS[name])
    power = numbers.abs().clamp_(info.smallest_normal, info.max).view(torch.int32).bitwise_and_(_EXPONENT)
    return power.view(torch.float32).mul_(info.eps)
