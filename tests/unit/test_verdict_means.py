"""Metrics that are means of numbers: retention of scores, ratio of losses, distance from dense, and the comparison with a stored run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_measurements import L1, make_examples, make_measurement, make_score
from scipy import stats as distributions

from pytest_kick.errors import KickError
from pytest_kick.infos import MeanInfo
from pytest_kick.means import value_of, weights_of
from pytest_kick.spec import Budget
from pytest_kick.stats import paired_mean
from pytest_kick.verdict import judge

if TYPE_CHECKING:
    from pytest_kick.examples import Examples
    from pytest_kick.result import Measurement
    from pytest_kick.verdict import Verdict

N = 60
F1 = MeanInfo(name="f1", kind="score")
NATS = MeanInfo(name="nats", kind="loss", weights="tokens")
KL = MeanInfo(name="kl", kind="distance")
MACRO = MeanInfo(name="macro_p1", kind="score", array="p1", macro=True)
FLOORS = {"f1": 0.1, "nats": 8.0, "macro_p1": 0.05, "p1": 0.05}
RNG = np.random.default_rng(5)
BASE = {
    "f1": RNG.uniform(0.3, 0.9, N),
    "nats": RNG.uniform(2.0, 4.0, N),
    "kl": np.zeros(N),
    "tokens": RNG.integers(10, 200, N).astype(np.float64),
}


def examples_with(**changes: Any) -> Examples:
    """Return made-up examples with numbers beside their outcomes."""
    return make_examples(np.arange(N) % 3 > 0, **(BASE | changes))


def measured(mean: MeanInfo, examples: Examples, **changes: Any) -> Measurement:
    """Return a measurement of a compressed cell whose metric is a mean."""
    score = make_score(examples, probe="asked", metric=mean.name, means=(mean,), floors=FLOORS)
    return make_measurement(compression=L1, scores=(score,), **changes)


def judged(mean: MeanInfo, now: Examples, *, stored: Examples | None = None, kind: str = "", limit: float = 0.0, **more: Any) -> Verdict:
    """Judge a cell against the dense examples, and a stored run where one is given."""
    budgets = (Budget(probe="asked", metric=mean.name, kind=kind, limit=limit),) if kind else ()
    return judge(
        measured(mean, now), dense={"asked": examples_with()}, stored={"asked": stored} if stored else None, budgets=budgets, **more
    )


def test_a_ratio_of_losses_is_that_of_the_weighted_means() -> None:
    """Perplexity over dense: exp of the difference of nats per token, windows weighted by their tokens; its interval holds it."""
    now = examples_with(nats=BASE["nats"] + RNG.normal(0.1, 0.05, N))
    verdict = judged(NATS, now, kind="ratio", limit=1.5)
    (check,) = verdict.checks
    wanted = math.exp(np.average(now.arrays["nats"], weights=BASE["tokens"]) - np.average(BASE["nats"], weights=BASE["tokens"]))
    assert check.estimate == pytest.approx(wanted, rel=1e-6)
    assert check.low < wanted < check.high
    assert (check.kind, check.word) == ("ratio", "RETAINED")
    assert judged(NATS, now, kind="ratio", limit=1.01).word == "FORGOT"


def test_retention_of_a_score_counts_from_its_floor() -> None:
    """A score that falls to its floor retains nothing, whatever its plain ratio to dense."""
    dead = examples_with(f1=np.full(N, 0.1))
    (check,) = judged(F1, dead, kind="retention", limit=0.5).checks
    assert check.estimate == pytest.approx(0.0, abs=1e-6)
    assert check.word == "FORGOT"
    near = examples_with(f1=BASE["f1"] - 0.001)
    assert judged(F1, near, kind="retention", limit=0.95).word == "RETAINED"
    assert judged(F1, near, kind="drop", limit=0.01).word == "RETAINED"
    assert judged(F1, dead, kind="drop", limit=0.01).word == "FORGOT"


def test_an_interval_across_the_limit_decides_nothing() -> None:
    """INCONCLUSIVE, and more examples that would decide."""
    now = examples_with(f1=np.clip(BASE["f1"] + RNG.normal(-0.02, 0.3, N), 0, 1))
    retention = judged(F1, now).retentions[0]
    assert retention.estimate is not None
    (check,) = judged(F1, now, kind="retention", limit=retention.estimate - 0.02).checks
    assert check.word == "INCONCLUSIVE"
    assert check.n_more
    assert check.n_more > N


def test_a_distance_is_judged_by_itself() -> None:
    """The divergence of the dense model from itself is 0: lossless, within any limit; one above the limit is FORGOT."""
    assert judged(KL, examples_with(), kind="at_most", limit=0.001).word == "RETAINED"
    far = examples_with(kl=np.full(N, 0.3) + RNG.uniform(0, 0.01, N))
    assert judged(KL, far, kind="at_most", limit=0.2).word == "FORGOT"
    assert judged(KL, far, kind="at_most", limit=0.4).word == "RETAINED"


def test_macro_means_weigh_groups_alike() -> None:
    """Each group counts the same, however many examples it has."""
    examples = make_examples(np.arange(9) < 6, groups=2)
    wanted = np.mean([examples.arrays["p1"][examples.groups == name].mean() for name in np.unique(examples.groups)])
    assert value_of(MACRO, examples) == pytest.approx(wanted)
    assert weights_of(MACRO, examples).sum() == pytest.approx(2)


@pytest.mark.parametrize(("mean", "name", "sign"), [(F1, "f1", -1), (NATS, "nats", 1), (KL, "kl", 1)])
def test_a_worse_mean_is_a_regression(mean: MeanInfo, name: str, sign: int) -> None:
    """Every number a little worse is REGRESSED, a little better IMPROVED, one that moves CHANGED, none UNCHANGED."""
    shift = sign * (0.03 + RNG.uniform(0, 0.01, N))
    base, worse, better = examples_with(), examples_with(**{name: BASE[name] + shift}), examples_with(**{name: BASE[name] - shift})
    one = examples_with(**{name: BASE[name] + np.eye(N)[0] * 0.01})
    words = [judged(mean, now, stored=base, n_comparisons=300).regression_word for now in (worse, better, one, base)]
    assert words == ["REGRESSED", "IMPROVED", "CHANGED", "UNCHANGED"]
    assert judged(mean, worse).regression_word == "NEW"


def test_noise_is_no_regression() -> None:
    """A difference below the noise floor is CHANGED however sure it is; a measured floor raises the default, never lowers it."""
    now = examples_with(nats=BASE["nats"] + 0.0005 + RNG.uniform(0, 1e-5, N))
    assert judged(NATS, now, stored=examples_with()).regression_word == "CHANGED"
    assert judged(NATS, now, stored=examples_with(), noise_floors={"asked": {"nats": 0.0001}}).regression_word == "CHANGED"
    more = examples_with(nats=BASE["nats"] + 0.002 + RNG.uniform(0, 1e-5, N))
    assert judged(NATS, more, stored=examples_with()).regression_word == "REGRESSED"
    assert judged(NATS, more, stored=examples_with(), noise_floors={"asked": {"nats": 0.003}}).regression_word == "CHANGED"


def test_what_is_whole_is_settled() -> None:
    """Where all stored examples were asked there is nothing more to ask, so a first look is the last one."""
    (record,) = judged(NATS, examples_with(), stored=examples_with()).regressions
    assert record.whole
    assert record.settled


@pytest.mark.parametrize(("mean", "arrays"), [(F1, {"f1": np.full(N, 0.1)}), (NATS, {"nats": np.full(N, 8.0)})])
def test_a_dense_model_that_knows_nothing_cannot_be_judged(mean: MeanInfo, arrays: dict[str, Any]) -> None:
    """Neither in its own cell nor under a budget: an error, never RETAINED."""
    nothing = examples_with(**arrays)
    score = make_score(nothing, probe="asked", metric=mean.name, means=(mean,), floors=FLOORS)
    with pytest.raises(
        KickError,
        match=r"^dense: probe asked: COULD NOT MEASURE: got (f1|nats) \d\.\d{3} on n=60, expected one shown to lie (above|below) ",
    ):
        judge(make_measurement(scores=(score,)), dense=None, stored=None)
    kind = "ratio" if mean is NATS else "retention"
    budgets = (Budget(probe="asked", metric=mean.name, kind=kind, limit=1.2),)
    with pytest.raises(KickError, match="COULD NOT MEASURE"):
        judge(measured(mean, nothing), dense={"asked": nothing}, stored=None, budgets=budgets)


@pytest.mark.parametrize(("mean", "kind"), [(F1, "ratio"), (NATS, "retention"), (KL, "drop")])
def test_limits_of_another_kind_are_refused(mean: MeanInfo, kind: str) -> None:
    """A loss has no retention, a score no ratio."""
    with pytest.raises(KickError, match=rf"^budget {kind}:asked\.{mean.name}: kind: got '{kind}', expected "):
        judged(mean, examples_with(), kind=kind, limit=0.9)


def test_the_paired_mean_is_the_t_test() -> None:
    """With equal weights p-value and bound are those of scipy's own paired test."""
    before, now = RNG.normal(size=30), RNG.normal(0.2, size=30)
    found, wanted = paired_mean(now - before, np.ones(30)), distributions.ttest_rel(now, before, alternative="greater")
    assert found.p_above_zero() == pytest.approx(wanted.pvalue)
    assert found.upper(0.95) == pytest.approx(distributions.ttest_rel(now, before).confidence_interval(0.9).high)
    assert paired_mean([0.1, 0.1], [1, 1]).p_above_zero() == 0.0
    assert paired_mean([0.0, 0.0], [1, 1]).p_above_zero() == 1.0


@pytest.mark.parametrize(("values", "weights"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, math.nan], [1, 1]), ([1.0, 2.0], [0, 1])])
def test_the_paired_mean_refuses_what_has_no_spread(values: list[float], weights: list[float]) -> None:
    """One pair, other shapes, NaN and weights of nothing."""
    with pytest.raises(KickError, match=r"^stats: differences: got "):
        paired_mean(values, weights)


def test_ratings_that_could_not_be_read_are_left_out() -> None:
    """Where a judge scores, what both runs have is compared; of any other probe an example that is missing is an error."""
    rated = MeanInfo(name="f1", kind="score")
    whole = examples_with()
    part, other = whole.take(np.arange(2, N)), whole.take(np.arange(N - 5))
    for probe in ("instruction_following", "facts"):
        score = make_score(part, probe=probe, metric="f1", means=(rated,), floors=FLOORS)
        measurement = make_measurement(compression=L1, scores=(score,))
        if probe == "facts":
            with pytest.raises(KickError, match="expected an id of the"):
                judge(measurement, dense={probe: other}, stored={probe: other})
            continue
        verdict = judge(measurement, dense={probe: other}, stored={probe: other})
        assert {record.n for record in (*verdict.retentions, *verdict.regressions)} == {N - 7}
        assert verdict.regression_word == "UNCHANGED"
