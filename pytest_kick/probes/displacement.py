"""The probe `displacement`: which facts come back when a few facts of the same relation are stated before the prompt?"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.probes.prompted_draw import TOO_FEW, lead
from pytest_kick.probes.prompted_probe import PromptedProbe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kick.examples import Array
    from pytest_kick.facts import Fact, FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.prompted import Twice
    from pytest_kick.probes.prompted_draw import Lead
    from pytest_kick.result import ProbeScore


class DisplacementProbe(PromptedProbe):
    """Ask each fact without and with exemplars before it.

    The exemplars of a fact are the first facts of its relation in a fixed order that do not hold its answer, stated in the scoring
    template: the same for all cells, and nearly the same for all facts of a relation.

    Source: arXiv 2310.00867 (forgotten or displaced).

    Attributes:
        name: `displacement`.
    """

    name: ClassVar[str] = "displacement"
    outcomes: ClassVar[tuple[str, str]] = ("zero", "few")
    together: ClassVar[bool] = True

    def reference(self, model: LoadedModel, *, limit: int | None = None, seed: int = 0, batch_size: int | None = None) -> dict[str, Array]:
        """Return what is kept of the dense model: `ids`, and `zero` and `few`, right or wrong without and with exemplars, `(n,)`."""
        twice = self._twice(model, limit, seed)
        arrays, _ = self._answers(model, twice, batch_size, None)
        return {"ids": np.asarray([fact.id for fact in twice.facts]), "zero": arrays["zero"], "few": arrays["few"]}

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        reference: Mapping[str, Array] | None = None,
    ) -> ProbeScore:
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: number of facts, a sample stratified by relation; None for all.
            seed: of that sample.
            batch_size: facts per pass over prompts at most.
            progress: called with the numbers of prompts done and asked.
            reference: what `reference` returned for the dense model, on the same facts; without it nothing is lost or back.

        Raises:
            ProbeError: logits are NaN or infinite, no fact can be asked, or the reference is of other facts.
        """
        twice = self._twice(model, limit, seed)
        arrays, works = self._answers(model, twice, batch_size, progress)
        if reference is not None:
            arrays |= self._beside(twice, arrays, reference)
        return self._score(twice, arrays, works, trivial_after(self._all, twice), shots=int(self._spec.param("shots")))

    def _lead(self, fact: Fact) -> Lead | str:
        found = self._others.fixed(fact, int(self._spec.param("shots")))
        if found is None:
            return TOO_FEW
        relation = self._all.relations[fact.relation]
        return lead([(relation.statement(other.subject, other.answer), other.answer) for other in found])

    def _beside(self, twice: Twice, arrays: Mapping[str, Array], reference: Mapping[str, Array]) -> dict[str, Array]:
        """Return what only a comparison with the dense model says."""
        if list(reference["ids"]) != [fact.id for fact in twice.facts]:
            got, expected = f"answers to {len(reference['ids'])} other facts", f"the dense model's answers to the same {len(twice.facts)}"
            msg = f"probe {self._spec.id}: reference: got {got}, expected {expected}. Measure it again."
            raise ProbeError(msg)
        zero, few = np.asarray(reference["zero"], np.bool_), np.asarray(reference["few"], np.bool_)
        lost = zero & ~arrays["zero"]
        return {"dense_zero": zero, "dense_few": few, "lost": lost, "back": lost & arrays["few"], "never_known": ~zero & ~few}


def displacement_probe(context: ProbeContext) -> DisplacementProbe:
    """Make the probe for a suite's facts."""
    return DisplacementProbe(context.spec, context.fact_set())


def trivial_after(everything: FactSet, twice: Twice) -> dict[str, float]:
    """Return what three answerers score that do not know the subject.

    `chance` draws an answer that no exemplar states: exemplars never hold the gold answer, so to leave theirs out is worth something
    where answers are few. `majority` gives the relation's commonest answer, `unshown` the commonest that no exemplar states.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for fact in everything.facts:
        counts[fact.relation][fact.answer] += 1
    drawn, right = [], []
    for fact, stated, space in zip(twice.facts, twice.leads, twice.bare.space[twice.bare_at], strict=True):
        answers, known = everything.relations[fact.relation].answers, counts[fact.relation]
        left = {answers[index] for index in twice.bare.answers[space] if index >= 0} - set(stated.answers)
        drawn.append(1.0 / len(left))
        right.append(max(sorted(left), key=known.__getitem__) == fact.answer)
    return {"chance": float(np.mean(drawn)), "majority": twice.trivial["majority"], "unshown": float(np.mean(right))}
