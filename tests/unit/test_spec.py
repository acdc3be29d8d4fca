from __future__ import annotations

import pytest

from pytest_kick.errors import SuiteError
from pytest_kick.spec import SCOPES, Case, CompressionSpec, CompressionStep, ModelSpec, is_name, is_scope_pattern, scope_slug

MODEL = ModelSpec(name="m", family="decoder", source="hub:org/m")


def step(method: str = "l1_global", scope: str = "ffn", level: float = 0.2, **params: object) -> CompressionStep:
    """Return a step."""
    return CompressionStep(method=method, scope=scope, level=level, params=tuple(params.items()))  # type: ignore[arg-type]


def test_ids_of_steps() -> None:
    """An id is method, scope, level in its shortest exact form, and the parameters that differ from the defaults."""
    assert step().id == "l1_global--ffn--s0.2"
    assert step(level=0.1 + 0.2).id == "l1_global--ffn--s0.30000000000000004"
    assert step(level=0.0).id == "l1_global--ffn--s0.0"
    assert step("dynamic_int8", "overall", 8).id == "dynamic_int8--overall--b8"
    assert step("random_structured", "head", dim="columns", seed=3).id == "random_structured--head--s0.2--dim-columns--seed-3"


def test_ids_of_chains_and_dense() -> None:
    """The steps of a chain are joined by `+` in their order; no step is `dense`."""
    prune, quantize = step(), step("dynamic_int8", level=8)
    assert CompressionSpec(steps=(prune, quantize)).id == "l1_global--ffn--s0.2+dynamic_int8--ffn--b8"
    assert CompressionSpec(steps=(quantize, prune)).id == "dynamic_int8--ffn--b8+l1_global--ffn--s0.2"
    assert CompressionSpec().id == "dense"


def test_ids_of_cases() -> None:
    """A case's id adds suite and model in front, and the dtype where the suite fixes one."""
    case = Case(suite="s", model=MODEL, compression=CompressionSpec(steps=(step(),)), probes=("facts",))
    assert case.id == "s--m--l1_global--ffn--s0.2"
    assert case.cell == "l1_global--ffn--s0.2"
    assert not case.is_dense
    fixed = Case(suite="s", model=MODEL, compression=CompressionSpec(), probes=("facts",), dtype="float32")
    assert fixed.id == "s--m--dense--float32"
    assert fixed.is_dense


def test_facts_of_ones_own_have_their_own_shelf() -> None:
    """Cells on other facts are kept apart from those on the shipped ones."""
    plain = Case(suite="s", model=MODEL, compression=CompressionSpec(), probes=("facts",))
    own = Case(suite="s", model=MODEL, compression=CompressionSpec(), probes=("facts",), facts="/x/capitals.jsonl")
    assert plain.shelf == "m"
    assert own.shelf == "m--capitals"


def test_patterns_that_differ_have_ids_that_differ() -> None:
    """Patterns are shown readably, and two that look alike once made safe are told apart."""
    slugs = {scope_slug(pattern) for pattern in ("*.q", "x.q", "*.q,*.k", "*.q_*.k", "?.q", "[x].q")}
    assert len(slugs) == 6
    assert scope_slug("*.q_proj").startswith("re.x.q_proj-")
    assert all(is_name(slug) for slug in slugs)
    assert len(scope_slug("*." + "q" * 300)) < 60
    assert all(scope_slug(scope) == scope for scope in SCOPES)


@pytest.mark.parametrize("pattern", ["*.q_proj", "*.q_proj,*.k_proj", "model.layers.[0-9].mlp.*", "layer?"])
def test_patterns(pattern: str) -> None:
    """Globs over module names, separated by commas, are patterns."""
    assert is_scope_pattern(pattern)


@pytest.mark.parametrize("pattern", ["ffn", "*.q, *.k", "*.q,", ",", "", "*/x", "*.q,plain", "*\n"])
def test_no_patterns(pattern: str) -> None:
    """A plain name, an empty part and characters that no module name has are none."""
    assert not is_scope_pattern(pattern)


@pytest.mark.parametrize(
    "name", ["", "../m", "a/b", "a\\b", ".", "..", "-a", "a--b", "a-", "a b", "é", "a\n", "a" * 101, "C:", ".hidden", "a+b"]
)
def test_model_names_stay_in_their_directory(name: str) -> None:
    """A name that would leave the baselines' directory, or break an id, is one line."""
    with pytest.raises(SuiteError, match=r"^model: name: got .*, expected at most 100 letters, .* Rename the model\.$"):
        ModelSpec(name=name, family="decoder", source="hub:a/b")


def test_model_fields_are_checked() -> None:
    """Family and source are checked."""
    with pytest.raises(
        SuiteError, match=r"^model 'm': family: got 'gpt', expected one of encoder, encoder-decoder, decoder\. Correct it\.$"
    ):
        ModelSpec(name="m", family="gpt", source="hub:a/b")
    for source in ("", "a/b", "http://x", "hub:", "path:"):
        with pytest.raises(SuiteError, match=rf"^model 'm': source: got '{source}', expected hub:\.\.\., pypi:"):
            ModelSpec(name="m", family="decoder", source=source)


@pytest.mark.parametrize("digests", ["", "0" * 63, "0" * 64 + " " + "1" * 64, "G" * 64])
def test_a_wheel_needs_its_hash(digests: str) -> None:
    """A source on the package index has the sha256 of each of its wheels: known before anything is run."""
    with pytest.raises(SuiteError, match=r"model 'm': sha256: got .*, expected the 64 hexadecimal digits of each wheel's"):
        ModelSpec(name="m", family="decoder", source="pypi:a==1#f", sha256=digests)


def test_defaults_of_parameters() -> None:
    """A parameter that a step does not name has the method's default."""
    assert step("ln_structured").param("dim") == "rows"
    assert step("ln_structured", dim="columns").param("dim") == "columns"
    assert step().kind == "sparsity"
    assert step("dynamic_int8", level=8).kind == "bits"


def test_one_float32_step_makes_the_cell_float32() -> None:
    """A cell with a step that runs only in float32 is a float32 cell."""
    assert CompressionSpec(steps=(step(), step("quantize_dynamic", level=8))).float32_only
    assert not CompressionSpec(steps=(step(),)).float32_only
