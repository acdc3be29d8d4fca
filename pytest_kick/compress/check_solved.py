"""Check the zeros of methods that count along the inputs: N:M patterns, Wanda's rows, SparseGPT's blocks of columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.compress.rank import exact_count
from pytest_kick.compress.refusal import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from numpy.typing import NDArray

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

    Ints = NDArray[np.int64]
    Flags = NDArray[np.bool_]

SOLVED = frozenset({"wanda", "sparsegpt"})


def asked_per_row(step: CompressionStep, n_in: int) -> Ints:
    """Return how many weights of each group of a row should go, `(groups,)`; without a pattern a row is one group.

    A last, shorter group of m weights keeps ceil(N m / M).
    """
    if step.pattern is None:
        return np.asarray([exact_count(step.level, n_in)], np.int64)
    keep, of = step.pattern
    sizes = np.diff(np.append(np.arange(0, n_in, of), n_in))
    return np.asarray(sizes + (-keep * sizes) // of, np.int64)


def check_lines_of_inputs(targets: Targets, step: CompressionStep, before: Mapping[str, torch.Tensor]) -> tuple[str, ...]:
    """Check the zeros of each matrix of a step, as its method counts them.

    Wanda and every pattern: the number asked for in each row, or group of a row; where more stood there before, those and no others.
    SparseGPT without a pattern: the share of the whole matrix, and as much of every row as its blocks leave open: that is, in total.

    Args:
        targets: the weights after the step.
        step: what was asked.
        before: name of a matrix -> `(out, in)` float32 as it was.

    Returns:
        Notes for the report.

    Raises:
        CompressionError: other zeros, or a weight that was zero before and is none now; names the matrices.
    """
    wrong, met, revived = [], [], []
    for item in targets.items:
        old, new = before[item.matrix.name].numpy() == 0, item.weight.numpy() == 0
        revived += [item.matrix.name] if (old & ~new).any() else []
        if step.method == "sparsegpt" and step.pattern is None:
            asked = exact_count(step.level, new.size)
            # Blocks that held more zeros than their share keep them: then there may be more in total.
            right = new.sum() == asked if not old.any() else asked <= new.sum() <= asked + old.sum()
            met += [item.matrix.name] if old.sum() > asked else []
        else:
            stood, found = (_per_group(zeros, step) for zeros in (old, new))
            wanted = asked_per_row(step, new.shape[1])
            right = np.array_equal(found, np.maximum(stood, wanted))
            met += [item.matrix.name] if (stood > wanted).any() else []
        wrong += [] if right else [item.matrix.name]
    refuse(step, revived, "got weights that were zero and are none now", "zeros to stay", "Correct the method")
    what = f"{step.pattern[0]} of each {step.pattern[1]} kept along the inputs" if step.pattern else f"the share {step.level:g}"
    refuse(step, wrong, "got other zeros there", f"{what}, exactly", "The method touched too little, too much or the wrong dimension")
    return (f"already more zeros than asked in parts of {len(met)} matrices",) if met else ()


def _per_group(zeros: Flags, step: CompressionStep) -> Ints:
    """Count the zeros of each group of each row, `(out, groups)`."""
    starts = np.arange(0, zeros.shape[1], step.pattern[1] if step.pattern else zeros.shape[1])
    return np.add.reduceat(zeros, starts, axis=1, dtype=np.int64)
