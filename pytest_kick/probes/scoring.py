"""The one scoring loop: prompts in batches, then the candidates that still matter, round by round."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.errors import ProbeError
from pytest_kick.probes.ranking import CUTS, Board
from pytest_kick.probes.spellings import BEYOND, Spellings

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.examples import Array
    from pytest_kick.probes.forward import Forward
    from pytest_kick.probes.prepare import Prepared
    from pytest_kick.probes.trie import Ints

NORMS = ("sum", "tokens", "bytes")
FIRST_WIDTH = 2  # candidates of the first round besides gold
GROWTH = 2  # every further round takes this many times as many


class Scorer:
    """Score facts with one model."""

    def __init__(self, forward: Forward, prepared: Prepared, where: str, norm: str = "sum") -> None:
        """Take what runs the model and what is asked; `where` opens every error, such as `probe facts: model 'a'`."""
        self._forward, self._prepared, self._where, self._norm = forward, prepared, where, norm

    @torch.inference_mode()
    def score(self, facts: Ints, batch_size: int, progress: Callable[[int], None] | None = None) -> dict[str, Array]:
        """Return arrays of length n for facts `(n,)`, in their order.

        Args:
            facts: numbers in `prepared`.
            batch_size: facts per pass over prompts.
            progress: called with the number of facts done.

        Raises:
            ProbeError: a logit is NaN or infinite.
        """
        lengths = np.asarray([len(self._prepared.prompts[fact]) for fact in facts], np.int64)
        order = np.argsort(lengths, kind="stable")  # batches of nearly one length
        parts = []
        for begin in range(0, len(order), batch_size):
            parts.append(self._batch(facts[order[begin : begin + batch_size]]))
            if progress:
                progress(min(begin + batch_size, len(order)))
        back = np.argsort(order, kind="stable")
        return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}

    def _batch(self, facts: Ints) -> dict[str, Array]:
        prepared, trie = self._prepared, self._prepared.trie
        space = prepared.space[facts]
        board = Board(trie, prepared.candidates[space], prepared.gold[facts], self._lengths(space))
        spellings = Spellings(trie, prepared.spellings[facts])
        constant = np.zeros(len(facts), np.bool_)
        for places, logits in self._forward.start(facts):
            constant[places] = self._record(board, spellings, places, trie.roots[space[places]], logits)
        width = FIRST_WIDTH
        wanted = np.concatenate([board.wanted(width), spellings.wanted(ends=bool(len(prepared.continues)))], 1)
        fact, node = np.unique(wanted, axis=1)
        while len(fact):
            for block in self._forward.expand(fact, node):
                self._record(board, spellings, *block)
            width *= GROWTH
            fact, node = board.wanted(width)
        self._forward.work.candidates += board.n_expanded()
        return self._outcomes(board, spellings, facts, constant)

    def _lengths(self, space: Ints) -> np.typing.NDArray[np.float64] | None:
        if self._norm == "sum":
            return None
        if self._norm == "bytes":
            return self._prepared.bytes[space].astype(np.float64)
        trie = self._prepared.trie
        counts = (trie.paths[self._prepared.candidates[space]] < len(trie)).sum(2)
        return np.asarray(counts, np.float64)

    def _record(self, board: Board, spellings: Spellings, fact: Ints, node: Ints, logits: torch.Tensor) -> Array:
        """Note what logits `(M, vocabulary)` after nodes say of the nodes' children; return `(M,)` whether they are all equal.

        The logits are overwritten.
        """
        trie = self._prepared.trie
        logprobs = torch.log_softmax(logits, -1, out=logits)
        least = logprobs.amin(-1)
        if not bool(torch.isfinite(least).all()):
            msg = f"{self._where}: got NaN or infinite logits, expected finite ones. The compression or the dtype broke it."
            raise ProbeError(msg)
        parent, child = trie.expand_children(node)
        rows = torch.from_numpy(parent).to(logits.device)
        tokens = torch.from_numpy(trie.tokens[child]).to(logits.device)
        board.record(fact[parent], child, logprobs[rows, tokens].double().cpu().numpy())
        spelled = spellings.reads(fact, node)
        if spelled.any():
            kept = torch.from_numpy(np.flatnonzero(spelled)).to(logits.device)
            self._record_ranks(spellings, fact[spelled], node[spelled], logprobs[kept])
        return np.asarray((least == logprobs.amax(-1)).cpu().numpy())

    def _record_ranks(self, spellings: Spellings, fact: Ints, node: Ints, logprobs: torch.Tensor) -> None:
        """Note at which ranks the children of nodes stand in log-probabilities `(M, vocabulary)`."""
        trie, continues = self._prepared.trie, self._prepared.continues
        top = logprobs.topk(min(BEYOND, logprobs.shape[-1]), -1)
        parent, child = trie.expand_children(node)
        rows = torch.from_numpy(parent).to(logprobs.device)
        values = logprobs[rows, torch.from_numpy(trie.tokens[child]).to(logprobs.device)]
        ranks = (top.values[rows] >= values[:, None]).sum(1)
        # A token outside the top has a rank of its own; all that matters is that it lies beyond the last cut.
        inside = (values >= top.values[:, -1][rows]).cpu().numpy()
        spellings.record(fact[parent], child, np.where(inside, ranks.cpu().numpy(), BEYOND))
        if len(continues):
            spellings.record_stops(fact, node, ~continues[top.indices[:, 0].cpu().numpy()])

    def _outcomes(self, board: Board, spellings: Spellings, facts: Ints, constant: Array) -> dict[str, Array]:
        ranked = board.result()
        # Equal logits for all tokens say nothing, though the shortest candidate would win by its length.
        outcomes = {f"p{cut}": (ranked.rank <= cut) & ~constant for cut in CUTS}
        outcomes |= spellings.result(ends=bool(len(self._prepared.continues)))
        answers = np.take_along_axis(self._prepared.answers[self._prepared.space[facts]], ranked.predicted[:, None], 1)[:, 0]
        return outcomes | {
            "gold_logprob": ranked.gold,
            "margin": np.where(constant, np.minimum(ranked.margin, 0.0), ranked.margin),
            "predicted": np.where(constant, -1, answers).astype(np.int32),
        }
