"""Round weights and nothing else: `rtn` to integers, `cast` to a smaller floating-point format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.compress.formats import Float, Grid
from pytest_kick.compress.kernels import to_pack
from pytest_kick.compress.packing import pack_floats, pack_integers
from pytest_kick.compress.rounding import PER_TENSOR
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep


def rtn(targets: Targets, step: CompressionStep) -> None:
    """Round each weight to the nearest of its group's grid, in place and in float32.

    A matrix that an earlier step put on such a grid, and that still lies on it, keeps it: the extremes of rounded or pruned
    weights would give another one.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, which rounding its weights again would break.
    """
    refuse_int8(targets, step)
    bits, group, symmetric = int(step.level), group_of(step), bool(step.param("symmetric"))
    dense = to_pack(targets, step)
    for item in targets.items:
        known = targets.formats.get(item.matrix.name)
        same = isinstance(known, Grid) and (known.bits, known.group, known.symmetric, known.order) == (bits, group, symmetric, None)
        if known is not None and same and known.holds(item.weight):
            continue
        grid = Grid.of(item.weight, bits=bits, group=group, symmetric=symmetric)
        grid.round_(item.weight)
        targets.formats[item.matrix.name] = grid
    if dense:
        pack_integers(targets, step, dense, group)


def cast(targets: Targets, step: CompressionStep) -> None:
    """Round each weight to a floating-point format and back, in place; the forward pass stays in the run's dtype.

    A matrix that an earlier step scaled and put into the format, and that still is in it, keeps its scale, as with `rtn`.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, which rounding its weights again would break.
    """
    refuse_int8(targets, step)
    name = str(step.param("format"))
    dense = to_pack(targets, step)
    for item in targets.items:
        known = targets.formats.get(item.matrix.name)
        if isinstance(known, Float) and known.name == name and known.holds(item.weight):
            continue
        kind = Float.of(item.weight, name)
        kind.round_(item.weight)
        targets.formats[item.matrix.name] = kind
    if dense:
        pack_floats(targets, step, dense)


def group_of(step: CompressionStep) -> int:
    """Return the group of a step as `rounding` takes it: inputs that share a step, `PER_CHANNEL` or `PER_TENSOR`."""
    group = step.param("group")
    return PER_TENSOR if group == "tensor" else int(group)


def refuse_int8(targets: Targets, step: CompressionStep) -> None:
    """Refuse matrices that dynamic int8 holds: it packs the grid that it found.

    Raises:
        CompressionError: there is one; names it.
    """
    held = [item.matrix.name for item in targets.items if item.matrix.name in targets.grids]
    if held:
        msg = (
            f"{step.id}: chain: got {held[0]} on the int8 grid of an earlier step ({len(held)} matrices), expected no rounding after"
            f" it. Put {step.method} before dynamic_int8, or choose other matrices."
        )
        raise CompressionError(msg)
