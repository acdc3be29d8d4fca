"""The probe `instruction_following`: MT-Bench's questions, two turns each, answered greedily and scored by a judge.

See `docs/probes.md` for what is scored and why.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.data_sets.mt_bench import TURNS, read_mt_bench
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import ProbeError
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.conversation import Conversations, converse, distinct
from pytest_kick.probes.judge import Judge
from pytest_kick.probes.judge_instructions import InstructionJudge
from pytest_kick.probes.judge_ratings import Ratings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.data_sets.mt_bench import Instruction, MtBench
    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.judge_scores import Judgement
    from pytest_kick.result import ProbeScore

GRAM = 4
LOOPING = 0.5
"""Share of distinct 4-grams below which an answer goes round in a circle."""
JUDGED = ("judge", "judge_turn1", "judge_turn2")
UNREAD = "the judge gave no rating that can be read"


class InstructionFollowing:
    """Ask a model MT-Bench's questions.

    Attributes:
        name: `instruction_following`.
        version: of the scoring; a change makes stored scores incomparable.
        key: digest of the questions, and of whether answers of the dense model are wanted.
    """

    name: ClassVar[str] = "instruction_following"
    version: ClassVar[int] = 1

    def __init__(self, data: MtBench, spec: ProbeSpec, judge: Judge | None = None) -> None:
        """Take the questions, the parameters, and who judges; None for nobody."""
        self._questions = data.questions
        self._spec = spec
        self._judge = None if judge is None else InstructionJudge(judge, data)
        self._new_tokens = int(spec.param("max_new_tokens"))
        self._versus = self._judge is not None and spec.param("versus") == "dense"
        self._hashes = [content_hash(question.turns, question.references) for question in self._questions]
        self.key = hashlib.sha256(json.dumps([self._hashes, self._versus]).encode()).hexdigest()

    def reference(
        self, model: LoadedModel, *, limit: int | None = None, seed: int = 0, batch_size: int | None = None
    ) -> dict[str, NDArray[np.str_]]:
        """Return the dense model's answers, for those they are compared with; nothing where no judge compares.

        Args:
            model: dense, cast to the dtype and device of the forward pass.
            limit: as of `run`.
            seed: as of `run`.
            batch_size: as of `run`.

        Returns:
            `answers`, `(n, 2)` unicode, of the sampled questions.
        """
        if not self._versus:
            return {}
        asked = [self._questions[place] for place in self._sample(limit, seed)]
        return {"answers": np.asarray(converse(model, asked, self._new_tokens, batch_size).answers)}

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
            limit: number of questions, a sample stratified by category; None for all.
            seed: of that sample.
            batch_size: conversations per pass, None for the engine's choice.
            progress: called with the numbers of answers given and asked.
            reference: what `reference` returned for the dense model, same limit and seed.

        Raises:
            ProbeError: logits are NaN or infinite, or the judge cannot be asked, or says nothing of too many.
        """
        places = self._sample(limit, seed)
        asked = [self._questions[place] for place in places]
        echo = self._echo(asked)  # first: a judge that cannot be asked costs no generation
        talk = converse(model, asked, self._new_tokens, batch_size, progress)
        arrays = _shapes(model, asked, talk)
        ratings = self._ratings(asked, talk, reference or {})
        kept = ratings.kept(len(asked), f"probe {self._spec.id}", "questions")
        arrays |= ratings.arrays()
        score = assembled(
            self._spec,
            version=self.version,
            ids=[question.id for question, keep in zip(asked, kept, strict=True) if keep],
            groups=[question.category for question, keep in zip(asked, kept, strict=True) if keep],
            hashes=[self._hashes[place] for place in places[kept]],
            arrays={name: values[kept] for name, values in arrays.items()},
            floors=self._floors(echo),
            trivial={"empty": self._judge.lowest if self._judge else 0.0} | ({"echo": echo["judge"]} if echo else {}),
            excluded={} if kept.all() else {UNREAD: int((~kept).sum())},
            settings=self._settings(talk),
            work=talk.work | ratings.work(kept),
        )
        # Without a judge the probe's own metric was not measured: what is left is whether it answered at all.
        return replace(
            score,
            metrics={**score.metrics, **ratings.noise(kept)},
            metric=score.metric if self._judge else "answered",
        )

    def _sample(self, limit: int | None, seed: int) -> Array:
        return sampled([question.id for question in self._questions], [question.category for question in self._questions], limit, seed)

    def _ratings(self, asked: Sequence[Instruction], talk: Conversations, reference: Mapping[str, Array]) -> Ratings:
        """Return what the judge says of each turn, and of each turn beside the dense model's."""
        if self._judge is None:
            return Ratings()
        turns = self._judge.scores(asked, talk.answers)
        judged = {f"judge_turn{turn + 1}": [both[turn] for both in turns] for turn in range(TURNS)}
        metrics = {"judge": tuple(judged), **{name: (name,) for name in judged}}
        if self._versus:
            wins = self._wins(asked, talk, reference)
            compared = {f"win_turn{turn + 1}": [both[turn] for both in wins] for turn in range(TURNS)}
            judged |= compared
            metrics["win"] = tuple(compared)
        scale = f"{self._judge.scale}{', and A, B or C,' if self._versus else ''}"
        return Ratings(judged=judged, metrics=metrics, model=self._judge.judge.model, repeats=self._judge.judge.repeats, scale=scale)

    def _wins(self, asked: Sequence[Instruction], talk: Conversations, reference: Mapping[str, Array]) -> list[tuple[Judgement, ...]]:
        others = reference.get("answers")
        if self._judge is None or others is None or len(others) != len(asked):
            msg = (
                f"probe {self._spec.id}: reference: got none of these questions, expected the dense model's answers. Report this as a bug."
            )
            raise ProbeError(msg)
        return self._judge.wins(asked, talk.answers, [tuple(map(str, row)) for row in others])

    def _floors(self, echo: Mapping[str, float]) -> dict[str, float]:
        """Return what knowing nothing scores, in each metric's own units: saying nothing, or repeating the question where that has more."""
        lowest = self._judge.lowest if self._judge else 0.0
        judged = {name: max(lowest, echo.get(name, lowest)) for name in JUDGED if self._judge}
        return {"answered": 0.0, "distinct_tokens": 0.0, "distinct_4grams": 0.0} | judged | ({"win": 0.0} if self._versus else {})

    def _echo(self, asked: Sequence[Instruction]) -> dict[str, float]:
        """Return the judged scores of repeating the question: judged once, then from the cache; nothing where none could be read."""
        if self._judge is None:
            return dict.fromkeys(JUDGED, 0.0)
        found = self._judge.scores(asked, [question.turns for question in asked])
        read = [[j.score for j in both] for both in found if all(j.score is not None for j in both)]
        if not read:
            return {}
        turns = np.asarray(read, np.float64).mean(0)
        return dict(zip(JUDGED, map(float, (turns.mean(), *turns)), strict=True))

    def _settings(self, talk: Conversations) -> dict[str, str | int]:
        judge = {"judge": self._judge.judge.model, "rubric": self._judge.rubric} if self._judge else {"judge": "none"}
        return {"prompt": talk.convention, "max_new_tokens": talk.max_new_tokens, **judge}


def instruction_following(context: ProbeContext) -> InstructionFollowing:
    """Make the probe for a run's data and judge."""
    data = read_mt_bench(DataSource(directory=context.data, offline=context.offline))
    return InstructionFollowing(data, context.spec, Judge.from_context(context))


def _shapes(model: LoadedModel, asked: Sequence[Instruction], talk: Conversations) -> dict[str, Array]:
    """Return what shows without a judge, per conversation: whether it answered, and how much it repeats itself."""
    tokens = [[model.tokenizer.encode(text, add_special_tokens=False, verbose=False) for text in both] for both in talk.answers]
    words = np.asarray([[distinct(ids, 1) for ids in both] for both in tokens])
    grams = np.asarray([[distinct(ids, GRAM) for ids in both] for both in tokens])
    texts = np.asarray([[text.strip() for text in both] for both in talk.answers])
    echoes = texts == np.asarray([[turn.strip() for turn in question.turns] for question in asked])
    return {
        "answered": ((texts != "") & ~echoes & (grams >= LOOPING)).all(1),
        "non_empty": (texts != "").all(1),
        "distinct_tokens": words.mean(1).astype(np.float32),
        "distinct_4grams": grams.mean(1).astype(np.float32),
        "length": np.asarray([[len(ids) for ids in both] for both in tokens]).sum(1).astype(np.float32),
        "margin": talk.margins.min(1).astype(np.float32),
        "predicted": np.asarray([content_hash(*both) >> 1 if any(both) else -1 for both in talk.answers], np.int32),
    }
