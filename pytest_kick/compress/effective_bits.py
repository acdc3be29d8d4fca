"""How many bits the weights of a scope take, as steps left them: codes, scales, and where zeros are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.compress.check import Count
    from pytest_kick.compress.targets import Target, Targets

Mask = Literal["weights", "rows", "columns"]
"""What has a bit each that says whether it was pruned."""

DENSE_BITS = 32
_CODE_BITS = 8
_SCALE_BITS = 32


def width(targets: Targets, name: str) -> int:
    """Return the bits of a stored value of a matrix; int8 packs what other formats held before it."""
    return _CODE_BITS if name in targets.grids else targets.formats[name].bits if name in targets.formats else DENSE_BITS


def effective_bits(targets: Targets, counts: Sequence[Count], masks: Mapping[str, Mask]) -> int:
    """Return the bits that the scope takes: values kept, where they are, and scales; dense weights as float32.

    What heads, neurons and blocks took that are gone is not stored, nor what belongs to it alone: its scales, and its part of a mask.
    What is not packed is stored whole where that is smaller than a mask and the values kept.

    Args:
        targets: the scope after a step.
        counts: of each matrix, in the same order.
        masks: name of a pruned matrix -> what is marked as pruned or not.
    """
    return sum(_bits_of(targets, item, count, masks.get(item.matrix.name)) for item, count in zip(targets.items, counts, strict=True))


def _bits_of(targets: Targets, item: Target, count: Count, mask: Mask | None) -> int:
    name = item.matrix.name
    each, grid, form = width(targets, name), targets.grids.get(name), targets.formats.get(name)
    kept = _kept(targets, item)
    stored = (count.n if kept is None else int(kept.sum())) * each
    if mask:
        sparse = (count.n - count.zeros) * each + _marks(item, mask, kept)
        stored = sparse if grid is not None else min(sparse, stored)
    if grid is not None:
        return stored + (grid.numel() if kept is None else int(kept.any(dim=1).sum()) if len(grid) > 1 else int(kept.any())) * _SCALE_BITS
    if form is None:
        return stored
    return stored + (form.side_bits if kept is None else form.side_bits_of(kept))


def _kept(targets: Targets, item: Target) -> torch.Tensor | None:
    """Return which weights a smaller model would have, `(out, in)` bool; None for all. What is not zero any more is no smaller model's."""
    dropped = targets.dropped.get(item.matrix.name)
    return None if dropped is None else ~dropped | (item.weight != 0)


def _marks(item: Target, mask: Mask, kept: torch.Tensor | None) -> int:
    if kept is None:
        kept = torch.ones((), dtype=torch.bool).expand(item.matrix.shape)
    return int(kept.sum() if mask == "weights" else kept.any(dim=1 if mask == "rows" else 0).sum())
