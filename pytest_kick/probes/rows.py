"""Run models one row per sentence or candidate: the plain way, right for every architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from pytest_kick.probes.forward import ForwardBase
from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from pytest_kick.probes.forward import Block, Start


SHORT = 64  # tokens of a prompt that takes no room from candidates


class MaskForward(ForwardBase):
    """Fill one mask per sentence."""

    __slots__ = ()

    def start(self, facts: Ints) -> Iterator[Start]:
        """Run the sentences; see `Forward`."""
        rows, lengths = self._prompts(facts)
        scored = np.arange(len(facts)) * rows.shape[1] + self.prepared.marks[facts]
        here = np.arange(rows.shape[1])[None] < lengths[:, None]
        logits, _ = self.head.run(self._tensor(scored), input_ids=self._tensor(rows), attention_mask=self._tensor(here.astype(np.int64)))
        self.work.add(int(lengths.sum()), rows.size, len(facts))
        yield np.arange(len(facts)), logits

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Yield nothing: an answer is one token."""
        del fact, node
        yield from ()


class RowForward(ForwardBase):
    """Run prompt and candidate together, one row per candidate, padded at the end, which no causal model sees."""

    __slots__ = ()

    def start(self, facts: Ints) -> Iterator[Start]:
        """Run the prompts; see `Forward`."""
        self._facts = facts
        rows, lengths = self._prompts(facts)
        yield np.arange(len(facts)), self._call(rows, lengths, np.arange(len(facts)) * rows.shape[1] + lengths - 1)

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Run rows; see `Forward`."""
        places, paths, scored = self._rows(fact, node)
        counts = (paths < len(self.prepared.trie)).sum(1)
        before = np.asarray([len(self.prepared.prompts[self._facts[place]]) for place in places], np.int64)
        for block in self._blocks(before + counts, self._area()):
            ids = pad_rows([self._row(self._facts[places[row]], paths[row, : counts[row]]) for row in block], self._pad())
            row, step = np.nonzero(scored[block])
            logits = self._call(ids, before[block] + counts[block], row * ids.shape[1] + before[block][row] + step)
            yield places[block][row], paths[block][row, step], logits

    def _row(self, fact: int, path: Ints) -> tuple[int, ...]:
        return (*self.prepared.prompts[fact], *self.prepared.trie.tokens[path])

    def _call(self, ids: Ints, lengths: Ints, scored: Ints) -> torch.Tensor:
        here = np.arange(ids.shape[1])[None] < lengths[:, None]
        logits, _ = self.head.run(
            self._tensor(scored),
            input_ids=self._tensor(ids),
            attention_mask=self._tensor(here.astype(np.int64)),
            use_cache=False,
        )
        self.work.add(int(lengths.sum()), ids.size, len(scored))
        return logits


class SpanForward(ForwardBase):
    """Encode each prompt once, and run the decoder's prefix once; candidates are rows on copies of that cache."""

    __slots__ = ("_cache", "_here")

    def start(self, facts: Ints) -> Iterator[Start]:
        """Run the encoder and the decoder's prefix; see `Forward`."""
        self._facts = facts
        rows, lengths = self._prompts(facts)
        self._here = self._tensor((np.arange(rows.shape[1])[None] < lengths[:, None]).astype(np.int64))
        prefix = np.tile(np.asarray(self.prepared.prefix, np.int64), (len(facts), 1))
        logits, output = self.head.run(
            self._tensor(np.arange(1, len(facts) + 1) * prefix.shape[1] - 1),
            input_ids=self._tensor(rows),
            attention_mask=self._here,
            decoder_input_ids=self._tensor(prefix),
            use_cache=True,
        )
        self._cache = output.past_key_values
        self.work.add(int(lengths.sum()) + prefix.size, rows.size + prefix.size, len(facts))
        yield np.arange(len(facts)), logits

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Run rows through the decoder; see `Forward`."""
        places, paths, scored = self._rows(fact, node)
        counts = (paths < len(self.prepared.trie)).sum(1)
        # Every row has a copy of its prompt's states: long prompts leave room for fewer rows.
        area = max(1, self._area() * SHORT // max(SHORT, self._here.shape[1]))
        for block in self._blocks(counts, area):
            ids = pad_rows([tuple(self.prepared.trie.tokens[paths[row, : counts[row]]]) for row in block], self._pad())
            row, step = np.nonzero(scored[block])
            rows = self._tensor(places[block])
            logits, _ = self.head.run(
                self._tensor(row * ids.shape[1] + step),
                encoder_outputs=BaseModelOutput(last_hidden_state=self._here[rows, :, None]),  # its length is read, never its values
                attention_mask=self._here[rows],
                decoder_input_ids=self._tensor(ids),
                past_key_values=_selected(self._cache, rows),
                use_cache=True,
            )
            self.work.add(int(counts[block].sum()), ids.size, len(row))
            yield places[block][row], paths[block][row, step], logits


def _selected(cache: EncoderDecoderCache, rows: torch.Tensor) -> EncoderDecoderCache:
    """Return a copy of a cache with one row per entry of `rows`."""
    halves = []
    for half in (cache.self_attention_cache, cache.cross_attention_cache):
        copied = DynamicCache()
        layers: list[Any] = half.layers
        for number, layer in enumerate(layers):
            copied.update(layer.keys[rows], layer.values[rows], number)
        halves.append(copied)
    return EncoderDecoderCache(*halves)
