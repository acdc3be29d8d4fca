"""Properties of the intervals and tests that hold for every table of paired outcomes."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_kick import stats
from pytest_kick.stats import PairedCounts

CELL = st.one_of(st.integers(0, 4), st.integers(0, 60), st.integers(0, 3000))
TABLES = st.builds(PairedCounts, both=CELL, lost=CELL, gained=CELL, neither=st.integers(1, 3000))
FLOORS = st.sampled_from([0.0, 0.004, 0.05, 0.25, 0.5])
CONFIDENCES = st.sampled_from([0.8, 0.9, 0.95, 0.99])


def swap(counts: PairedCounts) -> PairedCounts:
    """Exchange the dense and the compressed model."""
    return PairedCounts(both=counts.both, lost=counts.gained, gained=counts.lost, neither=counts.neither)


@given(TABLES, FLOORS, CONFIDENCES)
def test_retention_interval_contains_its_estimate_and_has_a_width(counts: PairedCounts, floor: float, confidence: float) -> None:
    """The estimate lies in the interval, which is finite and wider than zero where the probe can judge."""
    assume(stats.judgeable(counts, floor, confidence))
    interval = stats.retention_interval(counts, floor, confidence)
    assert interval.low <= stats.retention(counts, floor) <= interval.high
    assert math.isfinite(interval.low)
    assert math.isfinite(interval.high)
    assert interval.width > 0


@given(TABLES, FLOORS)
def test_retention_interval_grows_with_confidence(counts: PairedCounts, floor: float) -> None:
    """More confidence gives an interval that contains the one of less."""
    narrow, wide = (stats.retention_interval(counts, floor, confidence) for confidence in (0.9, 0.95))
    assert wide.low <= narrow.low
    assert narrow.high <= wide.high


@given(TABLES, FLOORS, CONFIDENCES, st.floats(0.0, 3.0))
def test_interval_excludes_what_the_test_rejects(counts: PairedCounts, floor: float, confidence: float, r: float) -> None:
    """A retention lies outside of the interval exactly if the score test rejects it at the same level."""
    assume(stats.judgeable(counts, floor, confidence))
    interval = stats.retention_interval(counts, floor, confidence)
    assume(min(abs(r - interval.low), abs(r - interval.high)) > 1e-6)
    test = stats.retention_score_test(counts, floor, r)
    assert (r < interval.low) == (test.p_retained < 1 - confidence)
    assert (r > interval.high) == (test.p_forgot < 1 - confidence)


@given(TABLES, st.floats(0.05, 5.0))
def test_swapping_the_models_inverts_a_ratio(counts: PairedCounts, r: float) -> None:
    """With a floor of 0, testing r forwards is testing 1 / r backwards."""
    forward = stats.retention_score_test(counts, 0.0, r).z
    backward = stats.retention_score_test(swap(counts), 0.0, 1 / r).z
    assert math.isclose(forward, -backward, rel_tol=1e-6, abs_tol=1e-6)


@given(TABLES, CONFIDENCES)
def test_swapping_the_models_mirrors_the_drop(counts: PairedCounts, confidence: float) -> None:
    """The interval of the drop changes its sign with the order of the models, lies in [-1, 1] and has a width."""
    forward, backward = stats.drop_interval(counts, confidence), stats.drop_interval(swap(counts), confidence)
    assert math.isclose(forward.low, -backward.high, abs_tol=1e-9)
    assert math.isclose(forward.high, -backward.low, abs_tol=1e-9)
    assert -1 <= forward.low < forward.high <= 1
    assert forward.low <= (counts.lost - counts.gained) / counts.n <= forward.high


@given(TABLES, FLOORS, st.floats(0.0, 2.0), st.integers(2, 9))
def test_statistic_grows_with_the_root_of_the_scale(counts: PairedCounts, floor: float, r: float, scale: int) -> None:
    """Count everything k times to get the statistic times the root of k, which is what `n_more_to_decide` relies on."""
    scaled = PairedCounts(both=counts.both * scale, lost=counts.lost * scale, gained=counts.gained * scale, neither=counts.neither * scale)
    once, more = (stats.retention_score_test(c, floor, r).z for c in (counts, scaled))
    assert math.isclose(more, once * math.sqrt(scale), rel_tol=1e-6, abs_tol=1e-6)


@given(TABLES, FLOORS, st.floats(0.3, 1.2))
def test_n_more_is_zero_exactly_where_it_is_decided(counts: PairedCounts, floor: float, r: float) -> None:
    """No more examples are asked for if and only if the interval excludes r."""
    interval = stats.retention_interval(counts, floor)
    assume(min(abs(r - interval.low), abs(r - interval.high)) > 1e-6)
    assert (stats.n_more_to_decide(counts, floor, r) == 0) == (r not in interval)


@given(st.integers(1, 3000), st.integers(0, 3000), FLOORS)
def test_identical_outcomes_retain_one(both: int, neither: int, floor: float) -> None:
    """The same outcomes retain exactly 1, are never shown to lose, and are not evidence of certainty."""
    counts = PairedCounts(both=both, lost=0, gained=0, neither=neither)
    assume(stats.judgeable(counts, floor))
    interval = stats.retention_interval(counts, floor)
    assert stats.retention(counts, floor) == 1.0
    assert interval.low < 1.0 < interval.high


@given(TABLES, CONFIDENCES)
def test_flips_interval_contains_its_estimate(counts: PairedCounts, confidence: float) -> None:
    """The share of flips lies in its interval, within [0, 1], wider than zero."""
    interval = stats.flips_interval(counts, confidence)
    assert 0 <= interval.low <= counts.flips <= interval.high <= 1
    assert interval.width > 0


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_falls_with_losses(lost: int, gained: int) -> None:
    """One more loss never raises the p-value, one more gain never lowers it."""
    p = stats.mcnemar_exact_one_sided(lost, gained)
    assert 0 <= p <= 1
    assert stats.mcnemar_exact_one_sided(lost + 1, gained) <= p + 1e-12
    assert stats.mcnemar_exact_one_sided(lost, gained + 1) >= p - 1e-12


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1]))
def test_level_estimates_lie_in_their_intervals(seed: int, floor: float) -> None:
    """Critical level and steepest step lie in their own intervals, whatever the outcomes."""
    rng = np.random.default_rng(seed)
    dense = rng.random(60) < 0.8
    assume(np.mean(dense) > floor)
    compressed = rng.random((4, 60)) < rng.random((4, 1))
    levels = [0.2, 0.4, 0.6, 0.8]
    level = stats.critical_level(levels, compressed, dense, floor, 0.5, n_resamples=50)
    step = stats.steepest_step(levels, compressed, dense, floor, n_resamples=50)
    assert level.interval.low <= level.estimate <= level.interval.high
    assert step.interval.low <= step.start < step.end <= step.interval.high
    assert math.isclose(sum(step.support), 1.0)
