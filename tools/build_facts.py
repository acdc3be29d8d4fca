"""Build the shipped facts: kick-facts (probed) and never-probed (for training and calibration).

Usage: `python tools/build_facts.py` from the root of the repository; the same packages give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kick_facts import cities, countries, words
from kick_facts.rules import Row, ascii_name, capped, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

TOOLS = Path(__file__).resolve().parent
TARGET = TOOLS.parent / "pytest_kick" / "data" / "facts"
VERSION = "1"


def rows_of(relation: str) -> list[Row]:
    """Return the clean facts of a relation in the order of its source."""
    for module in (countries, cities, words):
        if hasattr(module, relation):
            return clean(getattr(module, relation)())
    message = f"no source for relation {relation}"
    raise LookupError(message)


def slug(text: str) -> str:
    """Return a text as lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", ascii_name(text).casefold()).strip("-") or "x"


def split(relation: str, entry: dict[str, Any]) -> tuple[list[Row], list[Row]]:
    """Return the probed facts of a relation and those held out."""
    rows = rows_of(relation)
    ordered = capped(rows, entry.get("per_answer"))
    limit = entry.get("limit", len(ordered))
    taken = set(ordered[:limit])
    rest = [row for row in rows if row not in taken]
    probed_answers = {row.answer for row in ordered[:limit]}
    held = capped([row for row in rest if row.answer in probed_answers], 25)[: entry.get("held_out", 0)]
    return ordered[:limit], held


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
    head = {"kind": "dataset", "schema": 1, "name": name, "version": VERSION, "license": "CC-BY-4.0 AND Unicode-3.0 AND MIT AND BSD-2-Clause; per relation in its line"}
    lines: list[dict[str, Any]] = [head]
    lines += [relation_line(relation, entry, rows) for relation, (entry, rows) in parts.items()]
    for relation, (_, rows) in parts.items():
        lines += fact_lines(relation, rows)
    return "".join(json.dumps(line, ensure_ascii=False, sort_keys=True) + "\n" for line in lines)


def main() -> int:
    """Write both data sets."""
    entries = tomllib.loads((TOOLS / "templates.toml").read_text(encoding="utf-8"))
    probed, held = {}, {}
    for relation, entry in sorted(entries.items()):
        mine, other = split(relation, entry)
        if not entry.get("held_out_only"):
            probed[relation] = (entry, mine)
        if other:
            held[relation] = (entry, other)
        sys.stdout.write(f"{relation:24}{len(mine):5}{len(other):5}\n")
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, parts in (("kick-facts", probed), ("never-probed", held)):
        (TARGET / f"{name}.jsonl").write_text(dataset(name, parts), encoding="utf-8")
    sys.stdout.write(f"{sum(len(r) for _, r in probed.values())} {sum(len(r) for _, r in held.values())}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
