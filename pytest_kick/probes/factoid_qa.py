"""The probe `factoid_qa`: trivia questions answered in words, right where a gold answer stands in what the model wrote.

LLM-KICK's task, scored anew. Its own scores looked for the answer in prompt and output together, inside of words too, divided by
one question too few, and asked pruned and quantized models in different prompts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.data_sets.freebaseqa import load_freebaseqa
from pytest_kick.data_sets.source import DataSource
from pytest_kick.probes.answers import f1, stands_in
from pytest_kick.probes.answers_probe import AnswersProbe, Asked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.examples import Array
    from pytest_kick.probes.context import ProbeContext

TEMPLATES = {
    "newline": "Please give answer to this question: {question}\nThe answer is",
    "space": "Please give answer to this question: {question} The answer is",
}
"""What LLM-KICK asked pruned models, and what it asked quantized ones."""


class FactoidQaProbe(AnswersProbe):
    """Score FreebaseQA; see `AnswersProbe`."""

    name: ClassVar[str] = "factoid_qa"
    version: ClassVar[int] = 2
    judged: ClassVar[str] = "correct"

    def outcomes(self, answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, Array]:
        """Return `correct`: a gold answer stands in the continuation; and `f1` of words."""
        pairs = list(zip(answers, golds, strict=True))
        return {
            "correct": np.asarray([stands_in(gold, answer) for answer, gold in pairs], np.bool_),
            "f1": np.asarray([f1(answer, gold) for answer, gold in pairs], np.float32),
        }


def make(context: ProbeContext) -> FactoidQaProbe:
    """Make the probe.

    Raises:
        DataError: FreebaseQA cannot be read.
    """
    split, prompt = str(context.spec.param("split")), str(context.spec.param("prompt"))
    template = TEMPLATES[prompt]
    questions = load_freebaseqa(DataSource(directory=context.data, offline=context.offline), split)
    prompts = [template.format(question=each.question) for each in questions]
    asked = [
        Asked(id=each.id, group=split, prompt=text, golds=each.answers, echo=text) for each, text in zip(questions, prompts, strict=True)
    ]
    return FactoidQaProbe(context.spec, asked, template)
