"""Greedy generation in batches, through transformers' own `generate`: what models answer where nothing offers them options.

Neither a model's own sampling settings nor the size of a batch decide a text. The vocabulary layer is computed in float32 at the
one position that is read, prompts are padded on the left for decoders, and only the continuation is returned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from pytest_kick.calibration.prepare import max_length
from pytest_kick.errors import ProbeError
from pytest_kick.probes.greedy import LastHead, Stop, Watch, greedy_config, only_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import GenerationConfig

    from pytest_kick.models.loaded import LoadedModel

    Ids = tuple[int, ...]
    Prompt = str | Sequence[Mapping[str, str]]

BATCH_SIZE = 32
BATCH_TOKENS = 2**15  # positions of a batch, new ones included: what its key-value cache holds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generated:
    """Hold what a model wrote after n prompts.

    Attributes:
        texts: the continuations, each cut before the first stop string; "" for nothing.
        lengths: `(n,)` int64 tokens of each, what the stop string needed included.
        margins: `(n,)` float32, at least 0, in nats: by how much the closest of its tokens, the end included, beat the runner-up.
        truncated: `(n,)` whether a prompt was longer than the context and lost its beginning.
        max_new_tokens: the most tokens that were allowed: those asked for, or half of a context that is shorter than twice as many.
        work: `tokens` and `padding` computed, `passes` of the model, `truncated` prompts.
    """

    texts: list[str]
    lengths: NDArray[np.int64]
    margins: NDArray[np.float32]
    truncated: NDArray[np.bool_]
    max_new_tokens: int
    work: dict[str, float]


def generate(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 32,
    stop: Sequence[str] = ("\n",),
    batch_size: int | None = None,
    chat: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """Return the greedy continuation of each prompt; see `generated`, which also counts."""
    found = generated(model, prompts, max_new_tokens=max_new_tokens, stop=stop, batch_size=batch_size, chat=chat, progress=progress)
    return found.texts


def generated(
    model: LoadedModel,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 32,
    stop: Sequence[str] = ("\n",),
    batch_size: int | None = None,
    chat: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Generated:
    """Continue prompts, taking the most probable token each time.

    Args:
        model: a decoder or an encoder-decoder, cast to the dtype and device of the forward pass.
        prompts: texts; with `chat` each may be a conversation, a list of `{"role": ..., "content": ...}`.
        max_new_tokens: where a text ends that nothing stops.
        stop: strings that end a text and are no part of it.
        batch_size: prompts per pass, None for 32 or fewer long ones.
        chat: put each prompt into the tokenizer's chat template, as the user's turn.
        progress: called with the numbers of prompts done and asked.

    Raises:
        ProbeError: a logit is NaN or infinite, the model does not generate, a prompt has no token, or there is no chat template.
    """
    if model.family not in {"decoder", "encoder-decoder"}:
        msg = f"generation: model {model.name!r}: got an {model.family}, expected a model that generates. Ask another probe."
        raise ProbeError(msg)
    room, allowed = room_for(model, max_new_tokens)
    whole = [encoded_prompt(model, prompt, chat=chat) for prompt in prompts]
    run = _Run(model, [ids[-room:] for ids in whole], allowed, tuple(stop))
    for rows in _batches([len(ids) for ids in run.prompts], allowed, batch_size):
        run.batch(rows)
        if progress:
            progress(sum(text is not None for text in run.texts), len(run.texts))
    truncated = np.asarray([len(ids) > room for ids in whole], np.bool_)
    return Generated(
        texts=[text or "" for text in run.texts],
        lengths=run.lengths,
        margins=run.margins,
        truncated=truncated,
        max_new_tokens=allowed,
        work=run.work | {"truncated": float(truncated.sum())},
    )


def room_for(model: LoadedModel, max_new_tokens: int) -> tuple[int, int]:
    """Return how many tokens a prompt may have, and how many new ones there may be: at most half of a decoder's context."""
    context = max_length(model)
    if model.family == "encoder-decoder":
        return context, max_new_tokens
    allowed = max(1, min(max_new_tokens, context // 2))
    return context - allowed, allowed


def encoded_prompt(model: LoadedModel, prompt: Prompt, *, chat: bool) -> Ids:
    """Return the ids of a prompt, in the chat template if asked for.

    Raises:
        ProbeError: it has no token, or there is no chat template.
    """
    tokenizer: Any = model.tokenizer
    if chat:
        if not getattr(tokenizer, "chat_template", None):
            msg = f"generation: model {model.name!r}: got a tokenizer without a chat template, expected one. Ask it with plain prompts."
            raise ProbeError(msg)
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        ids = tokenizer.encode(text, add_special_tokens=model.family == "encoder-decoder", verbose=False)  # a template writes its own BOS
    elif model.family == "decoder":
        ids = model.prompt_ids(str(prompt))
    else:
        ids = tokenizer.encode(str(prompt), verbose=False)
    if not ids:
        msg = f"generation: model {model.name!r}: prompt: got {prompt!r:.60}, expected one with at least one token. Correct the data."
        raise ProbeError(msg)
    return tuple(ids)


def _batches(lengths: Sequence[int], new: int, batch_size: int | None) -> Iterator[NDArray[np.int64]]:
    """Yield places of prompts of nearly one length."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    while begin < len(order):
        size = batch_size or BATCH_SIZE
        while not batch_size and size > 1 and size * (lengths[order[min(begin + size, len(order)) - 1]] + new) > BATCH_TOKENS:
            size //= 2
        yield order[begin : begin + size]
        begin += size


@dataclass(slots=True)
class _Run:
    """Generate batch by batch, and keep the texts by place."""

    model: LoadedModel
    prompts: list[Ids]
    allowed: int
    stop: tuple[str, ...]
    texts: list[str | None] = field(init=False)
    lengths: NDArray[np.int64] = field(init=False)
    margins: NDArray[np.float32] = field(init=False)
    work: dict[str, float] = field(default_factory=lambda: {"tokens": 0.0, "padding": 0.0, "passes": 0.0})
    _config: GenerationConfig = field(init=False)
    _head: LastHead = field(init=False)

    def __post_init__(self) -> None:
        self.texts = [None] * len(self.prompts)
        self.lengths = np.zeros(len(self.prompts), np.int64)
        self.margins = np.zeros(len(self.prompts), np.float32)
        self._config = greedy_config(self.model, self.allowed)
        self._head = LastHead(self.model)

    @torch.inference_mode()
    def batch(self, rows: NDArray[np.int64]) -> None:
        """Generate for the prompts at places `(B,)`.

        Raises:
            ProbeError: a logit is NaN or infinite.
        """
        prompts = [self.prompts[row] for row in rows]
        left = self.model.family == "decoder"
        ids, mask = _padded(prompts, int(self._config.pad_token_id or 0), left=left)
        start = ids.shape[1] if left else 1
        watch, ends = Watch(), Stop(self.model.tokenizer, self.stop, start, len(rows))
        module: Any = self.model.module
        with self._head.installed(), only_settings(module, self._config):
            output = module.generate(
                input_ids=ids.to(self.model.device),
                attention_mask=mask.to(self.model.device),
                generation_config=self._config,
                logits_processor=LogitsProcessorList([watch]),
                stopping_criteria=StoppingCriteriaList([ends] if self.stop else []),
            )
        gaps = watch.gaps(self.model.name)
        self._keep(rows, output[:, start:].cpu().numpy(), ends.lengths, gaps)
        self._count(prompts, ids.numel(), rows, output.shape[1] - start)

    def _keep(self, rows: NDArray[np.int64], new: NDArray[np.int64], stopped: NDArray[np.int64], gaps: NDArray[np.float32]) -> None:
        """Keep new tokens `(B, T)`, of which `stopped` `(B,)` end in a stop string (0: none came), and their `gaps` `(B, T)`."""
        ended = np.isin(new, np.asarray(self._config.eos_token_id or [], np.int64))
        before = np.where(ended.any(1), ended.argmax(1), new.shape[1])  # tokens before the end of the text
        self.lengths[rows] = np.minimum(before, np.where(stopped, stopped, new.shape[1]))
        chosen = np.arange(new.shape[1]) < np.minimum(before + 1, np.where(stopped, stopped, new.shape[1]))[:, None]
        self.margins[rows] = np.where(chosen, gaps, np.inf).min(1)
        tokenizer: Any = self.model.tokenizer
        kept = [row[:length] for row, length in zip(new, before, strict=True)]
        texts = tokenizer.batch_decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for row, text in zip(rows, texts, strict=True):
            self.texts[row] = text[: min([place for mark in self.stop if (place := text.find(mark)) >= 0], default=len(text))]

    def _count(self, prompts: Sequence[Ids], area: int, rows: NDArray[np.int64], steps: int) -> None:
        asked, written = sum(map(len, prompts)), float(self.lengths[rows].sum())
        self.work["tokens"] += asked + written
        self.work["padding"] += area - asked + steps * len(rows) - written
        self.work["passes"] += steps


def _padded(prompts: Sequence[Ids], pad: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask `(B, L)` int64."""
    width = max(map(len, prompts))
    ids, mask = torch.full((len(prompts), width), pad), torch.zeros(len(prompts), width, dtype=torch.int64)
    for place, prompt in enumerate(prompts):
        span = slice(width - len(prompt), width) if left else slice(len(prompt))
        ids[place, span] = torch.tensor(prompt)
        mask[place, span] = 1
    return ids, mask
