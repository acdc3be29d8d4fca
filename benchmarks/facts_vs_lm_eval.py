"""Time the facts probe against lm-eval's multiple choice: same model in memory, facts, strings, options, threads and dtype.

Both arms run alternately in one process, each with all it needs from strings to outcomes. lm-eval's logits cache stays on.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import datasets  # type: ignore[import-untyped]
import torch
from lm_eval import simple_evaluate
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM

from pytest_kick.facts import FactSet, shipped_facts
from pytest_kick.models.load import load
from pytest_kick.probes.facts import FactsProbe
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel

LARGE = 50


def four_options(facts: FactSet) -> FactSet:
    """Return the facts with the answer spaces cut into groups of four, each a relation of its own."""
    relations, asked = {}, []
    for relation in facts.relations.values():
        for begin in range(0, len(relation.answers) - 3, 4):
            answers = relation.answers[begin : begin + 4]
            name = f"{relation.name}-{begin // 4}"
            relations[name] = replace(relation, name=name, answers=answers)
            asked += [replace(f, relation=name) for f in facts.facts if f.relation == relation.name and f.answer in answers]
    return replace(facts, relations=MappingProxyType(relations), facts=tuple(asked))


def large_spaces(facts: FactSet) -> FactSet:
    """Return the facts of relations with at least 50 answers."""
    asked = tuple(fact for fact in facts.facts if len(facts.relations[fact.relation].answers) >= LARGE)
    return replace(facts, facts=asked)


def peer_documents(facts: FactSet) -> list[dict[str, Any]]:
    """Return what lm-eval is given: prompt, options with their closing text, and which is gold."""
    documents = []
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        before, after = relation.prompt(fact.subject)
        choices = [label + after for label in relation.answers]
        documents.append({"prompt": before, "choices": choices, "gold": relation.answers.index(fact.answer)})
    return documents


def run_peer(model: LoadedModel, facts: FactSet, batch_size: int) -> tuple[float, list[int]]:
    """Return the seconds of one `simple_evaluate` and the option chosen for each fact."""
    begin = time.perf_counter()
    data = {"test": datasets.Dataset.from_list(peer_documents(facts))}
    task = ConfigurableTask(
        config={
            "task": "kick_facts",
            "custom_dataset": lambda **_: data,
            "output_type": "multiple_choice",
            "test_split": "test",
            "doc_to_text": "prompt",
            "doc_to_choice": "choices",
            "doc_to_target": "gold",
            "target_delimiter": " ",
            "metric_list": [{"metric": "acc"}],
        }
    )
    peer = HFLM(pretrained=model.module, tokenizer=model.tokenizer, batch_size=batch_size, device="cpu")
    found = simple_evaluate(peer, tasks=[task], bootstrap_iters=0, log_samples=True)
    seconds = time.perf_counter() - begin
    assert found is not None
    samples = sorted(found["samples"]["kick_facts"], key=lambda sample: sample["doc_id"])
    scores = [[response[0] for response in sample["filtered_resps"]] for sample in samples]
    return seconds, [row.index(max(row)) for row in scores]


def run_probe(model: LoadedModel, facts: FactSet) -> tuple[float, list[int]]:
    """Return the seconds of one probe, preparation included, and the option chosen for each fact."""
    begin = time.perf_counter()
    score = FactsProbe(facts).run(model)
    seconds = time.perf_counter() - begin
    assert score.n == len(facts.facts), score.excluded
    return seconds, score.examples.arrays["predicted"].tolist()


def main() -> None:
    """Print seconds of both arms, their ratio, and how often they choose alike."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of a decoder, as `kick fetch` prints it")
    parser.add_argument("--options", choices=["four", "large"], default="four")
    parser.add_argument("--facts", type=int, default=160)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=64, help="of lm-eval")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    spec = ModelSpec(name="benchmarked", family="decoder", source=f"path:{args.model.resolve()}")
    model = load(spec, args.model)
    model.cast_(getattr(torch, args.dtype))
    facts = {"four": four_options, "large": large_spaces}[args.options](shipped_facts()).sample(args.facts)
    run_probe(model, facts.sample(8))  # warm both kernels and libraries
    run_peer(model, facts.sample(2), args.batch)
    rows = []
    for _ in range(args.repeats):
        ours, chosen = run_probe(model, facts)
        theirs, expected = run_peer(model, facts, args.batch)
        alike = sum(a == b for a, b in zip(chosen, expected, strict=True)) / len(chosen)
        rows.append((ours, theirs, theirs / ours, alike))
        print(f"probe {ours:.2f} s, lm-eval {theirs:.2f} s, ratio {theirs / ours:.2f}, same choice {alike:.4f}", flush=True)
    n_options = sum(len(facts.relations[fact.relation].answers) for fact in facts.facts) / len(facts.facts)
    print(
        f"{args.dtype}, {len(facts.facts)} facts, {n_options:.1f} options, {args.threads} threads: median ratio"
        f" {statistics.median(row[2] for row in rows):.2f}, same choice {min(row[3] for row in rows):.4f}"
    )


if __name__ == "__main__":
    main()
