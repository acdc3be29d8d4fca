"""Run models one row per sentence or candidate: the plain way, right for every architecture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from transformers.modeling_outputs import BaseModelOutput

from pytest_kick.probes.forward import ForwardBase
from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from pytest_kick.probes.forward import Block


class MaskForward(ForwardBase):
    """Fill one mask per sentence."""

    __slots__ = ()

    def start(self, facts: Ints) -> torch.Tensor:
        """Run the sentences; see `Forward`."""
        rows, lengths = self._prompts(facts)
        scored = np.arange(len(facts)) * rows.shape[1] + self.prepared.marks[facts]
        here = np.arange(rows.shape[1])[None] < lengths[:, None]
        logits, _ = self.head.run(self._tensor(scored), input_ids=self._tensor(rows), attention_mask=self._tensor(here.astype(np.int64)))
        self.work.add(int(lengths.sum()), rows.size, len(facts))
        return logits

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Yield nothing: an answer is one token."""
        del fact, node
        yield from ()


class RowForward(ForwardBase):
    """Run prompt and candidate together, one row per candidate, padded at the end, which no causal model sees."""

    __slots__ = ()

    def start(self, facts: Ints) -> torch.Tensor:
        """Run the prompts; see `Forward`."""
        self._facts = facts
        rows, lengths = self._prompts(facts)
        return self._call(rows, lengths, np.arange(len(facts)) * rows.shape[1] + lengths - 1)

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
    """Encode each prompt once; run the decoder row by row over the encoder's states."""

    __slots__ = ("_here", "_states")

    def start(self, facts: Ints) -> torch.Tensor:
        """Run the encoder and the decoder's prefix; see `Forward`."""
        self._facts = facts
        rows, lengths = self._prompts(facts)
        self._here = self._tensor((np.arange(rows.shape[1])[None] < lengths[:, None]).astype(np.int64))
        encoder = self.model.module.get_encoder()
        self._states = encoder(input_ids=self._tensor(rows), attention_mask=self._here).last_hidden_state
        self.work.add(int(lengths.sum()), rows.size, 0)
        prefix = np.tile(np.asarray(self.prepared.prefix, np.int64), (len(facts), 1))
        scored = np.arange(1, len(facts) + 1) * prefix.shape[1] - 1
        return self._call(np.arange(len(facts)), prefix, prefix.size, scored)

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Run rows through the decoder; see `Forward`."""
        places, paths, scored = self._rows(fact, node)
        counts = (paths < len(self.prepared.trie)).sum(1)
        prefix = self.prepared.prefix
        for block in self._blocks(len(prefix) + counts, self._area()):
            ids = pad_rows([(*prefix, *self.prepared.trie.tokens[paths[row, : counts[row]]]) for row in block], self._pad())
            row, step = np.nonzero(scored[block])
            used = len(prefix) * len(block) + int(counts[block].sum())
            logits = self._call(places[block], ids, used, row * ids.shape[1] + len(prefix) + step)
            yield places[block][row], paths[block][row, step], logits

    def _call(self, places: Ints, ids: Ints, used: int, scored: Ints) -> torch.Tensor:
        rows = self._tensor(places)
        logits, _ = self.head.run(
            self._tensor(scored),
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states[rows]),
            attention_mask=self._here[rows],
            decoder_input_ids=self._tensor(ids),
            use_cache=False,
        )
        self.work.add(used, ids.size, len(scored))
        return logits
