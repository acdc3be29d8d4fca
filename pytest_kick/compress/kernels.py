"""Run the kernels that libraries have for a format, `execution = "packed"`, in place of floats that lie on its grid.

A kernel's layer is made from the weights as the step found them, and has to hold what the step left in the master, so that bits and
checks are those of the simulation. It takes the place of the dense layer after the cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_kick.compress.refusal import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.spec import CompressionStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Hold a library's layer without a bias, until the model is cast.

    Attributes:
        layer: takes `(..., in)`, gives `(..., out)`.
        values: `(out, in)` float32, the weights that it holds.
    """

    layer: nn.Module
    values: torch.Tensor


class InFloat32(nn.Module):
    """Call a layer whose packed weights stand for float32 numbers and cannot be cast."""

    def __init__(self, inner: nn.Module) -> None:
        """Take the layer."""
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `(..., out)` float32."""
        result: torch.Tensor = self.inner(x.float())
        return result


class KernelLayer(nn.Module):
    """Stand where a linear layer stood.

    It shows no weight: T5 casts what it hands to a layer to the dtype of its weight, which packed codes do not have.
    """

    weight = None

    def __init__(self, inner: nn.Module, bias: torch.Tensor | None) -> None:
        """Take the library's layer, and the bias of the layer that stood there."""
        super().__init__()
        self.inner = inner
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `(..., out)` in the dtype of `x`."""
        result: torch.Tensor = self.inner(x).to(x.dtype)
        return result if self.bias is None else result + self.bias


def to_pack(targets: Targets, step: CompressionStep) -> dict[str, torch.Tensor]:
    """Return name of a matrix -> a copy of its weights before rounding, where a step asks for kernels; else nothing."""
    return {item.matrix.name: item.weight.clone() for item in targets.items} if step.param("execution") == "packed" else {}


def refuse_others(targets: Targets, step: CompressionStep) -> None:
    """Refuse matrices that are no linear layer of their own, which no kernel takes.

    Raises:
        CompressionError: there are some; names them.
    """
    other = [item.matrix.name for item in targets.items if not isinstance(item.layer, (nn.Linear, Conv1D)) or item.matrix.part]
    refuse(step, other, "got no linear layer of its own", "one for a packed kernel", "Leave it out of the scope, or simulate it")


def enter(targets: Targets, step: CompressionStep, item: Target, kernel: Kernel, *, room: float = 1e-3) -> None:
    """Enter the kernel of a matrix, which holds what the step left there.

    Args:
        targets: whose `kernels` it goes into.
        step: what was asked.
        item: the matrix, rounded.
        kernel: made from it as it was.
        room: how far values may be apart, of the largest weight.

    Raises:
        CompressionError: it holds other weights.
    """
    apart = float((kernel.values - item.weight).abs().max())
    wrong = [item.matrix.name] if not apart <= room * float(item.weight.abs().max()) else []
    advice = "Simulate this step"
    refuse(step, wrong, f"got packed weights that are {apart:g} from the simulated ones", "the same values", advice)
    targets.kernels[item.matrix.module] = kernel.layer


def swap_kernels_(model: LoadedModel, kernels: Mapping[str, nn.Module]) -> None:
    """Put the kernels' layers into a model that was cast; `model.fresh_()` takes them out again."""
    for name, layer in kernels.items():
        bias: Any = getattr(model.module.get_submodule(name), "bias", None)
        model.replace_module(name, KernelLayer(_cast(layer, model), bias).eval())


def _cast(layer: nn.Module, model: LoadedModel) -> nn.Module:
    """Put a layer into the dtype and on the device of the run; bitsandbytes' own follow their inputs, and pack again when moved."""
    if isinstance(layer, nn.Sequential):
        return layer.to(model.dtype).to(model.device)
    return layer if model.device.type == "cpu" else layer.to(model.device)
