"""Broken models on every probe that there is: they score no more than knowing nothing does, or are an error, never a good mark.

A probe that has no entry in `MAKERS` fails here: whoever adds one says how to make it from made-up data.
"""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import made_lm_eval
import made_relations
import numpy as np
import pytest
import test_answers_probes
import test_instruction_following
import test_summarization
import torch
from plain_scorer import decoder, encoder, facts, span_model
from test_open_book import two_templates

from pytest_kick.errors import ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes import mmlu
from pytest_kick.probes.context import ProbeContext
from pytest_kick.registry import PROBES, load_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel

FAMILIES: dict[str, Callable[[], LoadedModel]] = {"decoder": decoder, "encoder-decoder": span_model, "encoder": encoder}
LETTERS = ("red", "blue", "ka", "lo")
LAST = {"city": "[X] is the city of [Y].", "colour": "the colour of [X] is [Y]!"}
LICENCE = {"licence": "cc-by-nc"}


def made(name: str, folder: Path | None = None, outside: tuple[tuple[str, str], ...] = (), /, **params: Any) -> Any:
    """Make a built-in probe with parameters."""
    spec = ProbeSpec(name=name, params=tuple(params.items()), outside=outside)
    return load_target(PROBES.get(name, "here").target)(ProbeContext(spec=spec, data=folder, offline=True))


def made_mmlu(folder: Path) -> list[Any]:
    """Write a subject in words that the tokenizer knows, as letters too."""
    rows = [
        [f"the city of {word} is ?", *(f"{other}{word}" for other in ("ka", "mi", "tu", "zi")), "ABCD"[number % 4]]
        for number, word in enumerate(("lo", "ren", "vo", "sha", "kalo", "mimi", "rentu", "zivo"))
    ]
    for split in ("dev", "test"):
        path = folder / "mmlu" / split / f"anatomy_{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return [made("mmlu", folder, subjects="anatomy", shots=1, score=score) for score in ("letter", "continuation")]


def made_questions(folder: Path) -> list[Any]:
    """Write questions of a user whose options have one to three tokens."""
    lines = [{"question": "the city is", "options": ["ka", "miren", "shakalo"], "answer": number % 3, "id": number} for number in range(9)]
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    outside = (("file", f"path:{path}"),)
    return [made("questions", None, outside, file="mine", prompt=prompt) for prompt in ("plain", "question")]


def made_lama(folder: Path) -> list[Any]:
    """Write LAMA; ask words and statements, and as study A did."""
    made_relations.write_lama(folder)
    params = ({"scoring": "token"}, {"scoring": "statement"})
    return [made("lama", folder, dataset="trex", **each, **LICENCE) for each in params]


def made_bear(folder: Path) -> list[Any]:
    """Write BEAR; ask one template, and all."""
    made_relations.write_bear(folder)
    return [made("bear", folder), made("bear", folder, template="all")]


def made_paraphrase(folder: Path) -> list[Any]:
    """Ask facts in two templates, and ParaRel."""
    made_relations.write_pararel(folder)
    return [made("paraphrase"), made("paraphrase", folder, data="pararel", **LICENCE)]


def made_answers(name: str, *variants: dict[str, Any]) -> Callable[[Path], list[Any]]:
    """Return what writes questions to be answered in free text."""

    def make(folder: Path) -> list[Any]:
        contexts = [test_answers_probes.context(folder, test_answers_probes.spec(name, **each)) for each in variants]
        return [load_target(PROBES.get(name, "here").target)(context) for context in contexts]

    return make


def made_perplexity(folder: Path) -> list[Any]:
    """Write running text in words that the tokenizer knows."""
    path = folder / "mine.txt"
    path.write_text("the city of kalo is red. miren has the colour blue! " * 20, encoding="utf-8")
    return [made("perplexity", None, (("text", f"path:{path}"),), text="mine", length=12)]


def made_tasks(folder: Path) -> list[Any]:
    """Write a task of lm-eval that ranks options, and one that generates."""
    configs = (made_lm_eval.CHOICE, made_lm_eval.WRITTEN)
    paths = [folder / str(config["task"]) for config in configs]
    for path in paths:
        path.mkdir()
    return [made_lm_eval.probe_of(made_lm_eval.write_task(path, config)) for path, config in zip(paths, configs, strict=True)]


MAKERS: dict[str, Callable[[Path], list[Any]]] = {
    "facts": lambda _: [made("facts")],
    "mmlu": made_mmlu,
    "questions": made_questions,
    "lama": made_lama,
    "bear": made_bear,
    "paraphrase": made_paraphrase,
    "factoid_qa": made_answers("factoid_qa", {}, {"prompt": "space"}),
    "retrieval_qa": made_answers("retrieval_qa", {"dataset": "squad", "book": "open"}, {"dataset": "nq_open"}),
    "summarization": lambda folder: [
        load_target(PROBES.get("summarization", "").target)(test_summarization.context(folder, max_new_tokens=8))
    ],
    "instruction_following": lambda _: [test_instruction_following.probe()],
    "perplexity": made_perplexity,
    "divergence": lambda _: [made("divergence"), made("divergence", options="whole")],
    "displacement": lambda _: [made("displacement", shots=1)],
    "open_book": lambda _: [made("open_book", distractors=2)],
    "lm_eval": made_tasks,
}


def models_of(name: str) -> dict[str, Callable[[], LoadedModel]]:
    """Return makers of a random model of each family that a probe is defined for."""
    if name == "lm_eval":
        return {kind: partial(made_lm_eval.model_of, kind) for kind in ("llama", "t5")}
    if name == "instruction_following":
        return {"decoder": test_instruction_following.talkative}
    return {family: FAMILIES[family] for family in PROBES.get(name, "here").families}


CASES = [(name, family) for name in sorted(PROBES.builtin) for family in models_of(name)]


@pytest.fixture(autouse=True)
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask facts in three templates for the shipped ones, and letters that are words the tokenizer knows; sum up short documents."""

    def fact_set(_: ProbeContext) -> FactSet:
        found = two_templates(len(facts().facts))
        three = {name: replace(each, templates=(*each.templates, LAST[name])) for name, each in found.relations.items()}
        return replace(found, relations=MappingProxyType(three))

    monkeypatch.setattr(ProbeContext, "fact_set", fact_set)
    monkeypatch.setattr(mmlu, "LETTERS", LETTERS)
    short = [{**row, "document": row["document"][:200]} for row in test_summarization.DOCUMENTS]
    monkeypatch.setattr(test_summarization, "DOCUMENTS", short)


@torch.no_grad()
def zeros(model: LoadedModel) -> None:
    """Set all weights to 0: all logits are equal."""
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()


@torch.no_grad()
def blind(model: LoadedModel) -> None:
    """Give all tokens one embedding, the head left alone: what is asked cannot be seen, the output is that of the position."""
    model.untie_head_()
    model.touch(name for name, _ in model.module.named_parameters())
    embeddings = model.module.get_input_embeddings()
    embeddings.weight[:] = embeddings.weight[7].clone()  # type: ignore[index, operator]


@torch.no_grad()
def nan(model: LoadedModel) -> None:
    """Set all weights to NaN."""
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.fill_(math.nan)


def scores(name: str, family: str, folder: Path, breaking: Callable[[LoadedModel], None]) -> list[Any]:
    """Break a model and return what each variant of a probe makes of it; answers of the dense one are those before."""
    found = []
    for probe in MAKERS[name](folder):
        model, given = models_of(name)[family](), {}
        if PROBES.get(name, "here").dense:
            given = {"reference": probe.reference(model, limit=None, seed=0, batch_size=None)}
        breaking(model)
        found.append(probe.run(model, **given))
    return found


def test_every_probe_has_an_entry() -> None:
    """A new probe is in the table, and the table names none that is gone."""
    assert set(MAKERS) == PROBES.builtin


@pytest.mark.parametrize(("name", "family"), CASES)
def test_zeros_score_at_most_the_floor(name: str, family: str, tmp_path: Path) -> None:
    """Equal logits are no knowledge: no outcome and no score is above its floor, no loss below that of a uniform guess."""
    for score in scores(name, family, tmp_path, zeros):
        assert score.n > 0
        held = set(score.floors) & set(score.metrics)
        assert score.metric in held or score.metric == "judge"
        for metric in held:
            mean = score.mean(metric)
            if mean is not None and mean.kind == "loss":
                assert score.metrics[metric] >= score.floors[metric] - 1e-4, metric
            elif mean is not None and mean.kind == "distance":
                assert score.metrics[metric] > 0, metric
            else:
                assert score.metrics[metric] <= score.floors[metric] + 1e-6, metric


@pytest.mark.parametrize(("name", "family"), CASES)
def test_a_model_that_cannot_see_scores_at_chance(name: str, family: str, tmp_path: Path) -> None:
    """Whatever is asked, the answer is the same: the probe's own metric is at its floor, but for what so few examples may give by luck."""
    for score in scores(name, family, tmp_path, blind):
        mean = score.mean(score.metric)
        if score.metric not in score.metrics or (mean is not None and mean.kind == "distance"):
            continue
        value, floor = score.metrics[score.metric], score.floors[score.metric]
        if mean is not None and mean.kind == "loss":
            assert value >= floor - 0.1
        else:
            assert value <= floor + 3 * np.sqrt(max(floor * (1 - floor), 0.05) / score.n)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_nan_is_an_error(name: str, family: str, tmp_path: Path) -> None:
    """NaN is told in one line, never scored."""
    with pytest.raises(ProbeError) as caught:
        scores(name, family, tmp_path, nan)
    assert "\n" not in str(caught.value)
