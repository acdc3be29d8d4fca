"""Whether a model would write an accepted spelling of an answer by itself, read under teacher forcing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.probes.ranking import CUTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pytest_kick.probes.trie import Ints, Trie

BEYOND = 11  # any rank past the largest cut


class Spellings:
    """Collect, for B facts, at which rank of the vocabulary each token of each accepted spelling stands."""

    def __init__(self, trie: Trie, spellings: Ints) -> None:
        """Start with nothing known.

        Args:
            trie: the sequences.
            spellings: `(B, A)` sequence numbers, -1 where a fact has fewer.
        """
        self._n = len(trie)
        self._ranks = np.full((len(spellings), self._n + 1), BEYOND, np.int64)
        self._ranks[:, self._n] = 0
        self._stops = np.zeros((len(spellings), self._n + 1), np.bool_)
        self._spellings = spellings
        self._paths = np.where((spellings >= 0)[:, :, None], trie.paths[spellings], self._n)
        self._read = np.zeros((len(spellings), self._n + 1), np.bool_)
        np.put_along_axis(self._read, self._paths.reshape(len(spellings), -1), values=True, axis=1)
        self._read[:, trie.roots] = True

    def reads(self, fact: Ints, node: Ints) -> NDArray[np.bool_]:
        """Return `(K,)`: whether what follows a node matters to a spelling of its fact: a root, or a node of one."""
        return np.asarray(self._read[fact, node])

    def record(self, fact: Ints, node: Ints, rank: Ints) -> None:
        """Note ranks, `(K,)` from 1, of nodes among all tokens that could stand in their place; a tie counts against them."""
        self._ranks[fact, node] = np.minimum(rank, BEYOND)

    def record_stops(self, fact: Ints, node: Ints, stops: NDArray[np.bool_]) -> None:
        """Note whether the likeliest token after a node leaves its word as it is."""
        self._stops[fact, node] = stops

    def wanted(self, *, ends: bool) -> tuple[Ints, Ints]:
        """Return facts and nodes, `(K,)` each once, to run: of spellings whose first token stands high enough for the rest to matter.

        Args:
            ends: whether what follows the last token matters too.
        """
        first = np.take_along_axis(self._ranks, self._paths[:, :, 0], 1)
        fact, column = np.nonzero((self._spellings >= 0) & (first < BEYOND))
        paths = self._paths[fact, column]
        length = (paths < self._n).sum(1)
        row, place = np.nonzero(np.arange(paths.shape[1])[None] < length[:, None] - (not ends))
        pairs = np.unique(fact[row] * self._n + paths[row, place])
        return pairs // self._n, pairs % self._n

    def result(self, *, ends: bool) -> dict[str, NDArray[np.bool_]]:
        """Return `free_p1`, `free_p5`, `free_p10`, `(B,)` each.

        Args:
            ends: whether `free_p1` asks that the word ends where the spelling does.
        """
        rows = np.arange(len(self._spellings))
        worst = self._ranks[rows[:, None, None], self._paths].max(2)
        found = {f"free_p{cut}": ((worst <= cut) & (self._spellings >= 0)) for cut in CUTS}
        if ends:
            last = np.maximum((self._paths < self._n).sum(2) - 1, 0)
            end = np.take_along_axis(self._paths, last[:, :, None], 2)[:, :, 0]
            found["free_p1"] &= np.take_along_axis(self._stops, end, 1)
        return {name: values.any(1) for name, values in found.items()}
