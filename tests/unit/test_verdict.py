"""The two verdicts: each word where it is due, on counts that a test can state in its head."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_measurements import L1, make_examples, make_measurement, make_score

from pytest_kick import stats
from pytest_kick.errors import KickError, UnjudgeableError
from pytest_kick.spec import Budget
from pytest_kick.verdict import Verdict, judge

if TYPE_CHECKING:
    from pytest_kick.examples import Examples
    from pytest_kick.result import Measurement

RETENTION = Budget(probe="facts", metric="p1", kind="retention", limit=0.95)
DROP = Budget(probe="facts", metric="p1", kind="drop", limit=0.03)
FLIPS = Budget(probe="facts", metric="p1", kind="flips", limit=0.05)
N = 2000


def outcomes(n: int = N, *, right: int = 800, lost: int = 0, gained: int = 0) -> np.ndarray:
    """Return n outcomes: the first `right` are right, less the first `lost`, and with `gained` of the last."""
    found = np.arange(n) < right
    found[:lost] = False
    if gained:
        found[-gained:] = True
    return found


def reference(n: int = N, *, right: int = 800, seed: int = 0) -> dict[str, Examples]:
    """Return the examples of a run that has the first `right` right."""
    return {"facts": make_examples(outcomes(n, right=right), seed=seed)}


def pruned(*, lost: int = 0, gained: int = 0, n: int = N, dtype: str = "float32", seed: int = 1) -> Measurement:
    """Return a cell that lost and gained so many of the reference."""
    return make_measurement(outcomes(n, right=n * 2 // 5, lost=lost, gained=gained), compression=L1, dtype=dtype, seed=seed)


def against_dense(measurement: Measurement, *budgets: Budget, n: int = N, **kwargs: Any) -> Verdict:
    """Judge against a dense model that has two fifths right."""
    return judge(measurement, dense=reference(n, right=n * 2 // 5), stored=None, budgets=budgets, **kwargs)


def against_stored(measurement: Measurement, **kwargs: Any) -> Verdict:
    """Judge against a stored run that has two fifths right."""
    return judge(measurement, dense=None, stored=reference(), **kwargs)


# Retention


def test_retention_is_above_the_floor() -> None:
    """(p_c - b) / (p_d - b), the plain ratio beside it, and every count."""
    record = against_dense(pruned(lost=100, gained=20)).retention("facts", "p1")
    assert record is not None
    assert record.estimate == pytest.approx((0.36 - 0.05) / (0.4 - 0.05))
    assert record.raw == pytest.approx(0.9)
    assert (record.lost, record.gained, record.n, record.p_dense, record.p_now) == (100, 20, N, 0.4, 0.36)
    assert record.flips == pytest.approx(0.06)
    interval = stats.retention_interval(stats.PairedCounts(both=700, lost=100, gained=20, neither=1180), 0.05, 0.95)
    assert (record.low, record.high) == (interval.low, interval.high)


def test_changed_counts_other_wrong_answers_only() -> None:
    """An example wrong in both with another answer is `changed`; one with the same answer is not; other metrics have no answers."""
    dense = reference(10, right=4)
    now = make_measurement(compression=L1, scores=(make_score(dense["facts"]),))
    predicted = dense["facts"].arrays["predicted"].copy()
    predicted[[0, 8, 9]] += 1
    now = replace(now, scores=(make_score(replace(dense["facts"], arrays={**dense["facts"].arrays, "predicted": predicted})),))
    verdict = judge(now, dense=dense, stored=dense)
    record, free = verdict.retention("facts", "p1"), verdict.retention("facts", "free_p1")
    assert record is not None
    assert free is not None
    assert (record.changed, free.changed) == (2, None)
    assert verdict.regressions[0].word == "CHANGED"


@pytest.mark.parametrize(
    ("lost", "gained", "word"), [(0, 0, "RETAINED"), (5, 5, "RETAINED"), (120, 0, "FORGOT"), (36, 0, "INCONCLUSIVE"), (10, 200, "RETAINED")]
)
def test_a_retention_budget(lost: int, gained: int, word: str) -> None:
    """RETAINED with the lower bound inside, FORGOT with the upper bound outside, else INCONCLUSIVE; gaining is no loss."""
    verdict = against_dense(pruned(lost=lost, gained=gained), RETENTION)
    assert verdict.checks[0].word == word
    assert verdict.retention_word == word
    assert verdict.failed == (word == "FORGOT")
    assert verdict.inconclusive == (word == "INCONCLUSIVE")
    assert verdict.word == word


@pytest.mark.parametrize(
    ("budget", "lost", "gained", "word"),
    [
        (DROP, 20, 0, "RETAINED"),
        (DROP, 100, 0, "FORGOT"),
        (DROP, 62, 0, "INCONCLUSIVE"),
        (FLIPS, 40, 40, "RETAINED"),
        (FLIPS, 80, 80, "FORGOT"),
        (FLIPS, 49, 49, "INCONCLUSIVE"),
    ],
)
def test_drop_and_flips_budgets(budget: Budget, lost: int, gained: int, word: str) -> None:
    """A drop nets gains against losses, flips add them up."""
    check = against_dense(pruned(lost=lost, gained=gained), budget).checks[0]
    assert check.word == word
    assert check.estimate == pytest.approx(((lost - gained) if budget.kind == "drop" else (lost + gained)) / N)
    assert check.low < check.estimate < check.high


@pytest.mark.parametrize(("budget", "lost", "gained"), [(RETENTION, 30, 0), (DROP, 65, 0), (FLIPS, 44, 45)])
def test_inconclusive_says_how_many_more_decide(budget: Budget, lost: int, gained: int) -> None:
    """With that many more examples of the same proportions it is decided, with a tenth fewer it is not."""
    check = against_dense(pruned(lost=lost, gained=gained), budget).checks[0]
    assert check.word == "INCONCLUSIVE"
    assert check.n_more is not None

    def word_at(total: float) -> str:
        factor = total / N
        n, gone, come = round(N * factor), round(lost * factor), round(gained * factor)
        return against_dense(pruned(n=n, lost=gone, gained=come), budget, n=n).checks[0].word

    assert word_at(1.05 * (N + check.n_more)) != "INCONCLUSIVE"
    assert word_at(0.9 * (N + check.n_more)) == "INCONCLUSIVE"


def test_the_limit_itself_is_never_decided() -> None:
    """Where the estimate lies on the limit no number of examples decides, and none is named."""
    check = against_dense(pruned(lost=60), DROP).checks[0]
    assert (check.word, check.n_more) == ("INCONCLUSIVE", None)


def test_rounding_does_not_pass_a_budget() -> None:
    """A bound of .9497 prints as .950 and is not .95: numbers are compared unrounded."""
    check = against_dense(pruned(lost=12), RETENTION).checks[0]
    exact = replace(RETENTION, limit=check.low)
    above = replace(RETENTION, limit=check.low + 1e-9)
    assert against_dense(pruned(lost=12), exact).checks[0].word == "RETAINED"
    assert against_dense(pruned(lost=12), above).checks[0].word == "INCONCLUSIVE"


def test_bit_identical_is_retained_on_few_examples() -> None:
    """Equal in every answer and score: RETAINED and lossless, though ten examples alone could not show it."""
    dense = reference(10, right=4)
    same = make_measurement(compression=L1, scores=(make_score(dense["facts"]),))
    verdict = judge(same, dense=dense, stored=None, budgets=(replace(RETENTION, limit=1.0), replace(FLIPS, limit=0.0)))
    assert [check.word for check in verdict.checks] == ["RETAINED", "RETAINED"]
    assert verdict.lossless
    other = against_dense(pruned(n=10), RETENTION, n=10)
    assert not other.lossless
    assert other.checks[0].word == "INCONCLUSIVE"


def test_lossless_is_judged_at_the_precision_that_is_stored() -> None:
    """A dense run that went through half precision is still recognised; a real difference of a score is not passed over."""
    exact = reference(10, right=4)["facts"]
    halved = replace(exact, arrays={**exact.arrays, "margin": exact.arrays["margin"].astype(np.float16).astype(np.float32)})
    now = make_measurement(compression=L1, scores=(make_score(exact),))
    assert judge(now, dense={"facts": halved}, stored=None).lossless
    moved = replace(exact, arrays={**exact.arrays, "margin": exact.arrays["margin"] + np.float32(0.05)})
    assert not judge(now, dense={"facts": moved}, stored=None).lossless


def test_better_needs_an_interval_above_one() -> None:
    """One fact gained is no improvement, a hundred are."""
    for gained, better in ((1, False), (100, True)):
        record = against_dense(pruned(gained=gained)).retention("facts", "p1")
        assert record is not None
        assert record.better is better


def test_a_dead_dense_model_cannot_be_judged() -> None:
    """Dense at the floor: COULD NOT MEASURE for a cell with a budget, whatever the cell scores; without one it is recorded."""
    now = pruned(gained=300)
    dense = reference(right=104)
    with pytest.raises(KickError, match=r"COULD NOT MEASURE: got a dense score of 0\.052") as error:
        judge(now, dense=dense, stored=None, budgets=[RETENTION])
    assert "\n" not in str(error.value)
    with pytest.raises(KickError, match="COULD NOT MEASURE"):
        judge(now, dense=dense, stored=None, budgets=[FLIPS])
    record = judge(now, dense=dense, stored=None).retention("facts", "p1")
    assert record is not None
    assert (record.judgeable, record.estimate, record.low, record.high) == (False, None, None, None)


@pytest.mark.parametrize("budget", [replace(RETENTION, probe="mmlu"), replace(RETENTION, metric="p7")])
def test_a_budget_on_what_was_not_measured(budget: Budget) -> None:
    """An unknown probe or metric is an error that lists what there is, never a pass."""
    with pytest.raises(KickError, match=r"expected one of .*free_p1, .*p1"):
        against_dense(pruned(), budget)


def test_a_dense_cell_that_knows_nothing_is_refused() -> None:
    """Without a budget too: a stored run of such a model would hold whatever a compression does for harmless."""
    n = 400
    knowing, guessing = (make_measurement(outcomes(n, right=right)) for right in (n // 2, n // 20))
    assert judge(knowing, dense=None, stored=None).word == "NEW"
    with pytest.raises(KickError, match=r"^dense: probe facts: COULD NOT MEASURE: got p1 0\.050 on n=400, expected .* or more facts\.$"):
        judge(guessing, dense=None, stored=None)


def test_every_probe_on_which_a_dense_model_knows_nothing_is_named() -> None:
    """In one line, the first with its numbers: whoever drops them one by one measures as often as there are probes."""
    known, *unknown = (
        make_score(make_examples(outcomes(400, right=right)), probe=probe)
        for probe, right in (("facts", 200), ("trivia", 20), ("bear", 20))
    )
    expected = r"^dense: probe trivia: COULD NOT MEASURE: got p1 0\.050 .* or more examples\. The same holds for bear\.$"
    with pytest.raises(UnjudgeableError, match=expected) as error:
        judge(make_measurement(scores=(known, *unknown)), dense=None, stored=None)
    assert "\n" not in str(error.value)
    assert judge(make_measurement(scores=(known,)), dense=None, stored=None).word == "NEW"


def test_a_budget_without_a_dense_run() -> None:
    """No dense baseline: an error, never a pass."""
    with pytest.raises(KickError, match="there is no dense run"):
        judge(pruned(), dense=None, stored=None, budgets=[RETENTION])


def test_a_metric_without_a_floor_is_not_compared() -> None:
    """A missing floor is not 0: a dead model would retain its chance score."""
    now = pruned()
    now = replace(now, scores=(replace(now.scores[0], floors={"free_p1": 0.0}),))
    with pytest.raises(KickError, match="COULD NOT MEASURE"):
        against_dense(now, RETENTION)


def test_the_dense_cell_has_no_budget() -> None:
    """It is compared with its stored run alone."""
    verdict = judge(make_measurement(outcomes()), dense=reference(), stored=reference(), budgets=[RETENTION])
    assert (verdict.checks, verdict.retentions, verdict.word) == ((), (), "UNCHANGED")


def test_a_sample_is_judged_on_its_own_ids() -> None:
    """Dense and stored runs are cut to the ids measured, in whatever order those stand."""
    now = pruned(lost=100, gained=50)
    order = np.random.default_rng(0).permutation(N)[:500]
    sample = now.scores[0].examples.take(order)
    verdict = judge(replace(now, scores=(make_score(sample),)), dense=reference(), stored=reference(), budgets=[DROP])
    record = verdict.retention("facts", "p1")
    assert record is not None
    assert (record.n, record.lost, record.gained) == (500, int((order < 100).sum()), int((order >= 1950).sum()))
    assert verdict.regressions[0].lost == record.lost


def test_an_example_the_baseline_lacks_is_an_error() -> None:
    """Comparing other examples than were stored is refused by id."""
    with pytest.raises(KickError, match="expected an id of the 100 examples"):
        judge(pruned(), dense=reference(100), stored=None)


# Regression


@pytest.mark.parametrize(
    ("lost", "gained", "n_comparisons", "word"),
    [
        (0, 0, 1, "UNCHANGED"),
        (1, 0, 1, "CHANGED"),
        (4, 0, 1, "CHANGED"),  # p = .0625
        (5, 0, 1, "REGRESSED"),  # p = .03125, 5 net facts
        (5, 0, 2, "CHANGED"),  # p = .03125 > .05 / 2
        (12, 0, 230, "CHANGED"),  # p = 2.4e-4 > .05 / 230
        (13, 0, 230, "REGRESSED"),  # p = 1.2e-4
        (0, 13, 230, "IMPROVED"),
        (40, 40, 1, "CHANGED"),
        (60, 30, 230, "CHANGED"),  # p = 1.0e-3
        (80, 30, 230, "REGRESSED"),  # p = 1e-6
    ],
)
def test_the_word_against_the_stored_run(lost: int, gained: int, n_comparisons: int, word: str) -> None:
    """Exact one-sided McNemar at (1 - confidence) / cells, in the direction that prevails."""
    record = against_stored(pruned(lost=lost, gained=gained, seed=0), n_comparisons=n_comparisons).regressions[0]
    assert record.word == word
    assert record.threshold == pytest.approx(0.05 / n_comparisons)
    assert (record.lost, record.gained, record.p_stored) == (lost, gained, 0.4)


@pytest.mark.parametrize(
    ("dtype", "lost", "measured", "word"),
    [
        ("float32", 5, None, "REGRESSED"),
        ("bfloat16", 10, None, "CHANGED"),  # .5% of 2,000 are 10: not more than noise
        ("bfloat16", 11, None, "REGRESSED"),
        ("bfloat16", 11, 0.01, "CHANGED"),  # measured: 20
        ("bfloat16", 5, 0.001, "REGRESSED"),  # measured: 2
        ("float32", 5, 0.0025, "CHANGED"),  # measured: 5
    ],
)
def test_a_net_loss_within_noise_is_no_regression(dtype: str, lost: int, measured: float | None, word: str) -> None:
    """The net loss must exceed the noise floor: the one stored with the dense baseline, else a cautious one by dtype."""
    floors = {"facts": {"p1": measured}} if measured is not None else None
    verdict = against_stored(pruned(lost=lost, dtype=dtype, seed=0), noise_floors=floors)
    assert verdict.regressions[0].word == word
    assert verdict.failed == (word == "REGRESSED")


def test_noise_is_held_against_the_net_loss() -> None:
    """Eleven lost and one gained are ten net: significant, and not more than the ten that bfloat16 may lose by noise."""
    record = against_stored(pruned(lost=11, gained=1, dtype="bfloat16", seed=0)).regressions[0]
    assert record.p_value < record.threshold
    assert record.word == "CHANGED"


def test_float32_noise_is_at_least_two_facts() -> None:
    """On 2,000 facts 0.1% and two facts are the same, on 10,000 it is ten."""
    assert against_stored(pruned(seed=0)).regressions[0].noise_floor == 2.0
    n = 10_000
    big = judge(pruned(n=n), dense=None, stored=reference(n, right=4000))
    assert big.regressions[0].noise_floor == 10.0


def test_nothing_stored_is_new() -> None:
    """A cell without a stored run is NEW and is judged on retention alone."""
    verdict = judge(pruned(lost=5), dense=reference(), stored=None, budgets=[RETENTION])
    assert (verdict.regressions[0].word, verdict.word, verdict.failed) == ("NEW", "RETAINED", False)
    assert judge(pruned(lost=5), dense=None, stored={"mmlu": reference()["facts"]}).word == "NEW"


def test_the_gravest_word_heads_the_verdict() -> None:
    """REGRESSED before FORGOT before INCONCLUSIVE before RETAINED."""
    assert judge(pruned(lost=200), dense=reference(), stored=reference(), budgets=[RETENTION, FLIPS]).word == "REGRESSED"
    both = judge(pruned(lost=200), dense=reference(), stored=None, budgets=[replace(RETENTION, limit=0.2), FLIPS])
    assert (both.word, both.retention_word, both.regression_word) == ("FORGOT", "FORGOT", "NEW")


def test_a_second_metric_with_a_budget_is_held_against_the_stored_run_too() -> None:
    """Regression is judged under the probe's own metric and under those that budgets name."""
    verdict = judge(pruned(), dense=reference(), stored=reference(), budgets=[replace(RETENTION, metric="free_p1")])
    assert [record.metric for record in verdict.regressions] == ["free_p1", "p1"]


# The worst groups


def test_the_worst_group_is_the_one_that_lost_most() -> None:
    """Groups by facts lost; of each the lost examples with the largest margin before, with the answers before and now."""
    n = 40
    before = make_examples(np.ones(n, dtype=bool))
    right = np.ones(n, dtype=bool)
    right[[1, 5, 9, 13, 2]] = False  # four of g1, one of g2
    now = make_measurement(right, compression=L1, seed=3)
    verdict = judge(now, dense={"facts": before}, stored=None)
    worst, second = verdict.worst_groups
    assert (worst.name, worst.n, worst.lost, worst.gained) == ("g1", 10, 4, 0)
    assert (second.name, second.lost) == ("g2", 1)
    margins = before.arrays["margin"]
    assert [example.id for example in worst.examples] == [f"g1/{i}" for i in sorted([1, 5, 9, 13], key=lambda i: -margins[i])[:3]]
    answers = now.scores[0].examples.arrays["predicted"]
    assert [(example.was, example.now) for example in worst.examples] == [(7, answers[int(e.id[3:])]) for e in worst.examples]


def test_a_regression_shows_what_was_lost_since_it_was_stored() -> None:
    """Where the stored run was better, the groups are those against it, not those against dense."""
    dense = {"facts": make_examples(np.ones(40, dtype=bool))}
    stored_right = np.arange(40) % 4 != 1  # g1 was lost when the run was stored
    now_right = stored_right & (np.arange(40) % 4 != 2)
    verdict = judge(make_measurement(now_right, compression=L1), dense=dense, stored={"facts": make_examples(stored_right)})
    assert verdict.word == "REGRESSED"
    assert verdict.worst_against == "stored"
    assert [group.name for group in verdict.worst_groups] == ["g2"]


# JSON


@given(
    lost=st.integers(0, 80),
    gained=st.integers(0, 120),
    limit=st.floats(0.1, 1.4),
    kind=st.sampled_from(["retention", "drop", "flips"]),
    stored=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_a_verdict_survives_json(lost: int, gained: int, limit: float, kind: str, *, stored: bool) -> None:
    """Plain JSON without NaN, and back to an equal verdict."""
    budget = Budget(probe="facts", metric="p1", kind=kind, limit=limit)
    runs = reference(200, right=80)
    verdict = judge(pruned(n=200, lost=lost, gained=gained), dense=runs, stored=runs if stored else None, budgets=[budget], n_comparisons=7)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    assert Verdict.from_json(json.loads(text)) == verdict
    assert json.loads(text)["word"] == verdict.word


@given(lost=st.integers(0, 60), gained=st.integers(0, 60), limit=st.floats(0.5, 1.2))
@settings(max_examples=40, deadline=None)
def test_losing_one_more_never_helps(lost: int, gained: int, limit: float) -> None:
    """RETAINED, INCONCLUSIVE, FORGOT: one more fact lost never moves a verdict towards RETAINED."""
    order = ("RETAINED", "INCONCLUSIVE", "FORGOT")
    budget = replace(RETENTION, limit=limit)
    words = [against_dense(pruned(n=200, lost=lost + more, gained=gained), budget, n=200).checks[0].word for more in (0, 1)]
    assert order.index(words[0]) <= order.index(words[1])


def test_a_floor_of_one_leaves_the_other_outcomes_judged() -> None:
    """Among ten answers or fewer even knowing nothing has p10: that outcome cannot be judged, and the budget on p1 still is."""
    now = pruned(lost=4)
    right = np.ones(N, np.bool_)
    floors = {"p1": 0.25, "p10": 1.0}
    score = replace(now.scores[0], floors=floors, examples=with_p10(now.scores[0].examples, right))
    dense = {"facts": with_p10(reference(N, right=N * 2 // 5)["facts"], right)}
    verdict = judge(replace(now, scores=(score,)), dense=dense, stored=None, budgets=(RETENTION,))
    assert verdict.word == "RETAINED"
    record = verdict.retention("facts", "p10")
    assert record is not None
    assert not record.judgeable
    budget = Budget(probe="facts", metric="p10", kind="retention", limit=0.9)
    with pytest.raises(KickError, match="COULD NOT MEASURE"):
        judge(replace(now, scores=(score,)), dense=dense, stored=None, budgets=(budget,))


def with_p10(examples: Examples, right: np.ndarray) -> Examples:
    """Return examples with one more outcome."""
    return replace(examples, arrays={**examples.arrays, "p10": right})


def test_lossless_is_not_better_than_dense() -> None:
    """A budget that asks for more than the dense model knows is not met by the dense model itself."""
    now = make_measurement(outcomes(N, right=N * 2 // 5), compression=L1, dtype="float32", seed=0)
    budget = Budget(probe="facts", metric="p1", kind="retention", limit=1.3)
    verdict = judge(now, dense={"facts": now.scores[0].examples}, stored=None, budgets=(budget,))
    assert verdict.lossless
    assert verdict.word == "FORGOT"
