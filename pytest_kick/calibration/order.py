"""The order in which a model runs: its blocks, and which matrices share one input, seen on a short sequence."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_kick.calibration.inputs import first_tensor, input_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.models.matrices import Matrix

_SHORT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Hold matrices that are solved together.

    Attributes:
        matrices: of one block, in the order of the model; or of one module outside the blocks.
        first: index, among the calls of blocks in one forward pass, of this block's first call; for a module outside, of the first
            call after it, or their number where none comes after it.
        last: index of its last call; for a module outside the same as `first`.
    """

    matrices: tuple[Matrix, ...]
    first: int
    last: int


@dataclass(slots=True, kw_only=True)
class Order:
    """Hold what one forward pass showed.

    Attributes:
        calls: names of the blocks, in the order they were called; a block that runs several times stands there several times.
        layers: names of the Linear and Conv1D modules, in the order of their first calls.
        shared: name of such a module -> name of the first one that was given the very same tensor.
        reached: name of such a module -> number of calls of blocks before its first call.
    """

    calls: list[str] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    shared: dict[str, str] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)

    def keys(self, matrices: tuple[Matrix, ...], *, by_block: bool = False) -> dict[str, str]:
        """Return `input_name` of each matrix -> the key of its inputs: the first layer of the model that was given the same tensor.

        Args:
            matrices: any of the model's; the keys do not depend on which others are asked for.
            by_block: share inside a block only: the cross-attention of each block has keys of its own then.
        """
        first: dict[tuple[str, str], str] = {}
        found = {name: first.setdefault((block_of(name) if by_block else "", self.shared[name]), name) for name in self.layers}
        return {input_name(m): found.get(input_name(m), input_name(m)) for m in matrices}

    def stages(self, matrices: tuple[Matrix, ...]) -> tuple[Stage, ...]:
        """Return the matrices by block, and those outside the blocks by module, all in the order of execution.

        Outside are, before the blocks, projections of embeddings, and after them the transform of a masked-LM head and the
        vocabulary layer.
        """
        groups: dict[str, list[Matrix]] = {}
        for matrix in matrices:
            block = block_of(matrix.module)
            groups.setdefault(block if block in self.calls else matrix.module, []).append(matrix)
        rank = {name: place for place, name in enumerate(self.layers)}
        stages = []
        for name, found in groups.items():
            if name in self.calls:
                first, last = self.calls.index(name), len(self.calls) - 1 - self.calls[::-1].index(name)
            else:
                first = last = self.reached.get(name, len(self.calls))
            place = (first, name in self.calls, rank.get(name, len(rank)))
            stages.append((place, Stage(matrices=tuple(found), first=first, last=last)))
        return tuple(stage for _, stage in sorted(stages, key=lambda entry: entry[0]))


def block_of(name: str) -> str:
    """Return the name of the block that a module belongs to, up to its first number: `encoder.block.3`; "" where there is none."""
    found = re.match(r"^((?:[^.]*\.)*?\d+)(?:\.|$)", name)
    return found.group(1) if found else ""


def shortened(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the first sequence of a batch, cut to a few tokens: enough to see what runs when."""
    return {name: value[:1, :_SHORT] for name, value in batch.items()}


@torch.no_grad()
def observe(module: nn.Module, batch: Mapping[str, torch.Tensor]) -> Order:
    """Run a short sequence and see in which order blocks are called, and which layers are given the same tensor.

    Two layers share an input where they are given the same memory in the same version: nothing wrote to it in between.
    """
    order = Order()
    kept: list[torch.Tensor] = []  # memory that is held is not given to another tensor
    givers: dict[tuple[Any, ...], str] = {}
    handles = []
    for name, child in module.named_modules():
        if name and block_of(name) == name:
            handles.append(child.register_forward_pre_hook(lambda _m, _a, name=name: order.calls.append(name)))
        if not isinstance(child, (nn.Linear, Conv1D)):
            continue

        def see(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str = name) -> None:
            if name in order.shared:
                return
            x = first_tensor(args, kwargs)
            kept.append(x)
            same = (x.data_ptr(), tuple(x.shape), x.stride(), x._version)  # noqa: SLF001 - torch has no public name
            order.layers.append(name)
            order.reached[name] = len(order.calls)
            order.shared[name] = givers.setdefault(same, name)

        handles.append(child.register_forward_pre_hook(see, with_kwargs=True))
    try:
        module(**shortened(batch), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return order
