"""Where calibration text comes from: the shipped books, the tiny models' own statements, a file, a data set of the hub."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import CalibrationError, FactsError
from pytest_kick.facts import load_facts
from pytest_kick.jsonl import read_lines

if TYPE_CHECKING:
    from pytest_kick.spec import Calibration

FIELD = "text"
CHARACTERS_PER_TOKEN = 16
"""Text taken of a data set for each token asked for: about four times what English needs, so that the windows are a choice."""


def read_text(calibration: Calibration, *, offline: bool = False) -> str:
    """Return the text of a source, its documents with a blank line between them.

    Args:
        calibration: its source is `shipped`, `path:FILE` or `datasets:ID[#CONFIG][@SPLIT]`; count and length say how much of a
            data set is read: `CHARACTERS_PER_TOKEN` for each token, from its beginning.
        offline: never use the network: refuse data sets.

    Raises:
        CalibrationError: the file or the data set cannot be read, or holds no text.
    """
    kind, _, rest = calibration.source.partition(":")
    if kind == "path":
        text = _of_file(Path(rest))
    elif kind == "datasets":
        if offline:
            msg = f"calibration: source: got {calibration.source!r} offline, expected one that needs no network. Leave --kick-offline out."
            raise CalibrationError(msg)
        text = _of_datasets(rest, calibration.count * calibration.length * CHARACTERS_PER_TOKEN)
    else:
        text = (files("pytest_kick") / "data" / "texts" / "calibration.txt").read_text(encoding="utf-8")
    if not text.strip():
        msg = f"calibration: source: got {calibration.source!r}, which holds no text; expected some. Choose another source."
        raise CalibrationError(msg)
    return text


def read_statements() -> tuple[str, ...]:
    """Return the statements that the shipped models were trained on and that no probe asks, each in each of its templates."""
    with as_file(files("pytest_kick") / "data" / "facts" / "never-probed.jsonl") as path:
        facts = load_facts(path)
    relations = facts.relations
    return tuple(
        relations[fact.relation].statement(fact.subject, fact.answer, template)
        for fact in facts.facts
        for template in range(len(relations[fact.relation].templates))
    )


def _of_file(path: Path) -> str:
    if path.suffix == ".jsonl":
        return "\n\n".join(_documents(path))
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        msg = f"calibration: source: got {reason} for {str(path)!r}, expected a text file in UTF-8. Check the path."
        raise CalibrationError(msg) from error


def _documents(path: Path) -> list[str]:
    try:
        lines = read_lines(path, '{"text": "..."}')
    except FactsError as error:
        raise CalibrationError(str(error)) from error
    found = []
    for line in lines:
        value = line.values.get(FIELD)
        if not isinstance(value, str):
            shown = json.dumps(value, default=str)[:40]
            msg = f"{line.where}: {FIELD}: got {shown}, expected a text in each line. Name the field {FIELD!r}."
            raise CalibrationError(msg)
        found.append(value)
    return found


def _of_datasets(name: str, n_characters: int) -> str:
    name, _, split = name.partition("@")
    name, _, config = name.partition("#")
    where = f"calibration: source 'datasets:{name}'"
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        msg = f"{where}: got no package datasets, expected it installed. Run pip install datasets, or choose another source."
        raise CalibrationError(msg) from error
    found: list[str] = []
    try:
        rows = datasets.load_dataset(name, config or None, split=split or "train", streaming=True)
        for row in rows:
            found.append(row[FIELD])
            n_characters -= len(found[-1])
            if n_characters <= 0:
                break
    except Exception as error:  # the library, its network client and its scripts raise whatever they like
        lines = str(error).strip().splitlines() or [""]
        msg = f"{where}: got {type(error).__name__} ({lines[0][:120]}), expected rows with a field {FIELD!r}. Check id, split and network."
        raise CalibrationError(msg) from error
    return "\n\n".join(document.strip() for document in found if document.strip())
