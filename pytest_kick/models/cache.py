"""The one model that a process holds."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from pytest_kick.models.load import load
from pytest_kick.models.source import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.spec import ModelSpec


class ModelCache:
    """Hold at most one loaded model: two would double the memory of every worker."""

    def __init__(
        self,
        directory: Path,
        *,
        offline: bool = False,
        allow_pickle: bool = False,
        trust_remote_code: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """Keep what `resolve` and `load` are called with; see there."""
        self.directory = directory
        self.offline = offline
        self.allow_pickle = allow_pickle
        self.trust_remote_code = trust_remote_code
        self.progress = progress
        self._spec: ModelSpec | None = None
        self._model: LoadedModel | None = None

    def get(self, spec: ModelSpec) -> LoadedModel:
        """Return the model of `spec` in whatever state its last cell left it; the previous model is let go first.

        Raises:
            ModelError: it cannot be fetched or loaded.
        """
        if self._model is None or self._spec != spec:
            self.drop()
            directory = resolve(
                spec,
                self.directory,
                offline=self.offline,
                allow_pickle=self.allow_pickle,
                trust_remote_code=self.trust_remote_code,
                progress=self.progress,
            )
            self._model = load(spec, directory, allow_pickle=self.allow_pickle, trust_remote_code=self.trust_remote_code)
            self._spec = spec
        return self._model

    def drop(self) -> None:
        """Let go of the model, for instance after a cell that left it in an unknown state."""
        if self._model is not None:
            self._model = self._spec = None
            gc.collect()
