"""Run a model over prompts and candidate answers; logits come back where they are scored, in blocks of bounded size.

Three ways with one face. `start` gives the logits that follow each prompt; `expand` those that follow each token of chosen
sequences. `TreeForward` runs the sequences of a fact side by side on the prompt's key-value cache: each token sees the prompt
and the tokens before it in its own sequence, at its own position. `RowForward` runs one row per sequence, prompt included, for
decoders that take no such mask. `SpanForward` shares the encoder's states and runs rows through the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.head import ScoredHead
    from pytest_kick.probes.prepare import Prepared

    Start = tuple[Ints, torch.Tensor]
    Block = tuple[Ints, Ints, torch.Tensor]

CALL_TOKENS = 48  # a pass costs about as much as this many tokens more (weights are repacked): less padding is worth no pass
BLOCK_LOGITS = 2**26  # float32 logits held at a time: 256 MiB
ROW_TOKENS = 2048


@dataclass(slots=True)
class Work:
    """Count what was run.

    Attributes:
        tokens: positions computed that a score needs, padding not counted.
        padding: positions computed besides.
        scored: positions whose logits were computed.
        candidates: answers scored beyond their first token.
        passes: calls of the model.
    """

    tokens: int = 0
    padding: int = 0
    scored: int = 0
    candidates: int = 0
    passes: int = 0

    def add(self, tokens: int, area: int, scored: int) -> None:
        """Count one pass over `area` positions."""
        self.tokens += tokens
        self.padding += area - tokens
        self.scored += scored
        self.passes += 1


class Forward(Protocol):
    """Run one model; `work` counts what it did."""

    work: Work

    def start(self, facts: Ints) -> Iterator[Start]:
        """Yield places `(M,)` in `facts` and the float32 logits at their answers `(M, vocabulary)`; later calls mean facts by place.

        Logits are good until the next step of the iteration, here as below.
        """

    def expand(self, fact: Ints, node: Ints) -> Iterator[Block]:
        """Yield places `(M,)`, nodes `(M,)` and the logits after them `(M, vocabulary)`, for each pair of a place and a node."""


@dataclass(slots=True)
class ForwardBase:
    """What all ways share."""

    model: LoadedModel
    head: ScoredHead
    prepared: Prepared
    work: Work = field(default_factory=Work)
    _facts: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def _tensor(self, values: Ints) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.model.device)

    def _prompts(self, facts: Ints) -> tuple[Ints, Ints]:
        rows = [self.prepared.prompts[fact] for fact in facts]
        return pad_rows(rows, self._pad()), np.asarray([len(row) for row in rows], np.int64)

    def _pad(self) -> int:
        pad = self.model.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)

    def _area(self) -> int:
        return max(1, min(ROW_TOKENS, BLOCK_LOGITS // int(self.model.module.config.get_text_config().vocab_size)))

    def _rows(self, fact: Ints, node: Ints) -> tuple[Ints, Ints, NDArray[np.bool_]]:
        """Turn pairs into rows that run from the prompt on: places `(K,)`, paths `(K, L)`, and which of their nodes to score."""
        trie = self.prepared.trie
        wanted = np.zeros((len(self._facts), len(trie) + 1), np.bool_)
        wanted[fact, node] = True
        inner = np.zeros_like(wanted)  # nodes that a longer row runs through
        above = np.where(trie.ancestors[node] == node[:, None], len(trie), trie.ancestors[node])
        inner[fact[:, None], above] = True
        ends = ~inner[fact, node]
        paths = trie.ancestors[node[ends]]
        scored = wanted[fact[ends][:, None], paths]
        return fact[ends], paths, scored

    def _blocks(self, lengths: Ints, area: int) -> Iterator[Ints]:
        """Yield groups of rows of similar length: at most `area` positions, and little padding."""
        order = np.argsort(lengths, kind="stable")
        begin, waste = 0, 0
        for end in range(len(order)):
            step = int(lengths[order[end]] - lengths[order[end - 1]]) * (end - begin) if end > begin else 0
            full = (end - begin + 1) * int(lengths[order[end]]) > area
            if end > begin and (full or waste + step > CALL_TOKENS):
                yield order[begin:end]
                begin, waste = end, 0
            else:
                waste += step
        if len(order):
            yield order[begin:]
