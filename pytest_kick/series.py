"""Checkpoints that a suite points to: one path, a list of them, or the numbered steps of a run.

Paths are relative to the suite. Nothing is opened here: a path that is not there is an error of its cell, so that a suite can be listed
and planned on a machine that does not hold what it points to.
"""

from __future__ import annotations

import glob
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import ModelError, SuiteError
from pytest_kick.registry import METHODS
from pytest_kick.spec import NAME_RULE, is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kick.infos import Scalar
    from pytest_kick.spec import Case, CompressionSpec

_GGUF = ".gguf"


def with_paths(where: str, table: Mapping[str, Any], directory: Path) -> Iterator[dict[str, Any]]:
    """Give each checkpoint of an entry, or of the steps of its chain, a table of its own, with a `name` and an absolute `path`.

    Args:
        where: opens every error, such as `suites/a.toml: compressions[0]`.
        table: as parsed from TOML; without a checkpoint in it, it comes back as it is.
        directory: what paths are relative to.

    Raises:
        SuiteError: no path, both kinds, a name for several paths, or steps that are not numbered, each once.
    """
    chain = table.get("chain")
    if not isinstance(chain, list) or not all(isinstance(step, dict) for step in chain):
        yield from _each(where, table, directory)
        return
    grids = [list(_each(f"{where}.chain[{i}]", step, directory)) for i, step in enumerate(chain)]
    for steps in itertools.product(*grids):
        yield {**table, "chain": list(steps)}


def brought(spec: CompressionSpec) -> Iterator[tuple[str, Scalar]]:
    """Iterate over the checkpoints of a compression: id of the step, and its path."""
    for step in spec.steps:
        if METHODS.get(step.method, step.id).brings:
            yield step.id, step.param("path")


def refuse_missing(case: Case) -> None:
    """Say which command makes what a cell needs, where its suite has one and the path is not there.

    Raises:
        ModelError: the model, or a checkpoint, is not there.
    """
    kind, _, source = case.model.source.partition(":")
    needed = [(f"model {case.model.name!r}", source)] if kind == "path" else []
    for where, path in (*needed, *((name, str(path)) for name, path in brought(case.compression))):
        if case.made_by and not Path(path).exists():
            msg = f"{where}: path: got nothing at {path!r}, expected what the suite's command makes. Run {case.made_by}."
            raise ModelError(msg)


def _each(where: str, table: Mapping[str, Any], directory: Path) -> Iterator[dict[str, Any]]:
    if not any(info.brings and info.name == table.get("method") for info in METHODS):
        yield dict(table)
        return
    rest = {key: value for key, value in table.items() if key not in {"name", "path", "steps"}}
    given = [key for key in ("path", "steps") if key in table]
    if len(given) != 1:
        msg = f"{where}: path: got {given or 'none'}, expected either `path` or `steps`. Say where the checkpoint lies."
        raise SuiteError(msg)
    name = table.get("name", "")
    if "name" in table and not (isinstance(name, str) and is_name(name)):
        msg = f"{where}: name: got {name!r}, expected {NAME_RULE}. Correct it."
        raise SuiteError(msg)
    found = _paths(where, table["path"], name) if "path" in table else _steps(where, table["steps"], name, directory)
    for shown, path in found:
        if not is_name(shown):
            msg = f"{where}: name: got {shown!r} from the path, expected {NAME_RULE}. Write a `name`."
            raise SuiteError(msg)
        yield {**rest, "name": shown, "path": str((directory / path).resolve())}


def _paths(where: str, given: object, name: str) -> list[tuple[str, str]]:
    """Return (name, path) of each path; without a name it is the file's own, without `.gguf`."""
    paths = [path for path in (given if isinstance(given, list) else [given]) if isinstance(path, str) and path]
    if not paths or (isinstance(given, list) and len(paths) < len(given)):
        msg = f"{where}: path: got {given!r}, expected a model directory or a {_GGUF} file, or a list of them. Correct it."
        raise SuiteError(msg)
    if name and len(paths) > 1:
        msg = f"{where}: name: got {name!r} for {len(paths)} paths, expected none. Give each an entry of its own, or leave `name` out."
        raise SuiteError(msg)
    return [(name or _stem(path), path) for path in paths]


def _stem(path: str) -> str:
    return Path(path).name.removesuffix(_GGUF)


def _steps(where: str, given: object, name: str, directory: Path) -> list[tuple[str, str]]:
    """Return (name-number, path) of each step that is there, by number; (name-none, pattern) where none is.

    What has no whole number in place of the `*` is no step, such as `checkpoint-best`; see `unnumbered`.
    """
    if not isinstance(given, str) or given.count("*") != 1:
        msg = f"{where}: steps: got {given!r}, expected a path with one '*' where the number stands. Write such as 'run/checkpoint-*'."
        raise SuiteError(msg)
    before, _, after = given.partition("*")
    name = name or _stem(str(Path(before + "0" + after).parent)) or "steps"
    found: dict[int, str] = {}
    for path, number in _matches(given, directory):
        if not _is_number(number):
            continue
        if int(number) in found:
            msg = f"{where}: steps: got {found[int(number)]!r} and {path!r}, expected each number once. Move one away."
            raise SuiteError(msg)
        found[int(number)] = path
    return [(f"{name}-{number}", path) for number, path in sorted(found.items())] or [(f"{name}-none", given)]


def _matches(pattern: str, directory: Path) -> list[tuple[str, str]]:
    """Return (path, what stands in place of the `*`) of all that matches, by name."""
    before, _, after = pattern.partition("*")
    escaped = f"{glob.escape(before)}*{glob.escape(after)}"
    paths = sorted(glob.glob(escaped, root_dir=directory))  # noqa: PTH207 - as written, for the number to be cut out
    return [(path, path[len(before) : len(path) - len(after)]) for path in paths]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def unnumbered(where: str, entry: Mapping[str, Any], directory: Path) -> Iterator[str]:
    """Say what the `steps` of an entry leave out because it has no number, in a line for each; of a suite that was read."""
    for table in entry.get("chain", [entry]):
        if any(info.brings and info.name == table.get("method") for info in METHODS) and "steps" in table:
            left = [path for path, number in _matches(table["steps"], directory) if not _is_number(number)]
            if left:
                yield f"{where}: steps: {', '.join(left)} left out: no whole number in place of '*'"
