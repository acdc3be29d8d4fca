"""The method `checkpoint`: weights that were compressed or fine-tuned elsewhere, put in place of the dense ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pytest_kick.compress.activations import RoundBelow
from pytest_kick.compress.check import Checked, Count
from pytest_kick.compress.formats import in_proportion
from pytest_kick.compress.outside import block_sums
from pytest_kick.compress.refusal import refuse
from pytest_kick.errors import ModelError
from pytest_kick.models.checkpoint import Checkpoint, Trust, open_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from pytest_kick.compress.outside import Sums
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.models.unpack import Activations
    from pytest_kick.spec import CompressionStep

_FLOAT_BITS = 32
_LEAST = 1e-12  # a step above 0 for a token of zeros


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """Hold the format that the files have a matrix in.

    Attributes:
        bits: of one stored value.
        side_bits: what the matrix takes besides.
        sums: of the bits of its values, block by block.
    """

    bits: int
    side_bits: int
    sums: Sums

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix, in proportion."""
        return in_proportion(self.side_bits, kept)

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` has these values still, bit for bit."""
        return bool((block_sums(weight) == self.sums).all())


@dataclass(slots=True, kw_only=True, eq=False)
class Brought:
    """Hold what a step brings from elsewhere.

    Attributes:
        model: that is being changed.
        checkpoint: its new weights.
        whole: take all parameters, not those of the scope's matrices alone.
        notes: what a reader should know.
    """

    model: LoadedModel
    checkpoint: Checkpoint
    whole: bool
    notes: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, Any]:
        """Return what the report of the step says of it."""
        return {"checkpoint": self.checkpoint.hash}

    def parameters(self) -> list[str]:
        """Return the names of the parameters that it takes, those of the scope's matrices not counted."""
        return [name for name, _ in self.model.module.named_parameters()] if self.whole else []


def bring(model: LoadedModel, step: CompressionStep, trust: Trust) -> Brought:
    """Read the checkpoint of a step and compare it with the model, which must be dense.

    A head that is tied in the dense model and has weights of its own in the checkpoint is untied for this cell.

    Raises:
        ModelError: see `open_checkpoint`; or it has two values for a tied parameter that is not the head.
    """
    found = open_checkpoint(Path(str(step.param("path"))), model, step.id, trust)
    notes = list(found.notes)
    whole = step.scope == "overall"
    if found.untied and whole:
        head = model.untie_head_()
        if found.untied != (head,):
            msg = f"{step.id}: {found.untied[0]}: got weights of its own, expected those it is tied to. Save the model with its ties."
            raise ModelError(msg)
        notes.append("head untied from the input embedding")
    return Brought(model=model, checkpoint=found, whole=whole, notes=tuple(notes))


def checkpoint(targets: Targets, step: CompressionStep, brought: Brought) -> None:
    """Take the matrices of the scope, and every other parameter where the scope is `overall`."""
    found, module = brought.checkpoint, brought.model.module
    average = sum(found.sizes.values()) / max(1, sum(found.values[name].numel() for name in found.sizes))
    for item in targets.items:
        item.weight.copy_(item.matrix.read(found.values[item.matrix.parameter]))
        targets.formats[item.matrix.name] = _format(item, found, average or _FLOAT_BITS)
        rounding = found.activations.get(item.matrix.module)
        if rounding is not None:
            targets.hooks[item.matrix.module] = Rounding(rounding)
    inside = {item.matrix.parameter for item in targets.items}
    others = [name for name in brought.parameters() if name not in inside]
    other = [name for name in others if not module.get_parameter(name).equal(found.values[name])]
    for name in others:
        module.get_parameter(name).copy_(found.values[name])
    brought.notes = (*brought.notes, *_notes(found, targets, others, other))
    del step


def _format(item: Target, found: Checkpoint, average: float) -> Stored:
    """Return the format of a matrix; of one that the files name otherwise, by the average of those they do not."""
    name, values = item.matrix.parameter, found.values[item.matrix.parameter]
    width = found.widths.get(name, int(average))
    total = round(found.sizes.get(name, average * values.numel()) * item.matrix.n / values.numel())
    side = total - width * item.matrix.n
    sums = block_sums(item.matrix.read(values))
    return Stored(bits=width if side >= 0 else 0, side_bits=side if side >= 0 else total, sums=sums)


def _notes(found: Checkpoint, targets: Targets, others: list[str], other: list[str]) -> list[str]:
    notes = []
    if other:
        notes.append(f"{len(other)} of {len(others)} parameters besides the matrices of the scope differ from dense")
    rounded = sum(item.matrix.module in found.activations for item in targets.items)
    if rounded:
        notes.append(f"inputs of {rounded} of {len(targets.items)} matrices rounded to 8 bits, as the checkpoint declares")
    left = found.activations.keys() - {item.matrix.module for item in targets.items}
    if left and others:
        notes.append(f"inputs of {len(left)} modules outside the scope not rounded")
    return notes


def check_checkpoint(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check that each matrix has the values of the checkpoint, and say where these are the dense ones.

    Raises:
        CompressionError: a matrix was left out.
    """
    del before
    missing = [
        item.matrix.name
        for item in targets.items
        if not isinstance(found := targets.formats.get(item.matrix.name), Stored) or not found.holds(item.weight)
    ]
    refuse(step, missing, "got other weights than the checkpoint has", "its own", "Report this as a bug")
    same = sum(not count.changed for count in counts.values())
    if same == len(counts):
        return Checked(notes=(f"all {same} matrices bit-identical to dense",))
    return Checked(notes=(f"{same} of {len(counts)} matrices bit-identical to dense",) if same else ())


class Rounding:
    """Round what a module is about to see, as a checkpoint declares it, and turn it back into floats of its dtype.

    Source: compressed-tensors, `quantization.lifecycle.forward.fake_quantize`, per token with a step of its own or with a fixed one;
    LLM.int8: arXiv 2208.07339, section 3.2, columns with an outlier kept as they are.
    """

    def __init__(self, how: Activations) -> None:
        """Hold how to round."""
        self.how = how

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], /) -> tuple[Any, ...]:
        """Round the first input, `(..., in)`."""
        del module
        first = inputs[0]
        return (self.rounded(first.float()).to(first.dtype), *inputs[1:])

    def rounded(self, x: torch.Tensor) -> torch.Tensor:
        """Round `(..., in)` float32."""
        how = self.how
        if how.kind == "llm_int8":
            return RoundBelow(threshold=how.threshold or float("inf"), batch=True).rounded(x)
        low, high = (-128.0, 127.0) if how.kind == "int" else (-448.0, 448.0)
        step, zero = self._grid(x, low, high)
        codes = (x / step + zero).clamp(low, high)
        codes = codes.round() if how.kind == "int" else codes.to(torch.float8_e4m3fn).float()
        return (codes - zero) * step

    def _grid(self, x: torch.Tensor, low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
        if self.how.scale is not None:
            return torch.tensor(self.how.scale), torch.tensor(self.how.zero)
        least, most = (end.unsqueeze(-1) for end in x.aminmax(dim=-1))
        least, most = least.clamp(max=0), most.clamp(min=0)
        if self.how.symmetric:
            return (torch.maximum(-least, most) * 2 / (high - low)).clamp_(min=_LEAST), torch.zeros(())
        step = ((most - least) / (high - low)).clamp_(min=_LEAST)
        return step, (low - least / step).round().clamp_(low, high)
