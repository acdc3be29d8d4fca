"""Check on the weights that noise of the size asked for was added, to every matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.compress.check import Checked, Count
from pytest_kick.compress.refusal import refuse

if TYPE_CHECKING:
    import torch

    from pytest_kick.compress.targets import Targets
    from pytest_kick.spec import CompressionStep

_DEVIATIONS = 6.0  # of the sampling error: once in 1e9 by chance
_ROUNDING = 2.0**-23  # float32, of the root mean square


def check_noise(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check mean and size of what was added, and return the size over all matrices, in root mean squares of each.

    Raises:
        CompressionError: a matrix that stayed as it was, or to which something else was added; names the matrices.
    """
    same = [name for name, count in counts.items() if not count.changed]
    refuse(step, same, "got no weight changed", "noise on every matrix", "Leave matrices of zeros out, or raise sigma")
    wrong, squares, n = [], 0.0, 0
    for item in targets.items:
        old = before[item.matrix.name].numpy().astype(np.float64)
        added = (item.weight.numpy() - old) / np.sqrt(np.mean(old**2))
        size, error = float(np.sqrt(np.mean(added**2))), _DEVIATIONS / np.sqrt(2 * added.size) + _ROUNDING / step.level
        off = abs(float(added.mean())) > _DEVIATIONS * step.level / np.sqrt(added.size) + _ROUNDING
        wrong += [item.matrix.name] if off or not abs(size / step.level - 1) <= error else []
        squares, n = squares + size**2 * added.size, n + added.size
    refuse(step, wrong, "got noise of another size", f"{step.level:g} of the matrix's root mean square, of mean 0", "Correct the method")
    return Checked(achieved=float(np.sqrt(squares / n)))
