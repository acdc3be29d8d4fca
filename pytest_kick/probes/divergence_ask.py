"""What a model says at the answers of facts: the whole next-token distribution, and the options of the relation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.errors import ProbeError
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.trie import pad_rows
from pytest_kick.probes.ways import forward_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.forward import Forward, Work
    from pytest_kick.probes.prepare import Prepared
    from pytest_kick.probes.trie import Ints

    Floats = NDArray[np.float64]

BATCH_SIZE = 64


class Predictions:
    """Run one model, as its weights are now, over facts."""

    def __init__(self, model: LoadedModel, prepared: Prepared, *, whole: bool) -> None:
        """Take what is asked; `whole`: answers of several tokens to their end, not by their first token."""
        self._where, self._prepared, self._whole = f"model {model.name!r}", prepared, whole
        self._forward: Forward = forward_for(model, ScoredHead(model), prepared)

    @property
    def work(self) -> Work:
        """Return what was run so far."""
        return self._forward.work

    @torch.inference_mode()
    def batches(self, batch_size: int | None = None) -> Iterator[tuple[Ints, torch.Tensor, Floats]]:
        """Yield numbers of facts `(M,)`, the log-probabilities at their answers `(M, vocabulary)` float32, and those of their options.

        Options are `(M, W)` sums in nats, `-inf` where a relation has fewer; W is the same for all.

        Raises:
            ProbeError: a logit is NaN or infinite.
        """
        order = np.argsort([len(prompt) for prompt in self._prepared.prompts], kind="stable")
        size = batch_size or BATCH_SIZE
        for begin in range(0, len(order), size):
            facts = order[begin : begin + size]
            blocks = []
            table = np.full((len(facts), len(self._prepared.trie) + 1), np.nan)
            for places, logits in self._forward.start(facts):
                logprobs = self._logprobs(logits).clone()
                self._note(table, places, self._roots(facts[places]), logprobs)
                blocks.append((places, logprobs))
            if self._whole:
                self._finish(table, facts)
            options = self._options(table, facts)
            for places, logprobs in blocks:
                yield facts[places], logprobs, options[places]

    def _roots(self, facts: Ints) -> Ints:
        return self._prepared.trie.roots[self._prepared.space[facts]]

    def _logprobs(self, logits: torch.Tensor) -> torch.Tensor:
        logprobs = torch.log_softmax(logits, -1, out=logits)
        if not bool(torch.isfinite(logprobs.amin(-1)).all()):
            msg = (
                f"probe divergence: {self._where}: got NaN or infinite logits, expected finite ones. The compression or the dtype broke it."
            )
            raise ProbeError(msg)
        return logprobs

    def _note(self, table: Floats, places: Ints, nodes: Ints, logprobs: torch.Tensor) -> None:
        """Write the log-probabilities of the children of nodes `(M,)`, read from `(M, vocabulary)`, into `(facts, nodes)`."""
        trie = self._prepared.trie
        parent, child = trie.expand_children(nodes)
        rows, tokens = (torch.from_numpy(values).to(logprobs.device) for values in (parent, trie.tokens[child]))
        table[places[parent], child] = logprobs[rows, tokens].double().cpu().numpy()

    def _finish(self, table: Floats, facts: Ints) -> None:
        """Run all candidates to their last token."""
        trie = self._prepared.trie
        paths = trie.paths[self._candidates(facts)]
        paths[self._candidates(facts) < 0] = len(trie)
        inner = (paths[:, :, :-1] < len(trie)) & (paths[:, :, 1:] < len(trie))
        place = np.broadcast_to(np.arange(len(facts))[:, None, None], inner.shape)
        pairs = np.unique(np.stack([place[inner], paths[:, :, :-1][inner]]), axis=1)
        if pairs.size:
            for places, nodes, logits in self._forward.expand(*pairs):
                self._note(table, places, nodes, self._logprobs(logits))

    def _options(self, table: Floats, facts: Ints) -> Floats:
        trie = self._prepared.trie
        if self._whole:
            table[:, len(trie)] = 0.0
            candidates = self._candidates(facts)
            sums = table[np.arange(len(facts))[:, None, None], trie.paths[candidates]].sum(2)
            return np.where(candidates >= 0, sums, -np.inf)
        firsts = pad_rows([trie.paths[own[own >= 0]][:, 0] for own in self._prepared.candidates], len(trie))
        distinct = pad_rows([np.unique(row[row < len(trie)]).tolist() for row in firsts], len(trie))
        table[:, len(trie)] = -np.inf
        return np.take_along_axis(table, distinct[self._prepared.space[facts]], 1)

    def _candidates(self, facts: Ints) -> Ints:
        return self._prepared.candidates[self._prepared.space[facts]]
