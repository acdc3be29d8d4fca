"""The probe `retrieval_qa`: questions with and without a text that answers them, by exact match and F1.

LLM-KICK's task, scored anew. Its exact match held one text inside of the other, either way, so that an empty answer was right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.data_sets.reading import WITHOUT_CONTEXT, load_reading
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError
from pytest_kick.probes.answers import exact_match, f1, stands_in
from pytest_kick.probes.answers_probe import AnswersProbe, Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.data_sets.open_questions import OpenQuestion
    from pytest_kick.examples import Array
    from pytest_kick.probes.context import ProbeContext

TEMPLATES = {
    "open": "{context}\n\nBased on these texts, answer these questions:\n\nQ: {question}\nA:",
    "closed": "Answer these questions:\n\nQ: {question}\nA:",
}
LENGTHS = (("short", 100), ("medium", 200))
"""Groups by words of the context: up to so many; beyond them `long`."""


class RetrievalQaProbe(AnswersProbe):
    """Score questions about texts; see `AnswersProbe`."""

    name: ClassVar[str] = "retrieval_qa"
    version: ClassVar[int] = 2
    judged: ClassVar[str] = "em"

    def outcomes(self, answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, Array]:
        """Return `em`: equal to a gold answer; `contains`: one stands in it; and `f1` of words."""
        pairs = list(zip(answers, golds, strict=True))
        return {
            "em": np.asarray([exact_match(answer, gold) for answer, gold in pairs], np.bool_),
            "contains": np.asarray([stands_in(gold, answer) for answer, gold in pairs], np.bool_),
            "f1": np.asarray([f1(answer, gold) for answer, gold in pairs], np.float32),
        }


def make(context: ProbeContext) -> RetrievalQaProbe:
    """Make the probe.

    Raises:
        DataError: the data cannot be read, or have no text for open book.
    """
    book, most = str(context.spec.param("book")), int(context.spec.param("characters"))
    name = context.spec.named("dataset")
    if book == "open" and name in WITHOUT_CONTEXT:
        msg = f"probe {context.spec.id}: book: got open, expected closed: {name} has no texts. Ask triviaqa or squad."
        raise DataError(msg)
    questions = load_reading(name, DataSource(directory=context.data, offline=context.offline))
    bare = next((each.id for each in questions if not each.context), None) if book == "open" else None
    if bare is not None:
        msg = f"probe {context.spec.id}: {bare}: context: got nothing, expected a text for open book. Add it, or ask closed book."
        raise DataError(msg)
    return RetrievalQaProbe(context.spec, [_asked(each, book, most) for each in questions], TEMPLATES[book])


def _asked(each: OpenQuestion, book: str, most: int) -> Asked:
    shown = each.context[: most or None]
    words = len(each.context.split())
    return Asked(
        id=each.id,
        group=next((name for name, least in LENGTHS if words <= least), "long") if words else "no context",
        prompt=TEMPLATES[book].format(context=shown, question=each.question),
        golds=each.answers,
        echo=each.question,
        cut=book == "open" and len(shown) < len(each.context),
    )
