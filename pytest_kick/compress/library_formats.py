"""Formats of other people's libraries: what a matrix in them can hold, and how many bits they store."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from pytest_kick.compress.formats import SIDE_BITS, Grid

FLOAT_BITS = 32
NESTED = 256
"""Scales that share a scale of their own, where bitsandbytes quantizes scales too."""
_CODE_BITS = 8
_SPARE_BITS = {3: 2 / 10}
"""Bits of a code that HQQ leaves unused: it packs ten codes of 3 bits into 32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Hold 4-bit numbers in blocks, as bitsandbytes has them.

    Attributes:
        name: `nf4` or `fp4`.
        block: weights that share a scale, in the order of rows; the last block may be shorter.
        double: whether scales are 8-bit numbers, with a float32 scale for each `NESTED` of them and a float32 mean.
        table: `(16,)` float32, the numbers that a code stands for.
        scale: `(blocks,)` float32, as the weights are multiplied by it.
    """

    name: str
    block: int
    double: bool
    table: torch.Tensor
    scale: torch.Tensor

    @property
    def bits(self) -> int:
        """Return the bits of a code."""
        return 4

    @property
    def side_bits(self) -> int:
        """Return the bits that scales take; the table is the format's own."""
        return self._side_bits(self.scale.numel())

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: scales of blocks that have weights left."""
        flat = functional.pad(kept.reshape(-1), (0, -kept.numel() % self.block))
        return self._side_bits(int(flat.view(-1, self.block).any(dim=1).sum()))

    def _side_bits(self, n: int) -> int:
        return n * _CODE_BITS + (-(-n // NESTED) + 1) * FLOAT_BITS if self.double and n else n * FLOAT_BITS

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` is in this format, bit for bit."""
        scale = self.scale.repeat_interleave(self.block)[: weight.numel()]
        flat, table = weight.reshape(-1), self.table.sort().values
        numbers = torch.where(scale == 0, 0.0, flat / scale)
        return flat.equal(table[torch.bucketize(numbers, (table[:-1] + table[1:]) / 2)] * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """Hold uniform grids whose zero point is a real number, as HQQ has them: zero is no value of theirs.

    Attributes:
        bits: of a code.
        group: weights that share a step and a zero point, in the order of rows along `axis` 1, strided over the matrix along 0; 0 for
            all of a row or column.
        axis: 1 or 0.
        n: number of weights.
        scale: steps, `(groups, 1)` float32, `(1, groups)` for axis 0.
        zero: zero points, likewise.
    """

    bits: int
    group: int
    axis: int
    n: int
    scale: torch.Tensor
    zero: torch.Tensor

    @property
    def side_bits(self) -> int:
        """Return the bits that steps and zero points take, and what HQQ's packing leaves unused."""
        return self._side_bits(self.scale.numel(), self.n)

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: steps and zero points of groups that have weights left, and the packing of these."""
        groups = grouped_flat(kept, self.group, self.axis).any(dim=self.axis)
        return self._side_bits(int(groups.sum()), int(kept.sum()))

    def _side_bits(self, groups: int, n: int) -> int:
        return groups * 2 * SIDE_BITS + round(n * _SPARE_BITS.get(self.bits, 0))

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` is in this format, bit for bit."""
        parts = grouped_flat(weight, self.group, self.axis)
        codes = (parts / self.scale + self.zero).round_().clamp_(0, 2**self.bits - 1)
        return parts.equal((codes - self.zero) * self.scale)


def grouped_flat(weight: torch.Tensor, group: int, axis: int) -> torch.Tensor:
    """Return a matrix `(out, in)` as HQQ groups it: `(groups, group)` for axis 1, `(group, groups)` for axis 0; as it is without groups."""
    if not group:
        return weight
    return weight.reshape((-1, group) if axis == 1 else (group, -1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Rows:
    """Hold int8 codes, a float32 scale per row, and, for SmoothQuant, a factor per input.

    Attributes:
        scale: `(out, 1)` float32, the step of a code.
        smooth: `(in,)` float32, what columns were multiplied by before they were rounded; None for 1.
        low: the smallest code, -127 or -128.
    """

    scale: torch.Tensor
    smooth: torch.Tensor | None = None
    low: int = -127

    @property
    def bits(self) -> int:
        """Return the bits of a code."""
        return _CODE_BITS

    @property
    def side_bits(self) -> int:
        """Return the bits that scales and factors take."""
        return self.scale.numel() * FLOAT_BITS + (0 if self.smooth is None else self.smooth.numel() * SIDE_BITS)

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: scales of rows, and factors of columns, that have weights left."""
        return int(kept.any(dim=1).sum()) * FLOAT_BITS + (0 if self.smooth is None else int(kept.any(dim=0).sum()) * SIDE_BITS)

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` is in this format, bit for bit."""
        return weight.equal(self.rounded(weight))

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the nearest values of the format to a matrix `(out, in)`."""
        smooth = torch.ones(()) if self.smooth is None else self.smooth
        codes = (weight * smooth * self.scale.reciprocal()).round_().clamp_(self.low, 127)
        return codes.mul_(self.scale).div_(smooth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """Hold grids over columns that were multiplied by a factor each, as AWQ has them.

    Attributes:
        grid: of the multiplied columns.
        factor: `(in,)` float32, above 0.
    """

    grid: Grid
    factor: torch.Tensor

    @property
    def bits(self) -> int:
        """Return the bits of a code."""
        return self.grid.bits

    @property
    def side_bits(self) -> int:
        """Return the bits that steps, zero points and factors take."""
        return self.grid.side_bits + self.factor.numel() * SIDE_BITS

    def side_bits_of(self, kept: torch.Tensor) -> int:
        """Return those bits of a smaller matrix: as those of its grid, and factors of columns that have weights left."""
        return self.grid.side_bits_of(kept) + int(kept.any(dim=0).sum()) * SIDE_BITS

    def holds(self, weight: torch.Tensor) -> bool:
        """Return whether a matrix `(out, in)` is in this format, bit for bit."""
        return weight.equal(self.rounded(weight))

    def rounded(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the nearest values of the format to a matrix `(out, in)`."""
        scaled = weight * self.factor
        self.grid.round_(scaled)
        return scaled.div_(self.factor)
