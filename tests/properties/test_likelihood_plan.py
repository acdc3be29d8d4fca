"""Properties of the layout in which continuations share what they have in common."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kick.probes.likelihood_plan import TRUNK_CONTEXTS, Plan, batches

TOKENS = st.integers(0, 3)
SEQUENCES = st.lists(st.lists(TOKENS, min_size=1, max_size=12).map(tuple), min_size=1, max_size=40, unique=True)


@settings(max_examples=200)
@given(sequences=SEQUENCES, shots=st.lists(TOKENS, max_size=90).map(tuple), rate=st.sampled_from([0, 8, 64, 10_000]), data=st.data())
def test_every_sequence_can_be_read_off_its_row(
    sequences: list[tuple[int, ...]], shots: tuple[int, ...], rate: int, data: st.DataObject
) -> None:
    """Trunk and path give each sequence back, at its own places, and a token sees exactly the tokens before it in its sequence."""
    whole = [(*shots, *sequence) if number % 3 else sequence for number, sequence in enumerate(sequences)]
    whole = list(dict.fromkeys(whole))
    first = [data.draw(st.integers(0, len(sequence) - 1)) for sequence in whole]
    plan = Plan(whole, first, pairs_per_token=rate)
    found = []
    for run in plan.runs():
        laid = plan.lay(run.rows, len(run.trunk))
        numbers = [number for row in run.rows for number in row.sequences]
        for number, path in zip(numbers, laid.paths, strict=True):
            ids = plan.sequences[number].tolist()
            found.append(plan.numbers[number])
            assert tuple(ids) == whole[plan.numbers[number]]
            assert (*run.trunk, *laid.tokens.ravel()[path]) == tuple(ids)
            assert laid.places.ravel()[path].tolist() == list(range(len(run.trunk), len(ids)))
            assert len(run.trunk) <= first[plan.numbers[number]], "the trunk's logits are never read"
            row, inside = path // laid.tokens.shape[1], path % laid.tokens.shape[1]
            if laid.seen is not None:
                for step, node in enumerate(inside):
                    assert np.flatnonzero(laid.seen[row[0], node]).tolist() == sorted(inside[: step + 1])
            else:
                assert inside.tolist() == list(range(len(path)))
    assert sorted(found) == list(range(len(whole)))


@given(sequences=SEQUENCES)
def test_a_model_without_trees_gets_whole_sequences(sequences: list[tuple[int, ...]]) -> None:
    """Without trees there is one sequence in a row and no trunk."""
    runs = list(Plan(sequences, [0] * len(sequences), pairs_per_token=10**6, trees=False).runs())
    assert [run.trunk for run in runs] == [()]
    assert all(len(row.sequences) == 1 for row in runs[0].rows)
    assert sum(row.size for row in runs[0].rows) == sum(map(len, sequences))


@given(length=st.integers(20, 200), contexts=st.integers(2, 30))
def test_trunks_pay(length: int, contexts: int) -> None:
    """A long prefix of many contexts is run once, and one of few contexts shares a row instead."""
    shots = tuple(range(length))
    whole = [(*shots, 1000 + number, 5, 6) for number in range(contexts)]
    runs = list(Plan(whole, [len(each) - 1 for each in whole], pairs_per_token=576).runs())
    total = sum(len(run.trunk) + sum(row.size for row in run.rows) for run in runs)
    assert total == length + 3 * contexts
    assert bool(runs[0].trunk) == (contexts >= TRUNK_CONTEXTS)


@given(sizes=st.lists(st.integers(1, 60), max_size=40), data=st.data())
def test_batches_hold_every_row_once_within_their_limits(sizes: list[int], data: st.DataObject) -> None:
    """Every row is in one batch, and no batch of several rows is larger than asked."""
    scored = [data.draw(st.integers(1, 5)) for _ in sizes]
    limits = (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 400)), data.draw(st.integers(1, 20)))
    ahead = data.draw(st.integers(0, 30))
    found = list(batches(sizes, scored, limits, ahead, 48))
    assert sorted(number for batch in found for number in batch) == list(range(len(sizes)))
    for batch in found:
        if len(batch) > 1:
            width = max(sizes[number] for number in batch)
            assert len(batch) <= limits[0]
            assert len(batch) * (ahead + width) <= limits[1]
            assert sum(scored[number] for number in batch) <= limits[2]
