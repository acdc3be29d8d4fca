"""The probe `facts`: does the model rank the gold answer of a fact above every other answer of its relation?

See `docs/probes.md` for what is scored and why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.examples import Examples
from pytest_kick.facts import shipped_facts
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.prepare import Prepared, prepare
from pytest_kick.probes.scoring import NORMS, Scorer
from pytest_kick.probes.summary import macro, trivial_scores
from pytest_kick.probes.ways import forward_for
from pytest_kick.registry import did_you_mean
from pytest_kick.result import ProbeScore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_kick.examples import Array
    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.forward import Forward
    from pytest_kick.probes.trie import Ints

BATCH_SIZE = 256
STORED = {"gold_logprob": np.float16, "margin": np.float16}  # committed with every cell; three digits are what their use needs
NO_METRIC = ("predicted", "gold_row_gone")
LARGEST = 65504.0  # of float16


class FactsProbe:
    """Score facts; what depends on the tokenizer alone is prepared once and kept.

    Attributes:
        name: `facts`.
        version: of the scoring; a change makes stored scores incomparable.
    """

    name: ClassVar[str] = "facts"
    version: ClassVar[int] = 1

    def __init__(self, facts: FactSet | None = None, *, norm: str = "sum") -> None:
        """Take the facts to ask, kick-facts when None, and what a candidate's log-probability is divided by.

        Raises:
            ProbeError: `norm` is none of `sum`, `tokens`, `bytes`.
        """
        if norm not in NORMS:
            msg = f"probe facts: norm: got {norm!r}, expected one of {', '.join(NORMS)}. {did_you_mean(norm, NORMS)}"
            raise ProbeError(msg)
        self._facts = shipped_facts() if facts is None else facts
        self._norm = norm
        self._hashes = np.asarray(self._facts.hashes(), np.uint32)
        self._prepared: dict[tuple[str, str], Prepared] = {}

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
            batch_size: facts per pass over prompts; None for 256.
            progress: called with the numbers of facts done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or the model cannot be asked at all.
        """
        prepared = self._prepare(model)
        facts = self._sample(prepared, limit, seed)
        if not len(facts):
            msg = f"probe facts: model {model.name!r}: limit: got a sample without a scorable fact, expected one. Raise the limit."
            raise ProbeError(msg)
        head = ScoredHead(model)
        forward = forward_for(model, head, prepared)
        scorer = Scorer(forward, prepared, f"probe facts: model {model.name!r}", self._norm)
        tell = None if progress is None else lambda done: progress(done, len(facts))
        arrays = scorer.score(facts, batch_size or BATCH_SIZE, tell)
        gone = head.rows_gone()
        if gone is not None:
            arrays["gold_row_gone"] = _touches(prepared, facts, gone.cpu().numpy())
        return self._assemble(prepared, facts, arrays, forward)

    def _prepare(self, model: LoadedModel) -> Prepared:
        key = (model.tokenizer_hash, model.family)
        if key not in self._prepared:
            self._prepared[key] = prepare(self._facts, model)
        return self._prepared[key]

    def _sample(self, prepared: Prepared, limit: int | None, seed: int) -> Ints:
        if limit is None:
            return np.arange(len(prepared))
        ids = {fact.id for fact in self._facts.sample(limit, seed).facts}
        return np.flatnonzero([self._facts.facts[number].id in ids for number in prepared.chosen])

    def _assemble(self, prepared: Prepared, facts: Ints, arrays: Mapping[str, Array], forward: Forward) -> ProbeScore:
        chosen = prepared.chosen[facts]
        asked = [self._facts.facts[number] for number in chosen]
        examples = Examples(
            ids=np.asarray([fact.id for fact in asked]),
            groups=np.asarray([fact.relation for fact in asked]),
            hashes=self._hashes[chosen],
            arrays={name: _stored(name, values) for name, values in arrays.items()},
        )
        trivial = trivial_scores(prepared, facts)
        metrics = {name: float(np.mean(values)) for name, values in arrays.items() if name not in NO_METRIC}
        return ProbeScore(
            probe=self.name,
            version=self.version,
            metric="p1",
            metrics=metrics | {"macro_p1": macro(arrays["p1"], examples.groups)},
            floors={name: max(pair.values()) for name, pair in trivial.items()} | {f"free_{name}": 0.0 for name in trivial},
            trivial=trivial["p1"],
            n=len(facts),
            excluded=prepared.excluded,
            examples=examples,
            settings={"template": "scoring", "norm": self._norm, "prompt": prepared.convention},
            work=_work(forward, len(facts)),
        )


def facts_probe(context: ProbeContext) -> FactsProbe:
    """Make the probe for a suite's facts."""
    return FactsProbe(context.fact_set())


def _touches(prepared: Prepared, facts: Ints, gone: Array) -> Array:
    """Return `(n,)` bool: whether a vocabulary row that the canonical answer needs is gone."""
    trie = prepared.trie
    paths = trie.paths[prepared.spellings[facts, 0]]
    inside = paths < len(trie)
    return np.asarray((gone[trie.tokens[np.where(inside, paths, 0)]] & inside).any(1))


def _stored(name: str, values: Array) -> Array:
    if name not in STORED:
        return values
    return np.clip(values, -LARGEST, LARGEST).astype(STORED[name])


def _work(forward: Forward, n_facts: int) -> dict[str, float]:
    work = forward.work
    return {
        "tokens": float(work.tokens),
        "padding": float(work.padding),
        "scored_positions": float(work.scored),
        "passes": float(work.passes),
        "candidates_per_example": work.candidates / n_facts,
    }
