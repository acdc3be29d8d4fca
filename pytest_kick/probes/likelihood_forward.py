"""Run a model over token sequences; logits come back in float32 where they are read.

`TreeRows` runs the trunks and trees of `likelihood_plan`, or one row per sequence for decoders that take no such mask; `SpanRows` encodes
each context once for all its targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutput

from pytest_kick.probes.forward import BLOCK_LOGITS, CALL_TOKENS
from pytest_kick.probes.likelihood_plan import Laid, Plan, Run, batches, numbered, padded
from pytest_kick.probes.tree import TREE_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.forward import Work
    from pytest_kick.probes.head import ScoredHead
    from pytest_kick.probes.tokens import Ids
    from pytest_kick.probes.trie import Ints

BATCH_TOKENS = 8192  # of a batch, those of the trunk's cache counted for each row


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Hold logits of a batch and where each of its targets reads them.

    Attributes:
        logits: `(M, vocabulary)` float32, good until the next block.
        asked: the targets that are complete with this block.
        rows: for each of these, the rows of `logits` before its tokens, `(tokens,)`.
    """

    logits: torch.Tensor
    asked: tuple[int, ...]
    rows: tuple[Ints, ...]


class Rows(Protocol):
    """Run one model; `work` counts what it did."""

    work: Work

    def blocks(self, pairs: Sequence[tuple[Ids, Ids]], batch_size: int) -> Iterator[Block]:
        """Yield blocks that together hold each of the pairs of context and target once; at most `batch_size` rows are run at a time."""


@dataclass(slots=True)
class _Base:
    model: LoadedModel
    head: ScoredHead
    work: Work

    def _tensor(self, values: Any) -> torch.Tensor:  # noqa: ANN401 - an array of ints
        return torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(self.model.device)

    def _limits(self, batch_size: int) -> tuple[int, int, int]:
        vocabulary = int(self.model.module.config.get_text_config().vocab_size)
        return batch_size, BATCH_TOKENS, max(1, BLOCK_LOGITS // vocabulary)

    def _block(self, places: list[Ints], asked: list[int], area: tuple[int, int], inputs: dict[str, Any]) -> Block:
        """Run a batch: `places` are flat in its `(rows, length)`, `area` its positions and those of them that are no padding."""
        scored, inverse = np.unique(np.concatenate(places), return_inverse=True)
        ends = np.cumsum([len(each) for each in places])[:-1]
        logits, _ = self.head.run(self._tensor(scored), **inputs)
        self.work.add(area[1], area[0], len(scored))
        return Block(logits, tuple(asked), tuple(np.split(inverse, ends)))


class TreeRows(_Base):
    """Run a decoder; `trees` says whether it takes several sequences in a row."""

    __slots__ = ("trees",)

    def __init__(self, model: LoadedModel, head: ScoredHead, work: Work, *, trees: bool) -> None:
        """Take a model, what reads its logits, what counts, and whether the model takes trees."""
        super().__init__(model, head, work)
        self.trees = trees

    def blocks(self, pairs: Sequence[tuple[Ids, Ids]], batch_size: int) -> Iterator[Block]:
        """Run trunks and trees; see `Rows`."""
        sequences, numbers = numbered((*context, *target[:-1]) for context, target in pairs)
        askers: list[list[int]] = [[] for _ in sequences]
        for asked, number in enumerate(numbers):
            askers[number].append(asked)
        first = [min(len(pairs[asked][0]) - 1 for asked in each) for each in askers]
        rate = int(self.model.module.config.get_text_config().hidden_size)
        plan = Plan(sequences, first, pairs_per_token=rate, trees=self.trees)
        askers = [askers[number] for number in plan.numbers]
        first = [len(context) - 1 for context, _ in pairs]
        for run in plan.runs():
            yield from self._run(plan, run, askers, first, batch_size)

    def _run(self, plan: Plan, run: Run, askers: list[list[int]], first: list[int], batch_size: int) -> Iterator[Block]:
        layers = self._trunk(run.trunk) if run.trunk else []
        ahead = len(run.trunk)
        scored = [sum(len(plan.sequences[s]) - first[a] for s in row.sequences for a in askers[s]) for row in run.rows]
        for batch in batches([row.size for row in run.rows], scored, self._limits(batch_size), ahead, CALL_TOKENS):
            rows = [run.rows[number] for number in batch]
            laid = plan.lay(rows, ahead)
            places: list[Ints] = []
            asked: list[int] = []
            for sequence, path in zip((s for row in rows for s in row.sequences), laid.paths, strict=True):
                asked.extend(askers[sequence])
                places.extend(path[first[each] - ahead :] for each in askers[sequence])
            area = (laid.tokens.size, int(laid.sizes.sum()))
            yield self._block(places, asked, area, self._inputs(laid, layers, ahead))

    def _trunk(self, ids: Ids) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each layer's keys and values after a trunk."""
        cache = DynamicCache()  # full layers throughout: our own mask holds whatever the window of a layer would
        self.head.run(self._tensor([len(ids) - 1]), input_ids=self._tensor([ids]), past_key_values=cache, use_cache=True)
        self.work.add(len(ids), len(ids), 0)
        layers: Any = cache.layers
        return [(layer.keys, layer.values) for layer in layers]

    def _inputs(self, laid: Laid, layers: list[tuple[torch.Tensor, torch.Tensor]], ahead: int) -> dict[str, Any]:
        ids = {"input_ids": self._tensor(laid.tokens)}
        width = laid.tokens.shape[1]
        here = np.arange(width)[None] < laid.sizes[:, None]
        if not self.trees:
            return ids | {"attention_mask": self._tensor(here), "use_cache": False}
        if laid.seen is None and not ahead:
            return ids | {"use_cache": False}  # no causal model sees the filling at the end
        seen = np.tril(np.ones((width, width), np.bool_))[None] & here[:, None] if laid.seen is None else laid.seen
        whole = np.concatenate([np.ones((*laid.tokens.shape, ahead), np.bool_), seen], 2)
        cache = DynamicCache()
        for number, (keys, values) in enumerate(layers):
            cache.update(keys.expand(len(here), -1, -1, -1), values.expand(len(here), -1, -1, -1), number)
        return ids | {
            "attention_mask": self._mask(whole),
            "position_ids": self._tensor(laid.places),
            "past_key_values": cache if ahead else None,
            "use_cache": bool(ahead),
        }

    def _mask(self, seen: np.typing.NDArray[np.bool_]) -> torch.Tensor:
        # Additive and finite: a row of padding that sees nothing stays finite, and eager attention takes it as well.
        hidden = torch.from_numpy(~seen).to(self.model.device)[:, None]
        zeros = torch.zeros(hidden.shape, dtype=self.model.dtype, device=self.model.device)
        return zeros.masked_fill_(hidden, torch.finfo(self.model.dtype).min)


class SpanRows(_Base):
    """Run an encoder-decoder: contexts once each, their targets as rows of the decoder."""

    __slots__ = ()

    def blocks(self, pairs: Sequence[tuple[Ids, Ids]], batch_size: int) -> Iterator[Block]:
        """Run contexts, then targets; see `Rows`."""
        contexts, numbers = numbered(context for context, _ in pairs)
        askers: list[list[int]] = [[] for _ in contexts]
        for asked, number in enumerate(numbers):
            askers[number].append(asked)
        lengths = [len(context) for context in contexts]
        for batch in batches(lengths, [1] * len(contexts), self._limits(batch_size), 0, CALL_TOKENS):
            ids, here = padded([contexts[number] for number in batch])
            encoder: Any = self.model.module.get_encoder()
            states = encoder(input_ids=self._tensor(ids), attention_mask=self._tensor(here)).last_hidden_state
            self.work.add(int(here.sum()), ids.size, 0)
            whose = [row for row, number in enumerate(batch) for _ in askers[number]]
            yield from self._decode(pairs, [asked for number in batch for asked in askers[number]], whose, (states, here), batch_size)

    def _decode(
        self, pairs: Sequence[tuple[Ids, Ids]], asked: list[int], whose: list[int], encoded: tuple[torch.Tensor, Ints], batch_size: int
    ) -> Iterator[Block]:
        start = int(self.model.module.config.decoder_start_token_id)
        states, here = encoded
        rows, numbers = numbered((row, start, *pairs[each][1][:-1]) for row, each in zip(whose, asked, strict=True))
        askers: list[list[int]] = [[] for _ in rows]
        for each, number in zip(asked, numbers, strict=True):
            askers[number].append(each)
        lengths = [len(row) - 1 for row in rows]
        for batch in batches(lengths, lengths, self._limits(batch_size), states.shape[1], CALL_TOKENS):
            ids, real = padded([rows[number][1:] for number in batch])
            source = self._tensor([rows[number][0] for number in batch])
            inputs = {
                "encoder_outputs": BaseModelOutput(last_hidden_state=states[source]),
                "attention_mask": self._tensor(here)[source],
                "decoder_input_ids": self._tensor(ids),
                "use_cache": False,
            }
            pieces = [
                (each, row * ids.shape[1] + np.arange(lengths[number])) for row, number in enumerate(batch) for each in askers[number]
            ]
            yield self._block([place for _, place in pieces], [each for each, _ in pieces], (ids.size, int(real.sum())), inputs)


def rows_for(model: LoadedModel, head: ScoredHead, longest: int, work: Work) -> Rows:
    """Return how to run a model on sequences of at most `longest` tokens; `work` counts what it does."""
    if model.family == "encoder-decoder":
        return SpanRows(model, head, work)
    config = model.module.config.get_text_config()
    window = getattr(config, "sliding_window", None) or longest
    attention = getattr(config, "_attn_implementation", "")
    return TreeRows(model, head, work, trees=config.model_type in TREE_TYPES and attention in {"sdpa", "eager"} and longest <= window)
