"""Build the shipped facts: kick-facts (probed) and never-probed (for training and calibration).

Usage: `python -m tools.build_facts` from the root of the repository; the same packages give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.kick_facts import cities, countries, words
from tools.kick_facts.rules import Row, ascii_name, capped, clean, fold

if TYPE_CHECKING:
    from collections.abc import Sequence

TOOLS = Path(__file__).resolve().parent
TARGET = TOOLS.parent / "pytest_kick" / "data" / "facts"
VERSION = "1"
HELD_PER_ANSWER = 20


def rows_of(relation: str) -> list[Row]:
    """Return the clean facts of a relation in the order of its source."""
    for module in (cities, countries, words):
        if hasattr(module, relation):
            return clean(getattr(module, relation)())
    message = f"no source for relation {relation}"
    raise LookupError(message)


def slug(text: str) -> str:
    """Return a text as lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", ascii_name(text).casefold()).strip("-") or "x"


def without_article(rows: Sequence[Row]) -> list[Row]:
    """Return the rows whose answer does not begin with "the": it would win for its article alone."""
    return [row for row in rows if not row.answer.startswith("the ")]


def chosen(entries: dict[str, dict[str, Any]]) -> tuple[dict[str, list[Row]], dict[str, list[Row]]]:
    """Return the probed facts and the held-out facts of each relation."""
    ordered = {relation: without_article(rows_of(relation)) for relation in sorted(entries)}
    probed: dict[str, list[Row]] = {}
    stated: set[tuple[str, str]] = set()
    for relation, rows in ordered.items():
        again = entries[relation].get("may_repeat", False)
        fresh = [row for row in rows if again or (fold(row.subject), row.answer) not in stated]
        probed[relation] = capped(fresh, entries[relation].get("per_answer"))[: entries[relation].get("limit")]
        stated |= {(fold(row.subject), row.answer) for row in probed[relation]}
    subjects = {subject for subject, _ in stated}
    held: dict[str, list[Row]] = {}
    for relation, rows in ordered.items():
        space = {row.answer for row in probed[relation] or rows}
        rest = [row for row in rows if fold(row.subject) not in subjects and row.answer in space]
        held[relation] = capped(rest, HELD_PER_ANSWER)[: entries[relation].get("held_out", 0)]
        subjects |= {fold(row.subject) for row in held[relation]}
    return probed, held


def relation_line(relation: str, entry: dict[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return the line that declares a relation."""
    aliases: dict[str, list[str]] = {}
    for row in rows:
        if row.aliases:
            aliases[row.answer] = list(row.aliases)
    line = {
        "kind": "relation",
        "relation": relation,
        "templates": entry["templates"],
        "scoring": entry.get("scoring", 0),
        "source": entry["source"],
        "license": entry["license"],
    }
    if aliases:
        line["aliases"] = aliases
    return line


def fact_lines(relation: str, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the lines of a relation's facts, sorted by id."""
    lines = [
        {"kind": "fact", "id": f"{relation}/{slug(row.subject)}", "relation": relation, "subject": row.subject, "answer": row.answer}
        for row in rows
    ]
    doubled = {key for key, n in Counter(line["id"] for line in lines).items() if n > 1}
    return sorted((line for line in lines if line["id"] not in doubled), key=lambda line: line["id"])


def dataset(name: str, parts: dict[str, tuple[dict[str, Any], list[Row]]]) -> str:
    """Return a whole data set as JSONL text."""
    head = {
        "kind": "dataset",
        "schema": 1,
        "name": name,
        "version": VERSION,
        "license": "by relation: " + ", ".join(sorted({entry["license"] for entry, _ in parts.values()})),
    }
    lines: list[dict[str, Any]] = [head]
    lines += [relation_line(relation, entry, rows) for relation, (entry, rows) in parts.items()]
    for relation, (_, rows) in parts.items():
        lines += fact_lines(relation, rows)
    return "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)


def main() -> int:
    """Write both data sets."""
    entries = tomllib.loads((TOOLS / "templates.toml").read_text(encoding="utf-8"))
    probed, held = chosen(entries)
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, parts in (("kick-facts", probed), ("never-probed", held)):
        filled = {relation: (entries[relation], rows) for relation, rows in parts.items() if rows}
        (TARGET / f"{name}.jsonl").write_text(dataset(name, filled), encoding="utf-8")
        sys.stdout.write(f"{name}: {sum(map(len, parts.values()))} facts in {len(filled)} relations\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
