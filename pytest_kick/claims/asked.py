"""Decide the claims that look at other probes than `facts`, or at more of it than which facts are right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.books import long_against_short, open_against_closed
from pytest_kick.claims.displaced import displaced
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Finding, number
from pytest_kick.claims.flips import FEWEST, dense_flips, flips_beyond_score, margin_of_flips
from pytest_kick.claims.fluency import forgotten_while_fluent
from pytest_kick.claims.tasks import eight_bits_on_tasks, knowledge_against_reasoning

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_kick.claims.probed import Probed
    from pytest_kick.stats import Interval

PROBES = ("facts", "perplexity", "open_book", "displacement", "lm_eval", "mmlu", "bear", "factoid_qa", "retrieval_qa")
"""Whose scores are looked at."""
FLIPS = ("C13", "where the score is not shown to change, answers flip")
MARGINS = ("C14", "answers flip where the dense model's margin is small")
_METRIC = "p1"


def decide_asked(scores: Mapping[str, Sequence[Probed]], confidence: float = 0.95) -> tuple[Finding, ...]:
    """Decide C6, C9 on tasks, C10, C12, C13, C14, C18 and C19 for every model and dtype that has the scores.

    Args:
        scores: name of a probe of `PROBES` -> its scores, the dense models' among them.
        confidence: of each bound, in (0.5, 1).
    """
    facts = scores.get("facts", ())
    every = [cell for cells in scores.values() for cell in cells]
    found = [
        *forgotten_while_fluent(facts, scores.get("perplexity", ()), confidence),
        *open_against_closed(scores.get("open_book", ()), confidence),
        *long_against_short(scores.get("open_book", ()), confidence),
        *_flips(facts, confidence),
        *_margins(facts, confidence),
        *displaced(scores.get("displacement", ()), confidence),
        *eight_bits_on_tasks(every, confidence),
        *knowledge_against_reasoning(every, confidence),
    ]
    return tuple(sorted(found, key=lambda finding: int(finding.claim[1:])))


def _pairs(cells: Iterable[Probed]) -> list[tuple[Probed, list[Probed]]]:
    """Return each dense cell with the compressed ones of its model and dtype."""
    listed = list(cells)
    dense = {(cell.model, cell.dtype): cell for cell in reversed(listed) if not cell.compression.steps}
    same = {key: [c for c in listed if c.compression.steps and (c.model, c.dtype) == key] for key in dense}
    return [(dense[key], same[key]) for key in same if same[key]]


def _flips(cells: Iterable[Probed], confidence: float) -> list[Finding]:
    """Decide C13: over the cells whose drop is not shown to differ from 0, flips exceed what two dense runs differ by.

    `holds` where that is shown of every such cell that is not bit-identical to dense; `does not hold` where one is shown to flip no more.
    """
    made = []
    for dense, compressed in _pairs(cells):
        found = []
        for cell in compressed:
            ids = cell.score.examples.ids
            before, now = dense.on(ids, _METRIC), cell.on(ids, _METRIC)
            if _same_scores(dense, cell):
                continue
            floor = dense_flips(dense.noise, _METRIC, dense.dtype, len(ids))
            result = flips_beyond_score(before, now, floor.share, confidence)
            if result.word != NOT_APPLICABLE:
                found.append((result.word, result.flips, result.flips_interval, cell))
        floor = dense_flips(dense.noise, _METRIC, dense.dtype, len(dense.score.examples))
        finding = _weakest(dense, FLIPS, found, "share of facts", "no cell's score is as the dense model's")
        made.append(replace(finding, detail=f"{finding.detail}; {floor}") if found else finding)
    return made


def _margins(cells: Iterable[Probed], confidence: float) -> list[Finding]:
    """Decide C14: the AUC of the dense model's absolute margin for flipping, over the cells in which at least ten answers flipped."""
    made = []
    for dense, compressed in _pairs(cells):
        found = []
        for cell in compressed:
            ids = cell.score.examples.ids
            flipped = dense.on(ids, _METRIC) != cell.on(ids, _METRIC)
            if min(flipped.sum(), (~flipped).sum()) < FEWEST or "margin" not in dense.score.examples.arrays:
                continue
            margin = np.asarray(dense.score.examples.subset(ids).arrays["margin"], np.float64)
            result = margin_of_flips(margin, flipped, confidence)
            if result.auc is not None and result.interval is not None:
                found.append((result.word, result.auc, result.interval, cell))
        made.append(_weakest(dense, MARGINS, found, "AUC", f"no cell has {FEWEST} answers that flipped"))
    return made


def _same_scores(dense: Probed, cell: Probed) -> bool:
    before, now = dense.score.examples.subset(cell.score.examples.ids), cell.score.examples
    return "margin" in now.arrays and np.array_equal(before.arrays["margin"], now.arrays["margin"])


def _weakest(dense: Probed, claim: tuple[str, str], found: Sequence[tuple[str, float, Interval, Probed]], unit: str, why: str) -> Finding:
    """Make the finding of a model: `holds` where every cell does; shown is the cell that speaks least for it."""
    words = [word for word, *_ in found]
    word = NOT_APPLICABLE if not found else HOLDS if set(words) == {HOLDS} else DOES_NOT_HOLD if DOES_NOT_HOLD in words else UNDECIDED
    shown = min((entry for entry in found if word in {HOLDS, entry[0]}), key=lambda entry: entry[2].low, default=None)
    held = f"cells: {len(found)}, of which it holds in {words.count(HOLDS)}"
    return Finding(
        claim=claim[0],
        model=dense.model,
        family=dense.family,
        dtype=dense.dtype,
        statement=claim[1],
        word=word,
        estimate=None if shown is None else shown[1],
        low=None if shown is None else shown[2].low,
        high=None if shown is None else shown[2].high,
        unit=unit,
        detail=why if shown is None else f"{shown[3].compression.id}: {number(shown[1])}; {held}",
        n=0 if shown is None else len(shown[3].score.examples),
        n_cells=len(found),
    )
