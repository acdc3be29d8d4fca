"""Check on the weights what `awq` achieved: columns times their recorded factors lie on grids of the bits asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.check import Checked
from pytest_kick.compress.library_formats import Scaled
from pytest_kick.compress.refusal import refuse_faults

if TYPE_CHECKING:
    from pytest_kick.compress.check import Count
    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

_OFF = 1e-3  # of a step
_FAULTS = {
    "format": ("got no such format recorded", "one per matrix", "The method left these out, or took another width or group"),
    "factor": ("got factors that are none", "finite ones above 0, one per input", "Correct the method"),
    "scale": ("got steps or zero points that are none", "finite steps above 0 and zero points that are codes", "Correct the method"),
    "grid": ("got weights off their grid", "codes of the bits asked for", "The method took another width, group or factor"),
    "moved": ("got weights moved to a value that is not the nearest", "the nearest of their grid", "Correct the method"),
    "wide": ("got a grid wider than its weights, so fewer bits", "one from the smallest to the largest weight", "Correct the steps"),
}


def check_scaled(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check the grids of each matrix, its columns multiplied by their factors.

    Args:
        targets: the weights after the step, and the formats recorded.
        step: what was asked.
        before: name of a matrix -> `(out, in)` float32 as it was.
        counts: name of a matrix -> what changed in it.

    Raises:
        CompressionError: no format or another than asked, or weights that are not the nearest in it; names the matrices.
    """
    named = [(item.matrix.name, item.weight) for item in targets.items]
    refuse_faults(step, {name: _fault(weight, before[name], targets.formats.get(name), step) for name, weight in named}, _FAULTS)
    met = sum(not count.changed for count in counts.values())
    return Checked(notes=(f"{met} of {len(counts)} matrices were in this format before",) if met else ())


def _fault(new: torch.Tensor, old: torch.Tensor, found: object, step: CompressionStep) -> str:
    if not isinstance(found, Scaled):
        return "format"
    bits, group, symmetric = int(step.level), int(step.param("group")), bool(step.param("symmetric"))
    width = group or new.shape[1]
    shape = (new.shape[0], -(-new.shape[1] // width))
    grid, factor = found.grid, found.factor
    if (grid.bits, grid.group, grid.symmetric, tuple(grid.scale.shape), tuple(grid.zero.shape)) != (bits, group, symmetric, shape, shape):
        return "format"
    if factor.shape != new.shape[1:] or not float(factor.min()) > 0 or not bool(factor.isfinite().all()):
        return "factor"
    top = 2**bits - 1
    whole = bool((grid.zero == grid.zero.round()).all()) and 0 <= float(grid.zero.min()) <= float(grid.zero.max()) <= top * (not symmetric)
    if not whole or not float(grid.scale.min()) > 0 or not bool(grid.scale.isfinite().all()):
        return "scale"
    return _off(new * factor, old * factor, found, step, width)


def _off(new: torch.Tensor, old: torch.Tensor, found: Scaled, step: CompressionStep, width: int) -> str:
    """Compare each weight with what its own group's step and zero point allow, both spread over the columns."""
    columns = torch.arange(new.shape[1]) // width
    scale, zero = found.grid.scale[:, columns], found.grid.zero[:, columns]
    top, base = 2 ** int(step.level) - 1, 2 ** (int(step.level) - 1) if step.param("symmetric") else 0
    codes, wanted = (part / scale + zero + base for part in (new, old))
    if not float((codes - codes.round()).abs().max()) <= _OFF or float(codes.min()) < -_OFF or float(codes.max()) > top + _OFF:
        return "grid"
    if not float((codes - wanted.clamp(0, top)).abs().max()) <= 0.5 + _OFF:
        return "moved"
    for start in range(0, new.shape[1], width):
        part, size = old[:, start : start + width], found.grid.scale[:, start // width]
        low, high = (end.abs() if step.param("symmetric") else end for end in part.aminmax(dim=1))
        span = 2 * torch.maximum(low, high) if step.param("symmetric") else high.clamp(min=0) - low.clamp(max=0)
        if bool(((size * top > span * (1 + _OFF)) & (span > torch.finfo(torch.float32).tiny * top)).any()):
            return "wide"
    return ""
