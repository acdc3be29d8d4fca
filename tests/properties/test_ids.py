from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_kick.errors import KickError, SuiteError
from pytest_kick.grid import expand
from pytest_kick.registry import METHODS
from pytest_kick.selection import level_names
from pytest_kick.spec import SCOPES, CompressionSpec, is_name, is_scope_pattern, scope_slug
from pytest_kick.suite import _Reader

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.infos import MethodInfo, Scalar

FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")

patterns = st.text("abq_.*?[]!,-0", min_size=1, max_size=30).filter(is_scope_pattern)
scopes = st.one_of(st.sampled_from(SCOPES), patterns)
fractions = st.floats(0, 1, exclude_max=True, allow_subnormal=False)
LEVELS: dict[str, st.SearchStrategy[Any]] = {
    "sparsity": fractions,
    "rank": st.integers(1, 10**6),
    "count": st.integers(1, 10**6),
    "sigma": st.floats(0, 10, exclude_min=True, allow_subnormal=False),
}


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Any]:
    """Return one step as a suite writes it."""
    info = draw(st.sampled_from([info for info in METHODS if not info.packs and info.level != "name"]))
    table: dict[str, Any] = {"method": info.name, "scope": draw(scopes)}
    if "pattern" in dict(info.params) and draw(st.booleans()):
        keep = draw(st.integers(1, 8))
        table["pattern"] = f"{keep}:{draw(st.integers(keep + 1, 16))}"
    else:
        kind = draw(st.sampled_from((info.level, *info.also)))
        table[kind] = draw(st.sampled_from(info.bits) if kind == "bits" else LEVELS[kind])
    for key, default in info.params:
        if key in {"pattern", "execution"}:  # packed kernels stand last in a chain
            continue
        bound = [value for name, value, level in info.levels_of if name == key and level == table.get(info.level)]
        if bound or draw(st.booleans()):
            table[key] = draw(st.sampled_from(bound) if bound else values_of(info, key, default))
    return table


def values_of(info: MethodInfo, key: str, default: Scalar) -> st.SearchStrategy[Any]:
    """Return what a parameter takes."""
    choices, words = dict(info.choices).get(key), dict(info.words).get(key)
    if choices:
        return st.sampled_from(choices)
    kinds: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(dict(info.least).get(key, 0), 10**6),
        float: fractions,
    }
    numbers = kinds[type(default)]
    return numbers | st.sampled_from(words) if words else numbers


def spec_of(tables: list[dict[str, Any]]) -> CompressionSpec:
    """Return the one compression that a chain expands to; chains of steps that do not follow each other are none."""
    try:
        (spec,) = expand("here", {"chain": tables})
    except SuiteError as error:
        assume("chain: got" not in str(error))
        raise
    return spec


chains = st.lists(steps(), min_size=1, max_size=3).map(spec_of)


@given(chains, chains)
def test_an_id_names_one_compression(one: CompressionSpec, other: CompressionSpec) -> None:
    """Two compressions have one id only when they are equal: every level exactly, every parameter, every pattern."""
    assert (one.id == other.id) == (one == other)


@given(chains)
def test_an_id_is_a_file_name(spec: CompressionSpec) -> None:
    """An id is made of characters that a file name may have anywhere, and its parts can be told apart."""
    assert FILE_NAME.fullmatch(spec.id)
    parts = spec.id.split("+")
    # a level in scientific notation has a sign only in front of a negative exponent
    assert len(parts) == len(spec.steps)
    for part, step in zip(parts, spec.steps, strict=True):
        method, scope, level, *params = part.split("--")
        assert method == step.method
        assert scope == scope_slug(step.scope)
        assert float(level_names(step)[1]) == step.level
        assert level == level_names(step)[0]
        assert params == [f"{key}-{value}" for key, value in step.params]


@given(patterns, patterns)
def test_patterns_are_told_apart(one: str, other: str) -> None:
    """Slugs of different patterns differ, and none is the name of a scope."""
    assert (scope_slug(one) == scope_slug(other)) == (one == other)
    assert scope_slug(one) not in SCOPES
    assert is_name(scope_slug(one))


@given(st.integers(0, 99), st.integers(1, 30), st.integers(0, 99))
def test_ranges_hit_the_decimals(first: int, step: int, length: int) -> None:
    """Each level of a range is the float that its decimal reads as, ends included; a range that misses its end is refused."""
    last = min(99, first + length)
    table = {
        "method": "l1_global",
        "sparsity": {"from": float(f"0.{first:02}"), "to": float(f"0.{last:02}"), "step": float(f"0.{step:02}")},
    }
    if (last - first) % step:
        with pytest.raises(SuiteError, match="expected steps that end at `to`"):
            expand("here", table)
        return
    found = [spec.steps[0].level for spec in expand("here", table)]
    assert found == [float(f"0.{level:02}") for level in range(first, last + 1, step)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["l1_global", "ffn", "tiny-decoder"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["method", "sparsity", "name", "from", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = st.sampled_from(["name", "probes", "dtype", "dense", "models", "compressions", "budgets", "facts", "hub", "default", "x"])


def refusal(path: Path, document: dict[str, Any]) -> str:
    """Return why a suite is refused, or "" where it reads."""
    try:
        _Reader("a.toml", path, document).suite()
    except KickError as error:
        return str(error)
    return ""


@given(st.dictionaries(keys, values, max_size=4), st.lists(st.dictionaries(keys | st.sampled_from(["method", "chain", "scope"]), values)))
def test_any_toml_reads_or_is_refused_in_one_line(tmp_path_factory: Any, data: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    """Whatever stands in a suite, it is read or refused in one line: never a traceback of another kind."""
    path = tmp_path_factory.getbasetemp() / "a.toml"
    sound = {"schema": 1, "models": ["tiny-decoder"], "compressions": entries}
    for document in (sound | data, {**sound, **data, "budgets": entries}):
        message = refusal(path, document)
        assert message == "" or (message.startswith("a.toml: ") and "\n" not in message)
