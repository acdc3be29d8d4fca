"""Keep what one dense pass accumulated on disk: all levels and methods of a model share it, and so do processes side by side."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import torch
import transformers
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pytest_kick.calibration.batches import make_batches
from pytest_kick.calibration.capture import by_name, run_dense
from pytest_kick.calibration.heap import give_back
from pytest_kick.calibration.order import observe
from pytest_kick.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from pytest_kick.calibration.prepare import CalibrationData
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.models.matrices import Matrix

VERSION = 1
"""Raise it when inputs are captured, or sequences batched, in another way."""


class Accumulator(Protocol):
    """Add up what a method needs to know of the inputs of a matrix."""

    def add(self, x: torch.Tensor, /) -> None:
        """Take the inputs of one call in, `(tokens, in)` float32."""

    def state(self) -> dict[str, torch.Tensor]:
        """Return all of it as tensors."""


class DenseInputs:
    """Give what was accumulated for each matrix of a model, read from disk when it is asked for."""

    def __init__(self, files: Mapping[str, Path], keys: Mapping[str, str]) -> None:
        """Take key -> file, and name of a matrix -> key."""
        self._files = dict(files)
        self.keys = dict(keys)

    def state(self, matrix: Matrix) -> dict[str, torch.Tensor]:
        """Return the accumulated tensors of one matrix, on the CPU, memory-mapped: never write to them.

        Raises:
            CalibrationError: its file is gone, or no longer what was written.
        """
        path = self._files[self.keys[matrix.name]]
        try:
            with safe_open(path, framework="pt") as content:
                return {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - it is no dictionary
        except (OSError, SafetensorError) as error:
            msg = f"calibration: cache: got {type(error).__name__} for {path}, expected what was written there. Remove its directory."
            raise CalibrationError(msg) from error


class DenseCache:
    """Accumulate over one dense pass, or find what an earlier one accumulated."""

    def __init__(self, directory: Path, *, device: torch.device | str = "cpu", progress: Callable[[str], None] | None = None) -> None:
        """Keep where files go, where passes run, and what is called with one line where something takes time.

        Args:
            directory: the cache; `calibration/` is made in it.
            device: where the pass runs.
            progress: takes the lines.
        """
        self._directory = directory / "calibration"
        self._device = device
        self._progress = progress

    def get(
        self,
        model: LoadedModel,
        data: CalibrationData,
        matrices: tuple[Matrix, ...],
        make: Callable[[int], Accumulator],
        *,
        kind: str,
        after: str = "",
    ) -> DenseInputs:
        """Return what `make`'s accumulators hold after the sequences went through the model.

        One file for each input, so that a scope, another one that overlaps it, and all levels and methods need one pass together.
        What is missing is made under a lock: processes that want the same wait. Each block's files are written before the next block
        runs, so no more than one block's accumulators are held; a pass that is killed leaves whole files, and no torn one is read.

        Args:
            model: its weights are the dense ones, or those that `after` names.
            data: the sequences.
            matrices: whose inputs are wanted.
            make: gives an empty accumulator for a number of columns.
            kind: names what `make` accumulates: two kinds never share a file.
            after: id of the steps of the chain that the weights went through already; "" for the dense model.

        Raises:
            CalibrationError: as `run_dense`, or the cache cannot be written.
        """
        batches = make_batches(data.samples)
        named = by_name(matrices, observe(model.module, batches[0]).keys(matrices))
        home = self._directory / f"{model.name}-{self._digest(model, data, kind, after)}"
        paths = {key: home / f"{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.safetensors" for key in named.values()}
        if _missing(paths):
            try:
                home.mkdir(parents=True, exist_ok=True)
                with self._locked(home):
                    missing = _missing(paths)
                    wanted = tuple(matrix for matrix in matrices if named[matrix.name] in missing)
                    if wanted:
                        self._accumulate(model, batches, wanted, make, paths)
            except OSError as error:
                reason = error.strerror or error
                msg = f"calibration: cache: got {reason} in {home}, expected a writable directory with space. Choose another."
                raise CalibrationError(msg) from error
        return DenseInputs(paths, named)

    def _accumulate(
        self,
        model: LoadedModel,
        batches: tuple[dict[str, torch.Tensor], ...],
        matrices: tuple[Matrix, ...],
        make: Callable[[int], Accumulator],
        paths: Mapping[str, Path],
    ) -> None:
        made: dict[str, Accumulator] = {}

        def add(key: str, x: torch.Tensor) -> None:
            if key not in made:
                made[key] = make(x.shape[-1])
            made[key].add(x)

        def write(keys: tuple[str, ...]) -> None:
            for key in keys:
                _write(paths[key], made.pop(key).state())

        run_dense(model.module, batches, matrices, add, finish=write, device=self._device)
        give_back()  # blocks' outputs and sums

    def _digest(self, model: LoadedModel, data: CalibrationData, kind: str, after: str) -> str:
        parts = [VERSION, model.weights_hash, model.architecture_hash, model.tokenizer_hash, data.hash, kind, after]
        text = json.dumps([*parts, torch.device(self._device).type, torch.__version__, transformers.__version__])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    @contextmanager
    def _locked(self, home: Path) -> Iterator[None]:
        lock = FileLock(home.with_name(f"{home.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if self._progress:
                self._progress(f"calibration: waiting for another process that runs {home.name}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _missing(paths: Mapping[str, Path]) -> set[str]:
    return {key for key, path in paths.items() if not _is_whole(path)}


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _write(path: Path, state: dict[str, torch.Tensor]) -> None:
    temporary = path.with_suffix(f".tmp{os.getpid()}")
    try:
        save_file({name: value.cpu().contiguous() for name, value in state.items()}, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
