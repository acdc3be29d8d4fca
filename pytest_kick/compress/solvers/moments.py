"""Accumulate what calibration needs of one matrix's inputs: column norms, and the second moments of which Hessians are made.

Products are taken and added up in float32; sums of squares of a batch are taken in float32 and added up in float64. Why that is
enough: a sum of products in float32 is off by a few 1e-7 of sqrt(H_ii H_jj), and so is every addition of a batch, so hundreds of batches
stay below 1e-4 of it, while the solvers add 1e-2 of the mean diagonal on purpose. Float64 would double the memory of a pass that keeps
the moments of a whole model, and take twice the time; `dtype` asks for it where that does not matter. Norms rank weights without any
damping and cost a vector each, so their sum over batches is in float64.
"""

from __future__ import annotations

from typing import Self

import torch

from pytest_kick.errors import CompressionError

_STRIPE = 128


class Moments:
    """Hold sums over the real tokens that a matrix has read.

    Attributes:
        n_in: columns of the matrix.
        n_tokens: tokens added so far.
        squares: `(in,)` float64, sum of squares per column.
        gram: `(in, in)`, sum of x x^T in its lower triangle, or None where only norms are wanted; above it stands nothing of use.
        sums: `(in,)` float64, sum of magnitudes per column, or None where they are not wanted.
        largest: `(in,)` float32, largest magnitude per column, likewise.
        dtype: of the products.
    """

    def __init__(self, n_in: int, *, gram: bool = True, magnitudes: bool = False, dtype: torch.dtype = torch.float32) -> None:
        """Start empty.

        Args:
            n_in: columns of the matrix.
            gram: whether second moments are kept too; norms alone cost `tokens * in` instead of `tokens * in**2`.
            magnitudes: whether sums and maxima of magnitudes are kept too.
            dtype: of the second moments and of all products, float32 or float64.
        """
        self.n_in = n_in
        self.n_tokens = 0
        self.dtype = dtype
        self.squares = torch.zeros(n_in, dtype=torch.float64)
        self.gram = torch.zeros(n_in, n_in, dtype=dtype) if gram else None
        self.sums = torch.zeros(n_in, dtype=torch.float64) if magnitudes else None
        self.largest = torch.zeros(n_in) if magnitudes else None

    def add(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> None:
        """Add the inputs of one batch.

        Args:
            x: `(..., in)` of any float dtype, one row per token; leading dimensions are free.
            mask: `(...)` bool or integer, nonzero where a token is real; None where all are. Padding must not come in.

        Raises:
            CompressionError: another number of columns, or a mask of another shape.
        """
        if x.shape[-1] != self.n_in:
            msg = f"calibration: inputs: got {x.shape[-1]} columns, expected the matrix's {self.n_in}. Give the inputs of this matrix."
            raise CompressionError(msg)
        if mask is not None and mask.shape != x.shape[:-1]:
            msg = f"calibration: mask: got shape {tuple(mask.shape)}, expected {tuple(x.shape[:-1])}, one entry per token. Correct it."
            raise CompressionError(msg)
        rows = x.detach().reshape(-1, self.n_in) if mask is None else x.detach()[mask.bool()]
        self.n_tokens += rows.shape[0]
        if rows.shape[0] == 0:
            return
        rows = rows.to(self.dtype)
        self.squares += rows.square().sum(dim=0)
        if self.sums is not None and self.largest is not None:
            magnitudes = rows.abs()
            self.sums += magnitudes.sum(dim=0)
            self.largest = torch.maximum(self.largest, magnitudes.amax(dim=0).float())
        if self.gram is not None:
            for start in range(0, self.n_in, _STRIPE):  # the lower triangle, stripe by stripe: 0.6 of the work of the whole
                stop = min(start + _STRIPE, self.n_in)
                self.gram[start:stop, :stop].addmm_(rows[:, start:stop].T, rows[:, :stop])

    def merge(self, other: Moments) -> None:
        """Add what another one has seen; with the same parts in the same order the sums are equal bit for bit.

        Raises:
            CompressionError: it is of another matrix's size, or one of the two keeps no second moments, or no magnitudes.
        """
        if other.n_in != self.n_in or (other.gram is None) != (self.gram is None) or (other.sums is None) != (self.sums is None):
            msg = f"calibration: moments: got {other}, expected {self}. Merge moments of one matrix, taken alike."
            raise CompressionError(msg)
        self.n_tokens += other.n_tokens
        self.squares += other.squares
        if self.gram is not None and other.gram is not None:
            self.gram += other.gram.to(self.gram.dtype)
        if self.sums is not None and other.sums is not None and self.largest is not None and other.largest is not None:
            self.sums += other.sums
            self.largest = torch.maximum(self.largest, other.largest)

    def __repr__(self) -> str:
        """Return the size and the kind."""
        return f"Moments(n_in={self.n_in}, gram={self.gram is not None}, magnitudes={self.sums is not None})"

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums as plain tensors, as safetensors stores them; `from_state` is the way back."""
        state = {"n_tokens": torch.tensor(self.n_tokens, dtype=torch.int64), "squares": self.squares}
        parts = {"gram": self.gram, "sums": self.sums, "largest": self.largest}
        return state | {name: part for name, part in parts.items() if part is not None}

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> Self:
        """Return the moments that `state` was taken of, sharing its tensors."""
        gram = state.get("gram")
        moments = cls(state["squares"].numel(), gram=False, dtype=torch.float32 if gram is None else gram.dtype)
        moments.n_tokens, moments.squares, moments.gram = int(state["n_tokens"]), state["squares"], gram
        moments.sums, moments.largest = state.get("sums"), state.get("largest")
        return moments

    @property
    def norms(self) -> torch.Tensor:
        """Return the norm ||X_j||_2 of each column over all tokens, `(in,)` float64.

        Raises:
            CompressionError: no token was added, or an input was NaN or infinite.
        """
        self._check()
        return self.squares.sqrt()

    @property
    def means(self) -> torch.Tensor:
        """Return the mean magnitude of each column over all tokens, `(in,)` float32.

        Raises:
            CompressionError: no token was added, an input was NaN or infinite, or no magnitudes were kept.
        """
        self._check()
        return (self._kept(self.sums) / self.n_tokens).float()

    @property
    def peaks(self) -> torch.Tensor:
        """Return the largest magnitude of each column over all tokens, `(in,)` float32.

        Raises:
            CompressionError: as for `means`.
        """
        self._check()
        return self._kept(self.largest)

    @property
    def hessian(self) -> torch.Tensor:
        """Return 2 X^T X / tokens, `(in, in)` in the dtype of the second moments.

        That is the second derivative, by one row of weights, of the squared output error per token. Its scale does not matter to
        the solvers: damping is relative to its diagonal, compensation uses ratios of its factor's entries, and scores are compared
        with each other. Dividing by the tokens keeps it at the size of one squared activation, however long calibration was.

        Raises:
            CompressionError: no token was added, an input was NaN or infinite, or no second moments were kept.
        """
        self._check()
        if self.gram is None:
            msg = "calibration: moments: got norms only, expected second moments. Create them with gram=True."
            raise CompressionError(msg)
        lower = self.gram.tril(-1).mul_(2.0 / self.n_tokens)
        whole = lower + lower.T
        whole.diagonal().copy_(self.gram.diagonal() * (2.0 / self.n_tokens))
        return whole

    @staticmethod
    def _kept(found: torch.Tensor | None) -> torch.Tensor:
        if found is None:
            msg = "calibration: moments: got no magnitudes, expected their sums and maxima. Create them with magnitudes=True."
            raise CompressionError(msg)
        return found

    def _check(self) -> None:
        if self.n_tokens == 0:
            msg = "calibration: tokens: got 0, expected at least 1. Nothing reached this matrix: calibrate on more text."
            raise CompressionError(msg)
        if not bool(torch.isfinite(self.squares).all()):
            bad = int((~torch.isfinite(self.squares)).sum())
            msg = f"calibration: inputs: got NaN or infinite values in {bad} columns, expected finite ones. Run the model in float32."
            raise CompressionError(msg)
