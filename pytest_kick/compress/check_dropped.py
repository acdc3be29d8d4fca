"""Check on the weights that the heads, neurons or blocks asked for are gone, wholly, and that nothing else changed.

Which matrices make up a head, a neuron or a block comes from `structure`, as their roles come from the table of architectures; what
was dropped of them is counted here anew.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.check import Checked, Count
from pytest_kick.compress.refusal import refuse
from pytest_kick.compress.structure import blocks_in, heads_in, neurons_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.compress.structure import Block, Group
    from pytest_kick.compress.targets import Targets
    from pytest_kick.models.matrices import Matrix
    from pytest_kick.spec import CompressionStep

    Weights = dict[str, torch.Tensor]

_TIE = 1e-9  # of a sum of squares in float64, taken in another order


def check_units(targets: Targets, step: CompressionStep, before: Weights, counts: dict[str, Count]) -> Checked:
    """Check the heads or neurons of a step: the number asked for is zero in all their matrices, and no other weight changed.

    Returns:
        The share of them that is gone (of the body's weights, with `sparsity_of = "model"`), or the number gone where they are fewest.

    Raises:
        CompressionError: another number, a part of one, a smaller one kept, or another weight changed; names the matrices.
    """
    groups = (heads_in if step.method == "drop_heads" else neurons_in)(targets, step)
    after = {item.matrix.name: item.weight for item in targets.items}
    old, new = [[_sizes(group, weights) for group in groups] for weights in (before, after)]
    other = {name for name, count in counts.items() if count.changed}
    for group, size in zip(groups, new, strict=True):
        other -= {m.name for m in group.matrices if not _changed(group, m, before, after)[size > 0].any()}
    what = step.method.removeprefix("drop_")
    refuse(step, sorted(other), "got other weights changed", f"those of whole {what} only", "Correct the method")
    names = [group.name for group in groups]
    if step.param("among") == "scope":
        names, old, new = ["the scope"], [torch.cat(old)], [torch.cat(new)]
    stood, gone = ([int((size == 0).sum()) for size in sizes] for sizes in (old, new))
    asked = [_asked(targets, step, [m for group in groups for m in group.matrices], size.numel()) for size in new]
    _refuse_number(step, names, (stood, gone, asked), what)
    if step.param("order") == "norm":
        wrong = [n for n, a, b in zip(names, old, new, strict=True) if _larger_went(a, b)]
        refuse(step, wrong, f"got {what} dropped that are larger than some kept", "the smallest to go", "Correct the method")
    sizes = torch.split(torch.cat(new), [group.n for group in groups])
    weights = sum(int((s == 0).sum()) * sum(m.n for m in g.matrices) // g.n for g, s in zip(groups, sizes, strict=True))
    return _checked(targets, step, (stood, gone, asked), sum(group.n for group in groups), weights)


def check_blocks(targets: Targets, step: CompressionStep, before: Weights, counts: dict[str, Count]) -> Checked:
    """Check the blocks of a step: the number asked for of each stack is zero and skipped, and no other weight changed.

    Returns:
        The share of blocks gone (of the body's weights, with `sparsity_of = "model"`), or the number where it is least in a stack.

    Raises:
        CompressionError: another number, others than the order says, or another weight changed; names the matrices or blocks.
    """
    blocks = blocks_in(targets, step)
    after = {item.matrix.name: item.weight for item in targets.items}
    gone, stood = ([b for b in blocks if not any(bool(w[m.name].any()) for m in b.matrices)] for w in (after, before))
    inside = {m.name for block in gone for m in block.matrices}
    other = [name for name, count in counts.items() if count.changed and name not in inside]
    refuse(step, other, "got other weights changed", "those of whole blocks only", "Correct the method")
    unlike = sorted({block.name for block in gone} ^ ({block.name for block in blocks} & targets.skipped))
    refuse(step, unlike, "got blocks of zeros that are not skipped, or the reverse", "zeros and skipping together", "Correct the method")
    stacks = list(dict.fromkeys(block.stack for block in blocks))
    n_stood, n_gone, sizes = ([sum(b.stack == stack for b in found) for stack in stacks] for found in (stood, gone, blocks))
    asked = [_asked(targets, step, [m for block in blocks for m in block.matrices], size) for size in sizes]
    _refuse_number(step, stacks, (n_stood, n_gone, asked), "blocks")
    for stack in stacks:
        left = [block for block in blocks if block.stack == stack and block not in stood]
        wrong = _out_of_order(step, left, [block for block in left if block in gone], before)
        refuse(step, wrong, f"got blocks dropped out of the order {step.param('order')!r}", "those that it says", "Correct the method")
    weights = sum(m.n for block in gone for m in block.matrices)
    return _checked(targets, step, (n_stood, n_gone, asked), len(blocks), weights)


def _sizes(group: Group, weights: Weights) -> torch.Tensor:
    """Return the squared norm of each unit, `(n,)` float64."""
    rows = [weights[m.name].double().square().sum(dim=1) for m in group.rows]
    columns = [weights[m.name].double().square().sum(dim=0) for m in group.columns]
    return torch.stack([lines.view(group.n, -1).sum(dim=1) for lines in (*rows, *columns)]).sum(dim=0)


def _changed(group: Group, matrix: Matrix, before: Weights, after: Weights) -> torch.Tensor:
    """Return which units of a matrix changed, `(n,)` bool."""
    lines = (before[matrix.name] != after[matrix.name]).any(dim=1 if matrix in group.rows else 0)
    return lines.view(group.n, -1).any(dim=1)


def _asked(targets: Targets, step: CompressionStep, matrices: Sequence[Matrix], n: int) -> int:
    """Return how many of n should go: the count, or the share of them, or what of them makes the share of the body."""
    if step.kind == "count":
        return int(step.level)
    part, of = Decimal(repr(step.level)).as_integer_ratio()
    if step.param("sparsity_of") == "model":
        part, of = part * targets.n_body, of * sum(matrix.n for matrix in matrices)
    return part * n // of


def _refuse_number(step: CompressionStep, names: Sequence[str], numbers: tuple[list[int], list[int], list[int]], what: str) -> None:
    wrong = [name for name, stood, gone, asked in zip(names, *numbers, strict=True) if gone != max(stood, asked)]
    refuse(step, wrong, f"got {sum(numbers[1])} {what} dropped", f"{sum(numbers[2])}", "The method dropped too little or too much")


def _larger_went(old: torch.Tensor, new: torch.Tensor) -> bool:
    went, kept = old[new == 0], old[new > 0]
    return bool(went.numel() and kept.numel()) and float(went.max()) > float(kept.min()) * (1 + _TIE)


def _out_of_order(step: CompressionStep, left: Sequence[Block], went: Sequence[Block], before: Weights) -> list[str]:
    """Return those dropped of the blocks that were left, or kept, which the order of the step would not."""
    n, k, order = len(left), len(went), step.param("order")
    if order == "norm":
        sizes = torch.tensor([sum(float(before[m.name].double().square().sum()) for m in block.matrices) for block in left])
        flags = torch.tensor([0.0 if block in went else 1.0 for block in left])
        return [block.name for block in went] if _larger_went(sizes, flags) else []
    if order == "random":
        return []
    centres = {int((i + 0.5) * n / k) for i in range(k)}  # of k equal stretches
    first = n - k - (order == "deep")
    places = centres if order == "even" else set(range(first, first + k))
    return [block.name for i, block in enumerate(left) if (i in places) != (block in went)]


def _checked(targets: Targets, step: CompressionStep, numbers: tuple[list[int], list[int], list[int]], n: int, weights: int) -> Checked:
    stood, gone, asked = numbers
    met = sum(s > a for s, a in zip(stood, asked, strict=True))
    share = weights / targets.n_body if step.param("sparsity_of") == "model" else sum(gone) / n
    notes = (f"already more dropped than asked in {met} of {len(gone)} parts",) if met else ()
    return Checked(notes=notes, achieved=float(min(gone)) if step.kind == "count" else share)
