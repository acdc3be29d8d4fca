from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pytest_kick.errors import ModelError
from pytest_kick.models.cache import ModelCache
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path


def spec_at(directory: Path, name: str, family: str) -> ModelSpec:
    """Return a spec of a directory."""
    return ModelSpec(name=name, family=family, source=f"path:{directory}")


def test_one_slot(masters: dict[str, Path], tmp_path: Path) -> None:
    """The same spec gives the same model; another spec lets the first go, memory included."""
    cache = ModelCache(tmp_path)
    llama = spec_at(masters["llama"], "llama", "decoder")
    first = cache.get(llama)
    assert cache.get(replace(llama)) is first
    gone = weakref.ref(first)
    del first
    assert cache.get(spec_at(masters["bert"], "bert", "encoder")).name == "bert"
    assert gone() is None


def test_drop_loads_again(masters: dict[str, Path], tmp_path: Path) -> None:
    """After drop the model is loaded anew; dropping an empty slot is fine."""
    cache = ModelCache(tmp_path)
    cache.drop()
    spec = spec_at(masters["llama"], "llama", "decoder")
    first = weakref.ref(cache.get(spec))
    cache.drop()
    gc.collect()
    assert first() is None
    assert cache.get(spec).name == "llama"


def test_a_failed_load_leaves_the_slot_empty(masters: dict[str, Path], tmp_path: Path) -> None:
    """After an error the slot holds no model under the failed name."""
    cache = ModelCache(tmp_path)
    wrong = spec_at(masters["llama"], "llama", "encoder")
    for _ in range(2):
        with pytest.raises(ModelError, match="family"):
            cache.get(wrong)
    assert cache.get(replace(wrong, family="decoder")).family == "decoder"
