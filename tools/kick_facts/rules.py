"""Rules that every fact must pass: no ambiguous subject, no answer that shows in its subject."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LEAK_RATIO = 0.7
SHORT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Hold one candidate fact.

    Attributes:
        subject: The text that fills `[X]`.
        answer: The text that fills `[Y]`.
        aliases: Other spellings of the answer.
        key: What of the subject is compared with the answer for leaks; the subject when empty.
    """

    subject: str
    answer: str
    aliases: tuple[str, ...] = ()
    key: str = ""


@cache
def choices() -> dict[str, str]:
    """Return the hand-made choices by name."""
    path = Path(__file__).resolve().parent.parent / "choices.toml"
    return dict(tomllib.loads(path.read_text(encoding="utf-8")))


def choice(name: str) -> tuple[str, ...]:
    """Return the codes of one hand-made choice."""
    return tuple(choices()[name].split())


def fold(text: str) -> str:
    """Return the text without diacritics, in lower case, with single spaces and plain apostrophes."""
    plain = unicodedata.normalize("NFKD", text).replace("\u2019", "'").replace("\u02bb", "'")
    letters = "".join(char for char in plain if not unicodedata.combining(char))
    return re.sub(r"\s+", " ", letters).strip().casefold()


def ascii_name(text: str) -> str:
    """Return a name without diacritics, letter case kept."""
    plain = unicodedata.normalize("NFKD", text).replace("\u2019", "'").replace("\u2018", "'")
    return "".join(char for char in plain if not unicodedata.combining(char)).strip()


def leaks(row: Row) -> bool:
    """Say whether the subject gives the answer away: one contains the other, or they look alike.

    Answers of up to three characters are abbreviations: only a whole equal word counts there.
    """
    subject, answer = fold(row.key or row.subject), fold(row.answer)
    words = {word for word in re.findall(r"\w+", subject) if word not in {"the", "of", "and", "new"}}
    answer_words = {word for word in re.findall(r"\w+", answer) if word not in {"the", "of", "and", "new"}}
    long_pairs = ((a, b) for a in words for b in answer_words if min(len(a), len(b)) > SHORT)
    if words & answer_words or any(a in b or b in a for a, b in long_pairs):
        return True
    shorter = min(len(subject), len(answer))
    if shorter <= SHORT:
        return False
    if subject in answer or answer in subject:
        return True
    return SequenceMatcher(None, subject, answer, autojunk=False).ratio() >= LEAK_RATIO


def unambiguous(rows: Iterable[Row]) -> list[Row]:
    """Return the rows whose subject has one answer, the first of each, in their order."""
    listed = list(rows)
    answers: defaultdict[str, set[str]] = defaultdict(set)
    for row in listed:
        answers[fold(row.subject)].add(row.answer)
    kept: dict[str, Row] = {}
    for row in listed:
        if len(answers[fold(row.subject)]) == 1:
            kept.setdefault(fold(row.subject), row)
    return list(kept.values())


def capped(rows: Sequence[Row], per_answer: int | None) -> list[Row]:
    """Return the rows in order, at most `per_answer` for each answer."""
    if per_answer is None:
        return list(rows)
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row.answer] += 1
        if seen[row.answer] <= per_answer:
            kept.append(row)
    return kept


def clean(rows: Iterable[Row]) -> list[Row]:
    """Return the rows that are unambiguous and do not leak, in their order."""
    return [row for row in unambiguous(rows) if not leaks(row)]
