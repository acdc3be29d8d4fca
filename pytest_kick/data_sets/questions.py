"""Multiple-choice questions of a user: one JSON object a line, or the rows of a data set of the hub with the same fields.

`question` (text), `options` (list of at least two texts), `answer` (the number of the right option, counted from 0, or its text); `id` and
`group` where there are any.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pytest_kick.data_sets.source import lines_of, text_of, texts_of
from pytest_kick.errors import DataError
from pytest_kick.jsonl import Line
from pytest_kick.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kick.data_sets.source import DataSource

REQUIRED = ("question", "options", "answer")
FIELDS = ("id", "group", *REQUIRED)
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Hold one question.

    Attributes:
        id: of the line, `line-N` where it has none.
        group: of the line, "" where it has none.
        question: as it stands, spaces around it removed.
        options: at least two, no two alike.
        answer: place of the right one.
    """

    id: str
    group: str
    question: str
    options: tuple[str, ...]
    answer: int


def load_questions(reference: str, source: DataSource) -> tuple[Asked, ...]:
    """Return the questions that `path:FILE` or `datasets:ID[#CONFIG][@SPLIT]` names, in their order.

    Raises:
        DataError: it cannot be read, holds no question, or one is malformed; names file, line and field.
    """
    kind, _, rest = reference.partition(":")
    if kind == "path":
        found = _read(lines_of(Path(rest), '{"question": "...", "options": [...], "answer": ...}'), strict=True)
    else:
        name, _, split = rest.partition("@")
        name, _, config = name.partition("#")
        rows = source.rows(name, config, split or "test")
        found = _read((Line(where=f"{reference}: row {i}", values=row) for i, row in enumerate(rows, start=1)), strict=False)
    if not found:
        msg = f"{rest}: file: got no question, expected at least one. Write one a line."
        raise DataError(msg)
    return found


def _read(lines: Iterable[Line], *, strict: bool) -> tuple[Asked, ...]:
    """Return the questions of lines; `strict`: a field of another name is an error, as in a file of one's own."""
    found: dict[str, Asked] = {}
    for number, line in enumerate(lines, start=1):
        unknown = next((field for field in line.values if field not in FIELDS), None) if strict else None
        if unknown is not None:
            _fail(line, unknown, line.values[unknown], f"one of the fields {', '.join(FIELDS)}", did_you_mean(unknown, FIELDS).rstrip("."))
        place = line.where.rpartition(":")[2] if strict else str(number)
        asked = _question(line, place)
        if asked.id in found:
            _fail(line, "id", asked.id, "an id of its own for each question", "Rename one")
        found[asked.id] = asked
    return tuple(found.values())


def _question(line: Line, place: str) -> Asked:
    options = tuple(option.strip() for option in texts_of(line, "options"))
    if len(options) < 2 or not all(options):  # noqa: PLR2004 - a choice
        _fail(line, "options", line.values["options"], "at least two texts, none empty", "Correct the list")
    twice = next((option for option in options if options.count(option) > 1), None)
    if twice is not None:
        _fail(line, "options", twice, "each option once", "Remove the second one")
    return Asked(
        id=_name(line, "id", f"line-{place}"),
        group=_name(line, "group", ""),
        question=text_of(line, "question").strip(),
        options=options,
        answer=_answer(line, options),
    )


def _name(line: Line, field: str, default: str) -> str:
    value = line.values.get(field, default)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or (field == "id" and not value.strip()):
        _fail(line, field, value, "a text", "Correct it")
    return value


def _answer(line: Line, options: tuple[str, ...]) -> int:
    if "answer" not in line.values:
        msg = f"{line.where}: answer: got nothing, expected this field. Add it."
        raise DataError(msg)
    value = line.values["answer"]
    if isinstance(value, str) and value.strip() in options:
        return options.index(value.strip())
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(options):
        _fail(line, "answer", value, f"one of the options, or its number from 0 to {len(options) - 1}", "Correct it")
    return value


def _fail(line: Line, field: str, value: object, rule: str, advice: str) -> NoReturn:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
    msg = f"{line.where}: {field}: got {shown}, expected {rule}. {advice}."
    raise DataError(msg)
