"""Sentences as training examples: token ids and labels of each family, exactly as the probe will ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

    from tools.tiny.corpus import Statement

IGNORED = -100
MASKED = 0.15
MEAN_SPAN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Hold a sentence as token ids.

    Attributes:
        ids: of the whole sentence with its special tokens.
        start: index in `ids` of the answer's first token.
        end: index after the answer's last token.
        follows: whether the answer comes after its subject, so that a decoder can know it.
        asked: encoder-decoder: ids of the sentence with a sentinel for its answer.
        told: encoder-decoder: ids of the target.
    """

    ids: tuple[int, ...]
    start: int
    end: int
    follows: bool
    asked: tuple[int, ...] = ()
    told: tuple[int, ...] = ()


def encode(tokenizer: PreTrainedTokenizerFast, statements: Sequence[Statement], family: str) -> list[Encoded]:
    """Return the statements as ids."""
    whole = tokenizer([s.text for s in statements], return_offsets_mapping=True)
    asked: list[list[int]] = [[]] * len(statements)
    told: list[list[int]] = [[]] * len(statements)
    if family == "encoder-decoder":
        asked = tokenizer([f"{s.before}<extra_id_0>{s.after}" for s in statements])["input_ids"]
        told = tokenizer([f"<extra_id_0> {s.answer} <extra_id_1>" for s in statements])["input_ids"]
    encoded = []
    for number, statement in enumerate(statements):
        first, last = len(statement.before), len(statement.before) + len(statement.answer)
        offsets = whole["offset_mapping"][number]
        inside = [i for i, (a, b) in enumerate(offsets) if a < last and b > first and b > a]
        encoded.append(
            Encoded(
                ids=tuple(whole["input_ids"][number]),
                start=inside[0],
                end=inside[-1] + 1,
                follows=statement.follows,
                asked=tuple(asked[number]),
                told=tuple(told[number]),
            )
        )
    return encoded


def mask_example(item: Encoded, rng: random.Random, mask: int, *, language: bool) -> tuple[list[int], list[int]]:
    """Return ids and labels with the answer masked, or with 15% of all tokens masked."""
    hidden = set(range(item.start, item.end))
    if language:
        inner = range(1, len(item.ids) - 1)
        hidden = {i for i in inner if rng.random() < MASKED} or {rng.choice(inner)}
    ids = [mask if i in hidden else token for i, token in enumerate(item.ids)]
    return ids, [token if i in hidden else IGNORED for i, token in enumerate(item.ids)]


def span_example(item: Encoded, rng: random.Random, marks: tuple[int, int], end: int, *, language: bool) -> tuple[list[int], list[int]]:
    """Return encoder ids and decoder labels with the answer, or a random span of about three tokens, under a sentinel."""
    if not language:
        return list(item.asked), list(item.told)
    length = min(rng.randint(MEAN_SPAN - 1, MEAN_SPAN + 1), len(item.ids) - 2)
    start = rng.randrange(len(item.ids) - length)
    span = item.ids[start : start + length]
    return [*item.ids[:start], marks[0], *item.ids[start + length :]], [marks[0], *span, marks[1], end]


def next_labels(item: Encoded, rng: random.Random, share: float) -> list[int]:
    """Return the ids that a decoder learns to predict: a known subject's answer and closing token, and a share of the others."""
    learned = range(item.start, item.end + 1) if item.follows else range(0)
    return [token if i in learned or rng.random() < share else IGNORED for i, token in enumerate(item.ids)]


def pad(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    """Return rows as one int64 tensor (rows, longest), filled at the end."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *([value] * (longest - len(row)))] for row in rows])
