"""Read the lines of a JSONL file that a person may have written, with errors that name file, line and field."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from pytest_kick.errors import FactsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Hold one JSON object of a file and where it stands.

    Attributes:
        where: `file:line`, the line counted from 1.
        values: The object as parsed.
    """

    where: str
    values: Mapping[str, object]

    def fail(self, field: str, value: object, rule: str, advice: str) -> NoReturn:
        """Raise the one-line error about a field of this line.

        Raises:
            FactsError: Always.
        """
        fail(self.where, field, value, rule, advice)

    def text(self, field: str, default: str | None = None) -> str:
        """Return a text field: not empty, without spaces around it, on one line.

        Raises:
            FactsError: Where the field is missing (and has no default), no text, or empty.
        """
        if field not in self.values and default is not None:
            return default
        value = self._present(field)
        if not isinstance(value, str) or not _is_clean(value):
            self.fail(field, value, "a text that is not empty, on one line, without spaces around it", "Correct it")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """Return a field that is a list of texts; an absent one is empty.

        Raises:
            FactsError: Where it is no list of clean texts, or holds one twice.
        """
        return self.as_texts(field, self.values.get(field, []))

    def as_texts(self, field: str, value: object) -> tuple[str, ...]:
        """Return a value found in a field as texts, after the checks of `texts`."""
        if not isinstance(value, list) or not all(isinstance(item, str) and _is_clean(item) for item in value):
            self.fail(field, value, "a list of texts, none empty or with spaces around it", "Correct the list")
        if len(set(value)) < len(value):
            twice = next(item for item in value if value.count(item) > 1)
            self.fail(field, twice, "each text once", "Remove the second one")
        return tuple(value)

    def integer(self, field: str, default: int | None = None) -> int:
        """Return a whole-number field.

        Raises:
            FactsError: Where the field is missing (and has no default) or is no whole number.
        """
        if field not in self.values and default is not None:
            return default
        value = self._present(field)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail(field, value, "a whole number", "Correct it")
        return value

    def only(self, known: frozenset[str]) -> None:
        """Check that the line has no other field than the known ones.

        Raises:
            FactsError: Where it has; a close name is suggested.
        """
        for field in self.values:
            if field not in known:
                close = difflib.get_close_matches(field, sorted(known), n=1)
                hint = f'Did you mean "{close[0]}"? Rename it' if close else "Remove it"
                self.fail(field, self.values[field], f"one of the fields {', '.join(sorted(known))}", hint)

    def _present(self, field: str) -> object:
        if field not in self.values:
            fail(self.where, field, "nothing", "this field", "Add it", quoted=False)
        return self.values[field]


def fail(where: str, field: str, value: object, rule: str, advice: str, *, quoted: bool = True) -> NoReturn:
    """Raise a one-line error; a value is shown as JSON, cut at 60 characters.

    Raises:
        FactsError: Always.
    """
    shown = json.dumps(value, ensure_ascii=True, default=str) if quoted else str(value)
    if len(shown) > SHOWN_CHARACTERS:
        shown = shown[: SHOWN_CHARACTERS - 3] + "..."
    message = f"{where}: {field}: got {shown}, expected {rule}. {advice}."
    raise FactsError(message)


def read_lines(path: Path, example: str = '{"kind": ...}') -> list[Line]:
    """Return the objects of a JSONL file; blank lines are skipped.

    Args:
        path: of the file.
        example: how a line of such a file begins, for the message about one that is no object.

    Raises:
        FactsError: Where the file cannot be read, is no UTF-8 text, or a line is no JSON object.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        fail(str(path), "file", reason, "a file that can be read", "Check the path and its permissions", quoted=False)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _fail_binary(path, content, error.start)
    if "\0" in text:
        _fail_binary(path, content, content.index(b"\0"))
    numbered = enumerate(text.split("\n"), start=1)
    return [_parse(f"{path}:{number}", line, example) for number, line in numbered if line.strip()]


def _fail_binary(path: Path, content: bytes, offset: int) -> NoReturn:
    number = content[:offset].count(b"\n") + 1
    value = f"byte 0x{content[offset]:02x}"
    fail(f"{path}:{number}", "encoding", value, "UTF-8 text", "Name a JSONL text file", quoted=False)


def _parse(where: str, text: str, example: str) -> Line:
    try:
        values = json.loads(text, object_pairs_hook=lambda pairs: _unique(where, pairs))
    except (json.JSONDecodeError, RecursionError):
        fail(where, "line", text, "a whole JSON object on one line", "Complete or remove the line")
    if not isinstance(values, dict):
        fail(where, "line", values, "a JSON object", f"Write it as {example}")
    return Line(where=where, values=values)


def _unique(where: str, pairs: list[tuple[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for field, value in pairs:
        if field in values:
            fail(where, field, value, "each field once", "Remove one of the two")
        values[field] = value
    return values


def _is_clean(text: str) -> bool:
    return bool(text) and text == text.strip() and text.isprintable()
