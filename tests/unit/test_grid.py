from __future__ import annotations

from typing import Any

import pytest

from pytest_kick.errors import SuiteError, UsageError
from pytest_kick.grid import expand


def ids(**table: Any) -> list[str]:
    """Return the ids of what a table expands to."""
    return [spec.id for spec in expand("here", table)]


def levels(sparsity: Any) -> list[float]:
    """Return the levels of one method."""
    return [spec.steps[0].level for spec in expand("here", {"method": "l1_global", "sparsity": sparsity})]


def test_every_combination_once_in_order() -> None:
    """Methods, then scopes, levels and parameters: the product of all lists, the last the fastest."""
    assert ids(method=["l1_per_matrix", "random_unstructured"], scope=["attention", "ffn"], sparsity=[0.1, 0.2])[:3] == [
        "l1_per_matrix--attention--s0.1",
        "l1_per_matrix--attention--s0.2",
        "l1_per_matrix--ffn--s0.1",
    ]
    assert ids(method="random_unstructured", scope="head", sparsity=0.2, seed=[0, 1]) == [
        "random_unstructured--head--s0.2",
        "random_unstructured--head--s0.2--seed-1",
    ]
    assert ids(method="ln_structured", sparsity=0.2, dim="columns", n=2) == ["ln_structured--overall--s0.2--n-2--dim-columns"]


def test_ranges_are_exact() -> None:
    """A range is decimal: both ends included, no level but the shortest form of its tenth."""
    assert levels({"from": 0.1, "to": 0.9, "step": 0.1}) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert levels({"from": 0, "to": 0.3, "step": 0.15}) == [0.0, 0.15, 0.3]
    assert levels({"from": 0.5, "to": 0.5, "step": 1}) == [0.5]
    assert levels({"from": 0.03, "to": 0.9, "step": 0.03})[-1] == 0.9


def test_zero_is_one_level() -> None:
    """0, 0.0 and -0.0 are the same level."""
    assert ids(method="l1_global", sparsity=[0, 0.0, -0.0]) == ["l1_global--overall--s0.0"] * 3


def test_bits_may_be_left_out() -> None:
    """A method of one width needs no level; a float that is that width is that width."""
    assert ids(method="dynamic_int8") == ids(method="dynamic_int8", bits=8) == ids(method="dynamic_int8", bits=8.0)
    assert ids(method="dynamic_int8") == ["dynamic_int8--overall--b8"]


@pytest.mark.parametrize("bits", [4, 8.5, True, "8", [[8]], {"a": 1}, float("nan"), -8])
def test_wrong_bits(bits: Any) -> None:
    """A width that the method cannot do is one line."""
    with pytest.raises(SuiteError, match=r"^here: bits: got .*, expected .*\. Correct it\.$"):
        ids(method="dynamic_int8", bits=bits)


@pytest.mark.parametrize(
    ("sparsity", "hint"),
    [
        (1, "not a percentage"),
        (20, "not a percentage"),
        (1.0, "not a percentage"),
        (float("inf"), "not a percentage"),
        (-0.1, "Correct it"),
        (float("nan"), "Correct it"),
        (True, "Correct it"),
        ("0.2", "Correct it"),
        ([[0.2]], "Correct it"),
    ],
)
def test_wrong_sparsities(sparsity: Any, hint: str) -> None:
    """A sparsity outside [0, 1), NaN, or no number is one line; what looks like a percentage is told so."""
    with pytest.raises(SuiteError, match=rf"^here: sparsity: got .*, expected a fraction in \[0, 1\)\. .*{hint}.*\.$"):
        levels(sparsity)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"from": 0.1, "to": 0.9}, "three numbers"),
        ({"from": 0.1, "to": 0.9, "step": 0.1, "by": 1}, "three numbers"),
        ({"from": "0.1", "to": 0.9, "step": 0.1}, "three numbers"),
        ({"from": True, "to": 0.9, "step": 0.1}, "three numbers"),
        ({"from": 0.1, "to": float("inf"), "step": 0.1}, "three numbers"),
        ({"from": 0.1, "to": float("nan"), "step": 0.1}, "three numbers"),
        ({"from": 0.9, "to": 0.1, "step": 0.1}, "from <= to"),
        ({"from": 0.1, "to": 0.9, "step": 0}, "a step above 0"),
        ({"from": 0.1, "to": 0.9, "step": -0.1}, "a step above 0"),
        ({"from": 0.1, "to": 0.9, "step": 1e-300}, "at most 1000 levels"),
        ({"from": 0.1, "to": 0.5, "step": 0.3}, "steps that end at `to`"),
        ({"from": 10, "to": 90, "step": 10}, "a fraction in"),
    ],
)
def test_wrong_ranges(table: dict[str, Any], expected: str) -> None:
    """A range that is incomplete, empty, endless or in percent is one line."""
    with pytest.raises(SuiteError, match=rf"^here: sparsity: got .*, expected .*{expected}.*\.$"):
        levels(table)


@pytest.mark.parametrize("key", ["method", "scope", "sparsity", "seed"])
def test_an_empty_list_is_no_grid(key: str) -> None:
    """An empty list would drop the entry silently: it is an error that names the key."""
    table = {"method": "random_unstructured", "scope": "ffn", "sparsity": 0.2, "seed": 1, key: []}
    with pytest.raises(SuiteError, match=rf"^here: {key}: got \[\], expected .*\.$"):
        ids(**table)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"method": "l1_globl", "sparsity": 0.1}, r"here: method: got 'l1_globl', expected a known method\. Did you mean 'l1_global'\?"),
        ({"method": 3, "sparsity": 0.1}, r"here: method: got 3, expected the name of a method"),
        (
            {"method": "l1_global", "sparsity": 0.1, "scope": "fnn"},
            r"here: scope: got 'fnn', expected a known scope .* Did you mean 'ffn'\?",
        ),
        ({"method": "l1_global", "sparsity": 0.1, "scope": ""}, r"here: scope: got '', expected a known scope"),
        ({"method": "l1_global", "sparsity": 0.1, "scope": 3}, r"here: scope: got 3, expected a known scope"),
        ({"method": "l1_global", "sparsity": 0.1, "scope": "*.q, *.k"}, r"here: scope: got '\*\.q, \*\.k', expected a known scope"),
        ({"method": "l1_global", "sparsity": 0.1, "seed": 1}, r"here: l1_global: got 'seed', expected a known key\."),
        ({"method": "l1_global", "sparsty": 0.1}, r"here: l1_global: got 'sparsty', expected a known key\. Did you mean 'sparsity'\?"),
        ({"method": "l1_global"}, r"here: l1_global: got \['method'\], expected `sparsity` as its level"),
        ({"method": "l1_global", "bits": 8}, r"here: l1_global: got .* expected `sparsity` as its level"),
        ({"method": "dynamic_int8", "sparsity": 0.1}, r"here: dynamic_int8: got .* expected `bits` as its level"),
        ({"method": "l1_global", "sparsity": 0.1, "sparsity_of": "all"}, r"here: sparsity_of: got 'all', expected one of scope, model"),
        ({"method": "random_unstructured", "sparsity": 0.1, "seed": -1}, r"here: seed: got -1, expected 0 or more"),
        ({"method": "random_unstructured", "sparsity": 0.1, "seed": 0.0}, r"here: seed: got 0\.0, expected a whole number"),
        ({"method": "random_unstructured", "sparsity": 0.1, "seed": False}, r"here: seed: got False, expected a whole number"),
        ({"method": "ln_structured", "sparsity": 0.1, "n": 3}, r"here: n: got 3, expected one of 1, 2"),
        ({}, r"here: entry: got \[\], expected either `method` or `chain`"),
        ({"method": "l1_global", "chain": []}, r"here: entry: got \['chain', 'method'\], expected either"),
        ({"chain": []}, r"here: chain: got \[\], expected a list of tables"),
        ({"chain": {"method": "l1_global"}}, r"here: chain: got .* expected a list of tables"),
        ({"chain": ["l1_global"]}, r"here: chain: got \['l1_global'\], expected a list of tables"),
        ({"chain": [{"method": "dynamic_int8"}], "scope": []}, r"here: scope: got \[\], expected at least one"),
        ({"chain": [{"method": "dynamic_int8"}], "sparsity": 0.1}, r"here: entry: got 'sparsity' beside `chain`, expected it in a step"),
        ({"chain": [{"method": "dynamic_int8", "dtype": "float32"}]}, r"here\.chain\[0\]: dynamic_int8: got 'dtype', expected a known key"),
        ({"chain": [{"method": "l1_global", "sparsity": 2}]}, r"here\.chain\[0\]: sparsity: got 2, expected a fraction"),
        (
            {"scope": "ffn", "chain": [{"method": "l1_global", "sparsity": 0.1, "scope": "ffn"}]},
            r"here\.chain\[0\]: scope: got 'ffn', expected none beside the entry's",
        ),
        (
            {"chain": [{"method": "quantize_dynamic"}, {"method": "l1_global", "sparsity": 0.1}]},
            r"here: chain: got a step after quantize_dynamic, expected it last",
        ),
    ],
)
def test_wrong_tables(table: dict[str, Any], message: str) -> None:
    """Each mistake in an entry is one line: where, field, got, expected, what to do."""
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        ids(**table)
    assert "\n" not in str(caught.value)
    assert str(caught.value)[-1] in ".?"


def test_the_scopes_of_a_chain() -> None:
    """Scopes of the entry are taken one after the other by all steps; scopes of steps each for its own step; else overall."""
    prune, quantize = {"method": "l1_global", "sparsity": [0.1, 0.2]}, {"method": "dynamic_int8"}
    assert ids(scope=["attention", "ffn"], chain=[prune, quantize]) == [
        "l1_global--attention--s0.1+dynamic_int8--attention--b8",
        "l1_global--attention--s0.2+dynamic_int8--attention--b8",
        "l1_global--ffn--s0.1+dynamic_int8--ffn--b8",
        "l1_global--ffn--s0.2+dynamic_int8--ffn--b8",
    ]
    assert ids(chain=[{**prune, "scope": "ffn"}, {**quantize, "scope": ["ffn", "head"]}])[:2] == [
        "l1_global--ffn--s0.1+dynamic_int8--ffn--b8",
        "l1_global--ffn--s0.1+dynamic_int8--head--b8",
    ]
    assert ids(chain=[{**prune, "scope": "ffn"}, quantize])[0] == "l1_global--ffn--s0.1+dynamic_int8--overall--b8"
    assert ids(chain=[quantize]) == ids(method="dynamic_int8")


def test_a_number_may_have_words_beside() -> None:
    """A group is a whole number or the word for the whole tensor; defaults stay out of ids."""
    assert ids(method="rtn", bits=4, group=[64, 0, "tensor"], symmetric=[True, False]) == [
        "rtn--overall--b4",
        "rtn--overall--b4--symmetric-False",
        "rtn--overall--b4--group-0",
        "rtn--overall--b4--group-0--symmetric-False",
        "rtn--overall--b4--group-tensor",
        "rtn--overall--b4--group-tensor--symmetric-False",
    ]


@pytest.mark.parametrize("group", ["channel", "", 64.0, True, -1, [["tensor"]]])
def test_wrong_groups(group: Any) -> None:
    """Other words and other numbers are one line."""
    with pytest.raises(SuiteError, match=r"^here: group: got .*, expected (a whole number or 'tensor'|0 or more)\. Correct it\.$"):
        ids(method="rtn", bits=4, group=group)


def test_a_format_goes_with_its_bits() -> None:
    """A format at the bits of another is one line that says which fit; the default format is one of 16 bits."""
    assert ids(method="cast", bits=16, format=["bf16", "fp16"]) == ["cast--overall--b16", "cast--overall--b16--format-fp16"]
    assert ids(method="cast", bits=8, format="fp8_e4m3") == ["cast--overall--b8--format-fp8_e4m3"]
    with pytest.raises(SuiteError, match=r"^here: format: got 'bf16' at 8 bits, expected fp8_e4m3 or fp8_e5m2\. Correct it\.$"):
        ids(method="cast", bits=8)
    with pytest.raises(SuiteError, match=r"^here: format: got 'fp8_e4m3' at 16 bits, expected bf16 or fp16\. Correct it\.$"):
        ids(method="cast", bits=[8, 16], format="fp8_e4m3")


def test_levels_of_more_kinds() -> None:
    """A count, a rank and a sigma stand in ids with a mark of their own; a range of them gives whole numbers."""
    assert ids(method="drop_heads", scope="attention", count=[1, 2.0]) == ["drop_heads--attention--n1", "drop_heads--attention--n2"]
    assert ids(method="drop_heads", scope="attention", sparsity=0.25) == ["drop_heads--attention--s0.25"]
    assert ids(method="low_rank", rank={"from": 8, "to": 24, "step": 8})[::2] == ["low_rank--overall--r8", "low_rank--overall--r24"]
    assert ids(method="weight_noise", sigma=[0.1, 2]) == ["weight_noise--overall--sd0.1", "weight_noise--overall--sd2.0"]
    assert ids(method="weight_noise", sigma={"from": 0.1, "to": 0.3, "step": 0.1})[-1] == "weight_noise--overall--sd0.3"
    (spec,) = expand("here", {"method": "drop_layers", "count": 1, "order": "even"})
    assert (spec.id, spec.steps[0].kind, spec.steps[0].unit) == ("drop_layers--overall--n1--order-even", "count", "count")


@pytest.mark.parametrize("kind", ["count", "rank", "sigma"])
@pytest.mark.parametrize("level", [0, 0.0, -0.0, -1, float("nan"), float("inf"), -float("inf"), True, "1", [[1]], 0.5, 1.5])
def test_wrong_numbers_of_more_kinds(kind: str, level: Any) -> None:
    """Zero, negative, no number, and half a head are one line; a sigma may be a fraction."""
    method = {"count": "drop_heads", "rank": "low_rank", "sigma": "weight_noise"}[kind]
    if kind == "sigma" and level in (0.5, 1.5):
        assert len(ids(method=method, sigma=level)) == 1
        return
    rule = "a number above 0" if kind == "sigma" else "a whole number from 1"
    with pytest.raises(SuiteError, match=rf"^here: {kind}: got .*, expected {rule}\. Correct it\.$"):
        ids(**{"method": method, kind: level})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"method": "low_rank", "sparsity": 0.5, "rank": 8}, r"low_rank: got .*, expected `sparsity` or `rank` as its level"),
        ({"method": "low_rank"}, r"low_rank: got \['method'\], expected `sparsity` or `rank` as its level"),
        ({"method": "low_rank", "count": 8}, r"low_rank: got .*, expected `sparsity` or `rank` as its level"),
        ({"method": "drop_heads", "sparsity": 0.5, "count": 1}, r"drop_heads: got .*, expected `sparsity` or `count` as its level"),
        ({"method": "drop_layers", "rank": 1}, r"drop_layers: got .*, expected `sparsity` or `count` as its level"),
        ({"method": "weight_noise", "sparsity": 0.5}, r"weight_noise: got .*, expected `sigma` as its level"),
        ({"method": "l1_global", "count": 3}, r"l1_global: got .*, expected `sparsity` as its level"),
        ({"method": "drop_heads", "sparsity": 1}, r"sparsity: got 1, expected a fraction in \[0, 1\)"),
        ({"method": "drop_heads", "count": 1, "order": "size"}, r"order: got 'size', expected one of norm, random"),
        ({"method": "drop_layers", "count": 1, "order": "first"}, r"order: got 'first', expected one of deep, last, even, norm, random"),
        ({"method": "drop_layers", "count": 1, "among": "scope"}, r"drop_layers: got 'among', expected a known key"),
        ({"method": "low_rank", "rank": {"from": 8, "to": 9, "step": 0.5}}, r"rank: got 8\.5, expected a whole number from 1"),
        ({"method": "low_rank", "rank": {"from": 0, "to": 8, "step": 4}}, r"rank: got 0\.0, expected a whole number from 1"),
        ({"method": "drop_heads", "count": {"from": 1, "to": 4}}, r"count: got .*, expected \{from, to, step\}, three numbers"),
        ({"method": "weight_noise", "sigma": {"from": 0, "to": 0.2, "step": 0.1}}, r"sigma: got 0\.0, expected a number above 0"),
    ],
)
def test_wrong_tables_of_more_kinds(table: dict[str, Any], message: str) -> None:
    """Two kinds of level, none, another method's, and ranges that leave the kind are one line each."""
    with pytest.raises(SuiteError, match=rf"^here: {message}") as caught:
        ids(**table)
    assert "\n" not in str(caught.value)
