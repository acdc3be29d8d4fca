from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_kick.budget import budgets_for, parse_budget
from pytest_kick.errors import SuiteError, UsageError
from pytest_kick.grid import expand
from pytest_kick.spec import Budget, CompressionSpec, ModelSpec

MODEL = ModelSpec(name="tiny", family="decoder", source="hub:o/m")
PRUNED = expand("", {"method": "l1_global", "scope": "ffn", "sparsity": 0.2})[0]
CHAIN = expand("", {"scope": "ffn", "chain": [{"method": "l1_global", "sparsity": 0.2}, {"method": "dynamic_int8"}]})[0]


def limits(*tables: dict[str, Any], spec: CompressionSpec = PRUNED) -> list[float]:
    """Return the limits that hold for a cell."""
    budgets, _ = budgets_for([parse_budget("here", table) for table in tables], MODEL, spec, ("facts",))
    return [budget.limit for budget in budgets]


def test_a_table_reads_as_budgets() -> None:
    """Each limit of a table is a budget; its metric is the probe's own unless it names one."""
    rule = parse_budget("here", {"model": "tiny", "retention": 0.9, "drop:free_p1": 0.05, "flips": 0})
    assert rule.match == (("model", ("tiny",)),)
    assert rule.budgets == (
        Budget(probe="facts", metric="p1", kind="retention", limit=0.9),
        Budget(probe="facts", metric="free_p1", kind="drop", limit=0.05),
        Budget(probe="facts", metric="p1", kind="flips", limit=0.0),
    )


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"model": "tiny"},
        {"model": ["other", "t*"]},
        {"family": "decoder"},
        {"method": "l1_*", "scope": "ffn"},
        {"sparsity": 0.2},
        {"sparsity": [0.1, 0.2]},
        {"cell": "l1_global--ffn--s0.2"},
        {"cell": "*--ffn--*"},
    ],
)
def test_what_matches(match: dict[str, Any]) -> None:
    """Names match exactly or as globs, levels as numbers, any of a list; without a key all cells match."""
    assert limits({**match, "retention": 0.9}) == [0.9]


@pytest.mark.parametrize(
    "match",
    [{"model": "tin"}, {"family": "encoder"}, {"method": "l1"}, {"sparsity": 0.20000001}, {"bits": 8}, {"model": "tiny", "scope": "head"}],
)
def test_what_does_not_match(match: dict[str, Any]) -> None:
    """All keys must match."""
    assert limits({**match, "retention": 0.9}) == []


def test_chains_are_matched_as_a_whole() -> None:
    """A chain's method is its steps' joined by `+`; a rule for one method does not judge it; any of its levels matches."""
    assert limits({"method": "l1_global", "retention": 0.9}, spec=CHAIN) == []
    assert limits({"method": "l1_global+dynamic_int8", "scope": "ffn", "retention": 0.9}, spec=CHAIN) == [0.9]
    assert limits({"method": "*dynamic_int8", "bits": 8, "sparsity": 0.2, "retention": 0.9}, spec=CHAIN) == [0.9]


def test_patterns_match_their_own_scope() -> None:
    """A scope given by a pattern is matched by the same pattern, brackets and all."""
    spec = expand("", {"method": "l1_global", "scope": "h.[0-9].*", "sparsity": 0.2})[0]
    assert limits({"scope": "h.[0-9].*", "retention": 0.9}, spec=spec) == [0.9]


def test_the_most_specific_wins() -> None:
    """More keys beat fewer, an exact name beats a glob, a cell beats all of its parts, and of two alike the later wins."""
    all_, model, both = {"retention": 0.1}, {"model": "tiny", "retention": 0.2}, {"model": "tiny", "scope": "ffn", "retention": 0.3}
    glob, cell = {"model": "t*", "retention": 0.4}, {"cell": "l1_global--ffn--s0.2", "retention": 0.5}
    three = {"method": "l1_global", "scope": "ffn", "sparsity": 0.2, "retention": 0.6}
    for tables, wins in [
        ((both, all_, model), 0.3),
        ((model, glob), 0.2),
        ((glob, all_), 0.4),
        ((cell, three), 0.5),
        ((three, both), 0.6),
        ((model, {**model, "retention": 0.7}), 0.7),
    ]:
        assert limits(*tables) == [wins]


def test_limits_of_other_kinds_stay() -> None:
    """A more specific retention does not remove a general drop, nor one of another metric."""
    assert limits({"drop": 0.01, "retention": 0.2}, {"model": "tiny", "retention": 0.3}, {"retention:free_p1": 0.4}) == [0.4, 0.01, 0.3]


def test_the_dense_model_has_no_budget() -> None:
    """There is nothing that the dense model could lose: no rule judges it, and none counts as used by it."""
    rules = [parse_budget("here", {"retention": 0.9})]
    assert budgets_for(rules, MODEL, CompressionSpec(), ("facts",)) == ((), set())
    assert budgets_for(rules, MODEL, PRUNED, ("facts",))[1] == {0}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("retention", 95, r"expected a fraction in \(0, 1\.5\]\. Write a fraction, such as 0\.95, not a percentage\."),
        ("retention", 1.6, "not a percentage"),
        ("retention", 0, r"\(0, 1\.5\]\. Correct it\."),
        ("retention", -0.5, "Correct it"),
        ("retention", math.nan, "Correct it"),
        ("retention", math.inf, "not a percentage"),
        ("retention", True, "Correct it"),
        ("retention", [0.9], "Correct it"),
        ("drop", 5, r"expected a fraction in \[0, 1\)\. Write a fraction, such as 0\.05, not a percentage\."),
        ("drop", 1, "not a percentage"),
        ("drop", "5%", "not a percentage"),
        ("flips", -1, "Correct it"),
        ("flips", math.nan, "Correct it"),
    ],
)
def test_wrong_limits(key: str, value: Any, message: str) -> None:
    """A limit that is in percent, negative, NaN or no number is one line."""
    with pytest.raises(SuiteError, match=rf"^here: {key}: got .*{message}") as caught:
        parse_budget("here", {key: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (3, r"here: budget: got 3, expected a table\."),
        ({}, r"here: budget: got \[\], expected a limit: retention, drop, flips, ratio, at_most\. Add one\."),
        ({"model": "m"}, r"here: budget: got \['model'\], expected a limit"),
        ({"retantion": 0.9}, r"here: budget: got 'retantion', expected a known key\. Did you mean 'retention'\?"),
        ({"drop:free_p2": 0.9}, r"here: drop:free_p2: got metric 'free_p2', expected one of probe facts\. Did you mean 'free_p\d+'\?"),
        ({"probe": "fact", "drop": 0.1}, r"here: probe: got 'fact', expected a known probe\. Did you mean 'facts'\?"),
        ({"probe": 3, "drop": 0.1}, r"here: probe: got 3, expected a known probe"),
        ({"probe": ["facts"], "drop": 0.1}, r"here: probe: got \['facts'\], expected a known probe"),
        ({"model": 3, "drop": 0.1}, r"here: model: got 3, expected a name or a glob"),
        ({"model": [], "drop": 0.1}, r"here: model: got \[\], expected a name or a glob"),
        ({"sparsity": "0.2", "drop": 0.1}, r"here: sparsity: got '0\.2', expected a number"),
        ({"bits": True, "drop": 0.1}, r"here: bits: got True, expected a number"),
    ],
)
def test_wrong_tables(table: Any, message: str) -> None:
    """Each other mistake in a budget is one line."""
    with pytest.raises(UsageError, match=f"^{message}"):
        parse_budget("here", table)
