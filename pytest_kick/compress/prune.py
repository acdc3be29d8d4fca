"""Pruning methods: which weights of a scope become zero. All of them prune by rank, so counts are exact."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.compress.rank import Float32, Mask, clear_, exact_count, smallest, zero_smallest_
from pytest_kick.compress.solvers.masks import Pattern, drop_in_rows
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep


def asked_zeros(targets: Targets, step: CompressionStep) -> int:
    """Return how many weights `l1_global` removes: its sparsity of the scope, of the whole body, or of attention.

    Raises:
        CompressionError: more than the scope has.
    """
    of = step.param("sparsity_of")
    base = {"scope": targets.n, "model": targets.n_body, "attention": targets.n_attention}[str(of)]
    count = exact_count(step.level, base)
    if count > targets.n:
        msg = (
            f"{step.id}: sparsity_of: got {of!r}, which asks for {count} zeros, expected at most the {targets.n} weights of"
            f" the scope {step.scope!r}. Lower the level."
        )
        raise CompressionError(msg)
    return count


def l1_global(targets: Targets, step: CompressionStep) -> None:
    """Zero the weights of smallest magnitude over the union of the scope."""
    zero_smallest_([item.flat() for item in targets.items], asked_zeros(targets, step))


def l1_per_matrix(targets: Targets, step: CompressionStep) -> None:
    """Zero the weights of smallest magnitude of each matrix, or of each group of M inputs of a row: study B's magnitude pruning."""
    for item in targets.items:
        if step.pattern:
            pattern = Pattern(keep=step.pattern[0], of=step.pattern[1])
            item.weight.masked_fill_(drop_in_rows(item.weight.abs(), pattern), 0.0)
        else:
            zero_smallest_([item.flat()], exact_count(step.level, item.matrix.n))


def random_unstructured(targets: Targets, step: CompressionStep) -> None:
    """Zero random weights of each matrix; what is zero already goes first. A higher level zeroes a superset."""
    for item in targets.items:
        flat = item.flat()
        keys = random_keys(int(step.param("seed")), item.matrix.name, flat.size)
        clear_(flat, smallest(np.where(flat == 0, np.uint32(0), keys), exact_count(step.level, flat.size)))


def ln_structured(targets: Targets, step: CompressionStep) -> None:
    """Zero the rows (outputs) or columns (inputs) of smallest L1 or L2 norm of each matrix."""
    for item in targets.items:
        weight, axis = item.weight.numpy(), _axis(step)
        clear_lines_(weight, axis, smallest(norms(weight, axis, int(step.param("n"))), exact_count(step.level, weight.shape[axis])))


def random_structured(targets: Targets, step: CompressionStep) -> None:
    """Zero random rows (outputs) or columns (inputs) of each matrix; what is zero already goes first."""
    for item in targets.items:
        weight, axis = item.weight.numpy(), _axis(step)
        keys = random_keys(int(step.param("seed")), item.matrix.name, weight.shape[axis])
        keys[~weight.any(axis=1 - axis)] = 0
        clear_lines_(weight, axis, smallest(keys, exact_count(step.level, weight.shape[axis])))


def _axis(step: CompressionStep) -> int:
    return 0 if step.param("dim") == "rows" else 1


def norms(weight: Float32, axis: int, n: int) -> NDArray[np.float64]:
    """Return the L1 or (squared) L2 norm of each row (axis 0) or column (axis 1) of a matrix.

    Summed in float64, so that the order of summation, which differs between processors, does not decide a rank.
    """
    powers = np.abs(weight) if n == 1 else np.square(weight, dtype=np.float64)
    sums: NDArray[np.float64] = powers.sum(axis=1 - axis, dtype=np.float64)
    return sums


def clear_lines_(weight: Float32, axis: int, drop: Mask) -> None:
    """Set the marked rows (axis 0) or columns (axis 1) to zero, in place."""
    weight[drop if axis == 0 else (slice(None), drop)] = 0.0


def random_keys(seed: int, name: str, n: int) -> NDArray[np.uint32]:
    """Return n random keys above zero, the same for the same seed and name on every platform and NumPy version.

    Source: raw output of PCG64, whose stream NumPy guarantees (NEP 19).
    """
    stream = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw((n + 1) // 2)
    keys: NDArray[np.uint32] = np.maximum(stream.astype("<u8", copy=False).view("<u4")[:n], 1)
    return keys
