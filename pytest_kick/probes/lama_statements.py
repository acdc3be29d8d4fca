"""LAMA by whole statements: the objects of a relation are ranked by the probability of its template with each of them.

For decoders, whose next token says nothing where the object does not come last; never mixed with scores of single tokens.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.errors import DataError
from pytest_kick.facts import Fact, FactSet, Relation
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.answered import TemplateAsker, floors_of
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.summary import macro
from pytest_kick.probes.tokens import asker_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.data_sets.lama import Clozes
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.result import ProbeScore


class LamaStatements:
    """Rank whole statements over the objects of each relation.

    Attributes:
        name: `lama`.
        version: of the scoring.
    """

    name: ClassVar[str] = "lama"
    version: ClassVar[int] = 1

    def __init__(self, context: ProbeContext, clozes: Clozes, words: Sequence[str]) -> None:
        """Take the facts, and the words that an object must be one of, none for any.

        Raises:
            DataError: no relation has a template and two objects.
        """
        self._spec, self._types = context.spec, clozes.types
        self._facts, dropped = _fact_set(clozes, frozenset(words))
        if not self._facts.facts:
            msg = f"probe {self._spec.id}: scoring: got no relation with a template and two objects ({dict(dropped)}), expected one."
            msg += " Sentences of their own have no other answers: leave `scoring` out."
            raise DataError(msg)
        self._dropped = {**clozes.dropped, **dropped}
        self._asker = TemplateAsker(f"probe {self._spec.id}", self._facts, (0,), statements=True, least=1)

    @property
    def facts(self) -> FactSet:
        """Return the facts, each relation with its template and its objects."""
        return self._facts

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbeScore:
        """Score a model as it is now; see `lama.LamaProbe.run`."""
        facts = self._facts.facts
        chosen = sampled([fact.id for fact in facts], [fact.relation for fact in facts], limit, seed)
        answered = self._asker.answers(model, chosen, batch_size, progress)
        asked = [facts[number] for number in answered.numbers]
        groups = np.asarray([fact.relation for fact in asked])
        floors, trivial = floors_of(answered, groups)
        arrays = {name: values.astype(np.float32) if values.dtype.kind == "f" else values for name, values in answered.scoring.items()}
        spaces = {name: content_hash(list(relation.templates), list(relation.answers)) for name, relation in self._facts.relations.items()}
        return assembled(
            self._spec,
            version=self.version,
            ids=[fact.id for fact in asked],
            groups=groups.tolist(),
            hashes=[content_hash(fact.subject, fact.answer, spaces[fact.relation]) for fact in asked],
            arrays=arrays,
            floors={**floors, "macro_p10": macro(answered.place < 10, groups)},  # noqa: PLR2004 - the cut
            trivial=trivial,
            excluded={**self._dropped, **answered.excluded},
            settings={"answer": "whole statement", "ranked": "objects of the relation", "prompt": asker_for(model).convention},
            work=answered.work,
        )


def _fact_set(clozes: Clozes, words: frozenset[str]) -> tuple[FactSet, Counter[str]]:
    """Return the facts that have a template and an object among the words, and how many have not."""
    dropped: Counter[str] = Counter()
    kept: defaultdict[str, list[Fact]] = defaultdict(list)
    templates: dict[str, str] = {}
    for cloze in clozes.facts:
        if not cloze.template or templates.setdefault(cloze.relation, cloze.template) != cloze.template:
            dropped["no template of its relation"] += 1
        elif words and cloze.answer not in words:
            dropped["object outside of the common vocabulary"] += 1
        else:
            kept[cloze.relation].append(Fact(id=cloze.id, relation=cloze.relation, subject=cloze.subject, answer=cloze.answer))
    relations, facts = {}, []
    for name, found in kept.items():
        answers = tuple(sorted({fact.answer for fact in found}))
        if len(answers) == 1:
            dropped["one object in its relation"] += len(found)
            continue
        facts += found
        relations[name] = Relation(
            name=name, templates=(templates[name],), scoring=0, answers=answers, aliases=MappingProxyType({}), source="", license=""
        )
    return FactSet(name="lama", version="1", relations=MappingProxyType(relations), facts=tuple(facts)), dropped
