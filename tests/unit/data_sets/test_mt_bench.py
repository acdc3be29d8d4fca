"""MT-Bench from a directory and from the hub, and what is refused of either."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets.mt_bench import JUDGE_PROMPTS, Instruction, read_mt_bench
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

QUESTIONS: list[dict[str, Any]] = [
    {"question_id": 102, "category": "math", "turns": ["One and one?", "And one more?"], "reference": ["a note", ""]},
    {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Rewrite it."], "reference": ["a note", "another"]},
]
REFERENCES: list[dict[str, Any]] = [{"question_id": 102, "model_id": "some", "choices": [{"index": 0, "turns": ["Two.", "Three."]}]}]
PROMPTS: list[dict[str, Any]] = [
    {"name": name, "system_prompt": "Judge.", "prompt_template": " ".join(f"{{{gap}}}" for gap in gaps)}
    for name, gaps in JUDGE_PROMPTS.items()
] + [{"name": "of-another-kind"}]
FILES = {"mt_bench/question.jsonl": QUESTIONS, "mt_bench/reference_answer/gpt-4.jsonl": REFERENCES, "judge_prompts.jsonl": PROMPTS}


def source(directory: Path, **changed: list[dict[str, Any]]) -> DataSource:
    """Return a directory of data, with some files changed: `question`, `gpt-4` or `judge_prompts`."""
    for name, rows in FILES.items():
        path = directory / "mt_bench" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in changed.get(path.stem, rows)))
    return DataSource(directory=directory)


def test_a_directory_gives_questions_references_and_prompts(tmp_path: Path) -> None:
    """In the order of the ids; references are the answers that MT-Bench shows its judge, not the authors' notes."""
    found = read_mt_bench(source(tmp_path))
    assert found.questions == (
        Instruction(id="81", category="writing", turns=("Write a line.", "Rewrite it.")),
        Instruction(id="102", category="math", turns=("One and one?", "And one more?"), references=("Two.", "Three.")),
    )
    assert found.prompts.keys() == JUDGE_PROMPTS.keys()
    assert found.prompts["single-v1"].template == "{question} {answer}"
    assert found.prompts["single-v1"].system == "Judge."


def test_the_hub_gives_the_questions_and_whole_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows have other names, no prompts, and notes for some turns: those with one for either count."""
    datasets: Any = ModuleType("datasets")
    rows = [{"prompt_id": row["question_id"], "prompt": row["turns"], **row} for row in QUESTIONS]
    asked: list[Any] = []
    datasets.load_dataset = lambda *given, **options: asked.append((given, options)) or rows
    monkeypatch.setitem(sys.modules, "datasets", datasets)
    found = read_mt_bench(DataSource())
    assert asked == [(("HuggingFaceH4/mt_bench_prompts", None), {"split": "train"})]
    assert [(question.id, question.references) for question in found.questions] == [("81", ("a note", "another")), ("102", ())]
    assert not found.prompts
    with pytest.raises(DataError, match=r"^datasets:HuggingFaceH4/mt_bench_prompts@train: network: got --kick-offline"):
        read_mt_bench(DataSource(offline=True))
    rows[1].pop("prompt")
    with pytest.raises(DataError, match=r"^datasets:HuggingFaceH4/mt_bench_prompts@train: row 1: prompt: got n"):
        read_mt_bench(DataSource())


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    """The directory has to be laid out as documented."""
    data = source(tmp_path)
    (tmp_path / "mt_bench" / name).unlink()
    with pytest.raises(DataError, match=rf"^--kick-data: .*: got no mt_bench/{name}, expected it there\. Lay"):
        read_mt_bench(data)


@pytest.mark.parametrize(
    ("file", "changed", "expected"),
    [
        ("question", {"question_id": "81"}, 'question.jsonl:2: question_id: got "81", expected a whole number'),
        ("question", {"question_id": None}, "question.jsonl:2: question_id: got nothing, expected a whole number"),
        ("question", {"question_id": 102}, "question.jsonl:2: question_id: got 102, expected each number once"),
        ("question", {"category": " "}, 'question.jsonl:2: category: got " ", expected a text'),
        ("question", {"turns": ["One."]}, 'question.jsonl:2: turns: got ["One."], expected 2 texts that are not empty'),
        ("question", {"turns": ["One.", " "]}, 'question.jsonl:2: turns: got ["One.", " "], expected 2 texts'),
        ("question", {"turns": "One."}, 'question.jsonl:2: turns: got "One.", expected a list of texts'),
        ("gpt-4", {"choices": []}, "gpt-4.jsonl:1: choices: got [], expected a list that begins with"),
        ("gpt-4", {"choices": [{"turns": ["Two."]}]}, 'gpt-4.jsonl:1: choices[0].turns: got ["Two."], expected 2 texts'),
        ("gpt-4", {"choices": [{}]}, "gpt-4.jsonl:1: choices[0].turns: got null, expected a list of texts"),
        ("judge_prompts", {"name": "other"}, "judge_prompts.jsonl: name: got no 'pair-math-v1-multi-turn', expected all of"),
        ("judge_prompts", {"prompt_template": "{answer}"}, 'prompt_template: got ["answer"], expected the gaps question_1,'),
        ("judge_prompts", {"prompt_template": "{question_1.x} {"}, "prompt_template: got [], expected the gaps"),
        ("judge_prompts", {"system_prompt": 3}, "system_prompt: got 3, expected a text"),
    ],
)
def test_what_is_wrong_is_named_with_file_line_and_field(file: str, changed: dict[str, Any], expected: str, tmp_path: Path) -> None:
    """The last row of a file is changed."""
    rows = {"question": QUESTIONS, "gpt-4": REFERENCES, "judge_prompts": PROMPTS[:-1]}[file]
    last = {name: value for name, value in {**rows[-1], **changed}.items() if value is not None}
    with pytest.raises(DataError) as caught:
        read_mt_bench(source(tmp_path, **{file: [*rows[:-1], last]}))
    assert expected in str(caught.value)
    assert str(caught.value).isprintable()


def test_no_question_is_an_error(tmp_path: Path) -> None:
    """An empty file would give a mean over nothing."""
    with pytest.raises(DataError, match=r"question\.jsonl: file: got no line, expected at least one\."):
        read_mt_bench(source(tmp_path, question=[]))
