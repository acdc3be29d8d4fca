"""What lm-eval says of each document, as arrays: outcomes, numbers, margins, answers; and what knowing nothing scores."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.infos import MeanInfo
from pytest_kick.means import value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pytest_kick.examples import Array, Examples
    from pytest_kick.probes.lm_eval_asked import Asked, Part, Samples

    Floats = NDArray[np.float64]

CHOSEN = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info"})
OUTCOMES = CHOSEN | {"exact_match", "pass@1", "prompt_level_strict_acc", "prompt_level_loose_acc"}
"""Right or wrong, unless a task's own function gives them fractions."""
LOSSES = {
    "word_perplexity": ("nats_per_word", "words"),
    "byte_perplexity": ("nats_per_byte", "bytes"),
    "bits_per_byte": ("nats_per_byte", "bytes"),
}
"""lm-eval's metric over documents of (log-likelihood, count) -> our loss per count, and the array of the counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Hold one metric of lm-eval over all documents.

    Attributes:
        name: lm-eval's, and the filter's where a task has several.
        values: `(n,)` float64.
        outcome: right or wrong.
        kind: of the mean; "" where it cannot be judged.
        weights: `(n,)` float64 and what they count, None for all alike.
    """

    name: str
    values: Floats
    outcome: bool
    kind: str = ""
    weights: tuple[str, Floats] | None = None


def metrics_of(asked: Asked, samples: Samples) -> list[Metric]:
    """Return the metrics that every document of every task has, in lm-eval's order."""
    tables = {name: _table(part, samples[name]) for name, part in asked.parts.items()}
    found: dict[str, Metric] = {}
    for key in next(iter(tables.values())):
        if all(key in table for table in tables.values()):
            metric = _metric(*key, [value for table in tables.values() for value in table[key]], list(asked.parts.values()))
            if metric is not None:
                found.setdefault(metric.name, metric)
    return list(found.values())


def _table(part: Part, samples: list[dict[str, Any]]) -> dict[tuple[str, str], list[Any]]:
    """Return the values of each (metric, filter behind the first) of a task by document, where every document has them."""
    first = samples[0]["filter"]
    table: dict[tuple[str, str], list[Any]] = {}
    for sample in samples:
        behind = "" if sample["filter"] == first else "_" + sample["filter"].replace("-", "_")
        for name in sample["metrics"]:
            table.setdefault((name, behind), []).append(sample[name])
    return {key: values for key, values in table.items() if len(values) == len(part.docs)}


def _metric(name: str, behind: str, raw: list[Any], parts: list[Part]) -> Metric | None:
    if name in LOSSES and all(isinstance(value, tuple | list) for value in raw):
        nats, counts = np.asarray([[-float(one), max(float(count), 1.0)] for one, count in raw]).T
        ours, unit = LOSSES[name]
        return Metric(name=ours + behind, values=nats / counts, outcome=False, kind="loss", weights=(unit, counts))
    if not all(isinstance(value, bool | int | float | np.bool_ | np.number) for value in raw):
        return None  # pairs and lists are metrics of the whole set, not of a document
    values = np.asarray(raw, np.float64)
    if name == "perplexity" and all(part.task.OUTPUT_TYPE == "loglikelihood" for part in parts):
        return Metric(name=f"nats_per_target{behind}", values=-values, outcome=False, kind="loss")
    outcome = name in OUTCOMES and bool(np.isin(values, (0.0, 1.0)).all())
    better = all(part.task.higher_is_better().get(name, True) for part in parts)
    return Metric(name=name + behind, values=values, outcome=outcome, kind="score" if better and not outcome else "")


def arrays_of(metrics: list[Metric], nothing: list[Metric]) -> tuple[dict[str, Array], tuple[MeanInfo, ...]]:
    """Return arrays and means; a metric is an outcome where it is one for a model that knows nothing too."""
    plain = {metric.name: metric.outcome for metric in nothing}
    arrays: dict[str, Array] = {}
    means = []
    for metric in metrics:
        if metric.outcome and plain.get(metric.name, True):
            arrays[metric.name] = metric.values.astype(np.bool_)
            continue
        arrays[metric.name] = metric.values.astype(np.float32)
        kind = metric.kind or ("score" if metric.outcome else "")
        if kind:
            means.append(MeanInfo(name=metric.name, kind=kind, weights=metric.weights[0] if metric.weights else ""))  # type: ignore[arg-type]
        if metric.weights:
            arrays[metric.weights[0]] = metric.weights[1].astype(np.float32)
    return arrays, tuple(means)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Hold the options of one document.

    Attributes:
        logprobs: `(options,)` log-likelihood of each, as asked.
        gold: places of the right ones, at least one.
        answers: texts of the right ones.
    """

    logprobs: Floats
    gold: tuple[int, ...]
    answers: tuple[str, ...]


def choices_of(asked: Asked, samples: Samples) -> list[Choice]:
    """Return the options of all documents, none where a task is no multiple choice, or a document has no right one."""
    found = []
    for name, part in asked.parts.items():
        if part.task.OUTPUT_TYPE != "multiple_choice":
            return []
        filters = samples[name][0]["filter"]
        for sample in (each for each in samples[name] if each["filter"] == filters):
            options = part.task.doc_to_choice(sample["doc"])
            gold = _gold(part.task, sample, options)
            if not gold:
                return []
            logprobs = [float(answer[0]) for answer in sample["filtered_resps"][: len(options)]]
            answers = tuple(dict.fromkeys(str(options[place]) for place in gold))
            found.append(Choice(logprobs=np.asarray(logprobs), gold=gold, answers=answers))
    return found


def _gold(task: Any, sample: Mapping[str, Any], options: list[str]) -> tuple[int, ...]:  # noqa: ANN401
    """Return the places of the right options, as lm-eval reads a task's target."""
    target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    named = target if isinstance(target, list) else [target]
    places = [options.index(one) if isinstance(one, str) and one in options else one for one in named]
    return tuple(place for place in places if isinstance(place, int) and 0 <= place < len(options))


def choice_arrays(choices: list[Choice]) -> dict[str, Array]:
    """Return margin and log-probability of gold in nats, and the place of the likeliest option, -1 where there is no single one."""
    if not choices:
        return {}
    margins, golds, predicted = [], [], []
    for choice in choices:
        right = np.zeros(len(choice.logprobs), np.bool_)
        right[list(choice.gold)] = True
        best = choice.logprobs.max()
        golds.append(choice.logprobs[right].max())
        margins.append(golds[-1] - choice.logprobs[~right].max() if not right.all() else 0.0)
        predicted.append(int(choice.logprobs.argmax()) if (choice.logprobs == best).sum() == 1 else -1)
    return {
        "margin": np.asarray(margins, np.float32),
        "gold_logprob": np.asarray(golds, np.float32),
        "predicted": np.asarray(predicted, np.int32),
    }


def floors_of(
    nothing: tuple[dict[str, Array], tuple[MeanInfo, ...]], examples: Examples, choices: list[Choice]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return what knowing nothing scores under each metric, and the trivial baselines behind it.

    `constant` is lm-eval's own verdict on a model to which every token is as likely, and which writes nothing. Where options are chosen
    there is also `chance`, an option drawn at random, and `majority`, always the answer (`yes`, `B`) that is right most often: models are
    asked for texts, and where those differ from document to document the place that an option has in the data is nothing they see.
    """
    arrays, means = nothing
    trivial = {name: {"constant": float(values.mean())} for name, values in arrays.items() if values.dtype == np.bool_}
    trivial |= {mean.name: {"constant": value_of(mean, examples)} for mean in means}
    if choices:
        chance = math.fsum(len(choice.gold) / len(choice.logprobs) for choice in choices) / len(choices)
        answers = Counter(answer for choice in choices for answer in choice.answers)
        majority = answers.most_common(1)[0][1] / len(choices)
        for name in CHOSEN & {name for name, values in arrays.items() if values.dtype == np.bool_}:
            trivial[name] |= {"chance": chance, "majority": majority}
    losses = {mean.name for mean in means if mean.kind == "loss"}
    floors = {name: (min if name in losses else max)(table.values()) for name, table in trivial.items()}
    return floors, trivial
