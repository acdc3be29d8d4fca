"""What the probes share that ask facts without and with other facts of the relation stated before them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.facts import fact_hash
from pytest_kick.identity import content_hash
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.prompted import answered, asked_twice, work_of
from pytest_kick.probes.prompted_draw import Others

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.facts import Fact, FactSet
    from pytest_kick.infos import Scalar
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.forward import Work
    from pytest_kick.probes.prompted import Twice
    from pytest_kick.probes.prompted_draw import Lead
    from pytest_kick.result import ProbeScore


class PromptedProbe:
    """Ask each fact twice; a subclass says what stands before it.

    Attributes:
        outcomes: names of right or wrong without and with text before the prompt.
        together: many facts have the same text before them, so that a decoder need read it once.
        version: of the scoring.
        key: digest of the facts.
    """

    outcomes: ClassVar[tuple[str, str]]
    together: ClassVar[bool] = False
    version: ClassVar[int] = 1

    def __init__(self, spec: ProbeSpec, facts: FactSet) -> None:
        """Take the probe's parameters, `sample` among them, and the facts."""
        self._spec, self._all = spec, facts
        sample = int(spec.param("sample"))
        self._facts = facts.sample(sample) if sample else facts
        self._others = Others(facts)
        # Of all facts: those that are stated before others need not be asked themselves.
        pairs = zip(facts.facts, facts.hashes(), strict=True)
        whole = [(fact.id, number, facts.relations[fact.relation].templates) for fact, number in pairs]
        self.key = hashlib.sha256(repr(whole).encode()).hexdigest()[:32]
        self._prepared: dict[tuple[str, str, int | None, int], Twice] = {}

    def _lead(self, fact: Fact) -> Lead | str:
        """Return what stands before a fact, or why nothing can."""
        raise NotImplementedError

    def _twice(self, model: LoadedModel, limit: int | None, seed: int) -> Twice:
        key = (model.tokenizer_hash, model.family, limit, seed)
        if key not in self._prepared:
            asked = self._facts if limit is None else self._facts.sample(limit, seed)
            leads = [self._lead(fact) for fact in asked.facts]
            self._prepared[key] = asked_twice(f"probe {self._spec.id}", self._all, asked, leads, model)
        return self._prepared[key]

    def _answers(
        self, model: LoadedModel, twice: Twice, batch_size: int | None, progress: Callable[[int, int], None] | None
    ) -> tuple[dict[str, Array], list[Work]]:
        """Return arrays of length n: right or wrong, margin (nats) and answer, without and with text; `margin` is the one with."""
        where, n = f"probe {self._spec.id}", len(twice.facts)
        texts = [lead.text for lead in twice.leads] if self.together else []

        def tell(before: int) -> Callable[[int], None] | None:
            return None if progress is None else lambda done: progress(before + done, 2 * n)

        bare, first = answered(model, twice.bare, twice.bare_at, where, batch_size=batch_size, progress=tell(0))
        led, second = answered(model, twice.led, twice.led_at, where, together=texts, batch_size=batch_size, progress=tell(n))
        without, within = self.outcomes
        arrays = {
            without: bare["p1"],
            within: led["p1"],
            "margin": led["margin"].astype(np.float32),
            f"{without}_margin": bare["margin"].astype(np.float32),
            "predicted": led["predicted"],
            f"{without}_predicted": bare["predicted"],
        }
        return arrays, [first, second]

    def _score(
        self, twice: Twice, arrays: Mapping[str, Array], works: Sequence[Work], trivial: Mapping[str, float], **settings: Scalar
    ) -> ProbeScore:
        """Put the score together; `trivial` are the baselines with text before the prompt, the largest of which is the floor."""
        hashes = [fact_hash(self._all.relations[fact.relation], fact) for fact in twice.facts]
        return assembled(
            self._spec,
            version=self.version,
            ids=[fact.id for fact in twice.facts],
            groups=[fact.relation for fact in twice.facts],
            hashes=[content_hash(number, lead.text) for number, lead in zip(hashes, twice.leads, strict=True)],
            arrays=arrays,
            floors={self.outcomes[0]: max(twice.trivial.values()), self.outcomes[1]: max(trivial.values())},
            trivial=trivial,
            excluded=twice.excluded,
            settings={"prompt": twice.bare.convention, "norm": "sum", "template": "scoring", **settings},
            work=work_of(works, len(twice.facts)),
        )
