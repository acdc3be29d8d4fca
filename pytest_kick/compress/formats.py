"""In which format a quantizer left a matrix: what its weights can be, and how many bits it takes to store them.

Bits are counted as the formats in use store them, whatever the simulation computes in: a code per weight, and beside it 16 bits per
step and, where asymmetric, 16 per zero point (4 bits in asymmetric groups of 128 come to 4.25).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from pytest_kick.compress.rounding import apply, fit, grouped

SIDE_BITS = 16
INDEX_BITS = 32  # as checkpoints in act-order store `g_idx`


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Hold uniform grids, one per group of weights.

    Attributes:
        bits: of a code.
        group: inputs that share a step, `rounding.PER_CHANNEL` or `rounding.PER_TENSOR`.
        symmetric: whether zero is code 0 of signed codes.
        scale: steps, `(out, groups)` float32; `(1, 1)` per tensor.
        zero: zero points, likewise; zeros where symmetric.
        order: `(in,)` int64, inputs in the order in which groups take them; None where that is their own.
    """

    bits: int
    group: int
    symmetric: bool
    scale: torch.Tensor
    zero: torch.Tensor
    order: torch.Tensor | None = None

    @classmethod
    def of(cls, weight: torch.Tensor, *, bits: int, group: int, symmetric: bool) -> Grid:
        """Find the grids of a matrix `(out, in)` from the extremes of its groups."""
        found = [fit(part, bits, symmetric=symmetric) for part in grouped(weight, group)]
        scale, zero = (torch.cat(parts, dim=1).squeeze(2) for parts in zip(*found, strict=True))
        return cls(bits=bits, group=group, symmetric=symmetric, scale=scale, zero=zero)

    @property
    def side_bits(self) -> int:
        """Return the bits that steps and zero points take, and the group of each input where they are out of order."""
        return self._side_bits(self.scale.numel(), 0 if self.order is None else self.order.numel())

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: steps of groups that have weights left, and their inputs."""
        steps = sum(int(part.any(dim=2).sum()) for part, _, _ in self.per_group(kept))
        return self._side_bits(steps, 0 if self.order is None else int(kept.any(dim=0).sum()))

    def _side_bits(self, steps: int, ordered: int) -> int:
        return steps * SIDE_BITS * (1 if self.symmetric else 2) + ordered * INDEX_BITS

    def per_group(self, weight: torch.Tensor) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], ...]:
        """Return (weights, their steps, their zero points) of a matrix `(out, in)`, as `rounding.grouped` cuts it.

        The weights are views of the matrix, but a copy where the inputs are out of order.
        """
        parts = grouped(weight if self.order is None else weight[:, self.order], self.group)
        sizes = [part.shape[1] for part in parts]
        return tuple(zip(parts, torch.split(self.scale.unsqueeze(2), sizes, 1), torch.split(self.zero.unsqueeze(2), sizes, 1), strict=True))

    def round_(self, weight: torch.Tensor) -> None:
        """Move each weight of a matrix `(out, in)` to the nearest value of its grid, in place; its inputs stand in their own order."""
        for part, scale, zero in self.per_group(weight):
            part.copy_(apply(part, scale, zero, self.bits, symmetric=self.symmetric))

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix lies on its grids, bit for bit."""
        return all(part.equal(apply(part, s, z, self.bits, symmetric=self.symmetric)) for part, s, z in self.per_group(weight))


FLOATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8_e4m3": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Float:
    """Hold a floating-point format.

    Attributes:
        name: a key of `FLOATS`.
        scale: what the format's numbers are multiplied by, `(out, 1)` float32; None for 1.
    """

    name: str
    scale: torch.Tensor | None

    @classmethod
    def of(cls, weight: torch.Tensor, name: str) -> Float:
        """Find the format of a matrix `(out, in)`: 8-bit ones are scaled so that each row's largest is the format's largest.

        Source: torchao.quantization.quant_primitives._choose_scale_float8, per row (but a row of zeros has a scale there of 0).
        """
        info = torch.finfo(FLOATS[name])
        if info.bits > 8:  # noqa: PLR2004 - formats of 8 bits have too little range to go without
            return cls(name=name, scale=None)
        scale = weight.abs().amax(dim=1, keepdim=True) / info.max
        return cls(name=name, scale=scale.clamp_(min=torch.finfo(torch.float32).tiny))

    @property
    def bits(self) -> int:
        """Return the bits of a number."""
        return torch.finfo(FLOATS[self.name]).bits

    @property
    def side_bits(self) -> int:
        """Return the bits that scales take."""
        return 0 if self.scale is None else self.scale.numel() * SIDE_BITS

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: scales of rows that have weights left."""
        return 0 if self.scale is None else int(kept.any(dim=1).sum()) * SIDE_BITS

    def round_(self, weight: torch.Tensor) -> None:
        """Round each weight of a matrix `(out, in)` to the format and back, in place; what it cannot hold becomes infinite."""
        weight.copy_(self._rounded(weight))

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix is in this format, bit for bit."""
        return weight.equal(self._rounded(weight))

    def _rounded(self, weight: torch.Tensor) -> torch.Tensor:
        kind = FLOATS[self.name]
        if self.scale is None:
            return weight.to(kind).float()
        top = torch.finfo(kind).max  # float32 rounding may leave the largest a hair above, which would be NaN
        return (weight / self.scale).clamp_(-top, top).to(kind).float().mul_(self.scale)


def in_proportion(side_bits: int, kept: torch.Tensor) -> int:
    """Return the bits beside the codes of a smaller matrix, where what they are made of is not known; `kept` as in `Format`."""
    return round(side_bits * int(kept.sum()) / kept.numel())


class Format(Protocol):
    """Describe what quantizers and factorizations enter in `Targets.formats`, besides `Grid` and `Float`.

    A weight costs `bits`, and the whole matrix `side_bits` beside them. A method whose matrices are in a format of its own names its
    own check in the table of methods.
    """

    @property
    def bits(self) -> int:
        """Return the bits of a stored value; 0 where only `side_bits` count."""

    @property
    def side_bits(self) -> int:
        """Return the bits that a matrix takes besides."""

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those that are left where heads, neurons or blocks are gone.

        Args:
            kept: `(out, in)` bool, the weights that are left; none may be.
        """

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` is in this format, bit for bit."""
