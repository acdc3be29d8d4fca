"""Files of data sets as the hub's rows: what each reader makes of a line, and every fault with its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets.hub_rows import LAYOUTS, hub_rows
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

OPENBOOK = "ID\tQuestion Stem\tChoices\tComplete Question\tAnswer Key\n"
TRUTHFUL = [{"question": "q", "mc1_targets": {"a": 1, "b": 0}, "mc2_targets": {"a": 1, "c": 1, "b": 0}}]
CASES: list[tuple[str, str, str, dict[str, str], dict[str, Any]]] = [
    (
        "allenai/ai2_arc",
        "ARC-Easy",
        "test",
        {"arc/ARC-Easy-test.jsonl": '{"question": "q", "choices": ["x", "y"], "label": 1}\n'},
        {"question": "q", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"},
    ),
    (
        "allenai/ai2_arc",
        "ARC-Challenge",
        "train",
        {"arc/ARC-Challenge-train.jsonl": '{"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}\n'},
        {"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"},
    ),
    (
        "baber/piqa",
        "",
        "validation",
        {"piqa/valid.jsonl": '{"goal": "g", "sol1": "s", "sol2": "t "}\n', "piqa/valid-labels.lst": "1\n"},
        {"goal": "g", "sol1": "s", "sol2": "t ", "label": 1},
    ),
    (
        "aps/super_glue",
        "boolq",
        "validation",
        {"boolq/dev.jsonl": '{"question": "q", "title": "T", "answer": true, "passage": "p"}\n'},
        {"question": "q", "passage": "T -- p", "idx": 0, "label": 1},
    ),
    (
        "aps/super_glue",
        "boolq",
        "validation",
        {"boolq/dev_with_passages_1.jsonl": '{"question": "q", "answer": false, "passage": "p"}\n'},
        {"question": "q", "passage": "p", "idx": 0, "label": 0},
    ),
    (
        "allenai/winogrande",
        "winogrande_xl",
        "validation",
        {"winogrande/dev.jsonl": '{"qID": "1", "sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2"}\n'},
        {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "2"},
    ),
    (
        "allenai/openbookqa",
        "main",
        "test",
        {"openbookqa/test.tsv": OPENBOOK + "7-1\tq (A)\t(A) x (B) y z\t-\tB\n"},
        {"id": "7-1", "question_stem": "q (A)", "choices": {"text": ["x", "y z"], "label": ["A", "B"]}, "answerKey": "B"},
    ),
    (
        "allenai/openbookqa",
        "main",
        "train",
        {"openbookqa/train.tsv": OPENBOOK + "7-1\tq\t(A) x (B) y (B) z\t-\tA\n"},
        {"id": "7-1", "question_stem": "q", "choices": {"text": ["x", "y (B) z"], "label": ["A", "B"]}, "answerKey": "A"},
    ),
    (
        "truthfulqa/truthful_qa",
        "multiple_choice",
        "validation",
        {"truthfulqa/mc_task.json": json.dumps(TRUTHFUL)},
        {
            "question": "q",
            "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["a", "c", "b"], "labels": [1, 1, 0]},
        },
    ),
    ("EleutherAI/lambada_openai", "default", "test", {"lambada/lambada_test.jsonl": '{"text": "a b\\nc"}\n'}, {"text": "a b\nc"}),
    (
        "google-research-datasets/nq_open",
        "",
        "validation",
        {"nq_open/NQ-open.dev.jsonl": '{"question": "q", "answer": ["x", "y"]}\n'},
        {"question": "q", "answer": ["x", "y"]},
    ),
    (
        "mandarjoshi/trivia_qa",
        "rc.nocontext",
        "validation",
        {"triviaqa/validation.jsonl": '{"question": "q", "question_id": "1", "answer": {"value": "x", "aliases": ["x", "y"]}}\n'},
        {"question": "q", "answer": {"value": "x", "aliases": ["x", "y"]}},
    ),
    (
        "cais/mmlu",
        "anatomy",
        "dev",
        {"mmlu/dev/anatomy_dev.csv": '"q, or ""r""", w ,x,y,z,D\n'},
        {"question": 'q, or "r"', "subject": "anatomy", "choices": [" w ", "x", "y", "z"], "answer": 3},
    ),
    (
        "tau/commonsense_qa",
        "",
        "validation",
        {"tau/commonsense_qa/validation.jsonl": '{"question": "q", "answerKey": "A"}\n'},
        {"question": "q", "answerKey": "A"},
    ),
    (
        "allenai/ai2_arc",
        "ARC-Easy",
        "test",
        {"allenai/ai2_arc/ARC-Easy/test.jsonl": '{"question": "own"}\n', "arc/ARC-Easy-test.jsonl": "[]"},
        {"question": "own"},
    ),
]


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    """Write files below a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(("dataset", "config", "split", "files", "row"), CASES)
def test_a_line_becomes_the_hubs_row(
    dataset: str, config: str, split: str, files: dict[str, str], row: dict[str, Any], tmp_path: Path
) -> None:
    """Each data set's published line is the row that its card on the hub shows; texts keep their spaces; the hub's own rows come first."""
    found = hub_rows(lay_out(tmp_path, files), dataset, config or None)
    assert found is not None
    assert found.rows(split) == [row]


def test_every_layout_is_tested() -> None:
    """No data set is without a row above."""
    assert set(LAYOUTS) <= {case[0] for case in CASES}


def test_what_a_directory_lacks_is_the_hubs(tmp_path: Path) -> None:
    """A data set without a folder, another configuration, and a run without a directory are left to the hub."""
    lay_out(tmp_path, {"boolq/dev.jsonl": "{}", "arc/x": ""})
    assert hub_rows(tmp_path, "baber/piqa", None) is None
    assert hub_rows(tmp_path, "aps/super_glue", "rte") is None
    assert hub_rows(tmp_path, "json", None) is None
    assert hub_rows(None, "aps/super_glue", "boolq") is None
    assert hub_rows(tmp_path, "aps/super_glue", "boolq") is not None


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    """A split without a file is one line: which, where it would lie, and what there is."""
    lay_out(tmp_path, {"arc/ARC-Easy-test.jsonl": '{"question": "q", "choices": ["x", "y"], "label": 1}\n'})
    found = hub_rows(tmp_path, "allenai/ai2_arc", "ARC-Easy")
    assert found is not None
    with pytest.raises(DataError) as caught:
        found.rows("train")
    said = str(caught.value)
    assert said.startswith(f"--kick-data: {tmp_path / 'arc'}: split: got no 'train' of allenai/ai2_arc (ARC-Easy-train.jsonl), expected it")
    assert "it has test." in said
    assert "\n" not in said


def test_parts_of_a_split_are_read_in_order(tmp_path: Path) -> None:
    """A split in several files is all of them, by name."""
    line = '{{"sentence": "{} _", "option1": "x", "option2": "y", "answer": "1"}}\n'
    files = {f"winogrande/resplit_train{end}.jsonl": line.format(name) for end, name in (("", "a"), ("_heldout", "b"))}
    found = hub_rows(lay_out(tmp_path, files), "allenai/winogrande", "winogrande_xl")
    assert found is not None
    assert [row["sentence"] for row in found.rows("train")] == ["a _", "b _"]


@pytest.mark.parametrize(
    ("dataset", "config", "files", "said"),
    [
        (
            "allenai/ai2_arc",
            "ARC-Easy",
            {"arc/ARC-Easy-test.jsonl": '\n{"question": "q", "choices": ["x"], "label": 1}'},
            "jsonl:2: label: got 1",
        ),
        ("allenai/ai2_arc", "ARC-Easy", {"arc/ARC-Easy-test.jsonl": '{"choices": ["x"], "label": 0}'}, "jsonl:1: question: got nothing"),
        (
            "allenai/ai2_arc",
            "ARC-Easy",
            {"arc/ARC-Easy-test.jsonl": '{"question": "q", "choices": {"text": ["x"], "label": ["A"]}, "answerKey": "B"}'},
            "jsonl:1: choices: got",
        ),
        (
            "baber/piqa",
            "",
            {"piqa/valid.jsonl": '{"goal": "g", "sol1": "s", "sol2": "t"}'},
            "labels: got nothing, expected valid",
        ),
        (
            "baber/piqa",
            "",
            {"piqa/valid.jsonl": '{"goal": "g", "sol1": "s", "sol2": "t"}', "piqa/valid-labels.lst": "0\n2"},
            "valid-labels.lst: labels: got 2, of ['0', '2'], expected 1",
        ),
        ("aps/super_glue", "boolq", {"boolq/dev.jsonl": '{"question": "q", "answer": 1, "passage": "p"}'}, "jsonl:1: answer: got 1"),
        (
            "allenai/winogrande",
            "winogrande_xl",
            {"winogrande/dev.jsonl": '{"sentence": "no gap", "option1": "x", "option2": "y", "answer": "1"}'},
            "jsonl:1: answer: got 1, expected 1 or 2, and a sentence with _",
        ),
        ("allenai/openbookqa", "main", {"openbookqa/test.tsv": "a\tb\n"}, "test.tsv:1: columns"),
        ("allenai/openbookqa", "main", {"openbookqa/test.tsv": OPENBOOK + "1\tq\t(A) x\t-\tA\n"}, "test.tsv:2: Choices: got (A) x"),
        ("allenai/openbookqa", "main", {"openbookqa/test.tsv": OPENBOOK + "1\tq\t(A) x (B) y\t-\tC\n"}, "test.tsv:2: Choices"),
        ("allenai/openbookqa", "main", {"openbookqa/test.tsv": OPENBOOK}, "test.tsv: file: got no row"),
        ("truthfulqa/truthful_qa", "multiple_choice", {"truthfulqa/mc_task.json": "["}, "mc_task.json: file: got no JSON"),
        (
            "truthfulqa/truthful_qa",
            "multiple_choice",
            {"truthfulqa/mc_task.json": '[{"question": "q", "mc1_targets": {"a": 0, "b": 1}, "mc2_targets": {"b": 1}}]'},
            "entry 0: mc1_targets: got {'a': 0, 'b': 1}, expected options with 1 or 0, a right one first",
        ),
        ("google-research-datasets/nq_open", "", {"nq_open/NQ-open.dev.jsonl": '{"question": "q"}'}, "jsonl:1: answer: got nothing"),
        ("mandarjoshi/trivia_qa", "rc", {"triviaqa/a.jsonl": '{"question": "q", "answer": {}}'}, "jsonl:1: answer: got {}"),
        ("cais/mmlu", "anatomy", {"mmlu/test/anatomy_test.csv": "q,w,x,y,z,E\n"}, "csv:1: answer: got E"),
        ("EleutherAI/lambada_openai", "default", {"lambada/lambada_test.jsonl": "{"}, "jsonl:1:"),
    ],
)
def test_a_fault_is_named_with_its_place(dataset: str, config: str, files: dict[str, str], said: str, tmp_path: Path) -> None:
    """A line without a field, or with one that cannot be, is one line that names file, line and field."""
    found = hub_rows(lay_out(tmp_path, files), dataset, config or None)
    assert found is not None
    split = next(name for name in ("test", "validation") if name in LAYOUTS[dataset].splits)
    with pytest.raises(DataError) as caught:
        found.rows(split)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
