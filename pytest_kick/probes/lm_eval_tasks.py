"""Find and load tasks of lm-evaluation-harness: by name through its index, or from a YAML file.

Reading the index takes lm-eval many seconds, so what it says of names and files is kept on disk, and read once per process.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import logging
import os
import random
import warnings
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lm_eval.tasks
import numpy as np
import torch
from filelock import FileLock
from huggingface_hub import constants
from lm_eval.tasks._index import Entry, Kind
from lm_eval.tasks._yaml_loader import load_yaml

from pytest_kick.errors import DataError, KickError, ProbeError
from pytest_kick.probes.lm_eval_data import brought
from pytest_kick.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_kick.probes.context import ProbeContext

datasets: Any = import_module("datasets")  # neither ships types
yaml: Any = import_module("yaml")

ROOT = Path(lm_eval.tasks.__file__).parent
NETWORK = frozenset({
    "ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "DatasetNotFoundError", "HfHubHTTPError", "ConnectError",
})  # fmt: skip
SEEDS = (0, 1234, 1234)  # of Python, NumPy and torch while tasks are loaded, as `lm_eval.simple_evaluate` has them
_SHOWN = 160


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval from printing, logging and drawing bars."""
    logger = logging.getLogger("lm_eval")
    before, bars = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
        if not bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def seeded() -> Iterator[None]:
    """Seed the global generators as lm-eval does before it builds anything, and put their states back afterwards."""
    python, numbers, torches = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002 - lm-eval draws from it
    random.seed(SEEDS[0])
    np.random.seed(SEEDS[1])  # noqa: NPY002
    torch.default_generator.manual_seed(SEEDS[2])
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)  # noqa: NPY002
        torch.random.set_rng_state(torches)


def load_tasks(reference: str, context: ProbeContext) -> dict[str, Any]:
    """Return the tasks that a name stands for, by name: one, or the leaves of a group or tag.

    Args:
        reference: a name of lm-eval's, or `path:FILE`.
        context: says where data lie, whether the network may be used, and where to keep the index.

    Raises:
        ProbeError: there is no such task, it runs code that a model wrote, or lm-eval cannot load it.
        DataError: its data cannot be had.
    """
    where = f"lm_eval:{context.spec.param('task')}"
    data = brought(where, context.data, int(context.spec.param("shots")))
    try:
        with quiet(), seeded(), _network(offline=context.offline), data, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = _load(where, reference, context)
    except KickError:
        raise
    except Exception as error:  # templates, data sets and users' functions raise whatever they like
        raise _explained(where, error, offline=context.offline) from error
    for name, task in loaded.items():
        if getattr(task, "UNSAFE_CODE", False):
            _allow(where, name, context)
        if getattr(task, "MULTIMODAL", False):
            msg = f"{where}: {name}: got a task with images or sound, expected text alone. Choose another task."
            raise ProbeError(msg)
    return loaded


def _load(where: str, reference: str, context: ProbeContext) -> dict[str, Any]:
    if not reference.startswith("path:"):
        return _named(where, reference, context)
    path = Path(reference.removeprefix("path:"))
    config = _file(where, path)
    bare = "group" not in config
    manager = lm_eval.tasks.TaskManager(include_defaults=False) if bare else _manager(context.cache)
    loaded: dict[str, Any] = manager.load([config if bare else str(path)])["tasks"]
    return loaded


def _named(where: str, name: str, context: ProbeContext) -> dict[str, Any]:
    manager = _manager(context.cache)
    entry = manager.task_index.get(name)
    if entry is None:
        known = did_you_mean(name, manager.task_index)
        msg = f"{where}: task: got no such task of lm-eval {metadata.version('lm-eval')}, expected one of its names. {known}"
        raise ProbeError(msg)
    if entry.kind is Kind.TASK and load_yaml(entry.yaml_path, resolve_func=False).get("unsafe_code"):
        _allow(where, name, context)  # before its modules are imported and its data fetched
    loaded: dict[str, Any] = manager.load([name])["tasks"]
    return loaded


def _file(where: str, path: Path) -> dict[str, Any]:
    """Return the configuration of a task in a YAML file; its relative data files lie beside it."""
    if not path.is_file():
        msg = f"{where}: {path}: got no such file, expected a task of lm-eval in YAML. Correct the path."
        raise ProbeError(msg)
    try:
        config: Any = load_yaml(path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark else ""
        msg = f"{where}: {path}{at}: got no YAML ({getattr(error, 'problem', None) or type(error).__name__}), expected it. Correct it."
        raise ProbeError(msg) from error
    except ValueError as error:
        msg = f"{where}: {path}: got no table of keys, expected a task of lm-eval. Correct the file."
        raise ProbeError(msg) from error
    if "task" not in config and "group" not in config:
        msg = f"{where}: {path}: task: got none, expected a name. Add `task: my_task`."
        raise ProbeError(msg)
    files = (config.get("dataset_kwargs") or {}).get("data_files")
    if files:
        config["dataset_kwargs"] = config["dataset_kwargs"] | {"data_files": _beside(files, path.parent)}
    return dict(config)


def _beside(files: Any, folder: Path) -> Any:  # noqa: ANN401 - a path, or lists or tables of them
    if isinstance(files, dict):
        return {split: _beside(value, folder) for split, value in files.items()}
    if isinstance(files, list):
        return [_beside(value, folder) for value in files]
    return files if "://" in str(files) else str(folder / str(files))


def _allow(where: str, name: str, context: ProbeContext) -> None:
    if not context.unsafe_code:
        msg = f"{where}: unsafe_code: got {name!r}, which runs code that a model wrote, expected a task that runs none."
        msg += " Allow it with --kick-unsafe-code, on a machine that you can lose."
        raise ProbeError(msg)


def _explained(where: str, error: Exception, *, offline: bool) -> KickError:
    """Return what a failed loading means, in one line."""
    reason = " ".join(str(error).split())[:_SHOWN]
    chain = [error, error.__cause__, error.__context__]
    if any(type(each).__name__ in NETWORK for each in chain if each):
        got = "--kick-offline" if offline else f"{type(error).__name__} ({reason})"
        todo = "Run it once with a network" if offline else "Check the network and the name"
        return DataError(f"{where}: network: got {got}, expected the task's data. {todo}, or bring them by --kick-data.")
    if isinstance(error, FileNotFoundError):
        return DataError(f"{where}: data: got no file ({reason}), expected those that the task names. Correct the YAML.")
    return ProbeError(f"{where}: task: got {type(error).__name__} ({reason}), expected one that lm-eval can load. Correct the task.")


@contextlib.contextmanager
def _network(*, offline: bool) -> Iterator[None]:
    """Keep the hub's libraries from the network where asked to; they read the switch when they are imported, hence here too."""
    switches = [(constants, "HF_HUB_OFFLINE"), (datasets.config, "HF_HUB_OFFLINE"), (datasets.config, "HF_DATASETS_OFFLINE")]
    before = [getattr(module, name) for module, name in switches]
    try:
        for module, name in switches if offline else ():
            setattr(module, name, True)
        yield
    finally:
        for (module, name), value in zip(switches, before, strict=True):
            setattr(module, name, value)


@functools.cache
def _manager(cache: Path) -> Any:  # noqa: ANN401 - lm-eval ships no types
    """Return lm-eval's task manager; the names it knows come from the disk where this version of lm-eval has been read before."""
    path = cache / "lm_eval" / f"index-{metadata.version('lm-eval')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            found = lm_eval.tasks.TaskManager().task_index
            table = {name: [entry.kind.name, _relative(entry.yaml_path), sorted(entry.tags)] for name, entry in found.items()}
            partial = path.with_suffix(f".{os.getpid()}.partial")
            partial.write_text(json.dumps(table), encoding="utf-8")
            partial.replace(path)
        table = json.loads(path.read_text(encoding="utf-8"))
    manager = lm_eval.tasks.TaskManager(include_defaults=False)
    for name, (kind, file, tags) in table.items():
        entry = Entry(name=name, kind=Kind[kind], yaml_path=ROOT / file if file else None, tags=set(tags))
        manager.task_index[name] = entry  # the table that the manager itself reads
    return manager


def _relative(path: Path | None) -> str:
    return "" if path is None else path.relative_to(ROOT).as_posix()
