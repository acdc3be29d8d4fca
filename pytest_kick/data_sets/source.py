"""Where the rows of a data set come from: files of a directory, or the hub."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_kick.errors import DataError, FactsError
from pytest_kick.jsonl import Line, read_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """Find data sets.

    Attributes:
        directory: of `--kick-data`, None where none was given: then the hub is asked.
        offline: never use the network.
    """

    directory: Path | None = None
    offline: bool = False

    def file(self, name: str) -> Path:
        """Return the path of a file of the directory, such as `mmlu/test/anatomy_test.csv`.

        Raises:
            DataError: no directory was given, or it lacks the file.
        """
        if self.directory is None:
            msg = f"--kick-data: directory: got none, expected one with {name}. Give it, laid out as docs/data.md says."
            raise DataError(msg)
        path = self.directory / name
        if not path.is_file():
            msg = f"--kick-data: {self.directory}: got no {name}, expected it there. Lay the directory out as docs/data.md says."
            raise DataError(msg)
        return path

    def files(self, folder: str, pattern: str) -> list[Path]:
        """Return the files of a folder that match a glob, by name, at least one.

        Raises:
            DataError: no directory was given, or it has no such file.
        """
        found = sorted((self.directory / folder).glob(pattern)) if self.directory else []
        return found or [self.file(f"{folder}/{pattern}")]

    def lines(self, name: str) -> list[Line]:
        """Return the objects of a JSONL file of the directory, at least one; `Line.where` names file and line.

        Raises:
            DataError: the file is missing, empty (a download that was cut off would pass for a smaller data set) or malformed.
        """
        path = self.file(name)
        found = lines_of(path)
        if not found:
            msg = f"{path}: file: got no line, expected at least one. Take it anew from its source."
            raise DataError(msg)
        return found

    def rows(self, dataset: str, config: str = "", split: str = "test") -> Iterator[dict[str, Any]]:
        """Iterate over the rows of a data set of the hub.

        Args:
            dataset: its id, such as `cais/mmlu`.
            config: of it, "" for its only one.
            split: of it.

        Raises:
            DataError: the run is offline, `datasets` is not installed, or the data set cannot be read.
        """
        where = f"datasets:{dataset}{f'#{config}' if config else ''}@{split}"
        if self.offline:
            msg = f"{where}: network: got --kick-offline, expected the hub or a directory of data. Give --kick-data DIR."
            raise DataError(msg)
        try:
            datasets: Any = import_module("datasets")
        except ImportError as error:
            msg = f"{where}: package: got no datasets, expected it installed. pip install datasets, or give --kick-data DIR."
            raise DataError(msg) from error
        try:
            yield from datasets.load_dataset(dataset, config or None, split=split)
        except Exception as error:  # the library, its network client and its scripts raise whatever they like
            reason = (str(error).strip().splitlines() or [""])[0][:120]
            msg = (
                f"{where}: rows: got {type(error).__name__} ({reason}), expected to read them. Check the network, or give --kick-data DIR."
            )
            raise DataError(msg) from error


def lines_of(path: Path, example: str = '{"field": ...}') -> list[Line]:
    """Return the objects of a JSONL file.

    Args:
        path: of the file.
        example: how a line of it is written, for the message about one that is no object.

    Raises:
        DataError: it cannot be read, or a line is no JSON object.
    """
    try:
        return read_lines(path, example)
    except FactsError as error:
        raise DataError(str(error)) from error


def text_of(line: Line, field: str) -> str:
    """Return a text field of a line, as it stands: line breaks and spaces are the data set's.

    Raises:
        DataError: the field is missing, or is no text.
    """
    value = line.values.get(field)
    if not isinstance(value, str) or not value.strip():
        got = "nothing" if field not in line.values else json.dumps(value, default=str)[:_SHOWN]
        msg = f"{line.where}: {field}: got {got}, expected a text. Correct the file, or take it anew from its source."
        raise DataError(msg)
    return value


def texts_of(line: Line, field: str) -> tuple[str, ...]:
    """Return a field that is a list of texts, at least one.

    Raises:
        DataError: the field is missing, empty, or holds anything else.
    """
    value = line.values.get(field)
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        got = "nothing" if field not in line.values else json.dumps(value, default=str)[:_SHOWN]
        msg = f"{line.where}: {field}: got {got}, expected a list of texts. Correct the file, or take it anew from its source."
        raise DataError(msg)
    return tuple(value)


def id_of(line: Line, fields: Sequence[str], default: str) -> str:
    """Return the first of some fields that is there, as an id, else a default.

    Raises:
        DataError: it is neither a text with something in it nor a number.
    """
    field = next((field for field in fields if line.values.get(field) is not None), None)
    if field is None:
        return default
    value = line.values[field]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)) or not str(value).strip():
        refuse(line, field, "a text or a number", "Correct it, or leave it out")
    return str(value)


def refuse(line: Line, field: str, rule: str, advice: str) -> NoReturn:
    """Raise the one-line error about a field of a line, with what stands there.

    Raises:
        DataError: always.
    """
    value = line.values.get(field)
    shown = "nothing" if value is None else json.dumps(value, default=str)
    shown = shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."
    msg = f"{line.where}: {field}: got {shown}, expected {rule}. {advice}."
    raise DataError(msg)
