"""What the probes of generated answers share: sample, generate, score, and put the score together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.answers import answer_hash, diversity, is_matchable, shuffled_score
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.generation import generated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.generation import Generated
    from pytest_kick.result import ProbeScore

MAX_NEW_TOKENS = 32
LARGEST = 65504.0  # of float16
NO_ANSWER = "gold answer without a word"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Hold a question as a model is asked it.

    Attributes:
        id: unique.
        group: what samples are stratified by.
        prompt: as it is asked, without chat template.
        golds: the accepted answers, at least one.
        echo: what an answer would be that only repeats the prompt.
        cut: the context was shortened before it was asked.
    """

    id: str
    group: str
    prompt: str
    golds: tuple[str, ...]
    echo: str
    cut: bool = False


class AnswersProbe:
    """Ask questions that are answered in words.

    Attributes:
        name: of the probe.
        version: of the scoring; a change makes stored scores incomparable.
        judged: name of the metric whose trivial baselines are printed.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    judged: ClassVar[str]

    def __init__(self, spec: ProbeSpec, asked: Sequence[Asked], template: str) -> None:
        """Take the questions; those whose gold answers have no word are left out and counted."""
        self._spec, self._template = spec, template
        able = [tuple(filter(is_matchable, each.golds)) for each in asked]
        self._asked = [replace(each, golds=golds) for each, golds in zip(asked, able, strict=True) if golds]
        lost = len(asked) - len(self._asked)
        self._excluded = {NO_ANSWER: lost} if lost else {}

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
            seed: of that sample, and of the shuffled gold answers.
            batch_size: questions per pass; None for 32.
            progress: called with the numbers of questions done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or there is no question.
        """
        places = sampled([each.id for each in self._asked], [each.group for each in self._asked], limit, seed)
        asked = [self._asked[place] for place in places]
        if not asked:
            msg = f"probe {self._spec.id}: questions: got none that can be scored ({self._excluded}), expected one. Raise the limit."
            raise ProbeError(msg)
        chat = bool(self._spec.param("chat"))
        written = generated(
            model, [each.prompt for each in asked], max_new_tokens=MAX_NEW_TOKENS, batch_size=batch_size, chat=chat, progress=progress
        )
        answers = [text.strip() for text in written.texts]
        arrays = self.outcomes(answers, [each.golds for each in asked])
        varied = diversity(answers)
        return assembled(
            self._spec,
            version=self.version,
            ids=[each.id for each in asked],
            groups=[each.group for each in asked],
            hashes=[content_hash(each.prompt, each.golds) for each in asked],
            arrays={
                **arrays,
                "margin": signed_margin(written, arrays[self.judged]),
                "predicted": np.asarray([answer_hash(answer) for answer in answers], np.int32),
                **{name: values for name, values in varied.items() if name != "words"},
            },
            floors=dict.fromkeys(arrays, 0.0),
            trivial=self._trivial(asked, seed),
            excluded=self._excluded,
            settings={"template": self._template, "stop": "newline", "max_new_tokens": written.max_new_tokens, "chat": chat},
            work=work_of(written, answers) | {"contexts_cut": float(sum(each.cut for each in asked))},
        )

    def outcomes(self, answers: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, Array]:
        """Return the arrays of n examples: outcomes bool and numbers float32, by name of the metric."""
        raise NotImplementedError

    def _trivial(self, asked: Sequence[Asked], seed: int) -> dict[str, float]:
        """Return what another question's gold answer, the prompt itself and nothing would score."""
        golds = [each.golds for each in asked]
        return {
            "shuffled": shuffled_score(golds, lambda answer, own: float(self._judged([answer], [own])[0]), seed),
            "echo": float(np.mean(self._judged([each.echo for each in asked], golds))),
            "empty": float(np.mean(self._judged([""] * len(asked), golds))),
        }

    def _judged(self, answers: Sequence[str], golds: Sequence[Sequence[str]]) -> Array:
        return self.outcomes(answers, golds)[self.judged]


def signed_margin(written: Generated, right: Array) -> Array:
    """Return `(n,)` float16, nats: how close the closest token of each answer was, negative where the answer is wrong."""
    margins = np.clip(written.margins, 0.0, LARGEST)
    return np.where(right, margins, -margins).astype(np.float16)


def work_of(written: Generated, texts: Sequence[str]) -> dict[str, float]:
    """Return what was computed, how long the texts are, and how many are empty or ran into the limit of tokens."""
    return {
        **written.work,
        "words_per_answer": sum(len(text.split()) for text in texts) / len(texts),
        "empty": float(sum(not text for text in texts)),
        "unfinished": float((written.lengths >= written.max_new_tokens).sum()),
    }
