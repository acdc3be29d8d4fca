"""How far chance alone moves the scores of a dense model: the same examples again, in passes of other sizes.

Rounding depends on the shape of a matrix product, so a near-tie falls one way in a pass of 256 examples and the other in one of 64. Source:
`docs/verdicts.md`, the noise floor of REGRESSED.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.examples import Examples
    from pytest_kick.result import ProbeScore

FLIPS = "flips_"
"""Before the name of an outcome: the share of its answers that flip between two dense runs, whichever way."""
BATCH_SIZES = (64, 24, 112, 40, 88, 16)
"""Examples per pass of each repetition, in turn."""


def assumed_noise(dtype: str, n: int) -> float:
    """Return how many of n outcomes chance may change net, until that is measured: a cautious figure, above all in bfloat16."""
    return 0.005 * n if dtype == "bfloat16" else max(2.0, 0.001 * n)


def noise_floors(first: Sequence[ProbeScore], repeats: Sequence[Sequence[ProbeScore]]) -> dict[str, dict[str, float]]:
    """Return probe -> metric -> by how much a score may change by chance.

    Args:
        first: the scores that are recorded.
        repeats: the same probes on the same model again, at least once.

    Returns:
        Of an outcome the largest net change seen, a share of the examples and at least one of them, and under `flips_NAME` the most
        answers of it that differ between any two of the runs, likewise: flips that cancel move no score. Of a mean the largest change
        seen, in its own units.
    """
    found: dict[str, dict[str, float]] = {}
    for place, score in enumerate(first):
        again = [scores[place] for scores in repeats]
        least = dict.fromkeys((name for name in score.floors if score.examples.is_outcome(name)), 1 / max(1, score.n))
        least |= {mean.name: 0.0 for mean in score.means}
        found[score.probe] = {name: max(floor, _moved(score, again, name)) for name, floor in least.items()}
        outcomes = [name for name in least if score.examples.is_outcome(name)]
        found[score.probe] |= {f"{FLIPS}{name}": max(least[name], _flipped((score, *again), name)) for name in outcomes}
    return found


def _moved(first: ProbeScore, again: Sequence[ProbeScore], metric: str) -> float:
    return max(abs(score.metrics[metric] - first.metrics[metric]) for score in again)


def _flipped(runs: Sequence[ProbeScore], outcome: str) -> float:
    """Return the largest share of examples that are right in one of two runs and wrong in the other."""
    return max(_differ(one, other, outcome) for one, other in combinations([score.examples for score in runs], 2))


def _differ(one: Examples, other: Examples, outcome: str) -> float:
    """Return the share of the examples of both runs whose outcome differs; a judge may have left different ones unrated."""
    both = np.intersect1d(one.ids, other.ids)
    first, second = (examples.subset(both).outcome(outcome) for examples in (one, other))
    return float(np.mean(first != second)) if len(both) else 0.0
