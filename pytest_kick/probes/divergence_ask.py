"""What a model says at the answers of facts: the whole next-token distribution, and the options of the relation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.errors import ProbeError
from pytest_kick.probes.divergence_measures import evened, normalized
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.trie import pad_rows
from pytest_kick.probes.ways import forward_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.forward import Forward, Work
    from pytest_kick.probes.prepare import Prepared
    from pytest_kick.probes.trie import Ints

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Take = Callable[[Ints, torch.Tensor], None]

BATCH_SIZE = 64
BEHIND = 16.0
"""Nats by which an option lies behind the likeliest one where nothing more is asked of it: it has at most 1e-7 of its probability."""


class Predictions:
    """Run one model, as its weights are now, over facts."""

    def __init__(self, model: LoadedModel, prepared: Prepared, *, whole: bool) -> None:
        """Take what is asked; `whole`: answers of several tokens to their end, not by their first token."""
        self._where, self._prepared, self._whole = f"model {model.name!r}", prepared, whole
        self._forward: Forward = forward_for(model, ScoredHead(model), prepared)
        self._paths = self._existing()
        self._vocabulary = int(model.module.config.get_text_config().vocab_size)

    @property
    def work(self) -> Work:
        """Return what was run so far."""
        return self._forward.work

    @torch.inference_mode()
    def read(
        self,
        facts: Ints,
        take: Take,
        *,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        dense: Floats | None = None,
    ) -> Floats:
        """Read what the model says at the answers of facts.

        Args:
            facts: `(n,)` numbers of the facts.
            take: called with places `(M,)` in `facts` and the log-probabilities there, `(M, vocabulary)` float32, block by block.
            batch_size: facts per pass; None for 64.
            progress: called with the number of facts done.
            dense: `(n, W)` what the dense model says of the options: those that matter to it are run to their end.

        Returns:
            `(n, W)` sums of the options in nats, `-inf` where a relation has fewer. Of whole answers that have less than 1e-7 of the
            likeliest one's probability, in both models, an upper bound.

        Raises:
            ProbeError: a logit is NaN or infinite.
        """
        order = np.argsort([len(self._prepared.prompts[fact]) for fact in facts], kind="stable")
        size = batch_size or BATCH_SIZE
        found: Floats | None = None
        for begin in range(0, len(order), size):
            here = order[begin : begin + size]
            options = self._batch(facts[here], here, take, None if dense is None else dense[here])
            found = np.empty((len(facts), options.shape[1])) if found is None else found
            found[here] = options
            if progress:
                progress(begin + len(here))
        return np.zeros((0, 0)) if found is None else found

    def _batch(self, facts: Ints, here: Ints, take: Take, dense: Floats | None) -> Floats:
        table = np.full((len(facts), len(self._prepared.trie) + 1), np.nan)
        table[:, -1] = 0.0
        for places, logits in self._forward.start(facts):
            logprobs = self._logprobs(logits)
            self._note(table, places, self._prepared.trie.roots[self._prepared.space[facts[places]]], logprobs)
            take(here[places], logprobs)
        return self._to_the_end(table, facts, dense) if self._whole else self._first(table, facts)

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

    def _existing(self) -> Ints:
        """Return `(R, C, L)` the nodes of each candidate, those of none where a relation has fewer."""
        paths = self._prepared.trie.paths[self._prepared.candidates]
        paths[self._prepared.candidates < 0] = len(self._prepared.trie)
        return paths

    def _to_the_end(self, table: Floats, facts: Ints, dense: Floats | None) -> Floats:
        """Return the sums of whole candidates: all are run to their end that could have a share of the probability."""
        space = self._prepared.space[facts]
        exists, paths = self._prepared.candidates[space] >= 0, self._paths[space]
        matters = np.zeros_like(exists) if dense is None else normalized(dense)[:, : exists.shape[1]] >= -BEHIND
        # The likeliest to their end, so that there is something to lie behind; one token of the others; what is still near, to its end.
        for steps in (0, 1, 0):
            sums, known = _sums(table, paths, exists)
            exact = known == paths.shape[2]
            best = np.where(exact, sums, -np.inf).max(1, keepdims=True)
            none_yet = ~np.isfinite(best)
            leading = none_yet & (sums == sums.max(1, keepdims=True))
            wanted = exists & ~exact & (leading if none_yet.any() else matters | (sums >= best - BEHIND))
            self._run(table, paths, wanted, known, steps)
        tokens = np.where(exists, (paths < len(self._prepared.trie)).sum(2), 1)
        return evened(_sums(table, paths, exists)[0], tokens, self._vocabulary)

    def _run(self, table: Floats, paths: Ints, wanted: Bools, known: Ints, steps: int) -> None:
        """Run candidates `(F, C)` on from the tokens that are known of them, by `steps`, 0 for all that are left."""
        fact, column = np.nonzero(wanted)
        place = np.arange(paths.shape[2] - 1)[None]
        begin = known[fact, column][:, None] - 1
        inner = (paths[fact, column, 1:] < len(self._prepared.trie)) & (place >= begin) & ((place < begin + steps) | (steps == 0))
        pairs = np.unique(np.stack([np.broadcast_to(fact[:, None], inner.shape)[inner], paths[fact, column, :-1][inner]]), axis=1)
        if pairs.size:
            for places, nodes, logits in self._forward.expand(*pairs):
                self._note(table, places, nodes, self._logprobs(logits))

    def _first(self, table: Floats, facts: Ints) -> Floats:
        """Return the log-probabilities of the distinct first tokens."""
        trie = self._prepared.trie
        firsts = pad_rows([trie.paths[own[own >= 0]][:, 0] for own in self._prepared.candidates], len(trie))
        distinct = pad_rows([np.unique(row[row < len(trie)]).tolist() for row in firsts], len(trie))
        table[:, len(trie)] = -np.inf
        return np.take_along_axis(table, distinct[self._prepared.space[facts]], 1)


def _sums(table: Floats, paths: Ints, exists: Bools) -> tuple[Floats, Ints]:
    """Return of candidates `(F, C)` the sum of the tokens known from the first one on, and how many places that is, filling included."""
    values = table[np.arange(len(paths))[:, None, None], paths]
    known = (~np.isnan(values)).cumprod(2)
    sums = np.where(known > 0, values, 0.0).sum(2)
    return np.where(exists, sums, -np.inf), known.sum(2)
