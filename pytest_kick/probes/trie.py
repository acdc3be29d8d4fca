"""Token sequences as one forest, so that sequences that begin alike share their computation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trie:
    """Hold N nodes, one per token of a sequence with its past, below one root per answer space.

    Logits belong to the node after which they are read: those of a root come from the prompt itself.

    Attributes:
        tokens: `(N,)` token id of each node, -1 for roots.
        depths: `(N,)` 0 for roots, 1 for first tokens.
        paths: `(S, L)` nodes of each sequence from its first token on, filled up with N, which is no node.
        ancestors: `(N, L)` path of each node, itself included, filled up with N.
        roots: `(R,)` nodes of the roots.
        child_start: `(N + 1,)` where the children of each node begin in `children`.
        children: `(N - roots,)` child nodes, by parent.
    """

    tokens: Ints
    depths: Ints
    paths: Ints
    ancestors: Ints
    roots: Ints
    child_start: Ints
    children: Ints

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.tokens)

    def expand_children(self, nodes: Ints) -> tuple[Ints, Ints]:
        """Return all children of `nodes`, `(M,)`: the index into `nodes` of each child's parent, and the child, both `(K,)`."""
        starts, counts = self.child_start[nodes], self.child_start[nodes + 1] - self.child_start[nodes]
        parents = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
        return parents, self.children[np.repeat(starts, counts) + within]


@dataclass(slots=True)
class TrieBuilder:
    """Collect sequences, then freeze them into a `Trie`."""

    _tokens: list[int] = field(default_factory=list)
    _parents: list[int] = field(default_factory=list)
    _below: list[dict[int, int]] = field(default_factory=list)
    _sequences: list[tuple[int, ...]] = field(default_factory=list)
    _known: dict[tuple[int, ...], int] = field(default_factory=dict)

    def add_root(self) -> int:
        """Add the root of an answer space and return its node."""
        return self._add_node(-1, -1)

    def add(self, root: int, tokens: Sequence[int]) -> int:
        """Add a sequence of at least one token below `root` and return its number; an equal one has the same number."""
        path, node = [], root
        for token in tokens:
            below = self._below[node]
            if token not in below:
                below[token] = self._add_node(token, node)
            node = below[token]
            path.append(node)
        key = tuple(path)
        if key not in self._known:
            self._known[key] = len(self._sequences)
            self._sequences.append(key)
        return self._known[key]

    def build(self, roots: Sequence[int] = ()) -> Trie:
        """Freeze the collected sequences; `roots`, in their order, are the roots of the trie."""
        n_nodes = len(self._tokens)
        depths = np.zeros(n_nodes, np.int64)
        longest = max((len(path) for path in self._sequences), default=1)
        ancestors = np.full((n_nodes, longest), n_nodes, np.int64)
        for node, parent in enumerate(self._parents):
            if parent >= 0:  # parents come before their children
                depth = depths[node] = depths[parent] + 1
                ancestors[node, : depth - 1] = ancestors[parent, : depth - 1]
                ancestors[node, depth - 1] = node
        parents = np.asarray(self._parents, np.int64)
        ends = np.asarray([path[-1] for path in self._sequences], np.int64)
        return Trie(
            tokens=np.asarray(self._tokens, np.int64),
            depths=depths,
            paths=ancestors[ends],
            ancestors=ancestors,
            roots=np.asarray(roots, np.int64),
            child_start=np.searchsorted(np.sort(parents[parents >= 0]), np.arange(n_nodes + 1)),
            children=np.argsort(parents, kind="stable")[int((parents < 0).sum()) :],
        )

    def _add_node(self, token: int, parent: int) -> int:
        self._tokens.append(token)
        self._parents.append(parent)
        self._below.append({})
        return len(self._tokens) - 1


def pad_rows(rows: Sequence[Sequence[Any]], fill: int) -> Ints:
    """Return rows of ints as `(rows, longest)` int64, filled at the end."""
    width = max((len(row) for row in rows), default=0)
    out = np.full((len(rows), max(width, 1)), fill, np.int64)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out
