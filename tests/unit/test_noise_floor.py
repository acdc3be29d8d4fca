from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_measurements import make_examples, make_score

from pytest_kick.infos import MeanInfo
from pytest_kick.noise import BATCH_SIZES, noise_floors

RIGHT = np.arange(40) % 4 > 0


def flipped(*places: int) -> Any:
    """Return the score with the outcomes at some places turned round."""
    right = RIGHT.copy()
    right[list(places)] ^= True
    return make_score(make_examples(right))


def test_the_largest_net_change_counts() -> None:
    """Flips that cancel are no noise of a net loss; of several repetitions the furthest away counts, up or down."""
    first = (flipped(),)
    assert noise_floors(first, [(flipped(1, 2, 3),), (flipped(1),)])["facts"]["p1"] == pytest.approx(3 / 40)
    assert noise_floors(first, [(flipped(0, 4),), (flipped(1),)])["facts"]["p1"] == pytest.approx(2 / 40)
    assert noise_floors(first, [(flipped(0, 1),)])["facts"]["p1"] == 1 / 40


def test_an_outcome_never_has_less_than_one_example() -> None:
    """A run without a flip proves no absence of noise; every outcome has a floor, no other array has one."""
    names = ("p1", "free_p1", "flips_p1", "flips_free_p1")
    assert noise_floors((flipped(),), [(flipped(),)]) == {"facts": dict.fromkeys(names, 1 / 40)}


def test_means_are_in_their_own_units() -> None:
    """The floor of a mean is the largest change of the mean, and nothing where it did not move."""
    mean = MeanInfo(name="nats", kind="loss", array="margin")
    score = replace(flipped(), means=(mean,))
    moved = [replace(score, metrics={**score.metrics, "nats": value}) for value in (2.0, 2.003, 1.996)]
    assert noise_floors((moved[0],), [(moved[1],), (moved[2],)])["facts"]["nats"] == pytest.approx(0.004)
    assert noise_floors((moved[0],), [(moved[0],)])["facts"]["nats"] == 0.0


def test_probes_are_compared_with_themselves() -> None:
    """Each probe has its own floors."""
    first = (flipped(), replace(flipped(), probe="bear"))
    found = noise_floors(first, [(flipped(), replace(flipped(1, 2), probe="bear"))])
    assert (found["facts"]["p1"], found["bear"]["p1"]) == (1 / 40, pytest.approx(2 / 40))


def test_sizes_differ_from_what_is_recorded() -> None:
    """No repetition is the recorded run again, and none is another one's."""
    assert len(set(BATCH_SIZES)) == len(BATCH_SIZES)
    assert 256 not in BATCH_SIZES


def test_flips_between_any_two_runs_are_kept_apart_from_net_changes() -> None:
    """As many gained as lost move no score and are flips all the same; two repetitions may differ more than each does from the first."""
    assert (RIGHT[[0, 4]] == [False, False]).all()
    gained_and_lost = flipped(0, 1)
    found = noise_floors((flipped(),), [(gained_and_lost,)])["facts"]
    assert (found["p1"], found["flips_p1"]) == (1 / 40, pytest.approx(2 / 40))
    found = noise_floors((flipped(),), [(flipped(0, 1),), (flipped(2, 4, 5),)])["facts"]
    assert found["flips_p1"] == pytest.approx(5 / 40)
    assert noise_floors((flipped(),), [(flipped(),)])["facts"]["flips_p1"] == 1 / 40


def test_runs_are_compared_on_the_examples_of_both() -> None:
    """Where a judge left an example unrated in one run, the others are compared, each with itself."""
    whole, part = flipped(), flipped(7)
    part = replace(part, examples=part.examples.take(np.arange(39, 1, -1)))
    assert noise_floors((whole,), [(part,)])["facts"]["flips_p1"] == pytest.approx(1 / 38)
