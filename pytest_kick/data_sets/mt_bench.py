"""MT-Bench: questions of two turns in eight categories, reference answers to some, and the prompts of its judge.

Source: Zheng et al. 2023, Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena; files of `lm-sys/FastChat`, Apache-2.0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING, NoReturn

from pytest_kick.data_sets.source import lines_of, text_of, texts_of
from pytest_kick.errors import DataError
from pytest_kick.jsonl import Line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.data_sets.source import DataSource

QUESTIONS = "mt_bench/mt_bench/question.jsonl"
REFERENCES = "mt_bench/mt_bench/reference_answer/gpt-4.jsonl"
PROMPTS = "mt_bench/judge_prompts.jsonl"
HUB = ("HuggingFaceH4/mt_bench_prompts", "", "train")
TURNS = 2

_ONE, _TWO = ("question", "answer"), ("question_1", "question_2", "answer_1", "answer_2")
_PAIR_ONE = ("question", "answer_a", "answer_b")
_PAIR_TWO = ("question_1", "question_2", "answer_a_1", "answer_a_2", "answer_b_1", "answer_b_2")
_REFERENCE, _REFERENCES = ("ref_answer_1",), ("ref_answer_1", "ref_answer_2")
JUDGE_PROMPTS = {
    "single-v1": _ONE,
    "single-v1-multi-turn": _TWO,
    "single-math-v1": (*_ONE, *_REFERENCE),
    "single-math-v1-multi-turn": (*_TWO, *_REFERENCES),
    "pair-v2": _PAIR_ONE,
    "pair-v2-multi-turn": _PAIR_TWO,
    "pair-math-v1": (*_PAIR_ONE, *_REFERENCE),
    "pair-math-v1-multi-turn": (*_PAIR_TWO, *_REFERENCES),
}
"""Names of the prompts, each with its gaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """Hold a question.

    Attributes:
        id: unique.
        category: one of eight.
        turns: what the user says first, and after the first answer.
        references: an answer to each turn, or none.
    """

    id: str
    category: str
    turns: tuple[str, ...]
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgePrompt:
    """Hold a prompt of MT-Bench's judge.

    Attributes:
        system: the system's turn.
        template: a format string with the gaps of `JUDGE_PROMPTS`.
    """

    system: str
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MtBench:
    """Hold the benchmark.

    Attributes:
        questions: in the order of their ids.
        prompts: of its judge by name; none from the hub, which has the questions alone.
    """

    questions: tuple[Instruction, ...]
    prompts: Mapping[str, JudgePrompt]


def read_mt_bench(data: DataSource) -> MtBench:
    """Read MT-Bench from a directory, else from the hub.

    A directory gives GPT-4's answers as references, in the categories where MT-Bench shows them to its judge (reasoning, math,
    coding). The hub gives notes of the authors: those that have one for either turn are taken.

    Raises:
        DataError: it cannot be read, or a field is missing, malformed or given twice.
    """
    if data.directory is None:
        dataset, config, split = HUB
        rows = enumerate(data.rows(dataset, config, split))
        lines = [Line(where=f"datasets:{dataset}@{split}: row {number}", values=row) for number, row in rows]
        return MtBench(questions=_questions(lines, ("prompt_id", "prompt")), prompts={})
    references = _references(lines_of(data.file(REFERENCES)))
    questions = _questions(data.lines(QUESTIONS), ("question_id", "turns"), references)
    return MtBench(questions=questions, prompts=_prompts(str(data.file(PROMPTS)), data.lines(PROMPTS)))


def _questions(
    lines: list[Line], names: tuple[str, str], references: Mapping[str, tuple[str, ...]] | None = None
) -> tuple[Instruction, ...]:
    """Return the questions; without `references` their own field of that name holds them."""
    found: dict[str, Instruction] = {}
    for line in lines:
        name = _id(line, names[0], found)
        turns = _turns(line, names[1], line.values.get(names[1]))
        known = _own_references(line) if references is None else references.get(name, ())
        found[name] = Instruction(id=name, category=text_of(line, "category").strip(), turns=turns, references=known)
    if not found:
        raise DataError("mt_bench: questions: got none, expected at least one. Take the data anew from its source.")
    return tuple(found[name] for name in sorted(found, key=int))


def _own_references(line: Line) -> tuple[str, ...]:
    notes = line.values.get("reference")
    whole = isinstance(notes, list) and len(notes) == TURNS and all(isinstance(note, str) and note.strip() for note in notes)
    return tuple(notes) if isinstance(notes, list) and whole else ()


def _references(lines: list[Line]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for line in lines:
        choices = line.values.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            _fail(line, "choices", choices, 'a list that begins with {"turns": [...]}')
        found[_id(line, "question_id", found)] = _turns(line, "choices[0].turns", choices[0].get("turns"))
    return found


def _prompts(file: str, lines: list[Line]) -> dict[str, JudgePrompt]:
    found = {}
    for line in lines:
        name = text_of(line, "name")
        if name in JUDGE_PROMPTS:
            system, template = text_of(line, "system_prompt"), text_of(line, "prompt_template")
            _check_gaps(line, template, JUDGE_PROMPTS[name])
            found[name] = JudgePrompt(system=system, template=template)
    if missing := sorted(JUDGE_PROMPTS.keys() - found.keys()):
        msg = f"{file}: name: got no {missing[0]!r}, expected all of {', '.join(JUDGE_PROMPTS)}. Take it anew from its source."
        raise DataError(msg)
    return found


def _check_gaps(line: Line, template: str, gaps: tuple[str, ...]) -> None:
    try:
        inside = {gap for _, gap, form, conversion in Formatter().parse(template) if gap is not None and not form and not conversion}
    except ValueError:
        inside = set()
    if inside != set(gaps):
        _fail(line, "prompt_template", sorted(inside), f"the gaps {', '.join(gaps)} and no other")


def _id(line: Line, field: str, known: Mapping[str, object]) -> str:
    value = line.values.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        _fail(line, field, value, "a whole number")
    if str(value) in known:
        _fail(line, field, value, "each number once")
    return str(value)


def _turns(line: Line, field: str, value: object) -> tuple[str, ...]:
    texts = texts_of(Line(where=line.where, values={field: value}), field)
    if len(texts) != TURNS or not all(text.strip() for text in texts):
        _fail(line, field, list(texts), f"{TURNS} texts that are not empty")
    return texts


def _fail(line: Line, field: str, value: object, rule: str) -> NoReturn:
    got = "nothing" if value is None else json.dumps(value, default=str)[:60]
    msg = f"{line.where}: {field}: got {got}, expected {rule}. Correct the file, or take it anew from its source."
    raise DataError(msg)
