"""The probe `paraphrase`: does the model give a fact the same answer, however it is asked?

Source: Elazar et al. 2021, Measuring and Improving Consistency in Pretrained Language Models, arXiv 2102.01017. See `docs/probes.md`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.data_sets.lama import check_licence
from pytest_kick.data_sets.pararel import load_pararel
from pytest_kick.data_sets.source import DataSource
from pytest_kick.facts import fact_hash
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.answered import NOT_ASKED, Answered, TemplateAsker, agreement, floors_of
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.tokens import asker_for
from pytest_kick.registry import PROBES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.result import ProbeScore

CONSTANT = {"agrees": 1.0, "consistency": 1.0, "specific_consistency": 0.0}
"""What a model scores that gives one answer to everything."""


class TemplatesProbe:
    """Ask facts under several templates of their relation.

    Attributes:
        version: of the scoring.
    """

    version: ClassVar[int] = 1

    def __init__(self, spec: ProbeSpec, facts: FactSet, templates: Sequence[int], *, statements: bool, strict: bool = False) -> None:
        """Take what is asked.

        Args:
            spec: of the probe.
            facts: a data set, each relation with the scoring template that decides right or wrong.
            templates: numbers of the templates to ask; one alone says nothing of agreement.
            statements: ask for whole statements where a blank does not do, see `templates.ask`.
            strict: leave facts out that one of the templates cannot be asked for; else two templates are enough.
        """
        self.name, self._spec, self._facts, self._templates = spec.name, spec, facts, tuple(templates)
        least = len(templates) if strict else min(2, len(templates))
        self._asker = TemplateAsker(f"probe {spec.id}", facts, templates, statements=statements, least=least)
        self._statements = statements
        self._ids = [fact.id for fact in facts.facts]
        self._groups = [fact.relation for fact in facts.facts]
        wordings = {name: content_hash([r.templates[t] for t in templates if t < len(r.templates)]) for name, r in facts.relations.items()}
        own = [fact_hash(facts.relations[fact.relation], replace(fact, aliases=())) for fact in facts.facts]
        self._hashes = [content_hash(number, wordings[group]) for number, group in zip(own, self._groups, strict=True)]

    @property
    def facts(self) -> FactSet:
        """Return the facts, each relation with the template that decides."""
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
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: number of facts, a sample stratified by relation; None for all.
            seed: of that sample.
            batch_size: facts, or sequences, per pass.
            progress: called with the numbers of templates done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or the model cannot be asked at all.
        """
        answered = self._asker.answers(model, sampled(self._ids, self._groups, limit, seed), batch_size, progress)
        groups = np.asarray([self._groups[number] for number in answered.numbers])
        arrays = _as_stored(answered.scoring)
        floors, trivial = floors_of(answered, groups)
        if len(self._templates) > 1:
            arrays |= agreement(answered, groups)
            floors |= {**CONSTANT, "consistent_p1": trivial["majority"], "accuracy": floors["p1"]}
            if PROBES.get(self.name, "probe").metric == "consistent_p1":
                guesses = (1.0 / answered.sizes) ** (answered.predicted != NOT_ASKED).sum(0)
                trivial = {**trivial, "chance": float(guesses.mean())}
        score = assembled(
            self._spec,
            version=self.version,
            ids=[self._ids[number] for number in answered.numbers],
            groups=groups.tolist(),
            hashes=[self._hashes[number] for number in answered.numbers],
            arrays=arrays,
            floors=floors,
            trivial=trivial,
            excluded=answered.excluded,
            settings={"answer": self._way(model), "templates": ",".join(map(str, self._templates)), "prompt": asker_for(model).convention},
            work=answered.work,
        )
        return replace(score, metrics={**score.metrics, **self._by_template(answered)})

    def _by_template(self, answered: Answered) -> dict[str, float]:
        """Return the accuracy under each template, over the facts that are asked under it."""
        if len(self._templates) == 1:
            return {}
        asked = answered.predicted != NOT_ASKED
        return {
            f"p1_template_{template}": float(answered.right[row][asked[row]].mean())
            for row, template in enumerate(self._templates)
            if asked[row].any()
        }

    def _way(self, model: LoadedModel) -> str:
        """Return how a model of this family is asked."""
        ways = {
            "encoder": "pseudo-log-likelihood of the statement" if self._statements else "one token at the mask",
            "encoder-decoder": "at the sentinel",
            "decoder": "log-likelihood of the statement" if self._statements else "continuation",
        }
        return ways[model.family]


def make(context: ProbeContext) -> TemplatesProbe:
    """Make the probe for kick-facts, a suite's own facts, or ParaRel.

    Raises:
        DataError: the data are not there, are malformed, or their licence was not acknowledged.
    """
    spec = context.spec
    if spec.param("data") == "pararel":
        check_licence(f"probe {spec.id}", str(spec.param("licence")), "ParaRel's facts, which are LAMA's,")
        facts = load_pararel(DataSource(directory=context.data, offline=context.offline))
    else:
        facts = context.fact_set()
    widest = max(len(relation.templates) for relation in facts.relations.values())
    return TemplatesProbe(spec, facts, range(widest), statements=False)


def _as_stored(arrays: dict[str, Array]) -> dict[str, Array]:
    return {name: values.astype(np.float32) if values.dtype.kind == "f" else values for name, values in arrays.items()}
