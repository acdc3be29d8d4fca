"""The probe `open_book`: does the model find the answer in a text before the prompt, and what does it know without?"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.probes.prompted_draw import TOO_FEW, drawn_number, lead
from pytest_kick.probes.prompted_probe import PromptedProbe

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.facts import Fact
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.prompted import Twice
    from pytest_kick.probes.prompted_draw import Lead
    from pytest_kick.result import ProbeScore

ONE_TEMPLATE = "relation with a single template"


class OpenBookProbe(PromptedProbe):
    """Ask each fact without and with its statement among those of other facts before it.

    All are stated in one template, another than the one that is scored: the first that is not. The others are facts of the relation
    that do not hold the answer, drawn for each fact, as is the place of its own statement among them.

    Attributes:
        name: `open_book`.
    """

    name: ClassVar[str] = "open_book"
    outcomes: ClassVar[tuple[str, str]] = ("closed", "open")

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbeScore:
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: number of facts, a sample stratified by relation; None for all.
            seed: of that sample.
            batch_size: facts per pass over prompts at most.
            progress: called with the numbers of prompts done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or no fact can be asked, such as where no text fits the model's positions.
        """
        twice = self._twice(model, limit, seed)
        arrays, works = self._answers(model, twice, batch_size, progress)
        return self._score(twice, arrays, works, trivial_within(twice), distractors=int(self._spec.param("distractors")))

    def _lead(self, fact: Fact) -> Lead | str:
        relation, count = self._all.relations[fact.relation], int(self._spec.param("distractors"))
        template = next((number for number in range(len(relation.templates)) if number != relation.scoring), None)
        if template is None:
            return ONE_TEMPLATE
        found = self._others.own(fact, count)
        if found is None:
            return TOO_FEW
        place = drawn_number("place", fact.id) % (count + 1)
        stated = (*found[:place], fact, *found[place:])
        return lead([(relation.statement(one.subject, one.answer, template), one.answer) for one in stated])


def open_book_probe(context: ProbeContext) -> OpenBookProbe:
    """Make the probe for a suite's facts."""
    return OpenBookProbe(context.spec, context.fact_set())


def trivial_within(twice: Twice) -> dict[str, float]:
    """Return what three answerers score that do not read which statement is asked for.

    `chance` and `majority` as without text; `copy` draws one of the answers in the text. Where the statement stands alone, to copy is
    all there is to do: that is no baseline then, and left out.
    """
    copied = {"copy": float(np.mean([1.0 / len(set(lead.answers)) for lead in twice.leads]))}
    return twice.trivial | (copied if any(len(lead.answers) > 1 for lead in twice.leads) else {})
