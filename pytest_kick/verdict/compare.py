"""Compare the outcomes of two runs example by example: what changed, whether anything did, and which groups lost most."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick import stats
from pytest_kick.budget import base_name
from pytest_kick.registry import PROBES
from pytest_kick.verdict.records import GroupLoss, LostExample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.examples import Examples
    from pytest_kick.result import ProbeScore

_N_GROUPS = 3
_N_EXAMPLES = 3
_HALF_MAX = float(np.finfo(np.float16).max)


def in_both(score: ProbeScore, reference: Examples) -> tuple[ProbeScore, Examples]:
    """Return a score and the same examples of another run, in one order.

    Where a judge scores, an answer whose rating could not be read is missing in that run: what both runs have is compared.

    Raises:
        KickError: the other run lacks an example though no judge is asked, or the two share none.
    """
    known = np.isin(score.examples.ids, reference.ids)
    if known.any() and not known.all() and PROBES.get(str(base_name(score.probe)), "verdict").judge:
        score = replace(score, examples=score.examples.take(np.flatnonzero(known)))
    return score, reference.subset(score.examples.ids)


def outcome_metrics(score: ProbeScore, reference: Examples) -> list[str]:
    """Return the outcomes that can be compared; one without a floor cannot, since nothing says what knowing nothing scores."""
    return sorted(name for name in score.floors if score.examples.is_outcome(name) and reference.is_outcome(name))


def paired(reference: Examples, now: Examples, metric: str) -> stats.PairedCounts:
    """Count the four outcomes of the same examples, `reference` in the place of dense."""
    return stats.PairedCounts.from_outcomes(reference.outcome(metric), now.outcome(metric))


def changed_answers(score: ProbeScore, reference: Examples, metric: str) -> int | None:
    """Count examples wrong in both with another answer; answers belong to the probe's own metric."""
    before, now = reference.arrays.get("predicted"), score.examples.arrays.get("predicted")
    if metric != score.metric or before is None or now is None:
        return None
    wrong = ~reference.outcome(metric) & ~score.examples.outcome(metric)
    return int(np.count_nonzero(wrong & (before != now)))


def lossless(reference: Examples, now: Examples) -> bool:
    """Say whether all arrays are equal, scores to the half precision in which they are stored."""
    if reference.arrays.keys() != now.arrays.keys():
        return False
    return all(np.array_equal(_stored(reference.arrays[name]), _stored(now.arrays[name])) for name in now.arrays)


def _stored(values: NDArray[Any]) -> NDArray[Any]:
    return np.clip(values, -_HALF_MAX, _HALF_MAX).astype(np.float16) if values.dtype.kind == "f" else values


def worst_groups(reference: Examples, now: Examples, metric: str) -> tuple[GroupLoss, ...]:
    """Return the groups that lost most, each with the lost examples that had been known best."""
    lost = reference.outcome(metric) & ~now.outcome(metric)
    gained = ~reference.outcome(metric) & now.outcome(metric)
    names, inverse = np.unique(reference.groups, return_inverse=True)
    sizes, losses, gains = (np.bincount(inverse, weights=w, minlength=len(names)).astype(int) for w in (np.ones(len(now)), lost, gained))
    order = sorted(range(len(names)), key=lambda i: (-losses[i], names[i]))
    return tuple(
        GroupLoss(
            name=str(names[i]),
            n=int(sizes[i]),
            lost=int(losses[i]),
            gained=int(gains[i]),
            examples=_lost_examples(reference, now, np.flatnonzero(lost & (inverse == i))),
        )
        for i in order[:_N_GROUPS]
        if losses[i]
    )


def worse_groups(reference: Examples, now: Examples, worse: NDArray[np.float64]) -> tuple[GroupLoss, ...]:
    """Return the groups that got worse most on the whole, each with the examples that did.

    Args:
        reference: examples before.
        now: the same examples now.
        worse: `(n,)` by how much each is worse.
    """
    names, inverse = np.unique(reference.groups, return_inverse=True)
    totals = np.bincount(inverse, weights=worse, minlength=len(names))
    found = []
    for i in sorted(range(len(names)), key=lambda i: (-totals[i], names[i]))[:_N_GROUPS]:
        members = inverse == i
        index = [j for j in np.argsort(-worse, kind="stable") if members[j] and worse[j] > 0][:_N_EXAMPLES]
        lost = tuple(LostExample(id=str(reference.ids[j]), was=_predicted(reference, j), now=_predicted(now, j)) for j in index)
        counts = int((worse[members] > 0).sum()), int((worse[members] < 0).sum())
        if totals[i] > 0:
            found.append(GroupLoss(name=str(names[i]), n=int(members.sum()), lost=counts[0], gained=counts[1], examples=lost))
    return tuple(found)


def _lost_examples(reference: Examples, now: Examples, index: NDArray[np.intp]) -> tuple[LostExample, ...]:
    margins = reference.arrays.get("margin", np.zeros(len(reference)))
    best = sorted(index.tolist(), key=lambda i: (-float(margins[i]), str(reference.ids[i])))[:_N_EXAMPLES]
    return tuple(LostExample(id=str(reference.ids[i]), was=_predicted(reference, i), now=_predicted(now, i)) for i in best)


def _predicted(examples: Examples, index: int) -> int:
    return int(examples.arrays["predicted"][index]) if "predicted" in examples.arrays else -1
