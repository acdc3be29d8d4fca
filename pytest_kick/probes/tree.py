"""Run a decoder's candidates side by side on their prompt's key-value cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional
from transformers import DynamicCache

from pytest_kick.probes.forward import ROW_TOKENS, ForwardBase
from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.forward import Block, Start
    from pytest_kick.probes.prepare import Prepared

# Decoders whose attention takes a 4-D mask and whose positions follow `position_ids`, each tested against plain rows.
TREE_TYPES = frozenset({
    "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "opt", "phi", "phi3", "qwen2", "qwen3",
})  # fmt: skip


class TreeForward(ForwardBase):
    """Run each prompt once, then its candidates side by side on its key-value cache under a tree mask."""

    __slots__ = ("_cache", "_lengths", "_width")

    def start(self, facts: Ints) -> Iterator[Start]:
        """Run the prompts, in blocks of nearly one length, padded in front; see `Forward`."""
        self._facts = facts
        rows, self._lengths = self._prompts(facts)
        self._width = rows.shape[1]
        blocks, caches = [], []
        for block in self._blocks(self._lengths, ROW_TOKENS):
            logits, cache = self._prompt_block(rows[block], self._lengths[block])
            blocks.append(block)
            caches.append(cache)
            yield block, logits
        back = self._tensor(np.argsort(np.concatenate(blocks)))
        layers = zip(*caches, strict=True)
        self._cache = [(torch.cat(keys)[back], torch.cat(values)[back]) for keys, values in (zip(*layer, strict=True) for layer in layers)]

    def _prompt_block(self, rows: Ints, lengths: Ints) -> tuple[torch.Tensor, list[tuple[torch.Tensor, ...]]]:
        """Return the logits after prompts and each layer's keys and values, filled in front to the width of the batch."""
        width = int(lengths.max())
        places = np.arange(width)[None] - (width - lengths)[:, None]  # negative at padding
        causal = np.tril(np.ones((width, width), np.bool_))
        cache = DynamicCache()  # full layers throughout: our own mask holds whatever the window of a layer would
        logits, _ = self.head.run(
            self._tensor(np.arange(1, len(rows) + 1) * width - 1),
            input_ids=self._tensor(np.take_along_axis(rows, np.maximum(places, 0), 1)),
            attention_mask=self._mask(causal[None] & (places >= 0)[:, None, :]),
            position_ids=self._tensor(np.maximum(places, 0)),
            past_key_values=cache,
            use_cache=True,
        )
        self.work.add(int(lengths.sum()), places.size, len(rows))
        front = (0, 0, self._width - width, 0)
        layers: Any = cache.layers
        return logits, [(functional.pad(layer.keys, front), functional.pad(layer.values, front)) for layer in layers]

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Run trees; see `Forward`."""
        trie = self.prepared.trie
        run = np.zeros((len(self._facts), len(trie) + 1), np.bool_)
        run[fact[:, None], trie.ancestors[node]] = True
        run[:, -1] = False
        wanted = np.zeros_like(run)
        wanted[fact, node] = True
        counts = run.sum(1)
        places = np.flatnonzero(counts)
        for block in self._blocks(counts[places], self._area()):
            rows = places[block]
            nodes = pad_rows([np.flatnonzero(run[row]).tolist() for row in rows], len(trie))
            yield self._call(rows, nodes, wanted[rows[:, None], nodes])

    def _call(self, rows: Ints, nodes: Ints, wanted: NDArray[np.bool_]) -> Block:
        trie = self.prepared.trie
        real = nodes < len(trie)
        safe = np.where(real, nodes, 0)
        above = np.where(real[:, :, None], trie.ancestors[safe], -1)  # a filled-up place is nobody's ancestor
        tree = (above[:, :, :, None] == nodes[:, None, None, :]).any(2) & real[:, None, :]
        prompt = np.arange(self._width)[None] >= (self._width - self._lengths[rows])[:, None]
        seen = np.concatenate([np.broadcast_to(prompt[:, None], (*nodes.shape, self._width)), tree], 2)
        cache, index = DynamicCache(), self._tensor(rows)
        for layer, (keys, values) in enumerate(self._cache):
            cache.update(keys[index], values[index], layer)
        scored = np.flatnonzero(wanted)
        logits, _ = self.head.run(
            self._tensor(scored),
            input_ids=self._tensor(np.where(real, trie.tokens[safe], self._pad())),
            attention_mask=self._mask(seen),
            position_ids=self._tensor(self._lengths[rows][:, None] + np.where(real, trie.depths[safe] - 1, 0)),
            past_key_values=cache,
            use_cache=True,
        )
        self.work.add(int(real.sum()), nodes.size, len(scored))
        return np.repeat(rows, wanted.sum(1)), nodes[wanted], logits

    def _mask(self, seen: NDArray[np.bool_]) -> torch.Tensor:
        # Additive and finite: a row of padding that sees nothing stays finite, and eager attention takes it as well.
        hidden = torch.from_numpy(~np.ascontiguousarray(seen)).to(self.model.device)[:, None]
        zeros = torch.zeros(hidden.shape, dtype=self.model.dtype, device=self.model.device)
        return zeros.masked_fill_(hidden, torch.finfo(self.model.dtype).min)


def takes_trees(model: LoadedModel, prepared: Prepared) -> bool:
    """Return whether a decoder computes the same side by side as row by row: its kind, its attention, and a window wide enough."""
    config = model.module.config.get_text_config()
    longest = max(map(len, prepared.prompts)) + prepared.trie.paths.shape[1]
    window = getattr(config, "sliding_window", None) or longest
    attention = getattr(config, "_attn_implementation", "")
    return config.model_type in TREE_TYPES and attention in {"sdpa", "eager"} and longest <= window
