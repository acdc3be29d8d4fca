"""Replace files atomically: a reader sees the old bytes or the new ones, and a failure leaves the old ones."""

from __future__ import annotations

import errno
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def replace_all(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write several files, then put them in place in the order given.

    All bytes are on disk under temporary names in the files' own directories before the first file is replaced, so that a full
    disk is met while all old files still stand. Temporary files never stay behind.

    Args:
        files: path and content of each; directories are made as needed.

    Raises:
        OSError: a directory cannot be written to, a path is a device or a pipe, or the disk is full.
    """
    files = [(path.resolve(), data) for path, data in files]  # a link stays a link to the new file
    for path, _ in files:
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "no regular file", str(path))  # renaming onto a device would remove it
    staged: list[tuple[Path, Path]] = []
    try:
        for index, (path, data) in enumerate(files):
            path.parent.mkdir(parents=True, exist_ok=True)
            # A short name of its own: the name of a chain may already be as long as file systems allow.
            temporary = path.parent / f".{os.getpid()}-{index}.tmp"
            staged.append((temporary, path))
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        for temporary, path in staged:
            temporary.replace(path)
    finally:
        for temporary, _ in staged:
            _discard(temporary)


def json_bytes(document: Any) -> bytes:  # noqa: ANN401 - any JSON-able value
    """Return a document as this project writes JSON: sorted keys, indent 2, final newline, no NaN.

    Raises:
        ValueError: a number is NaN or infinite.
        TypeError: a value is not JSON-able.
    """
    return (json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        # The error that brought us here is the one to report.
        return
