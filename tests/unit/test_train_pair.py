"""The pair of models of claim C11: made alike but for the body, trained into the place where the suite `size` looks for them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoTokenizer

import pytest_kick
from pytest_kick.claims.twins import LEAST_SEEDS, NAME
from pytest_kick.models.load import load
from pytest_kick.models.scopes import find_matrices
from pytest_kick.spec import ModelSpec
from pytest_kick.suite import read_suite
from tools import train_pair
from tools.tiny import release, training
from tools.tiny.recipes import RECIPES, model_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.tiny.recipes import Recipe

SHIPPED = Path(pytest_kick.__file__).parent / "data" / "models" / "tiny-decoder"
SUITE = train_pair.corpus.ROOT / "suites" / "size.toml"


def counts(recipe: Recipe) -> dict[str, int]:
    """Return how many parameters the untrained model of a recipe has, and where."""
    return release.counts(model_of(recipe, AutoTokenizer.from_pretrained(SHIPPED, local_files_only=True)))


def test_the_twin_has_twice_the_body_and_nothing_else() -> None:
    """Of each seed there is a small recipe and a large one, equal but for name and blocks; body twice, embeddings the same."""
    recipes = {train_pair.SHIPPED: RECIPES["tiny-decoder"], **train_pair.pair()}
    assert len(recipes) == 2 * len(train_pair.SEEDS) >= 2 * LEAST_SEEDS
    for seed in train_pair.SEEDS:
        small, large = (asdict(recipes[f"size-{size}-{seed}"]) for size in ("small", "large"))
        assert small["seed"] == large["seed"] == seed
        assert {key for key in small if small[key] != large[key]} == {"name", "n_layers"}
    small_counts, large_counts = counts(recipes["size-small-1"]), counts(recipes["size-large-1"])
    assert large_counts["body"] == 2 * small_counts["body"]
    assert large_counts["embeddings"] == small_counts["embeddings"]


def test_the_suite_names_what_is_trained() -> None:
    """Every model of the suite is a trained one in the tool's directory, or the shipped one; the pruned ones are cut to the small body."""
    cases = read_suite(SUITE).cases
    places = {case.model.name: case.model.source for case in cases}
    assert places.pop(train_pair.SHIPPED) == f"shipped:{train_pair.SMALL.name}"
    assert set(places) == set(train_pair.pair())
    for name, source in places.items():
        assert Path(source.removeprefix("path:")).resolve() == train_pair.OUT / name
    pruned = [case for case in cases if case.compression.steps]
    assert {step.level for case in pruned for step in case.compression.steps} == {0.5}
    for case in pruned:
        match = NAME.fullmatch(case.model.name)
        assert match
        assert match["size"] == "large"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let nothing be trained, and return the names of what would have been."""
    names: list[str] = []
    monkeypatch.setattr(train_pair, "build", lambda recipe, folder: names.append(f"{folder.name} as {recipe.name}"))
    return names


def test_only_what_is_missing_is_trained(tmp_path: Path, built: list[str]) -> None:
    """A model that was saved to its end is left alone, one whose saving was cut off is trained again, and so is one that is named."""
    whole, cut, *others = train_pair.pair()
    for name, last in ((whole, "SHA256SUMS"), (cut, "model.safetensors")):
        (tmp_path / name).mkdir()
        (tmp_path / name / last).touch()
    assert train_pair.main(["--out", str(tmp_path)]) == 0
    assert built == [f"{name} as {name}" for name in (cut, *others)]
    built.clear()
    train_pair.main([whole, "--out", str(tmp_path)])
    assert built == [f"{whole} as {whole}"]


def test_an_unknown_name_is_refused(tmp_path: Path, built: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped model is not trained again, and a name that is none is said with those that are."""
    with pytest.raises(SystemExit):
        train_pair.main([train_pair.SHIPPED, "--out", str(tmp_path)])
    assert "got size-small-0, expected names of size-large-0, size-small-1" in capsys.readouterr().err
    assert not built


def test_a_trained_model_loads_as_the_suite_loads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two steps of training what is saved is a decoder for `path:`, of twice the body, with the shipped tokenizer."""
    real = training.train

    def two_steps(recipe: Recipe, statements: Any, say: Any) -> Any:
        return real(recipe, statements, say, max_steps=2)

    monkeypatch.setattr(training, "train", two_steps)
    train_pair.main(["size-large-1", "--out", str(tmp_path)])
    folder = tmp_path / "size-large-1"
    assert (folder / "tokenizer.json").read_bytes() == (SHIPPED / "tokenizer.json").read_bytes()
    model = load(ModelSpec(name="size-large-1", family="decoder", source=f"path:{folder}"), folder)
    shipped = load(ModelSpec(name="tiny-decoder", family="decoder", source="shipped:tiny-decoder"), SHIPPED)
    assert model.tokenizer_hash == shipped.tokenizer_hash
    sizes = [sum(m.n for m in find_matrices(found.module) if m.role in {"attention", "ffn"}) for found in (model, shipped)]
    assert sizes[0] == 2 * sizes[1]
