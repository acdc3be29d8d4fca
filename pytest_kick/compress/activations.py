"""Quantizers that round inputs too: `llm_int8` and `smoothquant`. Weights are rounded in place, inputs by a hook as they come.

A hook rounds each token by itself and puts it back into the dtype of the run, so that neither padding nor what else is in a batch
changes what a token gives, unless `columns = "batch"` asks for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_kick.compress.kernels import to_pack
from pytest_kick.compress.library_formats import Int8Rows
from pytest_kick.compress.packing import pack_rows
from pytest_kick.compress.quantize import refuse_rounded, row_scale, to_grid
from pytest_kick.compress.refusal import refuse
from pytest_kick.compress.solvers import Solution
from pytest_kick.compress.weight_only import refuse_int8

if TYPE_CHECKING:
    from pytest_kick.compress.inputs import Inputs, Seen
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep

_SMALLEST = torch.finfo(torch.float32).tiny
_EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundBelow:
    """Round the inputs of a layer to int8, token by token, but for outliers.

    Attributes:
        threshold: magnitude from which an input is an outlier.
        batch: a column in which any token of the call has an outlier is left as it is for all of them, as bitsandbytes does.
    """

    threshold: float
    batch: bool

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], /) -> tuple[Any, ...]:
        """Return the inputs with the first of them rounded."""
        del module
        return (self.rounded(inputs[0]), *inputs[1:])

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Return `(..., in)` in the dtype of `x`; a token's step is its largest magnitude below the threshold over 127."""
        values = x.float()
        outlier = values.abs() >= self.threshold
        rest = values.masked_fill(outlier, 0.0)
        step = (rest.abs().amax(dim=-1, keepdim=True) / 127).clamp_(min=_SMALLEST)
        kept = outlier.reshape(-1, x.shape[-1]).any(dim=0) if self.batch else outlier
        return torch.where(kept, x, (rest / step).round_().mul_(step).to(x.dtype))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSmoothed:
    """Round the inputs of a layer to int8, token by token, after each column was divided by its factor, and multiply them again.

    Attributes:
        factor: `(in,)` float32, above 0.
    """

    factor: torch.Tensor

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], /) -> tuple[Any, ...]:
        """Return the inputs with the first of them rounded."""
        del module
        return (self.rounded(inputs[0]), *inputs[1:])

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Return `(..., in)` in the dtype of `x`, on the grid of torchao's dynamic int8 for each token."""
        factor = self.factor.to(x.device)
        values = (x.float() / factor).reshape(-1, x.shape[-1])
        step = row_scale(values)
        return to_grid(values, step).float().mul_(step).reshape(x.shape).mul_(factor).to(x.dtype)


def llm_int8(targets: Targets, step: CompressionStep) -> None:
    """Round the weights of each output to int8, and inputs too but for outliers, which meet the same weights as floats.

    Raises:
        CompressionError: inputs that an earlier step rounds, or a matrix whose inputs are not those of one linear layer.

    Source: Dettmers et al. (2022), "LLM.int8()", arXiv 2208.07339, section 3; bitsandbytes rounds the weights of outlier columns too.
    """
    refuse_inputs(targets, step)
    threshold, batch = float(step.param("threshold")) or float("inf"), str(step.param("columns")) == "batch"
    dense = to_pack(targets, step)
    for item in targets.items:
        targets.hooks[item.matrix.module] = RoundBelow(threshold=threshold, batch=batch)
        scale = (item.weight.abs().amax(dim=1, keepdim=True) / 127).clamp_(min=_SMALLEST)
        found = Int8Rows(scale=scale)
        item.weight.copy_(found.rounded(item.weight))
        targets.formats[item.matrix.name] = found
    if dense:
        pack_rows(targets, step, dense)


def smoothquant(targets: Targets, step: CompressionStep, inputs: Inputs) -> None:
    """Round weights per output and inputs per token to int8, after a factor per input has moved magnitude from these to those.

    Raises:
        CompressionError: inputs that an earlier step rounds, or a matrix whose inputs are not those of one linear layer.

    Source: Xiao et al. (2022), "SmoothQuant", arXiv 2211.10438, equation 4; factors per layer, and the int8 grids, as in torchao's
    `SmoothQuantConfig` over `Int8DynamicActivationInt8WeightConfig`.
    """
    refuse_inputs(targets, step)
    alpha = float(step.param("alpha"))
    largest: dict[str, torch.Tensor] = {}
    for item in targets.items:
        found = item.weight.abs().amax(dim=0)
        largest[item.matrix.module] = torch.maximum(found, largest.get(item.matrix.module, found))

    def solve(item: Target, seen: Seen) -> Solution:
        name, weight = item.matrix.module, largest[item.matrix.module]
        factor = (seen.peaks + _EPS).pow(alpha) / (weight + _EPS).pow(1 - alpha)
        form = Int8Rows(scale=row_scale(item.weight * factor), smooth=factor, low=-128)
        targets.hooks[name] = RoundSmoothed(factor=factor)
        targets.formats[item.matrix.name] = form
        return Solution(values=form.rounded(item.weight), damping=None, raised=False, dead=seen.peaks == 0)

    inputs.solve(targets, solve, gram=False, magnitudes=True)


def refuse_inputs(targets: Targets, step: CompressionStep) -> None:
    """Refuse matrices whose inputs cannot be rounded, or are rounded already.

    Raises:
        CompressionError: there are some; names them.
    """
    refuse_int8(targets, step)
    refuse_rounded(targets, step)
    other = [item.matrix.name for item in targets.items if not isinstance(item.layer, (nn.Linear, Conv1D))]
    refuse(step, other, "got a module that is no linear layer", "linear layers, whose inputs are seen", "Leave it out of the scope")
    held: dict[str, int] = {}
    for item in targets.items:
        held[item.matrix.module] = held.get(item.matrix.module, 0) + item.matrix.n
    parts = [item.matrix.name for item in targets.items if held[item.matrix.module] < item.layer.weight.numel()]  # type: ignore[operator]
    refuse(step, parts, "got a part of a layer", "all of it, since its inputs are rounded once", "Name the rest of the layer too")
