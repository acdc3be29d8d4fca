"""Conversations of two turns: the second question follows the model's own first answer. And how much a text repeats itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.probes.generation import generated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.data_sets.mt_bench import Instruction
    from pytest_kick.models.loaded import LoadedModel

_ROLES = {"user": "### User:", "assistant": "### Assistant:"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Conversations:
    """Hold what a model said.

    Attributes:
        answers: for each question the answers to its turns; "" for nothing.
        margins: `(n, turns)` float32, in nats: by how much the closest token of each answer beat the runner-up.
        convention: `chat` for the tokenizer's chat template, `plain` for headings where it has none.
        max_new_tokens: the most tokens that an answer could have.
        work: tokens and the like.
    """

    answers: list[tuple[str, ...]]
    margins: NDArray[np.float32]
    convention: str
    max_new_tokens: int
    work: dict[str, float]


def converse(
    model: LoadedModel,
    questions: Sequence[Instruction],
    max_new_tokens: int,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Conversations:
    """Ask each question turn by turn, greedily.

    Args:
        model: a decoder, cast to the dtype and device of the forward pass.
        questions: all of one number of turns.
        max_new_tokens: of each answer.
        batch_size: conversations per pass, None for the engine's choice.
        progress: called with the numbers of answers given and asked.

    Raises:
        ProbeError: a logit is NaN or infinite, or the model does not generate.
    """
    chat = bool(getattr(model.tokenizer, "chat_template", None))
    turns = len(questions[0].turns)
    talks: list[list[dict[str, str]]] = [[] for _ in questions]
    margins, work, allowed = [], dict[str, float](), max_new_tokens
    for turn in range(turns):
        for talk, question in zip(talks, questions, strict=True):
            talk.append({"role": "user", "content": question.turns[turn]})
        found = generated(
            model,
            talks if chat else [_plain(talk) for talk in talks],
            max_new_tokens=max_new_tokens,
            stop=() if chat else (f"\n{_ROLES['user']}",),
            batch_size=batch_size,
            chat=chat,
            progress=_shifted(progress, turn * len(questions), turns * len(questions)),
        )
        for talk, text in zip(talks, found.texts, strict=True):
            talk.append({"role": "assistant", "content": text})
        margins.append(found.margins)
        work = {name: work.get(name, 0.0) + value for name, value in found.work.items()}
        allowed = found.max_new_tokens
    return Conversations(
        answers=[tuple(part["content"] for part in talk[1::2]) for talk in talks],
        margins=np.stack(margins, axis=1),
        convention="chat" if chat else "plain",
        max_new_tokens=allowed,
        work=work,
    )


def distinct(tokens: Sequence[int], size: int) -> float:
    """Return the share of distinct n-grams among all: 1 where nothing repeats, 0 for an empty text.

    Args:
        tokens: of the text; a text shorter than an n-gram repeats nothing.
        size: tokens of an n-gram.

    Source: Li et al. 2016, A Diversity-Promoting Objective Function for Neural Conversation Models (distinct-n).
    """
    grams = [tuple(tokens[start : start + size]) for start in range(len(tokens) - size + 1)]
    return len(set(grams)) / len(grams) if grams else float(bool(tokens))


def _plain(talk: Sequence[Mapping[str, str]]) -> str:
    said = "\n\n".join(f"{_ROLES[part['role']]}\n{part['content'].strip()}" for part in talk)
    return f"{said}\n\n{_ROLES['assistant']}\n"


def _shifted(progress: Callable[[int, int], None] | None, before: int, total: int) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
