"""Pack codes into words, bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np


def bits_of(codes: np.ndarray, bits: int) -> list[int]:
    """Return the bits of codes, one after the other, each from its lowest on."""
    return [int(code) >> i & 1 for code in codes for i in range(bits)]


def words(row: np.ndarray, bits: int, *, dense: bool = True) -> list[int]:
    """Pack a row into signed 32-bit words as one stream of bits, or as many whole codes to a word as fit."""
    per = 32 // bits
    streams = (
        [bits_of(row, bits)] if dense else [bits_of(row[i : i + per], bits) + [0] * (32 - per * bits) for i in range(0, len(row), per)]
    )
    stream = [bit for part in streams for bit in part]
    stream += [0] * (-len(stream) % 32)
    numbers = [sum(bit << i for i, bit in enumerate(stream[start : start + 32])) for start in range(0, len(stream), 32)]
    return [number - 2**32 if number >= 2**31 else number for number in numbers]


def packed(codes: np.ndarray, bits: int, *, dense: bool = True) -> torch.Tensor:
    """Pack each row."""
    return torch.tensor([words(row, bits, dense=dense) for row in codes], dtype=torch.int32)
