"""Models: where they come from, how they are loaded, and how a cell gets the dense weights back."""

from pytest_kick.models.cache import ModelCache
from pytest_kick.models.load import load
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.source import resolve

__all__ = ["LoadedModel", "ModelCache", "load", "resolve"]
