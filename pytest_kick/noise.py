"""How far chance alone moves the scores of a dense model: the same examples again, in passes of other sizes.

Rounding depends on the shape of a matrix product, so a near-tie falls one way in a pass of 256 examples and the other in one of 64. Source:
`docs/verdicts.md`, the noise floor of REGRESSED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.result import ProbeScore

BATCH_SIZES = (64, 24, 112, 40, 88, 16)
"""Examples per pass of each repetition, in turn."""


def noise_floors(first: Sequence[ProbeScore], repeats: Sequence[Sequence[ProbeScore]]) -> dict[str, dict[str, float]]:
    """Return probe -> metric -> by how much a score may change by chance.

    Args:
        first: the scores that are recorded.
        repeats: the same probes on the same model again, at least once.

    Returns:
        Of an outcome the largest net change seen, a share of the examples and at least one of them; of a mean the largest change seen,
        in its own units.
    """
    found: dict[str, dict[str, float]] = {}
    for place, score in enumerate(first):
        again = [scores[place] for scores in repeats]
        least = dict.fromkeys((name for name in score.floors if score.examples.is_outcome(name)), 1 / max(1, score.n))
        least |= {mean.name: 0.0 for mean in score.means}
        found[score.probe] = {name: max(floor, _moved(score, again, name)) for name, floor in least.items()}
    return found


def _moved(first: ProbeScore, again: Sequence[ProbeScore], metric: str) -> float:
    return max(abs(score.metrics[metric] - first.metrics[metric]) for score in again)
