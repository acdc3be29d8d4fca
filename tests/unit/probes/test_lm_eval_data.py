"""lm-eval's own tasks on rows of a directory of data: its prompts, its shots, and how often anything is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("lm_eval")

import datasets
from lm_eval.api.task import ConfigurableTask
from made_lm_eval import context_of, model_of, write_index

from pytest_kick.data_sets.hub_rows import HubRows
from pytest_kick.errors import DataError
from pytest_kick.probes import lm_eval_tasks
from pytest_kick.probes.lm_eval_asked import Questions
from pytest_kick.probes.lm_eval_probe import LmEvalProbe
from pytest_kick.probes.lm_eval_tasks import load_tasks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")
INDEX = {
    "arc_easy": "arc/arc_easy.yaml",
    "piqa": "piqa/piqa.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
    "lambada_openai": "lambada/lambada_openai.yaml",
    "nq_open": "nq_open/nq_open.yaml",
    "mmlu_anatomy": "mmlu/default/mmlu_anatomy.yaml",
}
ARC = '{"question": "a w1", "choices": ["w2", "w3 w4"], "label": 1}\n{"question": "a w5", "choices": ["w6", "w7"], "label": 0}\n'
FILES = {
    "arc/ARC-Easy-test.jsonl": ARC,
    "piqa/valid.jsonl": '{"goal": "a", "sol1": "w1", "sol2": "w2"}\n',
    "piqa/valid-labels.lst": "1\n",
    "boolq/dev.jsonl": '{"question": "a w1", "answer": true, "passage": "w2"}\n',
    "winogrande/dev.jsonl": '{"sentence": "a _ w1", "option1": "w2", "option2": "w3", "answer": "2"}\n',
    "openbookqa/test.tsv": "ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\n1\ta\t(A) w1 (B) w2\t-\tB\n",
    "truthfulqa/mc_task.json": json.dumps([{"question": "a", "mc1_targets": {"w1": 1, "w2": 0}, "mc2_targets": {"w1": 1}}]),
    "lambada/lambada_test.jsonl": '{"text": "a w1 w2"}\n',
    "nq_open/NQ-open.dev.jsonl": '{"question": "a w1", "answer": ["w2"]}\n',
    "mmlu/test/anatomy_test.csv": "a ,w1,w2,w3,w4,C\n",
    "mmlu/dev/anatomy_dev.csv": "w5,w6,w7,w8,w9,B\n",
}
ABOUT = "The following are multiple choice questions (with answers) about anatomy.\n\n"
PROMPTS: dict[str, list[tuple[str, str]]] = {
    "arc_easy": [("Question: a w1\nAnswer:", " w2"), ("Question: a w1\nAnswer:", " w3 w4")],
    "piqa": [("Question: a\nAnswer:", " w1"), ("Question: a\nAnswer:", " w2")],
    "boolq": [("w2\nQuestion: a w1?\nAnswer:", " no"), ("w2\nQuestion: a w1?\nAnswer:", " yes")],
    "winogrande": [("a w2", " w1"), ("a w3", " w1")],
    "openbookqa": [("a", " w1"), ("a", " w2")],
    "lambada_openai": [("a w1", " w2")],
    "mmlu_anatomy": [(f"{ABOUT}a\nA. w1\nB. w2\nC. w3\nD. w4\nAnswer:", f" {letter}") for letter in "ABCD"],
}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write made-up data and an index of a few tasks, and keep the library's own cache inside the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    write_index(tmp_path, INDEX)
    for name, text in FILES.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def asked_of(task: str, folder: Path, **params: int) -> Any:
    """Return what a task asks, as the probe builds it whatever the model, never with the network."""
    context = context_of(task, folder, data=folder / "data", offline=True, **params)
    questions = Questions(task, load_tasks(task, context), shots=params.get("shots", -1), seed=1234, limit=0)
    return questions._build(None, 0)[task]


@pytest.mark.parametrize("task", PROMPTS)
def test_prompts_are_lm_evals_own(task: str, tmp_path: Path) -> None:
    """A line of a file becomes the prompt and the options that lm-eval's own YAML says, written out here by hand; no network is used."""
    part = asked_of(task, tmp_path)
    assert [tuple(request.args[:2]) for request in part.requests[0]] == PROMPTS[task]


def test_prompts_of_other_kinds(tmp_path: Path) -> None:
    """A question to be answered in words, and one with a fixed preamble, end as lm-eval's own YAML says."""
    written = asked_of("nq_open", tmp_path).requests[0][0].args
    assert written[0] == "Answer these questions:\n\nQ: a w1?\nA:"
    assert written[1]["until"] == ["\n", ".", ","]
    chosen = asked_of("truthfulqa_mc1", tmp_path)
    assert chosen.requests[0][0].args[0].endswith("held in Barcelona, Spain.\n\nQ: a\nA:")


def test_shots_come_from_the_directory(tmp_path: Path) -> None:
    """The examples of few-shot prompts are those of the split that lm-eval names."""
    prompt, _ = asked_of("mmlu_anatomy", tmp_path, shots=1).requests[0][0].args
    assert prompt == f"{ABOUT}w5\nA. w6\nB. w7\nC. w8\nD. w9\nAnswer: B\n\na\nA. w1\nB. w2\nC. w3\nD. w4\nAnswer:"


def test_shots_without_their_split_are_one_line(tmp_path: Path) -> None:
    """A few-shot split that is missing is named; without shots it is not missed."""
    assert asked_of("arc_easy", tmp_path, shots=0).places == (0, 1)
    with pytest.raises(DataError) as caught:
        asked_of("arc_easy", tmp_path, shots=2)
    assert str(caught.value).startswith("lm_eval:arc_easy: --kick-data: ")
    assert "got no 'train' of allenai/ai2_arc (ARC-Easy-train.jsonl)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_directory_lacks_is_asked_of_the_hub(tmp_path: Path) -> None:
    """A data set without a folder goes to the hub: offline that is an error, and what was patched is as it was."""
    own = ConfigurableTask.download, ConfigurableTask.fewshot_docs
    for path in (tmp_path / "data" / "piqa").iterdir():
        path.unlink()
    (tmp_path / "data" / "piqa").rmdir()
    with pytest.raises(DataError, match=r"^lm_eval:piqa: network: got --kick-offline"):
        asked_of("piqa", tmp_path)
    assert (ConfigurableTask.download, ConfigurableTask.fewshot_docs) == own


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    """A line that cannot be read stops the cell in one line with file and field."""
    (tmp_path / "data" / "arc" / "ARC-Easy-test.jsonl").write_text('{"question": "a", "choices": ["w1"], "label": 5}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"^lm_eval:arc_easy: \S+ARC-Easy-test.jsonl:1: label: got 5, expected"):
        asked_of("arc_easy", tmp_path)


def test_a_second_cell_reads_and_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Index, files and requests are read and built at the first cell; the second has the same score without any of it."""
    lm_eval_tasks._manager.cache_clear()
    counted = {"index": 0, "rows": 0, "requests": 0}

    def count(owner: Any, name: str, what: str) -> None:
        own = getattr(owner, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            counted[what] += 1
            return own(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(lm_eval_tasks.lm_eval.tasks, "TaskManager", "index")
    count(HubRows, "rows", "rows")
    count(ConfigurableTask, "build_all_requests", "requests")
    probe = LmEvalProbe(context_of("arc_easy", tmp_path, data=tmp_path / "data", offline=True))
    model = model_of("gpt2")
    first = probe.run(model)
    assert counted == {"index": 1, "rows": 1, "requests": 1}
    second = probe.run(model)
    assert counted == {"index": 1, "rows": 1, "requests": 1}
    assert first.metrics == second.metrics
