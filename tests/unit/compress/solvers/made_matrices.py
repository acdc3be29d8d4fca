"""Matrices, inputs and a quantizer for the tests of solvers; the same in plain NumPy, written another way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.compress.solvers import Quantizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float64]


def made(n_out: int, n_in: int, *, tokens: int = 400, seed: int = 0, dead: tuple[int, ...] = ()) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight matrix and strongly correlated inputs of uneven size, float32."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n_in, n_in)) * np.linspace(1, 0.05, n_in)[:, None]
    x = rng.normal(size=(tokens, n_in)) @ mixing * rng.uniform(0.3, 3, n_in)
    x[:, list(dead)] = 0
    return torch.from_numpy(rng.normal(size=(n_out, n_in)).astype(np.float32)), torch.from_numpy(x.astype(np.float32))


def fit(weight: torch.Tensor, bits: int, *, symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Choose scale and zero point of each row; the largest weight lies between two codes, but never in the middle, where rounding ties."""
    if symmetric:
        scale = weight.abs().amax(dim=1, keepdim=True) / (2 ** (bits - 1) - 0.6)
        return scale.clamp(min=1e-20), torch.zeros_like(scale)
    low, high = weight.amin(dim=1, keepdim=True).clamp(max=0), weight.amax(dim=1, keepdim=True).clamp(min=0)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-20)
    return scale, torch.round(-low / scale)


def apply(weight: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, bits: int, *, symmetric: bool) -> torch.Tensor:
    """Round to the nearest value of the grid."""
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    return (torch.clamp(torch.round(weight / scale) + zero, low, high) - zero) * scale


def quantizer(bits: int, *, symmetric: bool) -> Quantizer:
    """Return the quantizer of these tests."""
    return Quantizer(fit=fit, apply=apply, bits=bits, symmetric=symmetric)


def rtn(weight: torch.Tensor, q: Quantizer, group: int | None = None) -> torch.Tensor:
    """Round each group of columns to nearest on its own grid."""
    parts = torch.split(weight, group or weight.shape[1], dim=1)
    return torch.cat([q.apply(part, *q.fit(part, q.bits, symmetric=q.symmetric), q.bits, symmetric=q.symmetric) for part in parts], dim=1)


def damped(x: torch.Tensor, damping: float = 0.01) -> Array:
    """Return X^T X with a share of the mean of its nonzero diagonal entries added to its diagonal."""
    rows = x.numpy().astype(np.float64)
    gram: Array = rows.T @ rows
    live = [gram[j, j] for j in range(len(gram)) if gram[j, j] > 0]
    gram[np.diag_indices_from(gram)] += damping * sum(live) / len(live)
    return gram


def brain_surgeon(
    weight: torch.Tensor, hessian: Array, begin: Callable[[int, Array], None], fix: Callable[[int, int, float], float]
) -> Array:
    """Fix the columns in turn by the formula of the optimal brain surgeon, with an explicit inverse for every column.

    Args:
        weight: `(out, in)`.
        hessian: damped.
        begin: is shown each column's number and all weights as they are before it is fixed.
        fix: returns what becomes of one weight: row, column, current value.
    """
    w: Array = weight.numpy().astype(np.float64)
    for j in range(w.shape[1]):
        begin(j, w)
        inverse = np.linalg.inv(hessian[j:, j:])
        for row in range(w.shape[0]):
            value = fix(row, j, w[row, j])
            w[row, j:] -= (w[row, j] - value) / inverse[0, 0] * inverse[0]
            w[row, j] = value
    return w


def prices(hessian: Array) -> list[float]:
    """Return the loss of an error of 1 in each column, once all later ones make up for it."""
    return [1 / np.linalg.inv(hessian[j:, j:])[0, 0] for j in range(len(hessian))]
