"""Cutting the ranking short never changes what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kick.probes.ranking import CUTS, Board
from pytest_kick.probes.trie import Trie, TrieBuilder, pad_rows

TOKEN = st.integers(0, 3)


@st.composite
def boards(draw: Any) -> tuple[Trie, Any, Any, Any, Any]:
    """Draw answer spaces, gold answers, a log-probability for every node (few values, so ties are common), and lengths."""
    spaces = draw(
        st.lists(st.lists(st.lists(TOKEN, min_size=1, max_size=4), min_size=2, max_size=24, unique_by=tuple), min_size=1, max_size=3)
    )
    builder = TrieBuilder()
    roots = [builder.add_root() for _ in spaces]
    # A closing token makes no sequence the beginning of another.
    rows = [[builder.add(root, (*ids, 9)) for ids in space] for root, space in zip(roots, spaces, strict=True)]
    trie = builder.build(roots)
    candidates = pad_rows(rows, -1)
    gold = np.asarray([draw(st.integers(0, len(row) - 1)) for row in rows])
    values = st.sampled_from([0.0, -0.5, -1.0, -3.0, -7.0])
    if draw(st.booleans()):
        values = st.floats(-20, 0, width=32)
    size = len(rows) * len(trie)
    logprobs = np.asarray(draw(st.lists(values, min_size=size, max_size=size))).reshape(len(rows), len(trie))
    lengths = None
    if draw(st.booleans()):
        lengths = np.asarray([draw(st.integers(1, 9)) for _ in range(candidates.size)], float).reshape(candidates.shape)
    return trie, candidates, gold, logprobs, lengths


def run_cut(trie: Trie, candidates: Any, gold: Any, logprobs: Any, lengths: Any, width: int) -> tuple[Any, int]:
    """Rank as the probe does: first tokens, then only what is wanted. Return the outcome and the number of nodes run."""
    board = Board(trie, candidates, gold, lengths)
    places = np.arange(len(gold))
    parent, child = trie.expand_children(trie.roots)
    board.record(places[parent], child, logprobs[places[parent], child])
    n_run = 0
    fact, node = board.wanted(width)
    while len(fact):
        n_run += len(fact)
        parent, child = trie.expand_children(node)
        board.record(fact[parent], child, logprobs[fact[parent], child])
        fact, node = board.wanted(width)
    return board.result(), n_run


def run_whole(trie: Trie, candidates: Any, gold: Any, logprobs: Any, lengths: Any) -> list[tuple[Any, ...]]:
    """Score every candidate to its end, in plain Python."""
    outcomes = []
    for row in range(len(gold)):
        scores = []
        for column, sequence in enumerate(candidates[row]):
            if sequence >= 0:
                total = 0.0
                for node in trie.paths[sequence]:
                    total += logprobs[row, node] if node < len(trie) else 0.0
                scores.append(total / (1.0 if lengths is None else lengths[row, column]))
        others = [score for column, score in enumerate(scores) if column != gold[row]]
        rank = 1 + sum(score >= scores[gold[row]] for score in others)
        outcomes.append((rank, scores[gold[row]], scores[gold[row]] - max(others), scores.index(max(scores))))
    return outcomes


@given(boards(), st.integers(1, 8))
@settings(max_examples=150, deadline=None)
def test_cut_short_is_exhaustive(drawn: Any, width: int) -> None:
    """Outcome at each cut, gold score, margin and prediction equal those of scoring every candidate, ties included."""
    ranked, _ = run_cut(*drawn, width)
    for row, (rank, gold, margin, predicted) in enumerate(run_whole(*drawn)):
        assert [ranked.rank[row] <= cut for cut in CUTS] == [rank <= cut for cut in CUTS]
        assert ranked.gold[row] == pytest.approx(gold, abs=1e-9)
        assert ranked.margin[row] == pytest.approx(margin, abs=1e-9)
        assert ranked.predicted[row] == predicted


@given(st.integers(2, 30), st.floats(-9, 0))
def test_ties_are_wrong(n: int, value: float) -> None:
    """Where all candidates score alike, gold stands behind every one of them."""
    builder = TrieBuilder()
    root = builder.add_root()
    row = [builder.add(root, (number, 99)) for number in range(n)]
    trie = builder.build([root])
    ranked, _ = run_cut(trie, np.asarray([row]), np.asarray([0]), np.full((1, len(trie)), value), None, 2)
    assert [ranked.rank[0] <= cut for cut in CUTS] == [n <= cut for cut in CUTS]
    assert ranked.margin[0] == 0


def test_a_clear_answer_spares_the_rest() -> None:
    """With one likely first token, and one next best, two of a hundred candidates are run."""
    builder = TrieBuilder()
    root = builder.add_root()
    row = [builder.add(root, (number, 100, 101)) for number in range(100)]
    trie = builder.build([root])
    logprobs = np.full((1, len(trie)), -0.1)
    first = trie.paths[row][:, 0]
    logprobs[0, first] = -20.0
    logprobs[0, first[:2]] = [-0.1, -4.0]
    ranked, n_run = run_cut(trie, np.asarray([row]), np.asarray([0]), logprobs, None, 1)
    assert (ranked.rank[0], ranked.predicted[0], n_run) == (1, 0, 4)
