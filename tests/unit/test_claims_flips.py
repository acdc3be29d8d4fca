"""C13 and C14 on made-up outcomes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED
from pytest_kick.claims.flips import dense_flips, flips_beyond_score, margin_of_flips
from pytest_kick.errors import KickError


def outcomes(lost: int, gained: int, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Return dense outcomes, half right, and others with so many lost and gained."""
    dense = np.arange(n) < n // 2
    now = dense.copy()
    now[:lost] = False
    now[n - gained :] = True if gained else now[n - gained :]
    return dense, now


@pytest.mark.parametrize(
    ("lost", "gained", "word"),
    [(50, 45, HOLDS), (0, 0, DOES_NOT_HOLD), (4, 3, UNDECIDED), (90, 20, NOT_APPLICABLE), (20, 90, NOT_APPLICABLE)],
)
def test_flips_count_where_the_score_stands_still(lost: int, gained: int, word: str) -> None:
    """More flips than the noise of 0.5% are shown, are shown not to be there, or neither; a changed score says nothing."""
    found = flips_beyond_score(*outcomes(lost, gained), noise=0.005)
    assert found.word == word
    assert found.drop == pytest.approx((lost - gained) / 1000)
    assert found.flips == pytest.approx((lost + gained) / 1000)
    assert found.flips_interval.low <= found.flips <= found.flips_interval.high


@given(margins=st.lists(st.integers(-4, 4), min_size=2, max_size=30), seed=st.integers(0, 99))
def test_the_auc_counts_pairs(margins: list[int], seed: int) -> None:
    """It is the share of pairs whose flipped answer has the smaller margin, by size, ties counted half."""
    flipped = np.random.default_rng(seed).random(len(margins)) < 0.5
    found = margin_of_flips(np.asarray(margins, float), flipped)
    if flipped.all() or not flipped.any():
        assert (found.word, found.auc, found.interval) == (NOT_APPLICABLE, None, None)
        return
    pairs = [(abs(a), abs(b)) for a, f in zip(margins, flipped, strict=True) if f for b, g in zip(margins, flipped, strict=True) if not g]
    assert found.auc == pytest.approx(np.mean([a < b or (a == b) / 2 for a, b in pairs]))
    assert found.interval is not None
    assert 0 <= found.interval.low <= found.auc <= found.interval.high <= 1


def test_the_interval_is_that_of_resamples() -> None:
    """DeLong's interval lies where resampling the flipped and the other answers puts it, and none is without width."""
    rng = np.random.default_rng(1)
    flipped = rng.random(400) < 0.3
    margin = np.where(flipped, rng.normal(1.0, 0.4, 400), rng.normal(1.5, 0.5, 400))
    found = margin_of_flips(margin, flipped)
    drawn = []
    for _ in range(400):
        there, others = (rng.choice(margin[mark], mark.sum()) for mark in (flipped, ~flipped))
        drawn.append((np.abs(there)[:, None] < np.abs(others)[None]).mean())
    assert found.interval is not None
    assert [found.interval.low, found.interval.high] == pytest.approx(np.quantile(drawn, [0.05, 0.95]), abs=0.02)
    perfect = margin_of_flips(np.arange(40.0), np.arange(40) < 20).interval
    assert perfect is not None
    assert 0.5 < perfect.low < 1.0


def test_flips_at_small_margins_are_seen() -> None:
    """A model that flips where dense is unsure holds, one that flips anywhere is undecided, one that flips the sure ones does not hold."""
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 3, 800)
    unsure = rng.random(800) < np.exp(-np.abs(margin))
    assert margin_of_flips(margin, unsure).word == HOLDS
    assert margin_of_flips(margin, rng.random(800) < 0.2).word == UNDECIDED
    assert margin_of_flips(margin, np.abs(margin) > 3).word == DOES_NOT_HOLD


@pytest.mark.parametrize(("flips", "word"), [(1, UNDECIDED), (9, UNDECIDED), (10, HOLDS), (191, UNDECIDED)])
def test_a_few_flips_decide_nothing(flips: int, word: str) -> None:
    """However small their margins: resamples of one flip are that flip again. So it is where almost all flipped."""
    assert margin_of_flips(np.arange(200.0), np.arange(200) < flips).word == word


def test_margins_have_to_be_numbers_of_the_same_answers() -> None:
    """Anything else would be compared with the wrong answers."""
    with pytest.raises(KickError, match="dense_margin"):
        margin_of_flips(np.zeros(3), np.ones(4, np.bool_))
    with pytest.raises(KickError, match="dense_margin"):
        margin_of_flips(np.asarray([0.0, np.nan]), np.asarray([True, False]))


def test_only_counted_flips_are_a_floor_of_flips() -> None:
    """Flips counted between dense runs hold, smaller than the cautious figure or larger; a net change can only raise that figure."""
    counted = dense_flips({"p1": 0.002, "flips_p1": 0.003}, "p1", "bfloat16", 1000)
    assert (counted.share, counted.measured) == (0.003, True)
    assert "(measured)" in str(counted)
    assert dense_flips({"flips_p1": 0.02}, "p1", "bfloat16", 1000).share == 0.02
    assert dense_flips({"p1": 0.002, "flips_free_p1": 0.3}, "p1", "bfloat16", 1000).share == 0.005
    assert dense_flips({"p1": 0.01}, "p1", "bfloat16", 1000).share == 0.01
    assert not dense_flips({"p1": 0.01}, "p1", "bfloat16", 1000).measured


@pytest.mark.parametrize(("dtype", "n", "share"), [("bfloat16", 100, 0.005), ("float32", 100, 0.02), ("float32", 5000, 0.001)])
def test_until_flips_are_counted_the_cautious_figures_stand(dtype: str, n: int, share: float) -> None:
    """Half a percent in bfloat16; two facts or a thousandth in float32, as a regression has it."""
    found = dense_flips({}, "p1", dtype, n)
    assert (found.share, found.measured) == (share, False)
    assert "(assumed)" in str(found)
