"""The probe `mmlu`: four options a question, by subject and discipline; see `docs/probes.md`.

The letters are ranked by likelihood. Reading the last character of one generated token instead, as a study did, counts a model that
puts another token first as wrong on every question: far below the quarter that guessing gives. Whether the model would begin with a
letter is an outcome of its own here, `letter_first`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pytest_kick.data_sets.mmlu import DISCIPLINE_OF, LETTERS, load_mmlu, subjects_of
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError
from pytest_kick.probes.choice import Question
from pytest_kick.probes.choice_probe import ChoiceProbe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.data_sets.mmlu import Item
    from pytest_kick.examples import Array
    from pytest_kick.probes.choice import Scores
    from pytest_kick.probes.context import ProbeContext


class MmluProbe(ChoiceProbe):
    """Ask MMLU."""

    name: ClassVar[str] = "mmlu"
    version: ClassVar[int] = 1
    floors: ClassVar[Mapping[str, float]] = {"letter_first": 0.0}

    def outcomes(self, scores: Scores) -> dict[str, Array]:
        """Return the arrays of the examples: `acc_norm` where texts are ranked, `letter_first` where letters are."""
        arrays = scores.outcomes()
        if self._spec.param("score") == "letter":
            del arrays["acc_norm"]  # letters are of one length
            arrays["letter_first"] = scores.any_greedy()
        return arrays

    def parts(self, right: Array, groups: Array) -> dict[str, float]:
        """Return the accuracy of each discipline that was asked."""
        owner = np.asarray([DISCIPLINE_OF[subject] for subject in groups])
        return {f"acc_{name}": float(right[owner == name].mean()) for name in np.unique(owner)}


def mmlu_probe(context: ProbeContext) -> MmluProbe:
    """Make the probe for the subjects, shots and way of scoring that a suite names.

    Raises:
        DataError: a subject or the data are not there.
    """
    spec = context.spec
    source = DataSource(directory=context.data, offline=context.offline)
    subjects = subjects_of(f"probe {spec.id}", str(spec.param("subjects")))
    shots, letters = int(spec.param("shots")), spec.param("score") == "letter"
    split: Any = spec.param("split")
    items = load_mmlu(source, split, subjects)
    dev = load_mmlu(source, "dev", subjects) if shots else {}
    found = []
    for subject, asked in items.items():
        if len(dev.get(subject, ())) < shots:
            got = f"{len(dev[subject])} questions of {subject}"
            msg = f"probe {spec.id}: mmlu/dev: got {got}, expected {shots}. Take the data anew, or ask with fewer shots."
            raise DataError(msg)
        before = _head(subject, letters=letters) + "".join(_shot(item, letters=letters) for item in dev.get(subject, ())[:shots])
        options = [LETTERS if letters else item.options for item in asked]
        found += [
            Question(id=item.id, group=subject, prompt=before + _prompt(item, letters=letters), options=given, gold=item.answer)
            for item, given in zip(asked, options, strict=True)
        ]
    return MmluProbe(spec, found)


def _head(subject: str, *, letters: bool) -> str:
    return f"The following are {'multiple choice ' if letters else ''}questions (with answers) about {subject.replace('_', ' ')}.\n\n"


def _prompt(item: Item, *, letters: bool) -> str:
    """Return a question up to its answer: with its options before it, as the authors ask, or alone."""
    if not letters:
        return f"Question: {item.question}\nAnswer:"
    lines = [f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=True)]
    return "\n".join([item.question, *lines, "Answer:"])


def _shot(item: Item, *, letters: bool) -> str:
    answer = LETTERS[item.answer] if letters else item.options[item.answer]
    return f"{_prompt(item, letters=letters)} {answer}\n\n"
