"""A plain score of a tiny model on the facts, and what exact L1 pruning leaves of it.

Independent of the package's probe on purpose: it is the tool's own check that a model is fit to ship.
"""

# ruff: noqa: ANN401 - the three families share no type that knows their parts

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tools.tiny import corpus, examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tools.tiny.corpus import Statement
    from tools.tiny.recipes import Recipe

ROWS = 512
CELLS = (
    *(("overall", level) for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)),
    ("attention", 0.5),
    ("attention", 0.7),
    ("attention", 0.9),
    ("ffn", 0.5),
    ("ffn", 0.7),
    ("ffn", 0.9),
)
HEADS = ("lm_head", "cls.predictions.decoder")
ATTENTION = ("attention.", "Attention.", "self_attn.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Hold how many facts a model knows.

    Attributes:
        n: facts scored.
        closed: share whose answer beats every other one of its relation, strictly.
        free: share whose answer is the model's own first choice over the whole vocabulary, token by token.
    """

    n: int
    closed: float
    free: float


def sample(recipe: Recipe, statements: tuple[Statement, ...], stride: int) -> tuple[Statement, ...]:
    """Return every `stride`-th fact in its scoring paraphrase; encoders are asked for one-word answers only."""
    asked = [s for s in corpus.scored(statements) if recipe.family != "encoder" or s.is_word]
    return tuple(asked[::stride])


def score(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, statements: tuple[Statement, ...], stride: int
) -> Score:
    """Score a model on every `stride`-th fact, all answers of its relation against each other."""
    spaces = corpus.answer_spaces(statements)
    closed, free = [], []
    for relation, answers in spaces.items():
        asked = [s for s in sample(recipe, statements, stride) if s.relation == relation]
        if not asked:
            continue
        options = [a for a in answers if recipe.family != "encoder" or a.isalnum()]
        gold = torch.tensor([options.index(s.answer) for s in asked])
        ranking = {"encoder": rank_masked, "encoder-decoder": rank_told, "decoder": rank_continued}[recipe.family]
        with torch.no_grad():
            scores, first = ranking(model, tokenizer, asked, options)
        own = scores.gather(1, gold[:, None])
        others = scores.scatter(1, gold[:, None], float("-inf"))
        closed += (own[:, 0] > others.amax(1)).tolist()
        free += first.gather(1, gold[:, None])[:, 0].tolist()
    return Score(n=len(closed), closed=sum(closed) / len(closed), free=sum(free) / len(free))


def rank_masked(model: Any, tokenizer: Any, asked: Sequence[Statement], options: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities (facts, options) at the one mask, and whether an option is the first choice."""
    rows = tokenizer([s.before + "[MASK]" + s.after for s in asked], padding=True, return_tensors="pt")
    logits = model(**rows).logits[rows["input_ids"] == tokenizer.mask_token_id].log_softmax(-1)
    ids = tokenizer.convert_tokens_to_ids(list(options))
    return logits[:, ids], logits[:, ids] == logits.amax(-1, keepdim=True)


def rank_told(model: Any, tokenizer: Any, asked: Sequence[Statement], options: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return summed log-probabilities (facts, options) of answer and closing sentinel, and whether all are first choices."""
    rows = tokenizer([f"{s.before}<extra_id_0>{s.after}" for s in asked], padding=True, return_tensors="pt")
    targets = tokenizer([f"<extra_id_0> {option} <extra_id_1>" for option in options])["input_ids"]
    states = model.encoder(**rows).last_hidden_state
    labels = examples.pad(targets, tokenizer.eos_token_id)
    inputs = torch.cat([torch.full((len(labels), 1), tokenizer.pad_token_id), labels[:, :-1]], 1)
    counted = torch.zeros(labels.shape, dtype=torch.bool)
    for number, target in enumerate(targets):
        counted[number, 1 : len(target) - 1] = True
    scores, first = [], []
    for number in range(len(asked)):
        state = states[number : number + 1].expand(len(options), -1, -1)
        attention = rows["attention_mask"][number : number + 1].expand(len(options), -1)
        hidden = model.decoder(
            input_ids=inputs, encoder_hidden_states=state, encoder_attention_mask=attention, use_cache=False
        ).last_hidden_state
        total, best = collect(model.lm_head, hidden, labels, counted)
        scores.append(total)
        first.append(best)
    return torch.stack(scores), torch.stack(first)


def rank_continued(model: Any, tokenizer: Any, asked: Sequence[Statement], options: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return summed log-probabilities (facts, options) of answer and closing text, and whether all are first choices."""
    texts = [[s.before + option + s.after for option in options] for s in asked]
    encoded = tokenizer([text for row in texts for text in row], return_offsets_mapping=True)
    lengths = [len(s.before.rstrip()) for s in asked for _ in options]
    scores, first = [], []
    for start in range(0, len(lengths), ROWS):
        ids = examples.pad(encoded["input_ids"][start : start + ROWS], tokenizer.pad_token_id)
        offsets = encoded["offset_mapping"][start : start + ROWS]
        counted = torch.zeros(ids.shape, dtype=torch.bool)
        for number, row in enumerate(offsets):
            for place, (_, end) in enumerate(row):
                counted[number, place] = end > lengths[start + number]
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        total, best = collect(model.lm_head, hidden, ids[:, 1:], counted[:, 1:])
        scores.append(total)
        first.append(best)
    shape = (len(asked), len(options))
    return torch.cat(scores).reshape(shape), torch.cat(first).reshape(shape)


def collect(head: nn.Module, hidden: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return per row the summed log-probability of the counted labels, and whether each of them is the argmax."""
    logits, wanted = head(hidden[counted]), labels[counted]
    own = torch.zeros(labels.shape)
    own[counted] = logits.log_softmax(-1).gather(1, wanted[:, None])[:, 0]
    best = torch.ones(labels.shape, dtype=torch.bool)
    best[counted] = logits.argmax(-1) == wanted
    return own.sum(1), best.all(1)


def scope_of(model: PreTrainedModel, scope: str) -> list[torch.Tensor]:
    """Return the weights of a scope: every Linear but the vocabulary layer, of the attention, or of the rest of the blocks."""
    chosen = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or name in HEADS:
            continue
        inside = any(part in name for part in ATTENTION)
        block = ".layer" in name or ".block." in name
        if scope == "overall" or (block and inside == (scope == "attention")):
            chosen.append(module.weight)
    return chosen


def prune_(weights: Sequence[torch.Tensor], level: float) -> None:
    """Zero the smallest magnitudes over all weights together, by exact rank."""
    flat = torch.cat([w.detach().abs().flatten() for w in weights])
    flat[flat.argsort(stable=True)[: int(level * len(flat))]] = -1.0
    with torch.no_grad():
        for weight, rank in zip(weights, torch.split(flat, [w.numel() for w in weights]), strict=True):
            weight[rank.reshape(weight.shape) < 0] = 0.0


def check(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, statements: tuple[Statement, ...], stride: int
) -> list[dict[str, Any]]:
    """Return the scores of the dense model and of each pruned copy, with retention against the dense one."""
    dense = score(recipe, model, tokenizer, statements, stride)
    rows = [{"scope": "dense", "sparsity": 0.0, "n": dense.n, "closed": dense.closed, "free": dense.free, "retention": 1.0}]
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    for scope, level in CELLS:
        prune_(scope_of(model, scope), level)
        now = score(recipe, model, tokenizer, statements, stride)
        rows.append(
            {
                "scope": scope,
                "sparsity": level,
                "n": now.n,
                "closed": now.closed,
                "free": now.free,
                "retention": now.closed / dense.closed,
            }
        )
        model.load_state_dict(kept)
    return rows
