"""MMLU's files and its rows of the hub: the same questions, every fault with its place."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets.mmlu import DISCIPLINE_OF, DISCIPLINES, LETTERS, load_mmlu, subjects_of
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = [
    ["What is 1 + 1?", "2", "3", "4", "5", "A"],
    ['Which, of these, is "red"?\nLook twice.', "grass", "a tomato, ripe", "the sea", "snow", "B"],
    ["Who?", "he", "she", "it", "they", "D"],
]


def write(root: Path, rows: list[list[str]], subject: str = "anatomy", split: str = "test") -> Path:
    """Write a file of questions as the authors lay them out."""
    path = root / "mmlu" / split / f"{subject}_{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_rows_are_questions(tmp_path: Path) -> None:
    """Questions keep commas, quotes and line breaks; their ids are subject, split and number, their answer a place."""
    write(tmp_path, ROWS)
    items = load_mmlu(DataSource(directory=tmp_path), "test", ("anatomy",))["anatomy"]
    assert [item.id for item in items] == ["anatomy/test/0", "anatomy/test/1", "anatomy/test/2"]
    assert [item.answer for item in items] == [0, 1, 3]
    assert items[1].question == 'Which, of these, is "red"?\nLook twice.'
    assert items[1].options == ("grass", "a tomato, ripe", "the sea", "snow")


def test_the_hub_has_the_same_questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of `cais/mmlu` become the items that the files become, whatever the order of their subjects."""
    for subject in ("virology", "anatomy"):
        write(tmp_path, ROWS, subject)
    rows = [
        {"question": row[0], "subject": subject, "choices": row[1:5], "answer": LETTERS.index(row[5])}
        for subject in ("virology", "anatomy", "marketing")
        for row in ROWS
    ]
    asked: list[Any] = []

    def given(_: DataSource, *where: str) -> Iterator[Any]:
        asked.append(where)
        return iter(rows)

    monkeypatch.setattr(DataSource, "rows", given)
    wanted = ("anatomy", "virology")
    assert load_mmlu(DataSource(), "val", wanted)["anatomy"][1].id == "anatomy/val/1"
    assert load_mmlu(DataSource(), "test", wanted) == load_mmlu(DataSource(directory=tmp_path), "test", wanted)
    assert asked == [("cais/mmlu", "all", "validation"), ("cais/mmlu", "all", "test")]
    with pytest.raises(DataError, match=r"^datasets:cais/mmlu#all: subject: got no question of sociology, expected some\."):
        load_mmlu(DataSource(), "test", ("anatomy", "sociology"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["Why?", "a", "b", "c", "A"], r":4: answer: got 5 fields, expected question, A, B, C, D, answer\."),
        (["Why?", "a", "b", "c", "d", "A", "x"], r":4: line: got 7 fields"),
        (["Why?", "a", "", "c", "d", "A"], r":4: B: got nothing, expected a text\."),
        (["", "a", "b", "c", "d", "A"], r":4: question: got nothing"),
        (["Why?", "a", "b", "c", "d", "E"], r":4: answer: got 'E', expected one of A, B, C, D\."),
    ],
)
def test_a_fault_has_its_line_and_field(tmp_path: Path, row: list[str], message: str) -> None:
    """A row after one that fills two lines is named by the line it begins in."""
    path = write(tmp_path, [ROWS[0], ROWS[1], row])
    with pytest.raises(DataError, match=rf"^{path}{message}") as caught:
        load_mmlu(DataSource(directory=tmp_path), "test", ("anatomy",))
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A missing file, an empty one and one that is no text are told with the path."""
    source = DataSource(directory=tmp_path)
    with pytest.raises(DataError, match=r"^--kick-data: .*: got no mmlu/dev/anatomy_dev\.csv, expected it there\."):
        load_mmlu(source, "dev", ("anatomy",))
    path = write(tmp_path, [])
    with pytest.raises(DataError, match=rf"^{path}: file: got no question, expected at least one\."):
        load_mmlu(source, "test", ("anatomy",))
    path.write_bytes(b"\xff\xfe,\n")
    with pytest.raises(DataError, match=rf"^{path}: file: got UnicodeDecodeError .*expected a CSV file in UTF-8\."):
        load_mmlu(source, "test", ("anatomy",))


def test_subjects_are_named_alone_by_discipline_or_all() -> None:
    """The 57 subjects stand in four disciplines, as the authors count them, each once; a slip is met with the near name."""
    assert {name: len(subjects) for name, subjects in DISCIPLINES.items()} == {
        "stem": 18,
        "humanities": 13,
        "social_sciences": 12,
        "other": 14,
    }
    assert len(DISCIPLINE_OF) == len(subjects_of("x", "all")) == 57
    assert subjects_of("x", "anatomy") == ("anatomy",)
    assert subjects_of("x", "stem") == DISCIPLINES["stem"]
    with pytest.raises(DataError, match=r"^probe mmlu:anatmy: subjects: got 'anatmy', expected all, .* Did you mean 'anatomy'\?$"):
        subjects_of("probe mmlu:anatmy", "anatmy")
