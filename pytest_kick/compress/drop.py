"""Structured pruning of what a model is built of: attention heads, neurons of feed-forward layers, whole blocks.

What is dropped is set to zero in all matrices that it takes part in, so that it adds nothing, and the rest keeps its bits: biases
too, which lie outside every scope. The bias of a value only passes through columns of the output projection that are zero then.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_kick.calibration.inputs import first_tensor
from pytest_kick.compress.prune import random_keys
from pytest_kick.compress.rank import smallest
from pytest_kick.compress.structure import blocks_in, heads_in, neurons_in
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import nn

    from pytest_kick.compress.structure import Block, Group
    from pytest_kick.compress.targets import Targets
    from pytest_kick.models.matrices import Matrix
    from pytest_kick.spec import CompressionStep


def drop_heads(targets: Targets, step: CompressionStep) -> None:
    """Drop attention heads: their rows of queries, keys and values, their columns of the output projection.

    Where queries share keys and values, a key-value head goes with all its queries. Those dropped by an earlier step count first.

    Raises:
        CompressionError: the heads are not known or not wholly in the scope, or more are asked for than there are.

    Source: Michel et al. (2019), arXiv 1905.10650, for heads as units; the norm of weights as their importance needs no data.
    """
    _drop_units(targets, step, heads_in(targets, step), "heads")


def drop_neurons(targets: Targets, step: CompressionStep) -> None:
    """Drop neurons of feed-forward layers: their rows of up and gate, their columns of down. Otherwise as `drop_heads`."""
    _drop_units(targets, step, neurons_in(targets, step), "neurons")


def drop_layers(targets: Targets, step: CompressionStep) -> None:
    """Drop whole blocks: their matrices become zero, and what they are given goes on unchanged (`skip_`).

    Blocks dropped by an earlier step count first; the order is that of the others. `count` and `sparsity` go for each stack:
    encoder and decoder lose so many blocks each.

    Raises:
        CompressionError: the scope holds parts of a block only, or more are asked for than there are.

    Source: `deep`: Gromov et al. (2024), arXiv 2403.17887, section 4.4, the deepest but the last; Men et al. (2024), arXiv
    2403.03853, find the same blocks redundant. `last` and `even`: top and alternate dropping of Sajjad et al. (2020), arXiv 2004.03844.
    """
    blocks = blocks_in(targets, step)
    share = _share(targets, step, [matrix for block in blocks for matrix in block.matrices])
    weights = {item.matrix.name: item.weight for item in targets.items}
    stacks: dict[str, list[Block]] = {}
    for block in blocks:
        stacks.setdefault(block.stack, []).append(block)
    single = next((block.name for block in blocks if len(stacks[block.stack]) == 1), None)
    if single:
        msg = f"{step.id}: blocks: got {single} alone, expected two or more with weights of their own. Choose another method."
        raise CompressionError(msg)
    sizes = [len(stack) for stack in stacks.values()]
    counts = [_count(step, share, n, f"blocks of {name}") for name, n in zip(stacks, sizes, strict=True)]
    _refuse_nothing(step, counts, sizes, "blocks")
    for stack, k in zip(stacks.values(), counts, strict=True):
        gone = [block for block in stack if block.name in targets.skipped]
        left = [block for block in stack if block.name not in targets.skipped]
        for block in (*gone, *(left[i] for i in _chosen(step, left, weights, max(k - len(gone), 0)))):
            for matrix in block.matrices:
                weights[matrix.name].zero_()
                targets.dropped[matrix.name] = torch.ones(matrix.shape, dtype=torch.bool)
            targets.skipped.add(block.name)


def skip_(block: nn.Module) -> None:
    """Let a block give back the hidden states that it is given, until the model is restored.

    The block itself still runs: other things that it returns, such as T5's position bias, which all blocks share, are kept. Zero
    weights alone would not do: biases of the two output projections, and the norms of BERT and its like, which come after the sum,
    would change what passes.
    """
    forward = block.forward

    def passing(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the block takes and returns
        given = kwargs["hidden_states"] if "hidden_states" in kwargs else first_tensor(args, kwargs)
        output = forward(*args, **kwargs)
        first = output[0] if isinstance(output, tuple) else output
        if getattr(first, "shape", None) != given.shape:
            msg = f"drop_layers: {type(block).__name__}: got another output than hidden states, expected a block to skip. Choose another."
            raise CompressionError(msg)
        return (given, *output[1:]) if isinstance(output, tuple) else given

    block.__dict__["forward"] = passing


def _drop_units(targets: Targets, step: CompressionStep, groups: tuple[Group, ...], what: str) -> None:
    weights = {item.matrix.name: item.weight for item in targets.items}
    share = _share(targets, step, [matrix for group in groups for matrix in group.matrices])
    keys, sizes = [_keys(step, group, weights) for group in groups], [group.n for group in groups]
    if step.param("among") == "scope":
        counts = [_count(step, share, sum(sizes), f"{what} of the scope")]
        drops = np.split(smallest(np.concatenate(keys), counts[0]), np.cumsum(sizes)[:-1])
        sizes = [sum(sizes)]
    else:
        counts = [_count(step, share, group.n, f"{what} of {group.name}") for group in groups]
        drops = [smallest(key, k) for key, k in zip(keys, counts, strict=True)]
    _refuse_nothing(step, counts, sizes, what)
    for group, drop in zip(groups, drops, strict=True):
        for matrix, units in _units(group, weights):
            units[drop] = 0.0
            axis = 0 if matrix in group.rows else 1
            lines = torch.from_numpy(drop).repeat_interleave(matrix.shape[axis] // group.n).unsqueeze(1 - axis)
            targets.dropped[matrix.name] = targets.dropped.get(matrix.name, torch.zeros(())).bool() | lines.expand(matrix.shape)


def _units(group: Group, weights: dict[str, torch.Tensor]) -> list[tuple[Matrix, NDArray[np.float32]]]:
    """Return each matrix of a group, and a view of it whose first axis are the units."""
    rows = [(m, weights[m.name].numpy().reshape(group.n, -1)) for m in group.rows]
    columns = [(m, weights[m.name].numpy().reshape(m.shape[0], group.n, -1).swapaxes(0, 1)) for m in group.columns]
    return [*rows, *columns]


def _keys(step: CompressionStep, group: Group, weights: dict[str, torch.Tensor]) -> NDArray[np.float64]:
    """Return what units are ranked by, the smallest go first: their squared norm, or random numbers; zero where they are gone."""
    norms = np.zeros(group.n)
    for _, units in _units(group, weights):
        norms += np.square(units, dtype=np.float64).sum(axis=tuple(range(1, units.ndim)))
    if step.param("order") == "norm":
        return norms
    return np.where(norms == 0, 0.0, random_keys(int(step.param("seed")), group.name, group.n).astype(np.float64))


def _chosen(step: CompressionStep, left: Sequence[Block], weights: dict[str, torch.Tensor], k: int) -> list[int]:
    """Return which k of the blocks left go, by their place."""
    n, order = len(left), step.param("order")
    if order == "even":
        return [(2 * i + 1) * n // (2 * k) for i in range(k)]
    if order == "deep":
        return list(range(n - 1 - k, n - 1))
    if order == "last":
        return list(range(n - k, n))
    if order == "norm":
        keys = np.array([sum(float(np.square(weights[m.name].numpy(), dtype=np.float64).sum()) for m in b.matrices) for b in left])
    else:
        keys = np.array([random_keys(int(step.param("seed")), block.name, 1)[0] for block in left], np.float64)
    return [int(i) for i in np.flatnonzero(smallest(keys, k))]


def _share(targets: Targets, step: CompressionStep, matrices: Sequence[Matrix]) -> Fraction:
    """Return which share of the units goes, where the level is one: of what the scope has, or what makes that share of the body.

    Raises:
        CompressionError: the scope has less, or a count is asked for as a share of the model.
    """
    of, level, n = str(step.param("sparsity_of")), Fraction(repr(float(step.level))), sum(matrix.n for matrix in matrices)
    if of == "scope":
        return level
    if step.kind == "count":
        msg = f"{step.id}: sparsity_of: got {of!r} beside a count, expected it beside a sparsity. Remove one."
        raise CompressionError(msg)
    share = level * targets.n_body / n
    if share >= 1:
        msg = (
            f"{step.id}: sparsity_of: got {of!r}, which asks for {int(level * targets.n_body)} weights, expected fewer than the {n} that"
            f" {step.method} can take from the scope {step.scope!r}. Lower the level."
        )
        raise CompressionError(msg)
    return share


def _count(step: CompressionStep, share: Fraction, n: int, what: str) -> int:
    """Return how many of n go.

    Raises:
        CompressionError: all or more.
    """
    k = int(step.level) if step.kind == "count" else int(share * n)
    if k >= n:
        msg = f"{step.id}: {step.kind}: got {step.level:g}, expected fewer than the {n} {what}: one has to stay. Lower it."
        raise CompressionError(msg)
    return k


def _refuse_nothing(step: CompressionStep, counts: Sequence[int], sizes: Sequence[int], what: str) -> None:
    if step.level and not any(counts):
        msg = f"{step.id}: sparsity: got {step.level:g}, expected at least one of the {max(sizes)} {what} it is a share of. Raise it."
        raise CompressionError(msg)
