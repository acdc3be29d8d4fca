"""Sequences that a decoder draws from itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_kick.calibration.batches import BATCH_TOKENS
from pytest_kick.errors import CalibrationError

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel


@torch.no_grad()
def draw(model: LoadedModel, count: int, length: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Return sequences drawn token by token from what the model predicts, at temperature 1, without the BOS token.

    The first token follows the BOS (or EOS) token; a tokenizer with neither starts from a random one. A drawn end of text does not
    end a sequence, so all have the same length. Ids that the tokenizer does not know, and special ones but the end of text, are
    never drawn.

    Args:
        model: a decoder, dense: what it draws is part of the data, and the same for all levels.
        count: number of sequences.
        length: tokens of each.
        seed: of the draws; the global generator is not touched.

    Raises:
        CalibrationError: the model is no decoder.

    Source: Liu et al., LLM-QAT (2024), section 3.1, without its deterministic first tokens.
    """
    if model.family != "decoder":
        msg = f"calibration: source: got 'model' for the {model.family} {model.name!r}, expected a decoder. Choose another source."
        raise CalibrationError(msg)
    generator = torch.Generator().manual_seed(seed)
    found: list[tuple[int, ...]] = []
    size = max(1, BATCH_TOKENS // length)
    while len(found) < count:
        rows = _draw_batch(model, min(size, count - len(found)), length, generator)
        found += [tuple(row) for row in rows.tolist()]
    return tuple(found)


def _draw_batch(model: LoadedModel, size: int, length: int, generator: torch.Generator) -> torch.Tensor:
    tokenizer: Any = model.tokenizer
    module: Any = model.module
    barred = sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    last = torch.full((size, 1), first) if first is not None else torch.randint(len(tokenizer), (size, 1), generator=generator)
    drawn, past = [], None
    for _ in range(length):
        given = module(input_ids=last.to(model.device), past_key_values=past, use_cache=True)
        past = given.past_key_values
        logits = given.logits[:, -1].float().cpu()
        logits[:, len(tokenizer) :] = -torch.inf
        logits[:, barred] = -torch.inf
        last = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        drawn.append(last)
    return torch.cat(drawn, dim=1)
