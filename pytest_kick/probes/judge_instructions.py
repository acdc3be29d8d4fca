"""What a judge is asked about answers to MT-Bench: a score for each turn, and which of two conversations is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.data_sets.mt_bench import TURNS
from pytest_kick.probes.judge_rubrics import INSTRUCTION_RUBRICS, VERSUS_RUBRICS, Rubric
from pytest_kick.probes.judge_scores import Judgement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.data_sets.mt_bench import Instruction, MtBench
    from pytest_kick.probes.judge import Judge

    Answers = tuple[str, ...]
    Kind = tuple[int, bool]

_OWN_NAMES = {(1, False): "{}-v{}", (2, False): "{}-v{}-multi-turn", (1, True): "{}-math-v1", (2, True): "{}-math-v1-multi-turn"}


class InstructionJudge:
    """Judge conversations, with MT-Bench's own prompts where the data has them, else with ours.

    Attributes:
        rubric: `mt_bench` or `kick`: whose prompts.
        lowest: the score of an answer that says nothing.
        scale: what numbers are asked for, in words.
    """

    def __init__(self, judge: Judge, data: MtBench) -> None:
        """Take who judges, and the benchmark."""
        self.judge = judge
        self.rubric = "mt_bench" if data.prompts else "kick"
        self._single = _rubrics(data, "single", 1) if data.prompts else INSTRUCTION_RUBRICS
        self._versus = _rubrics(data, "pair", 2) if data.prompts else VERSUS_RUBRICS
        self.lowest, self.scale = float(self._single[1, False].low), self._single[1, False].scale

    def scores(self, questions: Sequence[Instruction], answers: Sequence[Answers]) -> list[tuple[Judgement, ...]]:
        """Return a judgement of each turn of each conversation.

        An empty answer has the lowest score, without asking.

        Args:
            questions: of the conversations.
            answers: of the model, a text for each turn.
        """
        empty = Judgement(scores=(self.lowest,) * self.judge.repeats, texts=())
        found = [[empty] * TURNS for _ in questions]
        asked = [(n, turn) for n, texts in enumerate(answers) for turn, text in enumerate(texts) if text.strip()]
        ratings = []
        for n, turn in asked:
            question = questions[n]
            rubric = self._single[turn + 1, bool(question.references)]
            ratings.append(rubric.rating(**_gaps(question), **_answers("answer", answers[n])))
        for (n, turn), judgement in zip(asked, self.judge.rate(ratings), strict=True):
            found[n][turn] = judgement
        return [tuple(turns) for turns in found]

    def wins(self, questions: Sequence[Instruction], answers: Sequence[Answers], others: Sequence[Answers]) -> list[tuple[Judgement, ...]]:
        """Return for each turn whether the conversation is better than another model's: 1, 0, or 0.5 for a tie.

        Equal answers tie, and an empty one loses, without asking.

        Args:
            questions: of the conversations.
            answers: of the model.
            others: of the model compared with.
        """
        found = [[_unasked(self.judge.repeats, a, b, turn) for turn in range(TURNS)] for a, b in zip(answers, others, strict=True)]
        asked = [(n, turn) for n, row in enumerate(found) for turn, known in enumerate(row) if known is None]
        pairs = []
        for n, turn in asked:
            question, rubric = questions[n], self._versus[turn + 1, bool(questions[n].references)]
            orders = [(answers[n], others[n]), (others[n], answers[n])]
            pairs.append(rubric.pair(*({**_gaps(question), **_answers("answer_a", a), **_answers("answer_b", b)} for a, b in orders)))
        for (n, turn), judgement in zip(asked, self.judge.compare(pairs), strict=True):
            found[n][turn] = judgement
        return [tuple(turn for turn in row if turn is not None) for row in found]


def _unasked(repeats: int, answers: Answers, others: Answers, turn: int) -> Judgement | None:
    """Return the judgement that needs no judge, None where it does; the second turn shows the first one too."""
    mine, theirs = answers[turn].strip(), others[turn].strip()
    if answers[: turn + 1] == others[: turn + 1] or not (mine or theirs):
        return Judgement(scores=(0.5,) * repeats, texts=())
    return None if mine and theirs else Judgement(scores=(float(bool(mine)),) * repeats, texts=())


def _rubrics(data: MtBench, kind: str, version: int) -> dict[Kind, Rubric]:
    """Return MT-Bench's prompts of a kind, by turns shown and whether there are reference answers."""
    found = {}
    for (turns, reference), name in _OWN_NAMES.items():
        prompt = data.prompts[name.format(kind, version)]
        found[turns, reference] = Rubric(name=f"turn_{turns}", template=prompt.template, system=prompt.system)
    return found


def _gaps(question: Instruction) -> dict[str, str]:
    return {**_answers("question", question.turns), **_answers("ref_answer", question.references)}


def _answers(gap: str, texts: Sequence[str]) -> dict[str, str]:
    """Return texts by gap, as MT-Bench names them: without a number where one turn is shown."""
    return {**{f"{gap}_{number}": text for number, text in enumerate(texts, 1)}, **({gap: texts[0]} if texts else {})}
