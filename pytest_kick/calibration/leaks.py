"""Facts of a probe that stand in the calibration text: a model that sees its answers is measured on what it was just told."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kick.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.facts import FactSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaks:
    """Count facts whose subject and answer stand in one sequence.

    Attributes:
        n_facts: how many facts.
        n_sequences: in how many sequences.
    """

    n_facts: int = 0
    n_sequences: int = 0

    @property
    def note(self) -> str:
        """Return the warning, "" where nothing leaks."""
        return f"calibration names subject and answer of {self.n_facts} facts, in {self.n_sequences} sequences" if self.n_facts else ""


def find_leaks(texts: Sequence[str], facts: FactSet) -> Leaks:
    """Look for the facts of a probe in calibration sequences.

    Compared are words: case, accents, punctuation and spaces do not count, and `Iran` does not stand in `Tirana`. An answer counts
    in any of its spellings.

    Args:
        texts: one for each sequence.
        facts: of the probe.

    Raises:
        CalibrationError: a sequence holds a fact word for word, in one of its templates.
    """
    plain = [_words(text) for text in texts]
    leaking: set[str] = set()
    where: set[int] = set()
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        subject = _words(fact.subject)
        found = [number for number, text in enumerate(plain) if subject in text]
        for number in found:
            told = [spelling for spelling in (fact.answer, *fact.aliases) if _words(spelling) in plain[number]]
            for spelling in told:
                for template in range(len(relation.templates)):
                    statement = relation.statement(fact.subject, spelling, template)
                    if _words(statement) in plain[number]:
                        msg = f"calibration: sequence {number}: got {statement!r}, a fact of the probe, expected none. Use other data."
                        raise CalibrationError(msg)
            if told:
                leaking.add(fact.id)
                where.add(number)
    return Leaks(n_facts=len(leaking), n_sequences=len(where))


def _words(text: str) -> str:
    """Return the words of a text, each between spaces."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = re.sub(r"[\W_]+", " ", plain).strip()
    return f" {words} "
