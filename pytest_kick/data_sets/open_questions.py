"""A question that is answered in words, as all data sets of such questions give it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenQuestion:
    """Hold one question.

    Attributes:
        id: unique in its data set.
        question: as it stands, spaces around it removed.
        answers: the accepted ones, at least one.
        context: a text that answers it, "" where there is none.
    """

    id: str
    question: str
    answers: tuple[str, ...]
    context: str = ""


def merged(where: str, questions: Iterable[tuple[str, OpenQuestion]]) -> tuple[OpenQuestion, ...]:
    """Return each question once: the first of its rows, with the answers of all.

    Args:
        where: names the data set in the error.
        questions: pairs of what rows of one question have in common, and the row.

    Raises:
        DataError: there is none, or two different ones have one id.
    """
    found: dict[str, OpenQuestion] = {}
    for same, asked in questions:
        first = found.get(same, asked)
        answers = tuple(dict.fromkeys((*first.answers, *asked.answers)))
        found[same] = replace(first, answers=answers, context=first.context or asked.context)
    if not found:
        msg = f"{where}: questions: got none, expected at least one. Check the file."
        raise DataError(msg)
    times = Counter(asked.id for asked in found.values())
    name, count = times.most_common(1)[0]
    if count > 1:
        msg = f"{where}: id: got {name!r} for {count} questions, expected an id of its own for each. Rename all but one."
        raise DataError(msg)
    return tuple(found.values())
