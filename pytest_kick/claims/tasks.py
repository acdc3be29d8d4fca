"""C9 and C19 on tasks: what eight bits leave of them, and whether knowledge is lost before reasoning and common sense."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.books import Arm
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, STATEMENTS, UNDECIDED, Finding, number
from pytest_kick.claims.probed import Gap, drawn, found
from pytest_kick.claims.ruling import ALIVE, FLOAT32, KEPT, settings
from pytest_kick.stats import Interval, PairedCounts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_kick.claims.probed import Probed

KINDS = ("C19", STATEMENTS["C19"])
KNOWLEDGE = frozenset({"facts", "bear", "lama", "mmlu", "factoid_qa", "retrieval_qa", "nq_open", "triviaqa"})
REASONING = frozenset({
    "arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa", "boolq", "lambada_openai", "hellaswag", "commonsense_qa",
    "social_iqa", "copa",
})  # fmt: skip
ARC = ("arc_easy", "arc_challenge")
"""Named reasoning by its authors, though much of it is knowledge of science: an arm of its own does without it."""
LEAST_TASKS, LEAST_OF_KIND = 10, 3
EIGHT = 8
EIGHT_BITS_ON = ("arc_easy", "piqa", "mmlu")
AGREEMENT = "choice agreement"
PREFERRED = "acc_norm"
"""Of a task that has it: the one that is published for options of unlike lengths."""
OPEN_BOOK = "book-open"
_UNCHANGED = "no cell is alive and shown to lose anything"


def task_of(cell: Probed) -> str:
    """Return the name of a task: of lm-eval, its own, `mmlu` for all of MMLU; of another probe, the probe's. "" where the text is given."""
    probe, *params = cell.score.probe.split("--")
    name, _, variant = probe.partition(":")
    if OPEN_BOOK in params:
        return ""
    if name != "lm_eval":
        return name
    return "mmlu" if variant.startswith("mmlu") else variant


def eight_bits_on_tasks(cells: Iterable[Probed], confidence: float = 0.95) -> list[Finding]:
    """Decide C9 on tasks, in float32, for every quantizer of 8 bits over the whole body.

    Each of arc_easy, piqa and mmlu is an arm: at least .95 of what the dense model can do is kept (score test; `holds` where the lower
    bound lies at or above, `does not hold` where the upper one lies under). So is the agreement of choices: at least .95 of all choices
    are the dense model's own (Clopper-Pearson).

    Args:
        cells: scores of tasks, the dense model's among them, in any order.
        confidence: of each bound, in (0.5, 1).
    """
    made: list[Finding] = []
    for compressed in _cells([cell for cell in cells if cell.dtype == FLOAT32]).values():
        for cell, tasks in compressed.items():
            step = cell.compression.steps[0]
            if len(cell.compression.steps) > 1 or step.kind != "bits" or step.level != EIGHT or step.scope != "overall":
                continue
            name = " ".join([step.method, *(f"{key} {str(value).lower()}" for key, value in settings(step))])
            pairs = {task: pair for task, pair in tasks.items() if task in EIGHT_BITS_ON}
            made += [_kept(f"{name}, {task}", *pair, confidence) for task, pair in pairs.items()]
            made += _agreement(f"{name}, {AGREEMENT}", list(pairs.values()), confidence)
    return made


def knowledge_against_reasoning(cells: Iterable[Probed], confidence: float = 0.95) -> list[Finding]:
    """Decide C19 for every model and dtype that was asked ARC: tasks of reasoning retain more, on average, than tasks of knowledge.

    The difference of the mean retentions of two kinds of tasks, each task above its own floor and from 0 on, in every cell in which a
    kind is shown to be under .95 and one is over .1. A kind is known from a few tasks only: its interval is Student's t over the
    tasks, never narrower than their examples allow. Tasks of which the dense model is not shown to know anything are left out; fewer
    than ten others, or than three of a kind, decide nothing. The second arm is without ARC. See `probed.rule`.

    Args:
        cells: scores of any probes, the dense models' among them, in any order; of one task with several settings the first counts.
        confidence: of each bound, in (0.5, 1).
    """
    made: list[Finding] = []
    for (dense, _), compressed in _cells(cells).items():
        if not any(task in tasks for tasks in compressed.values() for task in ARC):
            continue
        for arm, without, least in (("", (), LEAST_TASKS), ("without ARC", ARC, 2 * LEAST_OF_KIND)):
            gaps, short = [], ""
            for cell, tasks in compressed.items():
                arms = {task: _arm(*pair) for task, pair in tasks.items() if task not in without}
                known = {task: one for task, one in arms.items() if one is not None and one.judgeable(confidence)}
                kinds = [[one for task, one in known.items() if task in kind] for kind in (REASONING, KNOWLEDGE)]
                if len(known) < least or min(map(len, kinds)) < LEAST_OF_KIND:
                    short = f"{len(known)} of {len(arms)} tasks can be judged ({', '.join(sorted(known))}), {least} are needed"
                    short += f", {LEAST_OF_KIND} of each kind"
                    continue
                gap = _gap(cell.compression.id, *kinds)
                if _worth(gap, confidence):
                    gaps.append(gap)
            made.append(found(dense, KINDS, arm, gaps, short or _UNCHANGED, "retention", confidence))
    return made


def _cells(cells: Iterable[Probed]) -> dict[tuple[Probed, str], dict[Probed, dict[str, tuple[Probed, Probed]]]]:
    """Return for each model and dtype a dense score -> a score of each compression -> task -> its dense and its compressed score."""
    listed = [cell for cell in cells if task_of(cell) in KNOWLEDGE | REASONING]
    dense: dict[tuple[str, str], dict[str, Probed]] = {}
    for cell in listed:
        if not cell.compression.steps:
            dense.setdefault((cell.model, cell.dtype), {}).setdefault(cell.score.probe, cell)
    made: dict[tuple[Probed, str], dict[Probed, dict[str, tuple[Probed, Probed]]]] = {}
    first: dict[tuple[str, str, str], Probed] = {}
    for cell in listed:
        before = dense.get((cell.model, cell.dtype), {})
        if not cell.compression.steps or cell.score.probe not in before or not _same(before[cell.score.probe], cell):
            continue
        group = made.setdefault((next(iter(before.values())), cell.dtype), {})
        shown = first.setdefault((cell.model, cell.dtype, cell.compression.id), cell)
        group.setdefault(shown, {}).setdefault(task_of(cell), (before[cell.score.probe], cell))
    return made


def _same(dense: Probed, cell: Probed) -> bool:
    """Return whether all examples of a cell were asked of the dense model, with the same texts."""
    x, y = dense.score.examples, cell.score.examples
    return bool(np.isin(y.ids, x.ids).all()) and np.array_equal(x.subset(y.ids).hashes, y.hashes)


def _arm(dense: Probed, cell: Probed) -> Arm | None:
    """Return the outcomes of a task, None where its metric is none of right and wrong."""
    arrays, floors, ids = cell.score.examples.arrays, cell.score.floors, cell.score.examples.ids
    named = (name for name in (PREFERRED, cell.score.metric) if name in arrays and arrays[name].dtype == np.bool_ and name in floors)
    metric = next(named, None)
    return None if metric is None else Arm(dense=dense.on(ids, metric), now=cell.on(ids, metric), floor=floors[metric])


def _gap(name: str, reasoning: Sequence[Arm], knowledge: Sequence[Arm]) -> Gap:
    values = [np.asarray([arm.retention() for arm in kind]) for kind in (reasoning, knowledge)]
    draws = [_drawn(reasoning, 0), _drawn(knowledge, len(reasoning))]
    return Gap(
        name=name,
        first=float(values[0].mean()),
        second=float(values[1].mean()),
        draws=draws[0] - draws[1],
        bounds=lambda confidence: (_over_tasks(values[0], draws[0], confidence), _over_tasks(values[1], draws[1], confidence)),
        correlation=0.0,
        n=sum(len(arm.dense) for arm in (*reasoning, *knowledge)),
    )


def _drawn(arms: Sequence[Arm], start: int) -> NDArray[np.float64]:
    """Return the mean retention of a kind per resample, `(B,)`: the examples of each task drawn apart from those of the others."""
    drawings = [np.random.default_rng(start + i).permutation(arm.draws(drawn(len(arm.dense)))) for i, arm in enumerate(arms)]
    return np.asarray(np.mean(drawings, axis=0), np.float64)


def _over_tasks(values: NDArray[np.float64], draws: NDArray[np.float64], confidence: float) -> Interval:
    """Return Student's interval of a mean over tasks, from their spread or from their examples, whichever is larger."""
    from scipy import special  # noqa: PLC0415 - 0.15 s that collection need not pay

    deviation = math.sqrt(max(float(values.var(ddof=1)) / len(values), float(draws.var(ddof=1))))
    reach = float(special.stdtrit(len(values) - 1, confidence)) * deviation
    return Interval(low=float(values.mean()) - reach, high=float(values.mean()) + reach)


def _worth(gap: Gap, confidence: float) -> bool:
    return any(bound.high < KEPT for bound in gap.bounds(confidence)) and max(gap.first, gap.second) > ALIVE


def _kept(arm: str, dense: Probed, cell: Probed, confidence: float) -> Finding:
    outcomes = _arm(dense, cell)
    if outcomes is None or not outcomes.judgeable(confidence):
        return _eight(dense, arm, NOT_APPLICABLE, "the dense model is not shown to know more than the floor", len(cell.score.examples))
    interval = outcomes.interval(confidence)
    lost, gained = int((outcomes.dense & ~outcomes.now).sum()), int((~outcomes.dense & outcomes.now).sum())
    detail = f"limit {number(KEPT)}; {lost} answers lost, {gained} gained"
    return _eight(dense, arm, _word(interval), detail, len(outcomes.dense), (outcomes.retention(), interval))


def _agreement(arm: str, pairs: Sequence[tuple[Probed, Probed]], confidence: float) -> list[Finding]:
    """Return the finding about equal choices, over the tasks that keep them; none where no task does."""
    chosen: list[NDArray[np.bool_]] = []
    for dense, cell in pairs:
        before, now = dense.score.examples.subset(cell.score.examples.ids).arrays, cell.score.examples.arrays
        if "predicted" in before and "predicted" in now:
            chosen.append(np.asarray(before["predicted"] == now["predicted"]))
    if not chosen:
        return []
    same = np.concatenate(chosen)
    unlike = stats.flips_interval(PairedCounts.from_outcomes(np.ones_like(same), same), confidence)
    interval = Interval(low=1.0 - unlike.high, high=1.0 - unlike.low)
    detail = f"limit {number(KEPT)}; {int((~same).sum())} of {len(same)} choices differ, over {len(chosen)} tasks"
    return [_eight(pairs[0][0], arm, _word(interval), detail, len(same), (float(same.mean()), interval), unit="share of choices")]


def _word(interval: Interval) -> str:
    return HOLDS if interval.low >= KEPT else DOES_NOT_HOLD if interval.high < KEPT else UNDECIDED


def _eight(
    dense: Probed, arm: str, word: str, detail: str, n: int, place: tuple[float, Interval] | None = None, unit: str = "retention"
) -> Finding:
    return Finding(
        claim="C9",
        model=dense.model,
        family=dense.family,
        dtype=dense.dtype,
        arm=arm,
        statement=STATEMENTS["C9"],
        word=word,
        estimate=None if place is None else place[0],
        low=None if place is None else place[1].low,
        high=None if place is None else place[1].high,
        unit=unit,
        detail=detail,
        n=n,
        n_cells=1,
    )
