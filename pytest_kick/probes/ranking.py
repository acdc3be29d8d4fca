"""Rank a gold answer among candidates without scoring them all.

A candidate's score is a sum of token log-probabilities, all at most 0, so the tokens known so far bound it from above. A candidate
whose bound lies below what has been scored already can change neither the rank, nor the best other answer, nor the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pytest_kick.probes.trie import Ints, Trie

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
CUTS = (1, 5, 10)
GUESS = -1.0  # nats that a token still unknown is guessed to cost: decides the order in which candidates are run, never the outcome


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranked:
    """Hold the outcome of a ranking of B facts.

    Attributes:
        rank: `(B,)` 1 + the number of other candidates that score at least as high as gold, or a number on the same side of every cut.
        gold: `(B,)` score of gold, nats.
        margin: `(B,)` gold minus the best other candidate, nats.
        predicted: `(B,)` column of the best candidate, the first of equals.
    """

    rank: Ints
    gold: Floats
    margin: Floats
    predicted: Ints


class Board:
    """Hold what is known of the log-probabilities of B facts' candidates, and say what is still needed."""

    def __init__(self, trie: Trie, candidates: Ints, gold: Ints, lengths: Floats | None = None) -> None:
        """Start with nothing known.

        Args:
            trie: the sequences.
            candidates: `(B, C)` sequence numbers, -1 where a fact has fewer.
            gold: `(B,)` column of the gold answer.
            lengths: `(B, C)` what scores are divided by, at least 1; None for plain sums.
        """
        n_facts, n_nodes = len(gold), len(trie)
        self._n_nodes = n_nodes
        self._logprobs = np.full((n_facts, n_nodes + 1), np.nan)
        self._logprobs[:, n_nodes] = 0.0
        self._paths = trie.paths[candidates]
        self._paths[candidates < 0] = n_nodes
        self._exists = candidates >= 0
        self._gold = gold
        self._lengths = np.ones(candidates.shape) if lengths is None else lengths

    def record(self, fact: Ints, node: Ints, logprob: Floats) -> None:
        """Note log-probabilities, `(K,)` nats, of nodes given their past and the prompt of a fact."""
        self._logprobs[fact, node] = np.minimum(logprob, 0.0)  # rounding can lift a certain token above 0

    def wanted(self, width: int) -> tuple[Ints, Ints]:
        """Return what to run next: facts and nodes, `(K,)` each; empty when every outcome is decided.

        Gold, the best other candidate and those that look better than gold are run to their end. The others go as many tokens
        further as are known of them: most fall behind after one.

        Args:
            width: candidates per fact at most, gold not counted.
        """
        bound, exact = self._scores()
        needed = self._needed(bound, exact)
        guess = bound + GUESS * self._remaining() / self._lengths
        order = np.argsort(np.where(needed, -guess, np.inf), axis=1, kind="stable")[:, :width]
        chosen = np.zeros_like(needed)
        np.put_along_axis(chosen, order, values=True, axis=1)
        whole = np.zeros_like(needed)
        whole[np.arange(len(needed)), self._gold] = True
        np.put_along_axis(whole, order[:, :1], values=True, axis=1)
        fact, column = np.nonzero((chosen | whole) & needed)
        return self._steps(fact, self._paths[fact, column], whole[fact, column])

    def _remaining(self) -> Ints:
        rows = np.arange(len(self._gold))[:, None, None]
        return np.asarray(np.isnan(self._logprobs[rows, self._paths]).sum(2))

    def _steps(self, fact: Ints, paths: Ints, whole: Flags) -> tuple[Ints, Ints]:
        """Return the pairs of a fact and a node, each once, that carry candidates `(K, L)` further."""
        known = (~np.isnan(self._logprobs[fact[:, None], paths])).cumprod(1).sum(1)
        length = (paths < self._n_nodes).sum(1)
        end = np.where(whole, length - 1, np.minimum(2 * known - 1, length - 1))
        place = np.arange(paths.shape[1])[None]
        row, column = np.nonzero((place >= known[:, None] - 1) & (place < end[:, None]))
        pairs = np.unique(fact[row] * self._n_nodes + paths[row, column])
        return pairs // self._n_nodes, pairs % self._n_nodes

    def result(self) -> Ranked:
        """Return the outcomes; `wanted` must be empty."""
        bound, exact = self._scores()
        gold = np.take_along_axis(bound, self._gold[:, None], 1)
        best, above = self._best_other(bound, exact, gold)
        scored = np.where(exact & self._exists, bound, -np.inf)
        return Ranked(
            rank=1 + np.minimum(above, CUTS[-1]),
            gold=gold[:, 0],
            margin=gold[:, 0] - best,
            predicted=scored.argmax(1),
        )

    def n_expanded(self) -> int:
        """Return how many candidates have been scored beyond their first token."""
        rows = np.arange(len(self._gold))[:, None, None]
        known = ~np.isnan(self._logprobs[rows, self._paths[:, :, 1:2]])
        return int((known[:, :, 0] & self._exists).sum()) if known.shape[2] else 0

    def _scores(self) -> tuple[Floats, Flags]:
        # Tokens are added in their order: appending one that is at most 0 cannot lift a rounded sum, so bounds are bounds.
        total = np.zeros(self._exists.shape)
        exact = np.ones(self._exists.shape, np.bool_)
        rows = np.arange(len(self._gold))[:, None]
        for step in range(self._paths.shape[2]):
            value = self._logprobs[rows, self._paths[:, :, step]]
            known = ~np.isnan(value)
            exact &= known
            total += np.where(exact, value, 0.0)
        return np.where(self._exists, total / self._lengths, -np.inf), exact

    def _best_other(self, bound: Floats, exact: Flags, gold: Floats) -> tuple[Floats, Ints]:
        others = np.where(exact & self._exists, bound, -np.inf)
        np.put_along_axis(others, self._gold[:, None], -np.inf, axis=1)
        return others.max(1), (others >= gold).sum(1)

    def _needed(self, bound: Floats, exact: Flags) -> Flags:
        gold = np.take_along_axis(bound, self._gold[:, None], 1)
        gold_is_exact = np.take_along_axis(exact, self._gold[:, None], 1)
        best, above = self._best_other(bound, exact, gold)
        for_best = bound >= best[:, None]
        open_for_rank = ~exact & self._exists & (bound >= gold) & gold_is_exact
        most = above + open_for_rank.sum(1)
        crosses = np.logical_or.reduce([(above < cut) & (most >= cut) for cut in CUTS])
        for_rank = open_for_rank & crosses[:, None]
        for_gold = np.arange(bound.shape[1])[None, :] == self._gold[:, None]
        return np.asarray(~exact & self._exists & (for_best | for_rank | for_gold))
