"""Documents with a summary: CNN/DailyMail, or a file of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick.data_sets.source import id_of, lines_of
from pytest_kick.errors import DataError
from pytest_kick.jsonl import Line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_kick.data_sets.source import DataSource

CNN_DAILYMAIL = "cnn_dailymail"
NAMES = (CNN_DAILYMAIL,)
HUB = ("abisee/cnn_dailymail", "3.0.0", "test")
FIELDS = {"document": ("document", "article"), "summary": ("summary", "highlights")}
"""What a row holds -> its field, here and in CNN/DailyMail."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Hold a document and its summary.

    Attributes:
        id: unique in its data set.
        text: of the document.
        summary: written by a person.
    """

    id: str
    text: str
    summary: str


def load_documents(name: str, source: DataSource) -> tuple[Document, ...]:
    """Return documents, in their order.

    Args:
        name: `cnn_dailymail`; `path:FILE`, JSON lines with `document`, `summary` and, where there is one, `id`; or
            `datasets:ID[#CONFIG][@SPLIT]` with these fields or CNN/DailyMail's `article` and `highlights`.
        source: of the data: its directory has `cnn_dailymail/*.jsonl`, with the fields of either.

    Raises:
        DataError: the data cannot be read, a row lacks a field, or two documents have one id.
    """
    found: dict[str, Document] = {}
    for number, line in enumerate(_lines(name, source), start=1):
        document = _document(line, number)
        if document.id in found:
            msg = f"{line.where}: id: got {document.id!r} a second time, expected an id of its own for each. Rename one."
            raise DataError(msg)
        found[document.id] = document
    if not found:
        msg = f"{name}: documents: got none, expected at least one. Check the file."
        raise DataError(msg)
    return tuple(found.values())


def _lines(name: str, source: DataSource) -> Iterable[Line]:
    kind, _, rest = name.partition(":")
    if kind == "path":
        return lines_of(Path(rest), '{"document": "...", "summary": "..."}')
    if kind == "datasets":
        dataset, _, split = rest.partition("@")
        dataset, _, config = dataset.partition("#")
        return _hub_lines(source, (dataset, config, split or "test"))
    if source.directory is None:
        return _hub_lines(source, HUB)
    return [line for path in source.files(CNN_DAILYMAIL, "*.jsonl") for line in lines_of(path)]


def _hub_lines(source: DataSource, place: tuple[str, str, str]) -> Iterator[Line]:
    for number, row in enumerate(source.rows(*place)):
        yield Line(where=f"datasets:{place[0]}: row {number}", values=row)


def _document(line: Line, number: int) -> Document:
    texts = {}
    for part, fields in FIELDS.items():
        given = [value.strip() for field in fields if isinstance(value := line.values.get(field), str) and value.strip()]
        if not given:
            msg = f"{line.where}: {part}: got nothing, expected a text. Add it."
            raise DataError(msg)
        texts[part] = given[0]
    return Document(id=id_of(line, ("id",), f"line-{number}"), text=texts["document"], summary=texts["summary"])
