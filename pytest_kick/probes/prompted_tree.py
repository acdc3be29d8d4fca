"""Run a decoder's prompts that begin alike: their common beginning is read once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch.nn import functional
from transformers import DynamicCache

from pytest_kick.probes.tree import TreeForward

if TYPE_CHECKING:
    import torch

    from pytest_kick.probes.trie import Ints

LEAST = 8  # tokens: below, a pass of its own costs more than it saves


class SharedTreeForward(TreeForward):
    """Run the common beginning of a block of prompts once, and the rest of each on its key-value cache."""

    __slots__ = ()

    def _prompt_block(self, rows: Ints, lengths: Ints) -> tuple[torch.Tensor, list[tuple[torch.Tensor, ...]]]:
        """Return what `TreeForward` returns for prompts `(B, L)`, filled behind, of lengths `(B,)`."""
        alike = (rows[:, : lengths.min() - 1] == rows[:1, : lengths.min() - 1]).all(0)
        shared = int(alike.cumprod().sum())  # at least one token of each prompt is left: logits are read after it
        if len(rows) == 1 or shared < LEAST:
            return super()._prompt_block(rows, lengths)
        cache = self._beginning(rows[0, :shared], len(rows))
        rest = lengths - shared
        width = int(rest.max())
        places = np.arange(width)[None] - (width - rest)[:, None]  # negative at padding
        causal = np.tril(np.ones((width, width), np.bool_))
        own = causal[None] & (places >= 0)[:, None, :]
        seen = np.concatenate([np.ones((len(rows), width, shared), np.bool_), own], 2)
        tokens = np.take_along_axis(rows, shared + np.maximum(places, 0), 1)
        logits, _ = self.head.run(
            self._tensor(np.arange(1, len(rows) + 1) * width - 1),
            input_ids=self._tensor(tokens),
            attention_mask=self._mask(seen),
            position_ids=self._tensor(shared + np.maximum(places, 0)),
            past_key_values=cache,
            use_cache=True,
        )
        self.work.add(int(rest.sum()), places.size, len(rows))
        return logits, [self._contiguous(layer, shared, width - rest) for layer in _layers(cache)]

    def _beginning(self, tokens: Ints, n_rows: int) -> DynamicCache:
        """Run one sequence `(c,)` and return its cache, repeated for `n_rows` rows."""
        once, repeated = DynamicCache(), DynamicCache()
        count = len(tokens)
        self.head.run(
            self._tensor(np.asarray([count - 1])),
            input_ids=self._tensor(tokens[None]),
            attention_mask=self._mask(np.tril(np.ones((1, count, count), np.bool_))),
            position_ids=self._tensor(np.arange(count)[None]),
            past_key_values=once,
            use_cache=True,
        )
        self.work.add(count, count, 0)
        for number, layer in enumerate(_layers(once)):
            repeated.update(layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1), number)
        return repeated

    def _contiguous(self, layer: Any, shared: int, padding: Ints) -> tuple[torch.Tensor, ...]:  # noqa: ANN401 - a layer of a cache
        """Return keys and values with the padding of each row, which lies behind the shared beginning, moved in front of it."""
        length = layer.keys.shape[2]
        places = np.broadcast_to(np.arange(length), (len(padding), length))
        moved = np.where(places < shared + padding[:, None], places - padding[:, None], places)
        index = self._tensor(np.maximum(moved, 0))[:, None, :, None]
        front = (0, 0, self._width - length, 0)
        return tuple(functional.pad(part.gather(2, index.expand_as(part)), front) for part in (layer.keys, layer.values))


def _layers(cache: DynamicCache) -> Any:  # noqa: ANN401 - transformers types its layers by their base
    return cache.layers
