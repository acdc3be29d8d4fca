"""The models that have a name of their own; read without torch."""

from __future__ import annotations

import functools
import importlib.resources
import tomllib
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_kick.errors import SuiteError
from pytest_kick.registry import did_you_mean
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Mapping


@functools.cache
def catalog() -> Mapping[str, ModelSpec]:
    """Return all models of the catalogue, by name, in the order of the file."""
    text = importlib.resources.files("pytest_kick").joinpath("data", "models.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: ModelSpec(name=name, **entry) for name, entry in tomllib.loads(text).items()})


def find_model(name: str, where: str) -> ModelSpec:
    """Return the model called `name`.

    Args:
        name: as in the catalogue.
        where: what an error names as the place of the name, such as `suites/a.toml: models[0]`.

    Raises:
        SuiteError: no such model; with a near match, or the list of what is known.
    """
    if name not in catalog():
        msg = f"{where}: model: got {name!r}, expected a known model. {did_you_mean(name, catalog())}"
        raise SuiteError(msg)
    return catalog()[name]
