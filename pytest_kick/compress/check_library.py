"""Check on the weights what `nf4` and `hqq` achieved, with nothing taken from the libraries or from the code that calls them.

The numbers of the formats stand here as their papers have them. The scale of a block of `nf4` is measured: its largest weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.check import Checked
from pytest_kick.compress.library_formats import Affine, Blocks
from pytest_kick.compress.refusal import refuse_faults

if TYPE_CHECKING:
    from pytest_kick.compress.check import Count
    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

# QLoRA, arXiv 2305.14314, appendix E; and 4-bit floats of one sign, two exponent bits and one mantissa bit, as bitsandbytes scales them.
_NF4 = (
    *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
)
_FP4_HALF = (0.00520833, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1.0)
NUMBERS = {"nf4": _NF4, "fp4": (*(-x for x in reversed(_FP4_HALF)), 0.0, *_FP4_HALF)}
_OFF = 1e-4  # of a block's largest weight: bitsandbytes has the numbers of fp4 to four digits
_SCALE_OFF = 0.01  # of how far the largest of 256 scales is from their mean: half the widest gap of the 8-bit numbers is 0.004
_NESTED = 256
_GRID_OFF = 1e-3  # of a step
_CODE, _SCALE = 4, 32
_FAULTS = {
    "format": ("got no such format recorded", "one per matrix", "The method left these out, or took another block, group or axis"),
    "scale": ("got blocks of another scale", "the largest weight of each", "Correct the method"),
    "grid": ("got weights off their grid", "values of the format asked for", "The method took another width, block or axis"),
    "many": ("got more values in a group than its bits tell apart", "2**bits at most", "The method took more bits"),
    "moved": ("got weights moved to a value that is not the nearest", "the nearest value of the format", "Correct the method"),
}


def check_blocks(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check that each block of each matrix holds the format's numbers times its scale, the nearest each.

    Args:
        targets: the weights after the step.
        step: what was asked.
        before: name of a matrix -> `(out, in)` float32 as it was.
        counts: name of a matrix -> what changed in it.

    Raises:
        CompressionError: no format or another than asked, or weights that are not in it; names the matrices.
    """
    _refuse(targets, step, before, _block_fault)
    return Checked(notes=_met(counts))


def check_affine(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check that each group of each matrix has no more values than its bits tell apart, evenly spaced, the nearest each.

    Args:
        targets: the weights after the step.
        step: what was asked.
        before: name of a matrix -> `(out, in)` float32 as it was.
        counts: name of a matrix -> what changed in it.

    Raises:
        CompressionError: no format or another than asked, or weights that are not in it; names the matrices.
    """
    _refuse(targets, step, before, _affine_fault)
    return Checked(notes=_met(counts))


def _refuse(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], fault_of: _Fault) -> None:
    named = [(item.matrix.name, item.weight) for item in targets.items]
    refuse_faults(step, {name: fault_of(weight, before[name], targets.formats.get(name), step) for name, weight in named}, _FAULTS)


def _met(counts: dict[str, Count]) -> tuple[str, ...]:
    met = sum(not count.changed for count in counts.values())
    return (f"{met} of {len(counts)} matrices were in this format before",) if met else ()


def _block_fault(new: torch.Tensor, old: torch.Tensor, found: object, step: CompressionStep) -> str:
    block, double = int(step.param("block")), bool(step.param("double_quant"))
    n = -(-new.numel() // block)
    side = n * 8 + (-(-n // _NESTED) + 1) * _SCALE if double else n * _SCALE
    if not isinstance(found, Blocks) or (found.bits, found.side_bits) != (_CODE, side):
        return "format"
    new, old = (torch.nn.functional.pad(part.reshape(-1), (0, n * block - part.numel())).view(n, block) for part in (new, old))
    top, wanted = (part.abs().amax(dim=1, keepdim=True) for part in (new, old))
    if not new.equal(old) and not bool(((top - wanted).abs() <= _scale_room(wanted, double=double)).all()):
        return "scale"
    numbers = torch.tensor(NUMBERS[str(step.param("format"))])
    bounds = (numbers[:-1] + numbers[1:]) / 2
    share, before = (part / scale.clamp(min=torch.finfo(torch.float32).tiny) for part, scale in ((new, top), (old, wanted)))
    near = numbers[torch.bucketize(share, bounds)]
    if not float((share - near).abs().max()) <= _OFF:
        return "grid"
    best = (before - numbers[torch.bucketize(before, bounds)]).abs()
    # A scale that rounding brought to zero leaves no numbers to compare.
    right = ((before - near).abs() <= best + _OFF) | (top == 0)
    return "" if new.equal(old) or bool(right.all()) else "moved"


def _scale_room(scale: torch.Tensor, *, double: bool) -> torch.Tensor:
    """Return how far the scale of each block may be from its largest weight, `(blocks, 1)`."""
    room = scale * _OFF
    if double:
        centred = (scale - scale.mean()).abs().reshape(-1)
        parts = [part.max().expand(part.numel()) for part in torch.split(centred, _NESTED)]
        room = room + torch.cat(parts).unsqueeze(1) * _SCALE_OFF
    return room


def _affine_fault(new: torch.Tensor, old: torch.Tensor, found: object, step: CompressionStep) -> str:
    bits, group, axis = int(step.level), int(step.param("group")), int(step.param("axis"))
    if not isinstance(found, Affine) or (found.bits, found.group, found.axis) != (bits, group, axis):
        return "format"
    # Groups as rows: of `group` weights that follow each other, or of those that lie a whole stride apart.
    flat = [part.reshape((-1, group) if axis else (group, -1)) if group else part for part in (new, old)]
    new, old, scale, zero = (part if axis else part.t() for part in (*flat, found.scale, found.zero))
    if scale.shape != (new.shape[0], 1) or zero.shape != scale.shape or not bool(((scale > 0) & scale.isfinite() & zero.isfinite()).all()):
        return "scale"
    values = new.sort(dim=1).values.diff(dim=1)
    if int((values != 0).sum(dim=1).max()) >= 2**bits:
        return "many"
    codes = new / scale + zero
    room = _GRID_OFF + zero.abs() * 2**-20  # what float32 leaves of a code after adding a large zero point and taking it away
    low, high = (int(end) for end in codes.round().aminmax())
    if not bool(((codes - codes.round()).abs() <= room).all()) or low < 0 or high >= 2**bits:
        return "grid"
    wanted = (old / scale + zero).clamp(0, 2**bits - 1)
    return "" if new.equal(old) or bool(((codes - wanted).abs() <= 0.5 + room).all()) else "moved"


if TYPE_CHECKING:
    from collections.abc import Callable

    _Fault = Callable[[torch.Tensor, torch.Tensor, object, CompressionStep], str]
