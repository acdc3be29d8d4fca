"""The statistics against derivations of their own: brute-force likelihoods, published examples, closed forms."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from pytest_kick import stats
from pytest_kick.errors import KickError
from pytest_kick.stats import Interval, PairedCounts
from pytest_kick.stats.levels import non_increasing

Z = NormalDist().inv_cdf(0.95)


def table(both: int, lost: int, gained: int, neither: int) -> PairedCounts:
    """Make a table in reading order."""
    return PairedCounts(both=both, lost=lost, gained=gained, neither=neither)


def brute_force_z(counts: PairedCounts, floor: float, r: float) -> float:
    """Maximise the multinomial likelihood under the hypothesis on a grid over two free shares, again and again finer."""
    observed = np.array([counts.both, counts.lost, counts.gained, counts.neither], dtype=float)[:, None, None]
    constant = (1 - r) * floor

    def shares(lost: np.ndarray, gained: np.ndarray) -> np.ndarray:
        # Lost and gained span the grid, so that its edges hold the tables where one of them is exactly 0.
        both = (constant - gained + r * lost) / (1 - r)
        p = np.stack([both, lost, gained, 1 - both - lost - gained])
        return np.where(np.abs(p) < 1e-12, 0.0, p)

    low, high = np.zeros(2), np.ones(2)
    for _ in range(70):
        axes = [np.linspace(start, end, 31) for start, end in zip(low, high, strict=True)]
        p = shares(*np.meshgrid(*axes, indexing="ij"))
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(observed > 0, observed * np.log(p), 0.0).sum(axis=0)
        place = np.unravel_index(np.argmax(np.where((p < 0).any(axis=0), -np.inf, terms)), terms.shape)
        best = np.array([axis[index] for axis, index in zip(axes, place, strict=True)])
        width = 0.4 * (high - low)
        low, high = np.maximum(best - width, 0), np.minimum(best + width, 1)
    values = np.array([1 - r, -r, 1.0, 0.0]) - constant
    variance = counts.n * float(shares(*best) @ values**2)
    return float(observed.ravel() @ values) / math.sqrt(variance)


@pytest.mark.parametrize("counts", [table(40, 12, 5, 43), table(30, 9, 0, 61), table(50, 0, 0, 50), table(20, 0, 6, 74)])
@pytest.mark.parametrize(("floor", "r"), [(0.05, 0.8), (0.25, 0.95), (0.25, 1.3), (0.1, 0.99), (0.2, 0.1)])
def test_score_statistic_uses_the_constrained_mle(counts: PairedCounts, floor: float, r: float) -> None:
    """The statistic equals the one at a likelihood maximum found by brute force, empty outcomes included."""
    found = stats.retention_score_test(counts, floor, r).z
    assert found == pytest.approx(brute_force_z(counts, floor, r), rel=1e-4)


def nam_blackwelder_z(counts: PairedCounts, r: float) -> float:
    """Return the closed form for a ratio: the constrained share of gains is the root of a quadratic."""
    lost, gained = counts.lost / counts.n, counts.gained / counts.n
    dense, compressed, right = counts.p_dense, counts.p_compressed, 1 - counts.neither / counts.n
    root = math.sqrt((compressed - r * r * dense) ** 2 + 4 * r * r * lost * gained)
    gained_mle = (-compressed + r * r * (dense + 2 * gained) + root) / (2 * r * (r + 1))
    lost_mle = r * gained_mle + (1 - r) * right
    return math.sqrt(counts.n) * (compressed - r * dense) / math.sqrt(r * (lost_mle + gained_mle))


@pytest.mark.parametrize("counts", [table(43, 12, 5, 40), table(30, 9, 0, 61), table(500, 1, 30, 3), table(50, 0, 0, 9)])
@pytest.mark.parametrize("r", [0.3, 0.8, 0.95, 1.2, 3.0])
def test_floor_zero_is_nam_and_blackwelder(counts: PairedCounts, r: float) -> None:
    """With a floor of 0 the statistic is Nam and Blackwelder's, whose MLE has a closed form."""
    assert stats.retention_score_test(counts, 0.0, r).z == pytest.approx(nam_blackwelder_z(counts, r), rel=1e-9)


def tango_z(lost: int, gained: int, n: int, drop: float) -> float:
    """Return Tango's statistic for `p_d - p_c = drop`, equations 24 to 26 of his paper."""
    b = -lost - gained + (2 * n - lost + gained) * drop
    q = (math.sqrt(b * b + 8 * n * gained * drop * (1 - drop)) - b) / (4 * n)
    return (lost - gained - n * drop) / math.sqrt(n * (2 * q + drop * (1 - drop)))


@pytest.mark.parametrize("counts", [table(43, 12, 5, 40), table(90, 4, 0, 6), table(10, 0, 7, 3), table(60, 0, 0, 40)])
def test_drop_interval_ends_where_tangos_statistic_is_critical(counts: PairedCounts) -> None:
    """Both ends of the drop's interval lie at plus and minus 1.645 of Tango's closed form."""
    interval = stats.drop_interval(counts)
    assert tango_z(counts.lost, counts.gained, counts.n, interval.low) == pytest.approx(Z, rel=1e-8)
    assert tango_z(counts.lost, counts.gained, counts.n, interval.high) == pytest.approx(-Z, rel=1e-8)


@pytest.mark.parametrize(
    ("counts", "confidence", "low", "high"),
    [(table(600, 60, 20, 320), 0.975, 0.0231, 0.0584), (table(460, 48, 41, 0), 0.95, -0.0157, 0.0414)],
)
def test_drop_interval_matches_another_implementation(counts: PairedCounts, confidence: float, low: float, high: float) -> None:
    """The interval agrees with published output of R's PropCIs::scoreci.mp to its four decimals."""
    interval = stats.drop_interval(counts, confidence)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_retention_at_one_is_tangos_test_of_no_drop() -> None:
    """At r = 1 the floor plays no part: the statistic is McNemar's."""
    for floor in (0.0, 0.05, 0.25):
        assert stats.retention_score_test(table(60, 16, 4, 20), floor, 1.0).z == pytest.approx(-12 / math.sqrt(20))


def test_p_values_are_the_tails_of_the_statistic() -> None:
    """The two one-sided p-values are the normal tails, and add up to 1."""
    test = stats.retention_score_test(table(60, 16, 4, 20), 0.05, 0.9)
    assert test.p_retained == pytest.approx(scipy_stats.norm.sf(test.z))
    assert test.p_forgot == pytest.approx(scipy_stats.norm.cdf(test.z))


def test_retention_is_exact_unrounded_and_can_be_negative() -> None:
    """Equal scores retain exactly 1, a dead model at the floor 0, one below it less than 0."""
    assert stats.retention(table(20, 3, 3, 4), 0.25) == 1.0
    assert stats.retention(table(0, 50, 25, 25), 0.25) == 0.0
    assert stats.retention(table(0, 50, 0, 50), 0.25) == -1.0
    assert stats.retention(table(18, 2, 0, 20), 0.0) == pytest.approx(0.9)


@pytest.mark.parametrize("n_right", [1, 10, 50, 1000])
def test_zero_flips_have_wilsons_width(n_right: int) -> None:
    """Without a flip the bounds are k / (k + z^2) and 1 + z^2 / k, never 1 and 1."""
    interval = stats.retention_interval(table(n_right, 0, 0, 30), 0.0)
    assert interval.low == pytest.approx(n_right / (n_right + Z * Z))
    assert interval.high == pytest.approx(1 + Z * Z / n_right)


def test_everything_lost_retains_nothing_but_keeps_an_upper_bound() -> None:
    """All lost: the interval starts at 0 and ends at z^2 / k."""
    interval = stats.retention_interval(table(0, 50, 0, 150), 0.0)
    assert interval.low == 0.0
    assert interval.high == pytest.approx(Z * Z / 50)


@pytest.mark.parametrize(("right", "judged"), [(50, False), (60, False), (61, True), (100, True)])
def test_judgeable_asks_for_a_dense_score_above_the_floor(right: int, judged: bool) -> None:
    """Of 200 at a floor of .25 (50 expected, sd 6.1) it takes 61 right answers; below, no retention is excluded."""
    counts = table(right, 0, 0, 200 - right)
    assert stats.judgeable(counts, 0.25) is judged
    assert (stats.dense_margin_lower_bound(counts, 0.25) > 0) is judged
    assert math.isfinite(stats.retention_interval(counts, 0.25).high) is judged
    assert math.isfinite(stats.retention_interval(counts, 0.25).low) is judged


def test_dense_that_knows_nothing_cannot_be_judged() -> None:
    """Without one right answer the probe cannot judge, retention is an error and its interval has no upper bound."""
    nothing = table(0, 0, 4, 96)
    assert not stats.judgeable(nothing, 0.0)
    assert stats.dense_margin_lower_bound(nothing, 0.0) == 0.0
    assert stats.retention_interval(nothing, 0.0) == Interval(low=0.0, high=math.inf)
    with pytest.raises(KickError, match=r"^stats: p_dense: got 0, expected a score above the floor 0\. The probe"):
        stats.retention(nothing, 0.0)


@pytest.mark.parametrize(("flipped", "n"), [(0, 200), (3, 200), (200, 200), (1, 1)])
def test_flips_interval_is_clopper_pearson(flipped: int, n: int) -> None:
    """The flips' interval is scipy's exact one at 90%."""
    expected = scipy_stats.binomtest(flipped, n).proportion_ci(0.9, method="exact")
    found = stats.flips_interval(table(n - flipped, flipped, 0, 0))
    assert (found.low, found.high) == (pytest.approx(expected.low), pytest.approx(expected.high))


@pytest.mark.parametrize(("lost", "gained"), [(0, 0), (0, 5), (5, 0), (12, 4), (40, 41), (300, 200)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, gained: int) -> None:
    """The p-value is scipy's one-sided binomial test on the flips; with no loss it is 1."""
    expected = 1.0
    if lost + gained:
        expected = scipy_stats.binomtest(lost, lost + gained, alternative="greater").pvalue
    assert stats.mcnemar_exact_one_sided(lost, gained) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("n", "discordance", "points"),
    [
        *zip((200, 500, 1000, 2000), (0.1,) * 4, (5.6, 3.5, 2.5, 1.8), strict=True),
        *zip((200, 500, 1000, 2000), (0.05,) * 4, (3.9, 2.5, 1.8, 1.3), strict=True),
    ],
)
def test_smallest_detectable_drop_is_as_published(n: int, discordance: float, points: float) -> None:
    """The table of detectable drops is met, to 0.06 points (its last entry, 1.3, is 1.24 by this formula)."""
    assert 100 * stats.smallest_detectable_drop(n, discordance) == pytest.approx(points, abs=0.06)


def test_smallest_detectable_drop_has_its_power() -> None:
    """Simulated, the drop named for 500 examples at 10% discordance is found 80% of the time."""
    drop = stats.smallest_detectable_drop(500, 0.1)
    shares = [0.5 - drop, (0.1 + drop) / 2, (0.1 - drop) / 2, 0.4 + drop]
    _, lost, gained, _ = np.random.default_rng(3).multinomial(500, shares, size=4000).T
    found = (lost - gained) / np.sqrt(np.maximum(lost + gained, 1)) > Z
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)


def test_five_percent_of_retention_at_a_third_needs_two_thousand() -> None:
    """A 5% loss of retention at a dense score of .34 and 7% discordance: 2,000 examples find it, 1,000 do not."""
    assert stats.smallest_detectable_retention_loss(2000, 0.34, 0.07) < 0.05
    assert stats.smallest_detectable_retention_loss(1000, 0.34, 0.07) > 0.05
    assert math.isinf(stats.smallest_detectable_retention_loss(1000, 0.2, 0.07, floor=0.25))


@pytest.mark.parametrize("counts", [table(180, 20, 6, 94), table(190, 8, 1, 101), table(50, 0, 0, 50)])
@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_n_more_is_the_smallest_number_that_decides(counts: PairedCounts, floor: float) -> None:
    """The statistic, scaled to the named number of examples, is just above critical; one example fewer is not."""
    more = stats.n_more_to_decide(counts, floor, 0.96)
    assert more is not None
    z = abs(stats.retention_score_test(counts, floor, 0.96).z)
    if more == 0:
        assert z > Z
    else:
        assert z * math.sqrt((counts.n + more) / counts.n) > Z
        assert z * math.sqrt((counts.n + more - 1) / counts.n) <= Z


def test_n_more_is_none_where_no_number_decides() -> None:
    """An estimate at r, a number beyond the cap and a dense score at the floor cannot be decided."""
    assert stats.n_more_to_decide(table(90, 10, 0, 100), 0.0, 0.9) is None
    assert stats.n_more_to_decide(table(901, 100, 0, 1000), 0.0, 0.9, cap=10_000) is None
    assert stats.n_more_to_decide(table(25, 0, 0, 75), 0.25, 0.9) is None


def test_n_more_counts_what_the_floor_still_needs() -> None:
    """Where the dense score is not yet shown to be above the floor, enough examples for that are asked for."""
    counts = table(30, 0, 0, 70)
    more = stats.n_more_to_decide(counts, 0.25, 0.5)
    assert more is not None
    scale = (100 + more) / 100
    assert 0.05 * math.sqrt(100 * scale / (0.25 * 0.75)) > Z


def test_small_simulation_keeps_the_error_rates() -> None:
    """At the budget itself false RETAINED and false FORGOT stay at most 7% (and Monte-Carlo error), also without gains."""
    rng = np.random.default_rng(11)
    for n, dense, floor, gained in [(200, 0.35, 0.0, 0.0), (200, 0.6, 0.25, 0.03), (500, 0.35, 0.05, 0.0)]:
        lost = 0.1 * (dense - floor) + gained
        drawn = rng.multinomial(n, [dense - lost, lost, gained, 1 - dense - gained], size=2000)
        distinct, times = np.unique(drawn, axis=0, return_counts=True)
        z = np.array([stats.retention_score_test(table(*row), floor, 0.9).z for row in distinct.tolist()])
        limit = 0.07 + 3 * math.sqrt(0.07 * 0.93 / 2000)
        assert 0.02 < times[z > Z].sum() / 2000 < limit
        assert 0.02 < times[z < -Z].sum() / 2000 < limit


def outcomes(counts: PairedCounts) -> tuple[np.ndarray, np.ndarray]:
    """Make the two arrays of outcomes of a table."""
    sizes = (counts.both, counts.lost, counts.gained, counts.neither)
    return np.repeat([True, True, False, False], sizes), np.repeat([True, False, True, False], sizes)


def test_counts_come_from_paired_outcomes() -> None:
    """Counting two arrays gives the table that made them, and its shares."""
    counts = table(5, 3, 2, 7)
    assert PairedCounts.from_outcomes(*outcomes(counts)) == counts
    assert (counts.n, counts.p_dense, counts.p_compressed) == (17, 8 / 17, 7 / 17)
    assert counts.flips == pytest.approx(5 / 17)


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    """The percentile interval of a mean is the normal one within a few percent of its width, and repeats with its seed."""
    values = np.random.default_rng(0).normal(size=400)
    found = stats.bootstrap_interval(stats.weighted_mean(values), 400, seed=1, n_resamples=4000)
    half = Z * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.06 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06 * half)
    assert found == stats.bootstrap_interval(stats.weighted_mean(values), 400, seed=1, n_resamples=4000)


def test_bootstrap_within_groups_keeps_their_sizes() -> None:
    """Units are drawn within their group: a value that is constant in each group has no spread, and the mean is macro."""
    groups = np.array(["a"] * 10 + ["b"] * 90)
    values = np.where(groups == "a", 1.0, 0.5)
    grouped = stats.bootstrap_interval(stats.weighted_mean(values, groups), 100, groups=groups)
    assert (grouped.low, grouped.high) == (pytest.approx(0.75), pytest.approx(0.75))
    assert stats.bootstrap_interval(stats.weighted_mean(values), 100).width > 0.025


def test_bootstrap_weights_sum_to_n_and_come_in_blocks() -> None:
    """Every resample draws n units; more resamples than one block holds are all used."""
    sizes: list[int] = []

    def statistic(weights: np.ndarray) -> np.ndarray:
        sizes.append(len(weights))
        assert (weights.sum(axis=1) == 50_000).all()
        return np.zeros(len(weights))

    stats.bootstrap_interval(statistic, 50_000, n_resamples=170)
    assert sizes == [80, 80, 10]


def test_bootstrap_refuses_nan() -> None:
    """A statistic that is NaN for a resample is an error, not an interval."""
    with pytest.raises(KickError, match=r"^stats: statistic: got NaN for a resample, expected a number for each\."):
        stats.bootstrap_interval(lambda w: np.full(len(w), np.nan), 5)


def test_paired_difference_sees_the_pairing() -> None:
    """Two arms that differ on the same facts by 5 points of 50: the interval excludes 0; two equal arms keep a width."""
    dense, a = outcomes(table(230, 20, 5, 245))
    b = a.copy()
    b[:25] = False
    difference, interval = stats.paired_difference_of_retentions(dense, a, b, 0.0)
    assert difference == pytest.approx(0.1)
    assert 0 < interval.low < 0.1 < interval.high
    same, around = stats.paired_difference_of_retentions(dense, a, a, 0.0)
    assert same == 0.0
    assert around.low < 0 < around.high
    assert stats.equivalent(around, 0.05)
    assert not stats.equivalent(interval, 0.05)


def curve_outcomes(shares: list[float], n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Make a dense model that is always right, and levels right on the given shares of the facts."""
    return np.array([np.arange(n) < round(share * n) for share in shares]), np.ones(n, dtype=bool)


def test_critical_level_interpolates() -> None:
    """Retention .95 at .2 and .75 at .4 is .9 at .25; its interval contains it and is narrow."""
    compressed, dense = curve_outcomes([0.95, 0.75, 0.1])
    found = stats.critical_level([0.2, 0.4, 0.6], compressed, dense, 0.0, 0.9)
    assert found.estimate == pytest.approx(0.25)
    assert found.estimate in found.interval
    assert 0 < found.interval.width < 0.1


def test_critical_level_pools_a_rise_and_starts_at_the_dense_model() -> None:
    """A rise (.6 then .8) is pooled to .7; a first level below the target is interpolated from level 0."""
    compressed, dense = curve_outcomes([0.6, 0.8, 0.3])
    pooled = stats.critical_level([0.2, 0.4, 0.6], compressed, dense, 0.0, 0.5)
    assert pooled.estimate == pytest.approx(0.4 + 0.2 * (0.7 - 0.5) / 0.4)
    assert stats.critical_level([0.2, 0.4, 0.6], compressed, dense, 0.0, 0.85).estimate == pytest.approx(0.1)


def test_critical_level_beyond_the_grid_is_infinite() -> None:
    """Where retention never falls to the target the level is infinite, and so is its upper bound."""
    compressed, dense = curve_outcomes([1.0, 0.99])
    found = stats.critical_level([0.1, 0.2], compressed, dense, 0.0, 0.5)
    assert found.estimate == math.inf
    assert found.interval == Interval(low=math.inf, high=math.inf)


def test_critical_level_takes_the_floor_off() -> None:
    """With a floor of .25 a score of .625 is a retention of one half."""
    compressed, dense = curve_outcomes([1.0, 0.625])
    assert stats.critical_level([0.3, 0.6], compressed, dense, 0.25, 0.5).estimate == pytest.approx(0.6)


def test_isotonic_fit_is_pool_adjacent_violators() -> None:
    """The vectorised min-max fit equals the textbook algorithm that pools neighbours."""
    curves = np.random.default_rng(5).normal(size=(40, 7)) - np.arange(7) * 0.3
    for curve, fit in zip(curves, non_increasing(curves), strict=True):
        blocks: list[list[float]] = []
        for value in curve:
            blocks.append([value])
            while len(blocks) > 1 and np.mean(blocks[-2]) < np.mean(blocks[-1]):
                blocks[-2:] = [blocks[-2] + blocks[-1]]
        expected = list(itertools.chain.from_iterable([float(np.mean(block))] * len(block) for block in blocks))
        assert fit == pytest.approx(expected)


def test_steepest_step_is_found_with_its_support() -> None:
    """The cliff between .4 and .5 is found in every resample: it is steeper per unit of level than the larger drop after it."""
    compressed, dense = curve_outcomes([0.95, 0.9, 0.55, 0.05])
    found = stats.steepest_step([0.2, 0.4, 0.5, 0.9], compressed, dense, 0.0)
    assert (found.start, found.end) == (0.4, 0.5)
    assert found.drop == pytest.approx(0.35)
    assert found.interval == Interval(low=0.4, high=0.5)
    assert found.support == (0.0, 0.0, 1.0, 0.0)


def test_steepest_step_of_near_equals_is_uncertain() -> None:
    """Two steps of nearly equal drop share the resamples, and the interval covers both."""
    compressed, dense = curve_outcomes([0.7, 0.39], n=100)
    found = stats.steepest_step([0.3, 0.6], compressed, dense, 0.0)
    assert found.interval == Interval(low=0.0, high=0.6)
    assert min(found.support) > 0.2


def test_bonferroni_and_holm() -> None:
    """Bonferroni divides the level by the cells; Holm stops at the first p-value that is not small enough."""
    assert stats.bonferroni(0.95, 175) == pytest.approx(0.05 / 175)
    assert stats.holm([0.04, 0.01, 0.02]) == (True, True, True)
    assert stats.holm([0.03, 0.01, 0.04]) == (False, True, False)
    assert stats.holm([]) == ()


def test_interval_membership_and_width() -> None:
    """An interval contains its ends."""
    interval = Interval(low=0.5, high=0.75)
    assert 0.5 in interval
    assert 0.75 in interval
    assert 0.76 not in interval
    assert interval.width == 0.25


FOUR = table(4, 3, 2, 1)
RIGHT = np.array([True, False])
BAD = [
    (lambda: table(0, 0, 0, 0), "n: got 0, expected at least 1 example. Check that the probe has examples."),
    (lambda: table(-1, 0, 0, 3), "both: got -1, expected a whole number of at least 0. Count the outcomes again."),
    (lambda: stats.retention(FOUR, 25.0), "floor: got 25.0, expected a fraction of at least 0 and below 1. Give"),
    (lambda: stats.retention(FOUR, math.nan), "floor: got nan, expected a fraction of at least 0 and below 1. Give"),
    (lambda: stats.retention_interval(FOUR, 0.0, 95), "confidence: got 95, expected a fraction above 0.5 and below 1."),
    (lambda: stats.retention_score_test(FOUR, 0.0, -0.1), "r: got -0.1, expected a finite retention (at least 0 for"),
    (lambda: stats.retention_score_test(FOUR, 0.2, math.nan), "r: got nan, expected a finite retention (at least 0"),
    (lambda: stats.mcnemar_exact_one_sided(-1, 2), "lost, gained: got -1, 2, expected counts of at least 0. Count"),
    (lambda: stats.bonferroni(0.95, 0), "n_comparisons: got 0, expected at least 1. Count those of the run."),
    (lambda: stats.holm([0.1, 1.5]), "p_values: got 1.5, expected a number from 0 to 1. Check the tests."),
    (lambda: stats.smallest_detectable_drop(0, 0.1), "n: got 0, expected at least 1 example. Check that the probe"),
    (lambda: stats.smallest_detectable_drop(9, 0.0), "discordance: got 0.0, expected a fraction above 0 and below 1."),
    (lambda: stats.equivalent(Interval(low=0, high=1), 0.0), "margin: got 0.0, expected a number above 0. 0.05 is 5%"),
    (lambda: stats.bootstrap_interval(len, 0), "n, n_resamples: got 0, 2000, expected at least 1 each. Check the"),
    (lambda: stats.bootstrap_interval(len, 2, groups=[1]), "groups: got shape (1,), expected (2,). Give one label per"),
    (lambda: PairedCounts.from_outcomes(RIGHT, RIGHT[:1]), "compressed: got 1 outcomes, expected 2 as in dense. Compare"),
    (lambda: PairedCounts.from_outcomes(RIGHT * 1.0, RIGHT), "dense: got float64 of shape (2,), expected bool of shape"),
    (lambda: stats.critical_level([0.2, 0.1], [RIGHT] * 2, RIGHT, 0, 0.9), "levels: got [0.2, 0.1], expected at least"),
    (lambda: stats.critical_level([0.2, 0.4], [RIGHT], RIGHT, 0, 0.9), "compressed: got 1 rows, expected 2. Give one"),
    (lambda: stats.steepest_step([], np.zeros((0, 2), bool), RIGHT, 0), "levels: got [], expected at least one level"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_is_one_line(call: object, message: str) -> None:
    """Each bad argument is one line that names the field, the value and the rule."""
    assert callable(call)
    with pytest.raises(KickError) as caught:
        call()
    assert str(caught.value).startswith(f"stats: {message}")
    assert "\n" not in str(caught.value)


PAIRED = {
    "difference": lambda dense, row, floor, confidence: stats.paired_difference_of_retentions(dense, row, row, floor, confidence),
    "level": lambda dense, row, floor, confidence: stats.critical_level([0.5], [row], dense, floor, 0.9, confidence),
    "step": lambda dense, row, floor, confidence: stats.steepest_step([0.5], [row], dense, floor, confidence),
}


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dense": RIGHT * 1.0}, "dense: got float64 of shape (2,), expected bool of shape (n,)."),
        ({"row": RIGHT * 1.0}, "compressed: got float64 of shape (2,), expected bool of shape (n,)."),
        ({"row": RIGHT[:1]}, "compressed: got 1 outcomes, expected 2 as in dense."),
        ({"floor": 0.5}, "p_dense: got 0.5, expected a score above the floor 0.5."),
        ({"floor": -0.1}, "floor: got -0.1, expected a fraction of at least 0 and below 1."),
        ({"confidence": 0.5}, "confidence: got 0.5, expected a fraction above 0.5 and below 1."),
    ],
    ids=str,
)
def test_paired_bootstraps_refuse_alike(name: str, change: dict[str, object], message: str) -> None:
    """Everything that is resampled over the same facts checks its outcomes, floor and confidence, and says the same."""
    arguments: dict[str, Any] = {"dense": RIGHT, "row": RIGHT, "floor": 0.0, "confidence": 0.95, **change}
    with pytest.raises(KickError) as caught:
        PAIRED[name](**arguments)
    assert str(caught.value).startswith(f"stats: {message}")


def test_import_needs_neither_torch_nor_scipy() -> None:
    """Importing the statistics at collection loads no torch, no pytest and no scipy."""
    code = "import json, sys, pytest_kick.stats; print(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "pytest", "scipy"} & set(json.loads(found.stdout))
