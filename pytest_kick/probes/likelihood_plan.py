"""What continuations share: how token sequences are laid out so that what they have in common is run once.

Sequences that begin alike lie side by side in one row: a tree, in which each token sees those before it in its own sequence. What many
different contexts have in common (the examples of a few-shot prompt) is a trunk: it is run once, and its key-value cache serves all
their rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_kick.probes.tokens import Ids

TRUNK_CONTEXTS = 8  # fewer contexts share as well side by side in a row, without a pass of their own
TRUNK_COST = 64  # tokens that a pass for a trunk costs besides its own
ROW_TOKENS = 1024  # of a row of several sequences; a single one may be longer


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Hold sequences that are run side by side behind one trunk of T tokens.

    Attributes:
        sequences: numbers of the sequences, the places of `Plan`, in sorted order.
        shared: for each, how many of its tokens the sequence before it in this row has too; T for the first.
        size: number of nodes, the tokens of the tree.
    """

    sequences: tuple[int, ...]
    shared: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Hold a trunk, `()` for none, and the rows behind it."""

    trunk: Ids
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """Hold a batch of B rows of at most N nodes behind a trunk of T tokens.

    Attributes:
        tokens: `(B, N)`, filled up at the end with 0.
        places: `(B, N)` position of each token in its own sequence, T and more.
        seen: `(B, N, N)` which nodes each node sees; None where each row is one sequence.
        sizes: `(B,)` nodes of each row.
        paths: for each sequence of the rows, in order, the flat places in `(B, N)` of its tokens behind the trunk.
    """

    tokens: Ints
    places: Ints
    seen: NDArray[np.bool_] | None
    sizes: Ints
    paths: tuple[Ints, ...]


class Plan:
    """Lay out unique sequences so that what they share is run once."""

    def __init__(self, sequences: Sequence[Ids], first: Sequence[int], *, pairs_per_token: int, trees: bool = True) -> None:
        """Take unique sequences of token ids.

        Args:
            sequences: unique, none empty.
            first: of each the place of the first token after which logits are read: the last of its context.
            pairs_per_token: how many pairs of attention cost as much as one token.
            trees: whether the model takes rows of several sequences, and trunks.
        """
        keys = [np.asarray(sequence, ">u4").tobytes() for sequence in sequences]  # bytes sort as the ids do, and fast
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self.sequences = [np.asarray(sequences[number], np.int64) for number in order]
        self.numbers = order
        self._first = [first[number] for number in order]
        self._rate, self._trees = pairs_per_token, trees
        pairs = zip(self.sequences, self.sequences[1:], strict=False)
        self._common = [0, *(_common(before, after) for before, after in pairs)] if trees else [0] * len(order)

    def runs(self) -> Iterator[Run]:
        """Yield trunks with their rows; first all rows that have no trunk."""
        spans = list(self._trunks()) if self._trees else []
        bare: list[Row] = []
        begin = 0
        for left, right, _ in [*spans, (len(self.sequences), len(self.sequences), 0)]:
            bare.extend(self._rows(begin, left, 0))
            begin = right
        if bare:
            yield Run((), tuple(bare))
        for left, right, length in spans:
            yield Run(tuple(self.sequences[left][:length].tolist()), tuple(self._rows(left, right, length)))

    def lay(self, rows: Sequence[Row], trunk: int) -> Laid:
        """Return the arrays of a batch of rows behind a trunk of `trunk` tokens."""
        sizes = np.asarray([row.size for row in rows], np.int64)
        width = int(sizes.max())
        tokens, places = np.zeros((2, len(rows), width), np.int64)
        tree = any(len(row.sequences) > 1 for row in rows)
        seen = np.zeros((len(rows), width, width), np.bool_) if tree else None
        paths: list[Ints] = []
        for number, row in enumerate(rows):
            path, end = np.zeros(0, np.int64), 0
            for sequence, shared in zip(row.sequences, row.shared, strict=True):
                ids, kept = self.sequences[sequence][trunk:], shared - trunk
                fresh = np.arange(end, end + len(ids) - kept)
                path, end = np.concatenate([path[:kept], fresh]), end + len(fresh)
                tokens[number, fresh] = ids[kept:]
                places[number, fresh] = trunk + np.arange(kept, len(ids))
                if seen is not None:
                    seen[number, fresh[:, None], path[None]] = np.arange(kept, len(ids))[:, None] >= np.arange(len(ids))[None]
                paths.append(number * width + path)
        return Laid(tokens, places, seen, sizes, tuple(paths))

    def _rows(self, begin: int, end: int, trunk: int) -> Iterator[Row]:
        """Yield rows of the sorted sequences `begin` to `end`: the next one joins where that saves more than the pairs it wastes."""
        sequences: list[int] = []
        shared: list[int] = []
        size = 0
        for number in range(begin, end):
            common = max(self._common[number], trunk)
            saved, fresh = common - trunk, len(self.sequences[number]) - common
            wasted = 2 * fresh * (size - saved)
            if sequences and (not saved or wasted > saved * self._rate or size + fresh > ROW_TOKENS):
                yield Row(tuple(sequences), tuple(shared), size)
                sequences, shared, size = [], [], 0
            if not sequences:
                common, fresh = trunk, len(self.sequences[number]) - trunk
            sequences.append(number)
            shared.append(common)
            size += fresh
        if sequences:
            yield Row(tuple(sequences), tuple(shared), size)

    def _trunks(self) -> list[tuple[int, int, int]]:
        """Return `(begin, end, length)` of the trunks that save most, in order: runs of sorted sequences with what all of them share.

        Intervals of the sequences that share a prefix form a tree, visited from its leaves; each keeps the better of itself as one trunk
        and of what lies below it. A trunk ends before the first place whose logits are read.
        """
        heads = self._heads()
        shares = [0] * len(self.sequences)
        for number in range(1, len(shares)):
            shares[number] = min(self._common[number], self._first[number - 1], self._first[number])
        stack: list[tuple[int, int, float, list[tuple[int, int, int]]]] = [(0, 0, 0.0, [])]
        for number in range(1, len(shares) + 1):
            share = shares[number] if number < len(shares) else 0
            left, value = number - 1, 0.0
            below: list[tuple[int, int, int]] = []
            while stack[-1][0] > share:
                length, left, inner, found = stack.pop()
                value, below = inner + value, [*found, *below]
                contexts = heads[number - 1] - heads[left] + 1
                own = length * (contexts - 1) - TRUNK_COST
                if contexts >= TRUNK_CONTEXTS and own > value:
                    value, below = own, [(left, number, length)]
            if stack[-1][0] < share:
                stack.append((share, left, value, below))
            else:
                length, start, inner, found = stack.pop()
                found.extend(below)
                stack.append((length, start, inner + value, found))
        return stack[0][3]

    def _heads(self) -> list[int]:
        """Return the number of each sequence's context among the different contexts."""
        heads = [0] * len(self.sequences)
        for number in range(1, len(heads)):
            length = self._first[number] + 1
            same = length == self._first[number - 1] + 1 and self._common[number] >= length
            heads[number] = heads[number - 1] + (not same)
        return heads


def batches(sizes: Sequence[int], scored: Sequence[int], limits: tuple[int, int, int], ahead: int, waste: int) -> Iterator[list[int]]:
    """Yield groups of rows of similar size, largest first, so that memory that is short shows at once.

    Args:
        sizes: tokens of each row.
        scored: places of each row whose logits are read.
        limits: rows, tokens (those of the trunk counted for each row), and scored places of a group.
        ahead: tokens of the trunk.
        waste: tokens of padding that cost less than another pass.
    """
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    group: list[int] = []
    width = read = padded = 0
    for number in order:
        width = width if group else sizes[number]
        gap = width - sizes[number]
        full = len(group) >= limits[0] or (len(group) + 1) * (ahead + width) > limits[1] or read + scored[number] > limits[2]
        if group and (full or padded + gap > max(waste, len(group) * width // 16)):
            yield group
            group, width, read, padded, gap = [], sizes[number], 0, 0, 0
        group.append(number)
        read += scored[number]
        padded += gap
    if group:
        yield group


def padded(rows: Sequence[Ids]) -> tuple[Ints, Ints]:
    """Return rows as `(n, longest)`, filled up with 0 at the end, and the mask of what is no filling."""
    ids = pad_rows(rows, 0)
    lengths = np.asarray([len(row) for row in rows], np.int64)
    return ids, (np.arange(ids.shape[1])[None] < lengths[:, None]).astype(np.int64)


def numbered(values: Iterable[Ids]) -> tuple[list[Ids], list[int]]:
    """Return the different values, in the order in which they come, and the number of each."""
    known: dict[Ids, int] = {}
    numbers = [known.setdefault(value, len(known)) for value in values]
    return list(known), numbers


def _common(before: Ints, after: Ints) -> int:
    length = min(len(before), len(after))
    differs = before[:length] != after[:length]
    return int(differs.argmax()) if differs.any() else length
