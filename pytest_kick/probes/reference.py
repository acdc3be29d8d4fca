"""Answers of the dense model that probes compare with: measured once per model, dtype and sample, kept in the cache."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel


def reference_key(probe_id: str, probe: Any, model: LoadedModel, dtype: str, asked: Mapping[str, Any]) -> str:  # noqa: ANN401 - any probe
    """Return what names a reference: everything that decides it.

    Args:
        probe_id: name and parameters of the probe.
        probe: has `version` and `key`, a digest of its examples.
        model: the dense model.
        dtype: of the forward pass.
        asked: limit, seed and batch size.
    """
    parts = [probe_id, probe.version, probe.key, model.weights_hash, model.architecture_hash, model.tokenizer_hash, dtype, dict(asked)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def kept_reference(cache: Path, key: str, measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arrays of a reference, measured where the cache has none; workers wait for the first one."""
    path = cache / "dense" / f"{key}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            partial = path.with_suffix(f".{os.getpid()}.partial.npz")
            np.savez(partial, allow_pickle=False, **measure())
            partial.replace(path)
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
