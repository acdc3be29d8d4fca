"""Calibrated methods: `wanda`, `sparsegpt` and `gptq`, each matrix solved on the inputs that it reads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pytest_kick.compress import solvers
from pytest_kick.compress.formats import Grid
from pytest_kick.compress.rounding import apply, fit, n_groups
from pytest_kick.compress.solvers import Pattern, Quantizer
from pytest_kick.compress.weight_only import group_of, refuse_int8

if TYPE_CHECKING:
    from pytest_kick.compress.inputs import Inputs, Seen
    from pytest_kick.compress.solvers import Solution
    from pytest_kick.compress.solvers.masks import Level
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep


def wanda(targets: Targets, step: CompressionStep, inputs: Inputs) -> None:
    """Zero, in each row, the weights of smallest magnitude times norm of their input."""
    level = level_of(step)
    inputs.solve(targets, lambda item, seen: solvers.wanda(item.weight, seen.norms, level), gram=False)


def sparsegpt(targets: Targets, step: CompressionStep, inputs: Inputs) -> None:
    """Zero the weights that cost least, block of columns by block, and let the others make up for them."""
    level, block, damping = level_of(step), int(step.param("block")), float(step.param("damping"))

    def solve(item: Target, seen: Seen) -> Solution:
        return solvers.sparsegpt(item.weight, seen.factor(damping=damping), level, block=block)

    inputs.solve(targets, solve, gram=True)


def gptq(targets: Targets, step: CompressionStep, inputs: Inputs) -> None:
    """Round column by column to the grid of `rtn`, and let the columns still to come make up for each error.

    Raises:
        CompressionError: a matrix has int8 activations by an earlier step, which rounding its weights again would break.
    """
    refuse_int8(targets, step)
    bits, group, symmetric = int(step.level), group_of(step), bool(step.param("symmetric"))
    damping, act_order = float(step.param("damping")), bool(step.param("act_order"))
    quantizer = Quantizer(fit=fit, apply=apply, bits=bits, symmetric=symmetric)
    room = _room_for_grids(targets, group)

    def solve(item: Target, seen: Seen) -> Solution:
        found = solvers.gptq(item.weight, seen.factor(damping=damping, act_order=act_order), quantizer, group_size=group or None)
        assert found.grid is not None
        order = found.grid.order if group else None  # one grid per row holds in any order
        scale, zero = room[item.matrix.name]
        scale.copy_(found.grid.scale)
        zero.copy_(found.grid.zero)
        targets.formats[item.matrix.name] = Grid(bits=bits, group=group, symmetric=symmetric, scale=scale, zero=zero, order=order)
        return found

    inputs.solve(targets, solve, gram=True)


def _room_for_grids(targets: Targets, group: int) -> dict[str, torch.Tensor]:
    """Return name of a matrix -> `(2, out, groups)` float32, steps and zero points to be, all of them in one piece of memory.

    Small tensors that stay, each made between the large ones of a solution that go, would break up the heap that those leave: the
    next large ones fit into no hole any more, and the process grew by a third of SmolLM2's weights over its 210 matrices.
    """
    shapes = [(2, *n_groups(item.matrix.shape, group)) for item in targets.items]
    sizes = [math.prod(shape) for shape in shapes]
    parts = torch.split(torch.empty(sum(sizes)), sizes)
    return {item.matrix.name: part.view(shape) for item, part, shape in zip(targets.items, parts, shapes, strict=True)}


def level_of(step: CompressionStep) -> Level:
    """Return the sparsity of a step, or its pattern."""
    return Pattern(keep=step.pattern[0], of=step.pattern[1]) if step.pattern else step.level
