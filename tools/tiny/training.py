"""The training loop: seeded, deterministic, one thread, no dropout."""

# ruff: noqa: ANN401 - the three families share no type that knows their parts

from __future__ import annotations

import math
import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from tools.tiny import examples
from tools.tiny.recipes import model_of, tokenizer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tools.tiny.corpus import Statement
    from tools.tiny.recipes import Recipe

WARM_UP = 0.05
CLIP = 1.0


def settle(seed: int) -> None:
    """Make torch deterministic on one thread and seed it."""
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def batches(items: list[examples.Encoded], size: int, rng: random.Random) -> Iterator[list[examples.Encoded]]:
    """Yield shuffled batches of sentences of about equal length."""
    order = list(range(len(items)))
    rng.shuffle(order)
    chunk = size * 8
    groups = []
    for start in range(0, len(order), chunk):
        near = sorted(order[start : start + chunk], key=lambda i: len(items[i].ids))
        groups += [near[i : i + size] for i in range(0, len(near), size)]
    rng.shuffle(groups)
    for group in groups:
        yield [items[i] for i in group]


def loss_of(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Return the function from a batch and a generator to the loss of its family."""
    if recipe.family == "encoder":
        return lambda batch, rng: encoder_loss(recipe, model, tokenizer, batch, rng)
    if recipe.family == "decoder":
        return lambda batch, rng: decoder_loss(recipe, model, tokenizer, batch, rng)
    return lambda batch, rng: seq2seq_loss(recipe, model, tokenizer, batch, rng)


def encoder_loss(recipe: Recipe, model: Any, tokenizer: Any, batch: list[examples.Encoded], rng: random.Random) -> torch.Tensor:
    """Return the cross-entropy at the masked positions; the vocabulary layer runs on these alone."""
    rows = [examples.mask_example(item, rng, tokenizer.mask_token_id, language=rng.random() < recipe.language) for item in batch]
    ids = examples.pad([row[0] for row in rows], tokenizer.pad_token_id)
    labels = examples.pad([row[1] for row in rows], examples.IGNORED)
    hidden = model.bert(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long()).last_hidden_state
    wanted = labels != examples.IGNORED
    return functional.cross_entropy(model.cls(hidden[wanted]), labels[wanted])


def decoder_loss(recipe: Recipe, model: Any, tokenizer: Any, batch: list[examples.Encoded], rng: random.Random) -> torch.Tensor:
    """Return the cross-entropy of the next token, over the answer, its closing token and a random share of the others."""
    ids = examples.pad([item.ids for item in batch], tokenizer.pad_token_id)
    labels = examples.pad([examples.next_labels(item, rng, recipe.language) for item in batch], examples.IGNORED)[:, 1:]
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels != examples.IGNORED
    return functional.cross_entropy(model.lm_head(hidden[wanted]), labels[wanted])


def seq2seq_loss(recipe: Recipe, model: Any, tokenizer: Any, batch: list[examples.Encoded], rng: random.Random) -> torch.Tensor:
    """Return the cross-entropy of the target: sentinel, answer, closing sentinel, end."""
    marks = tuple(tokenizer.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"]))
    rows = [examples.span_example(item, rng, marks, tokenizer.eos_token_id, language=rng.random() < recipe.language) for item in batch]
    ids = examples.pad([row[0] for row in rows], tokenizer.pad_token_id)
    labels = examples.pad([row[1] for row in rows], examples.IGNORED)
    known = (ids != tokenizer.pad_token_id).long()
    loss: torch.Tensor = model(input_ids=ids, attention_mask=known, labels=labels, use_cache=False).loss
    return loss


def never_probed_loss(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, statements: tuple[Statement, ...]
) -> float:
    """Return the mean loss in nats per predicted token on the statements that are never probed, all of their text."""
    items = examples.encode(tokenizer, [s for s in statements if not s.probed], recipe.family)
    rng = random.Random(recipe.seed)  # noqa: S311 - no secret is made
    with torch.no_grad():
        loss: torch.Tensor = loss_of(replace(recipe, language=1.0), model, tokenizer)(items, rng)
    return loss.item()


def optimizer_of(recipe: Recipe, model: PreTrainedModel) -> torch.optim.Optimizer:
    """Return AdamW with decay on matrices and embeddings only."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": recipe.decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98), fused=True)


def rate_at(step: int, n_steps: int) -> float:
    """Return the share of the highest rate at a step: linear warm-up, then a cosine down to 0."""
    warm = max(1, int(WARM_UP * n_steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (n_steps - warm)))


def train(
    recipe: Recipe, statements: tuple[Statement, ...], say: Callable[[dict[str, Any]], None], max_steps: int | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Train a model from nothing; `say` is told the mean loss of each epoch."""
    settle(recipe.seed)
    tokenizer = tokenizer_of(recipe, statements)
    model = model_of(recipe, tokenizer).train()
    items = examples.encode(tokenizer, statements, recipe.family)
    rng = random.Random(recipe.seed)  # noqa: S311 - no secret is made
    optimizer, loss_at = optimizer_of(recipe, model), loss_of(recipe, model, tokenizer)
    n_steps = recipe.epochs * -(-len(items) // recipe.batch)
    step, begun = 0, time.perf_counter()
    for epoch in range(recipe.epochs):
        losses = []
        for batch in batches(items, recipe.batch, rng):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * rate_at(step, n_steps)
            loss = loss_at(batch, rng)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item())
            step += 1
            if step == max_steps:
                return model.eval(), tokenizer
        say({"epoch": epoch + 1, "loss": sum(losses) / len(losses), "seconds": time.perf_counter() - begun})
    return model.eval(), tokenizer
