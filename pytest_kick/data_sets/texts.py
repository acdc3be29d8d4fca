"""Texts whose likelihood is measured: the shipped one, the tiny models' own statements, WikiText-2, a file, a data set of the hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick.data_sets.source import lines_of, text_of
from pytest_kick.errors import DataError
from pytest_kick.facts import load_facts

if TYPE_CHECKING:
    from pytest_kick.data_sets.source import DataSource

SHIPPED, STATEMENTS, WIKITEXT = "shipped", "statements", "wikitext-2"
NAMES = (SHIPPED, STATEMENTS, WIKITEXT)
FIELD = "text"
WIKITEXT_FILE = "wikitext-2/test.txt"
WIKITEXT_HUB = ("Salesforce/wikitext", "wikitext-2-raw-v1", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """Hold a text that no window crosses: a whole book, or one statement.

    Attributes:
        id: unique.
        group: its relation, or the name of the whole text.
        text: as it stands, not empty.
    """

    id: str
    group: str
    text: str


def read_passages(name: str, data: DataSource, most: int = 0) -> tuple[Passage, ...]:
    """Return a text.

    Args:
        name: `shipped`: addresses in the public domain, none of which lies in the calibration text; `statements`: those that the
            shipped models were trained on and no probe asks, each in its scoring template and each a passage; `wikitext-2`: the test
            part, as a file of `--kick-data` or from the hub; `path:FILE`: plain text, or JSONL with a field `text`;
            `datasets:ID[#CONFIG][@SPLIT]`: a field `text`.
        data: where data sets come from.
        most: characters taken of a data set of the hub, 0 for all.

    Raises:
        DataError: it cannot be read, or holds no text.
    """
    kind, _, rest = name.partition(":")
    if name == STATEMENTS:
        return _statements()
    if name == SHIPPED:
        text = (files("pytest_kick") / "data" / "texts" / "addresses.txt").read_text(encoding="utf-8")
    elif name == WIKITEXT:
        text = _wikitext(data)
    elif kind == "path":
        text = _of_file(Path(rest))
    elif kind == "datasets":
        text = _of_hub(rest, data, most)
    else:
        msg = f"text: name: got {name!r}, expected one of {', '.join(NAMES)}, path:FILE or datasets:ID. Correct it."
        raise DataError(msg)
    if not text.strip():
        msg = f"text: {name}: got no text, expected some. Choose another."
        raise DataError(msg)
    return (Passage(id="text", group="text", text=text),)


def _statements() -> tuple[Passage, ...]:
    with as_file(files("pytest_kick") / "data" / "facts" / "never-probed.jsonl") as path:
        found = load_facts(path)
    return tuple(
        Passage(id=fact.id, group=fact.relation, text=found.relations[fact.relation].statement(fact.subject, fact.answer))
        for fact in found.facts
    )


def _wikitext(data: DataSource) -> str:
    if data.directory is not None:
        return _of_file(data.file(WIKITEXT_FILE))
    # Joined as published perplexities have it (GPTQ, SparseGPT), though the lines bring their own line breaks.
    return "\n\n".join(_field(row, WIKITEXT_HUB[0]) for row in data.rows(*WIKITEXT_HUB))


def _of_file(path: Path) -> str:
    if path.suffix == ".jsonl":
        return "\n\n".join(text_of(line, FIELD) for line in lines_of(path, '{"text": "..."}'))
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        msg = f"{path}: text: got {reason}, expected a text file in UTF-8. Check the path."
        raise DataError(msg) from error


def _of_hub(name: str, data: DataSource, most: int) -> str:
    dataset, _, split = name.partition("@")
    dataset, _, config = dataset.partition("#")
    found: list[str] = []
    n_characters = 0
    for row in data.rows(dataset, config, split or "train"):
        document = _field(row, dataset).strip()
        found += [document] if document else []
        n_characters += len(document)
        if most and n_characters >= most:
            break
    return "\n\n".join(found)


def _field(row: dict[str, object], dataset: str) -> str:
    value = row.get(FIELD)
    if not isinstance(value, str):
        msg = f"datasets:{dataset}: {FIELD}: got {type(value).__name__}, expected a text in each row. Choose a data set with that field."
        raise DataError(msg)
    return value
