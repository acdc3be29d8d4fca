"""Which other facts of its relation stand before a fact, and what they give away."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_kick.facts import Fact, FactSet

TOO_FEW = "too few other facts in its relation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lead:
    """Hold the text before the prompt of a fact.

    Attributes:
        text: the statements, one space after each.
        answers: the answer of each statement, in their order.
    """

    text: str
    answers: tuple[str, ...]


def lead(statements: Sequence[tuple[str, str]]) -> Lead:
    """Make a lead of `(statement, answer)` pairs."""
    return Lead(text="".join(f"{text} " for text, _ in statements), answers=tuple(answer for _, answer in statements))


def drawn_number(*parts: object) -> int:
    """Return a number that depends on the parts alone: the same on every machine, in every version of Python and its libraries."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:8], "big")


class Others:
    """Draw other facts of a fact's relation, none of which holds its answer."""

    def __init__(self, facts: FactSet) -> None:
        """Take all facts: what is drawn does not depend on which of them are asked."""
        self._by_relation: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in facts.facts:
            self._by_relation[fact.relation].append(fact)
        self._fixed: dict[str, list[Fact]] = {}

    def fixed(self, fact: Fact, count: int) -> tuple[Fact, ...] | None:
        """Return the first `count` facts of the relation in an order that is the same for all its facts; None where there are fewer."""
        if fact.relation not in self._fixed:
            self._fixed[fact.relation] = _ordered(self._by_relation[fact.relation], lambda other: drawn_number("fixed", other.id))
        return _first(self._fixed[fact.relation], fact, count)

    def own(self, fact: Fact, count: int) -> tuple[Fact, ...] | None:
        """Return `count` facts of the relation in an order of the fact's own; None where there are fewer."""
        if len(self._by_relation[fact.relation]) <= count:
            return None
        order = _ordered(self._by_relation[fact.relation], lambda other: drawn_number("own", fact.id, other.id))
        return _first(order, fact, count)


def _ordered(facts: Sequence[Fact], key: Callable[[Fact], int]) -> list[Fact]:
    return sorted(facts, key=lambda fact: (key(fact), fact.id))


def _first(order: Iterable[Fact], fact: Fact, count: int) -> tuple[Fact, ...] | None:
    """Return the first facts that do not hold the answer of `fact` or an alias of it, neither as their subject nor as their answer.

    Held as words: a city in Papua New Guinea gives Guinea away, one in Guinea-Bissau as well, one in Equatoria does not.
    """
    names = "|".join(re.escape(name.casefold()) for name in (fact.answer, *fact.aliases))
    holds = re.compile(rf"(?<!\w)(?:{names})(?!\w)")
    found: list[Fact] = []
    for other in order:
        if len(found) == count:
            break
        texts = (other.subject, other.answer, *other.aliases)
        if other.id != fact.id and other.subject != fact.subject and not any(holds.search(text.casefold()) for text in texts):
            found.append(other)
    return tuple(found) if len(found) == count else None
