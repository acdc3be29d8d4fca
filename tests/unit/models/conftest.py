"""Tiny random models, saved as directories."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tiny_models import CONFIGS, make_module, make_tokenizer

from pytest_kick.models.quiet import quiet
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Save one directory for each architecture; not to be changed."""
    made = {}
    with quiet():
        for kind in CONFIGS:
            made[kind] = tmp_path_factory.mktemp(kind)
            make_module(kind).save_pretrained(made[kind])
            make_tokenizer().save_pretrained(made[kind])
    return made


@pytest.fixture
def model_dir(masters: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that gives a directory of a kind which the test may change."""
    return lambda kind: shutil.copytree(masters[kind], tmp_path / kind)


@pytest.fixture(scope="session")
def spec_of() -> Callable[[str], ModelSpec]:
    """Return a function that gives the spec of a kind."""
    return lambda kind: ModelSpec(name=kind, family=CONFIGS[kind][0], source="path:/nowhere")
