"""What the probes of multiple-choice questions share: sample, ask, and put the score together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.choice import ask, askable, encode, floors_of, trivial_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.choice import Pairs, Question, Scores
    from pytest_kick.result import ProbeScore

UNASKED = "an option without tokens of its own"


class ChoiceProbe:
    """Ask questions; what the tokenizer makes of each is kept for the next cell.

    Attributes:
        name: of the probe.
        version: of the scoring; a change makes stored scores incomparable.
        floors: of the outcomes that a probe has besides `acc` and `acc_norm`.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    floors: ClassVar[Mapping[str, float]] = {}

    def __init__(self, spec: ProbeSpec, questions: Sequence[Question]) -> None:
        """Take the questions as they are asked, prompts and all."""
        self._spec = spec
        self._questions = tuple(questions)
        self._encoded: tuple[tuple[str, str], dict[str, Pairs]] = (("", ""), {})

    @property
    def questions(self) -> tuple[Question, ...]:
        """Return the questions as they are asked."""
        return self._questions

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
            limit: number of questions, a sample stratified by group; None for all.
            seed: of that sample.
            batch_size: options per pass.
            progress: called with the numbers of options done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or no question can be asked.
        """
        places = sampled([q.id for q in self._questions], [q.group for q in self._questions], limit, seed)
        drawn = [self._questions[place] for place in places]
        pairs = self._pairs(model, drawn)
        able = askable(model, pairs)
        asked = [question for question, fits in zip(drawn, able, strict=True) if fits]
        scores = ask(model, asked, [pair for pair, fits in zip(pairs, able, strict=True) if fits], batch_size=batch_size, progress=progress)
        arrays = self.outcomes(scores)
        floors = floors_of(asked, self._questions) | {**self.floors}
        score = assembled(
            self._spec,
            version=self.version,
            ids=[question.id for question in asked],
            groups=[question.group for question in asked],
            hashes=[content_hash(question.prompt, question.options, question.gold) for question in asked],
            arrays=arrays,
            floors={name: floor for name, floor in floors.items() if name in arrays or name == "macro_acc"},
            trivial=trivial_of(asked, self._questions),
            excluded={} if able.all() else {UNASKED: int((~able).sum())},
            work=scores.work,
        )
        return replace(score, metrics={**score.metrics, **self.parts(arrays["acc"], score.examples.groups)})

    def outcomes(self, scores: Scores) -> dict[str, Array]:
        """Return the arrays of the examples."""
        return scores.outcomes()

    def parts(self, right: Array, groups: Array) -> dict[str, float]:
        """Return further metrics, shown and not judged, of what was right `(n,)` in which group."""
        del right, groups
        return {}

    def _pairs(self, model: LoadedModel, questions: Sequence[Question]) -> list[Pairs]:
        key = (model.tokenizer_hash, model.family)
        if self._encoded[0] != key:
            self._encoded = (key, {})
        known = self._encoded[1]
        new = [question for question in questions if question.id not in known]
        known.update(zip([question.id for question in new], encode(model, new), strict=True))
        return [known[question.id] for question in questions]
