"""The probe `questions`: a user's own multiple-choice questions; see `docs/probes.md`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pytest_kick.data_sets.questions import load_questions
from pytest_kick.data_sets.source import DataSource
from pytest_kick.probes.choice import Question
from pytest_kick.probes.choice_probe import ChoiceProbe

if TYPE_CHECKING:
    from pytest_kick.examples import Array
    from pytest_kick.probes.choice import Scores
    from pytest_kick.probes.context import ProbeContext


class QuestionsProbe(ChoiceProbe):
    """Ask a user's questions."""

    name: ClassVar[str] = "questions"
    version: ClassVar[int] = 1

    def outcomes(self, scores: Scores) -> dict[str, Array]:
        """Return the arrays of the examples; margins and answers are by the norm asked for."""
        return scores.outcomes(str(self._spec.param("norm")))


def questions_probe(context: ProbeContext) -> QuestionsProbe:
    """Make the probe for the file or data set that a suite names.

    Raises:
        DataError: it cannot be read, or a question is malformed.
    """
    spec = context.spec
    asked = load_questions(spec.named("file"), DataSource(directory=context.data, offline=context.offline))
    plain = spec.param("prompt") == "plain"
    found = [
        Question(
            id=item.id,
            group=item.group,
            prompt=item.question if plain else f"Question: {item.question}\nAnswer:",
            options=item.options,
            gold=item.answer,
        )
        for item in asked
    ]
    return QuestionsProbe(spec, found)
