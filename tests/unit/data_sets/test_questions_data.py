"""A user's questions: what a line may hold, and how each fault is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets.questions import load_questions
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = {"question": "Which is red?", "options": ["grass", "blood"], "answer": "blood"}


def load(path: Path, *lines: Any) -> Any:
    """Write lines and load them."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return load_questions(f"path:{path}", DataSource())


def test_a_line_is_a_question(tmp_path: Path) -> None:
    """The answer is an option or its number; ids are the line's unless given, groups are empty; numbers may be ids."""
    by_text, by_number, named = load(
        tmp_path / "mine.jsonl", GOOD, {**GOOD, "answer": 0}, {**GOOD, "id": 7, "group": "colours", "question": " Which is red? "}
    )
    assert (by_text.id, by_text.group, by_text.answer) == ("line-1", "", 1)
    assert (by_number.id, by_number.answer) == ("line-2", 0)
    assert (named.id, named.group, named.question) == ("7", "colours", "Which is red?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "snow"}, 'answer: got "snow", expected one of the options, or its number from 0 to 1'),
        ({"answer": 2}, "answer: got 2, expected one of the options"),
        ({"answer": -1}, "answer: got -1, expected"),
        ({"answer": True}, "answer: got true, expected"),
        ({"answer": None}, "answer: got null, expected"),
        ({"options": ["blood"]}, r"options: got \[\"blood\"\], expected at least two texts"),
        ({"options": ["blood", " "]}, "options: got .*, expected at least two texts, none empty"),
        ({"options": ["blood", "blood "]}, 'options: got "blood", expected each option once'),
        ({"options": "blood"}, 'options: got "blood", expected a list of texts'),
        ({"question": ""}, 'question: got "", expected a text'),
        ({"question": 3}, "question: got 3, expected a text"),
        ({"group": ["a"]}, r"group: got \[\"a\"\], expected a text"),
        ({"id": ""}, 'id: got "", expected a text'),
        ({"anwser": 1}, r"anwser: got 1, expected one of the fields .* Did you mean \'answer\'\?"),
    ],
)
def test_a_fault_has_its_line_and_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Each is one line that names file, line and field."""
    path = tmp_path / "mine.jsonl"
    with pytest.raises(DataError, match=rf"^{path}:2: {message}") as caught:
        load(path, GOOD, {**GOOD, **change})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["question", "options", "answer"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    """Nothing where a field is due."""
    path = tmp_path / "mine.jsonl"
    with pytest.raises(DataError, match=rf"^{path}:1: {field}: got nothing, expected"):
        load(path, {key: value for key, value in GOOD.items() if key != field})


def test_files_that_hold_nothing(tmp_path: Path) -> None:
    """An empty file, a missing one, no JSON and an id twice are one line each."""
    path = tmp_path / "mine.jsonl"
    with pytest.raises(DataError, match=rf"^{path}: file: got no question"):
        load(path)
    with pytest.raises(DataError, match=rf"^{path}:2: id: got \"a\", expected an id of its own"):
        load(path, {**GOOD, "id": "a"}, {**GOOD, "id": "a"})
    path.write_text("Which?\n", encoding="utf-8")
    with pytest.raises(DataError, match=rf"^{path}:1: line: got "):
        load_questions(f"path:{path}", DataSource())
    with pytest.raises(DataError, match=r"nothing\.jsonl: file: got No such file"):
        load_questions(f"path:{tmp_path / 'nothing.jsonl'}", DataSource())


def test_rows_of_the_hub_are_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set may have other columns; what it lacks is told with its row."""
    asked: list[Any] = []
    rows = [{**GOOD, "difficulty": 3}, {"question": "Why?", "options": ["a", "b"]}]

    def given(_: DataSource, *where: str) -> Iterator[Any]:
        asked.append(where)
        return iter(rows)

    monkeypatch.setattr(DataSource, "rows", given)
    with pytest.raises(DataError, match=r"^datasets:some/set#easy@dev: row 2: answer: got nothing"):
        load_questions("datasets:some/set#easy@dev", DataSource())
    del rows[1]
    assert [question.id for question in load_questions("datasets:some/set", DataSource())] == ["line-1"]
    assert asked == [("some/set", "easy", "dev"), ("some/set", "", "test")]
