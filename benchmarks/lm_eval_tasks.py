"""Time lm-eval's tasks on its own Hugging Face model and on ours: same model in memory, tasks, `simple_evaluate`, threads and dtype.

Tasks are YAML files over local JSONL, with the prompts of lm-eval's own mmlu (5 shots), arc_easy, piqa and boolq, made from a
directory laid out as for `--kick-data`. Both arms run alternately in one process; the time is the CPU time of the model's answers,
encoding included, and the wall time of the whole `simple_evaluate`. The choices and log-likelihoods of both are compared too.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from pytest_kick.catalog import catalog
from pytest_kick.models.cache import ModelCache
from pytest_kick.probes.lm_eval_model import KickLM
from pytest_kick.probes.lm_eval_tasks import quiet

SUBJECTS = ("anatomy", "world_religions", "marketing")
MMLU_TEXT = "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
ACC = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
ACC_NORM = [*ACC, {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True}]
SIZES = {"mmlu": 50, "arc_easy": 300, "piqa": 300, "boolq": 100}
AIMS = {"mmlu": 4.0, "arc_easy": 2.0, "piqa": 1.3, "boolq": 1.0}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def mmlu_rows(path: Path) -> list[dict[str, Any]]:
    """Return the questions of a CSV file of MMLU."""
    with path.open(encoding="utf-8", newline="") as file:
        return [{"question": row[0], "choices": row[1:5], "answer": "ABCD".index(row[5])} for row in csv.reader(file)]


def write(folder: Path, config: dict[str, Any], **splits: list[dict[str, Any]]) -> str:
    """Write a task and its rows, and return the path of its YAML."""
    files = {}
    for split, rows in splits.items():
        path = folder / f"{config['task']}-{split}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        files[split] = str(path)
    whole = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "output_type": "multiple_choice",
        "test_split": "test",
        **config,
    }
    path = folder / f"{config['task']}.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return str(path)


def make_tasks(data: Path, folder: Path, scale: float) -> dict[str, list[str]]:
    """Return the paths of the YAML files of each benchmark."""
    size = {name: max(4, round(n * scale)) for name, n in SIZES.items()}
    mmlu: dict[str, Any] = {"doc_to_text": MMLU_TEXT, "doc_to_choice": ["A", "B", "C", "D"], "doc_to_target": "answer", "metric_list": ACC}
    mmlu |= {"fewshot_split": "dev", "fewshot_config": {"sampler": "first_n"}, "num_fewshot": 5}
    found: dict[str, list[str]] = {"mmlu": []}
    for subject in SUBJECTS:
        said = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        asked = {split: mmlu_rows(data / "mmlu" / split / f"{subject}_{split}.csv") for split in ("dev", "test")}
        config = mmlu | {"task": f"mmlu_{subject}", "description": said}
        found["mmlu"].append(write(folder, config, dev=asked["dev"], test=asked["test"][: size["mmlu"]]))
    question = {
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_target": "label",
        "doc_to_choice": "choices",
        "metric_list": ACC_NORM,
    }
    rows = json_lines(data / "arc" / "ARC-Easy-test.jsonl")[: size["arc_easy"]]
    found["arc_easy"] = [write(folder, question | {"task": "arc_easy"}, test=rows)]
    labels = (data / "piqa" / "valid-labels.lst").read_text(encoding="utf-8").split()
    rows = [row | {"label": int(label)} for row, label in zip(json_lines(data / "piqa" / "valid.jsonl"), labels, strict=True)]
    goal = question | {"doc_to_text": "Question: {{goal}}\nAnswer:", "doc_to_choice": "{{[sol1, sol2]}}"}
    found["piqa"] = [write(folder, goal | {"task": "piqa"}, test=rows[: size["piqa"]])]
    rows = json_lines(data / "boolq" / "dev_with_passages_2474.jsonl")[: size["boolq"]]
    rows = [row | {"label": int(row["answer"])} for row in rows]
    passage = {"doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:", "doc_to_target": "label", "doc_to_choice": ["no", "yes"]}
    found["boolq"] = [write(folder, passage | {"task": "boolq", "metric_list": ACC}, test=rows)]
    return found


class Timed:
    """Count the seconds that a model answers, those of this process's own CPU time: other processes may share the machine."""

    def __init__(self, lm: Any) -> None:  # noqa: ANN401 - lm-eval ships no types
        """Take a model."""
        self.lm, self.seconds, self._asked = lm, 0.0, lm.loglikelihood
        lm.loglikelihood = self._answer

    def _answer(self, requests: list[Any], **options: Any) -> Any:  # noqa: ANN401
        begin = time.process_time()
        try:
            return self._asked(requests, **options)
        finally:
            self.seconds += time.process_time() - begin


def run(lm: Any, tasks: list[str]) -> tuple[float, float, dict[str, list[dict[str, Any]]]]:  # noqa: ANN401
    """Return seconds of the model and of the whole, and the samples by task."""
    timed, begin = Timed(lm), time.perf_counter()
    with quiet():
        manager = TaskManager(include_defaults=False)
        found = simple_evaluate(model=lm, tasks=list(tasks), task_manager=manager, bootstrap_iters=0, log_samples=True)
    assert found is not None
    return timed.seconds, time.perf_counter() - begin, found["samples"]


def compare(theirs: dict[str, list[dict[str, Any]]], ours: dict[str, list[dict[str, Any]]]) -> tuple[int, float, float]:
    """Return the number of items, the largest difference of a log-likelihood in nats, and the share of equal choices."""
    furthest, equal, n = 0.0, 0, 0
    for name, samples in theirs.items():
        for before, now in zip(samples, ours[name], strict=True):
            a, b = ([float(answer[0]) for answer in sample["filtered_resps"]] for sample in (before, now))
            furthest = max(furthest, *(abs(x - y) for x, y in zip(a, b, strict=True)))
            equal += a.index(max(a)) == b.index(max(b))
            n += 1
    return n, furthest, equal / n


def main() -> None:
    """Run both arms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory laid out as for --kick-data")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--cache", type=Path, default=Path(".kick/cache"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--peer-batch", type=int, default=8, help="batch size of lm-eval's model")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the items")
    parser.add_argument("--tasks", nargs="*", default=list(SIZES), choices=list(SIZES))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    model = ModelCache(arguments.cache).get(catalog()[arguments.model])
    model.cast_(getattr(torch, arguments.dtype))
    print(f"{arguments.model} {arguments.dtype}, {arguments.threads} threads, lm-eval's batch {arguments.peer_batch}")
    with tempfile.TemporaryDirectory() as folder:
        for name, tasks in make_tasks(arguments.data, Path(folder), arguments.scale).items():
            if name not in arguments.tasks:
                continue
            times: list[list[float]] = []
            for _ in range(arguments.rounds):
                peer = HFLM(pretrained=model.module, tokenizer=model.tokenizer, batch_size=arguments.peer_batch, device="cpu")
                theirs, theirs_all, expected = run(peer, tasks)
                ours, ours_all, found = run(KickLM(model), tasks)
                times.append([theirs, ours, theirs_all, ours_all])
            a, b, c, d = (statistics.median(column) for column in zip(*times, strict=True))
            n, furthest, equal = compare(expected, found)
            print(
                f"{name:9} n={n:4} lm-eval {a:7.1f} s, ours {b:7.1f} s: {a / b:5.2f} times (aim {AIMS[name]}), whole {c / d:5.2f};"
                f" log-likelihoods within {furthest:.1e}, equal choices {equal:.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
