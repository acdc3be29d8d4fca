"""FreebaseQA: trivia questions with short answers (Jiang, Wu and Jiang 2019)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_kick.data_sets.open_questions import OpenQuestion, merged
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pytest_kick.data_sets.source import DataSource

FOLDER = "freebaseqa"
HUB = "KelvinJiang/freebase_qa"
SPLITS = {"eval": "test", "dev": "validation", "train": "train"}
"""Splits as the authors call them -> as the hub does."""
UPLOADED = ("eval", "dev")
"""Splits of the authors' first upload, which is text; version 1.0 has all of them."""


def load_freebaseqa(source: DataSource, split: str = "eval") -> tuple[OpenQuestion, ...]:
    """Return the questions of a split, each once: where rows repeat one, their answers join.

    Args:
        source: its directory has `freebaseqa/FreebaseQA-SPLIT.txt` (the authors' first upload: `eval` and `dev`) or `.json` (version 1.0,
            with aliases: `train` too).
        split: `eval`, `dev` or `train`.

    Raises:
        DataError: the data cannot be read, or a row lacks its question or answer.
    """
    where = f"datasets:{HUB}"
    if source.directory is None:
        return _merged(where, (_row(f"{where}: row {i}", row) for i, row in enumerate(source.rows(HUB, split=SPLITS[split]))))
    name = f"{FOLDER}/FreebaseQA-{split}"
    if split not in UPLOADED or (source.directory / f"{name}.json").is_file():
        path = source.file(f"{name}.json")
        return _merged(str(path), _of_json(path))
    path = source.file(f"{name}.txt")
    return _merged(str(path), _of_lines(path, split))


def _merged(where: str, questions: Iterable[OpenQuestion]) -> tuple[OpenQuestion, ...]:
    return merged(where, ((asked.question, asked) for asked in questions))


def _of_lines(path: Path, split: str) -> Iterator[OpenQuestion]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: file: got {type(error).__name__}, expected UTF-8 text. Take it anew from its source."
        raise DataError(msg) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        question, bar, answer = (part.strip() for part in line.rpartition("|"))
        for field, value in (("question", question), ("answer", answer)):
            if not bar or not value:
                msg = f"{path}:{number}: {field}: got nothing, expected `question | answer`. Correct the line."
                raise DataError(msg)
        yield OpenQuestion(id=f"{split}-{number}", question=_unquoted(question), answers=(answer,))


def _unquoted(question: str) -> str:
    """Undo the quoting of a spreadsheet, in which some questions were published."""
    if len(question) > 1 and question[0] == question[-1] == '"':
        return question[1:-1].replace('""', '"').strip()
    return question


def _of_json(path: Path) -> Iterator[OpenQuestion]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))["Questions"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        msg = f"{path}: Questions: got {type(error).__name__}, expected FreebaseQA's JSON. Take it anew from its source."
        raise DataError(msg) from error
    for number, row in enumerate(rows, start=1):
        yield _row(f"{path}: Questions[{number - 1}]", row)


def _row(where: str, row: Any) -> OpenQuestion:  # noqa: ANN401 - as parsed
    given = row if isinstance(row, dict) else {}
    name, question = (str(given.get(field) or "").strip() for field in ("Question-ID", "RawQuestion"))
    answers = tuple(dict.fromkeys(_names(given.get("Parses"), named=False)))
    for field, value in (("Question-ID", name), ("RawQuestion", question), ("AnswersName", answers)):
        if not value:
            msg = f"{where}: {field}: got nothing, expected FreebaseQA's field. Take the data anew from its source."
            raise DataError(msg)
    return OpenQuestion(id=name, question=question, answers=answers)


def _names(value: Any, *, named: bool) -> Iterator[str]:  # noqa: ANN401 - the file and the hub nest parses and answers differently
    """Iterate over the texts below any `AnswersName`."""
    if isinstance(value, str):
        yield from [value.strip()] if named and value.strip() else []
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _names(item, named=named or key == "AnswersName")
    elif isinstance(value, list):
        for item in value:
            yield from _names(item, named=named)
