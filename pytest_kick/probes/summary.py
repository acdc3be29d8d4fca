"""What a score is held against: chance, and always giving the commonest answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.probes.ranking import CUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.probes.prepare import Prepared
    from pytest_kick.probes.trie import Ints


def trivial_scores(prepared: Prepared, facts: Ints) -> dict[str, dict[str, float]]:
    """Return, per cut 1, 5 and 10, the scores over `facts` of two answerers that read no prompt.

    `chance` draws candidates of the relation. `majority` gives the relation's commonest gold answers; which these are is counted
    over all facts that the model can be asked, so that a small sample does not flatter it.

    Args:
        prepared: all facts of the data set that the model can be asked.
        facts: `(m,)` those that are scored.

    Returns:
        `p1`, `p5`, `p10` -> `chance`, `majority`, fractions.
    """
    sizes = (prepared.candidates >= 0).sum(1)[prepared.space[facts]]
    place = _commonness(prepared)[facts]
    return {f"p{cut}": {"chance": float(np.mean(np.minimum(cut / sizes, 1.0))), "majority": float(np.mean(place < cut))} for cut in CUTS}


def _commonness(prepared: Prepared) -> Ints:
    """Return `(n,)` the place of each fact's gold answer among its relation's answers, commonest first."""
    counts = np.zeros(prepared.candidates.shape, np.int64)
    np.add.at(counts, (prepared.space, prepared.gold), 1)
    place = np.argsort(np.argsort(-counts, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray(place[prepared.space, prepared.gold])


def macro(outcome: NDArray[np.bool_], groups: NDArray[np.str_]) -> float:
    """Return the mean over relations of the fraction right, `(n,)` outcomes in `(n,)` groups."""
    _, inverse = np.unique(groups, return_inverse=True)
    return float(np.mean(np.bincount(inverse, outcome) / np.bincount(inverse)))
