"""What a compression method gets to see: the weights of a scope, and nothing else of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pytest_kick.compress.formats import Format
    from pytest_kick.models.scopes import Matrix
    from pytest_kick.spec import CompressionStep


class PreHook(Protocol):
    """Change what a module is about to see, as `torch.nn.Module.register_forward_pre_hook` calls it."""

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], /) -> tuple[Any, ...] | None:
        """Return the inputs to take instead, None for these; of the dtype and on the device of those that came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Hold one matrix of the scope.

    Attributes:
        matrix: which one.
        weight: `(out, in)` contiguous float32 on the CPU; a method changes it in place.
        layer: the module whose parameter it is; a method may look, and changes nothing there.
    """

    matrix: Matrix
    weight: torch.Tensor
    layer: nn.Module

    def flat(self) -> Any:  # noqa: ANN401 - numpy's own types say no more
        """Return the weights as a 1-D NumPy array that shares their memory."""
        return self.weight.numpy().reshape(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """Hold the matrices of a scope, in the order of the model.

    Attributes:
        items: the matrices.
        n_body: 2-D weights of the whole model without embeddings and head.
        n_attention: weights of all attention matrices of the model.
        grids: name of a matrix -> step of its int8 grid, `(out, 1)` or `(1, 1)` float32; a quantizer enters its matrices here.
        formats: name of a matrix -> the format it is in; a quantizer that only rounds weights enters its matrices here.
        packed: name of a module -> the module that takes its place after the cast, for quantizers whose layout is not numerics.
        hooks: name of a module -> a forward pre-hook it gets after the cast, such as the rounding of its input; one that stands there
            by an earlier step may be replaced.
        kernels: name of a module -> a library's layer of packed weights that takes its place after the cast, and its hook's: what it
            computes is what the weights and the hook simulate.
        module: the model, for methods that ask which matrices belong together; they may look, and change nothing there.
        dropped: name of a matrix -> which of its weights a smaller model would not have, `(out, in)` bool: those of heads, neurons and
            blocks that are gone.
        skipped: names of blocks whose call gives back the hidden states that it is given, from the end of the step on.
    """

    items: tuple[Target, ...]
    n_body: int
    n_attention: int
    grids: dict[str, torch.Tensor] = field(default_factory=dict)
    formats: dict[str, Format] = field(default_factory=dict)
    packed: dict[str, nn.Module] = field(default_factory=dict)
    hooks: dict[str, PreHook] = field(default_factory=dict)
    kernels: dict[str, nn.Module] = field(default_factory=dict)
    module: nn.Module | None = None
    dropped: dict[str, torch.Tensor] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)

    @property
    def n(self) -> int:
        """Return the number of weights in the scope."""
        return sum(item.matrix.n for item in self.items)


def write_back(module: nn.Module, item: Target) -> None:
    """Put the weights of a target into the model, where they do not share memory with its parameter."""
    parameter = module.get_parameter(item.matrix.parameter).detach()
    if item.weight.data_ptr() != parameter.data_ptr() or item.matrix.part is not None or item.matrix.transposed:
        item.matrix.write_(parameter, item.weight)


class Method(Protocol):
    """Change the weights of a scope in place, as one step of a compression asks.

    It sees float32 masters only, sets weights to zero or onto a grid, and need not check itself: the caller measures what was
    achieved, matrix by matrix, against the weights as they were.
    """

    def __call__(self, targets: Targets, step: CompressionStep) -> None:
        """Change `targets` in place."""
