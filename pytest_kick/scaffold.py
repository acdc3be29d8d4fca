"""What `kick init` writes: a commented suite, the test module that runs it, and a `pytest.ini` that fixes where baselines lie."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from pytest_kick.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

_SUITE = """\
# A suite of pytest-kick: every model x compression below is one test. Run it with
#     pytest {directory}/ --kick-update     # the first time: record the dense model and every cell
#     pytest {directory}/                   # from then on: the gate
# and commit `baselines/`.
schema = 1
summary = "what our compressed models still know"
probes = ["facts"]

# Names that `kick list models` shows, and models of your own as tables (family: encoder, encoder-decoder or decoder):
#     {{ name = "mine", family = "decoder", source = "path:../mine" }}       a directory with safetensors, config and tokenizer
#     {{ name = "ours", family = "decoder", source = "hub:org/ours@main" }}  or from the hub
models = ["tiny-decoder"]

# Lists and ranges expand to a grid. `kick list methods` shows the methods and their parameters.
[[compressions]]
method = "l1_global"
scope = ["attention", "ffn", "overall"]
sparsity = {{ from = 0.1, to = 0.3, step = 0.1 }}

[[compressions]]
method = "dynamic_int8"
scope = "overall"

# Several steps, one after the other.
[[compressions]]
scope = "overall"
chain = [{{ method = "l1_global", sparsity = 0.1 }}, {{ method = "dynamic_int8" }}]

# How much a cell may lose: retention is the share of the dense model's knowledge above guessing that must stay.
# The most specific matching table wins; a cell without a budget is measured and compared with its stored run only.
[[budgets]]
method = "l1_global"
sparsity = 0.1
retention = 0.9

[[budgets]]
method = "dynamic_int8"
retention = 0.95
"""

_MODULE = '''\
"""Run every cell of the suites beside this file."""


def test_cell(kick_case, kick_run):
    """Hold the cell against its budgets, the dense baseline and its stored run."""
    kick_run(kick_case)
'''


_INI = """\
[pytest]
# pytest takes the directory of this file as its root, wherever it is called from: `baselines/` lies here too.
kick_suites = {directory}
"""
_ALWAYS = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")
# Files that fix pytest's root where they hold a section of this beginning, and the section to write.
_SECTIONS = {
    "pyproject.toml": ("[tool.pytest", "[tool.pytest.ini_options]", 'kick_suites = ["{directory}"]'),
    "tox.ini": ("[pytest]", "[pytest]", "kick_suites = {directory}"),
    "setup.cfg": ("[tool:pytest]", "[tool:pytest]", "kick_suites = {directory}"),
}


def fix_root(directory: Path, here: Path) -> str:
    """Make the root of pytest, and so the place of `baselines/`, the same whatever the command line names.

    A `pytest.ini` is written where no file does that yet; a file of the user's is never changed.

    Args:
        directory: of the suite.
        here: the current directory; the root, unless the suite lies outside it.

    Returns:
        One line on what was written or what to write, "" where a file fixes the root already.

    Raises:
        UsageError: the file cannot be written.
    """
    directory, here = directory.resolve(), here.resolve()
    root = here if directory.is_relative_to(here) else directory.parent
    inside = directory.relative_to(root).as_posix()
    for folder in (root, *root.parents):
        if any((folder / name).is_file() for name in _ALWAYS) or any(_has(folder / name, begin) for name, (begin, *_) in _SECTIONS.items()):
            return ""
    for name, (_, section, line) in _SECTIONS.items():
        if (root / name).is_file():
            return f"add to {name}, so that baselines/ has one place: {section} with {line.format(directory=inside)}"
    path = root / "pytest.ini"
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(_INI.format(directory=shlex.quote(inside)))
    except OSError as error:
        msg = f"kick init: {path}: got {error.strerror or error}, expected a writable directory. Write a pytest.ini by hand."
        raise UsageError(msg) from error
    return f"wrote {path.relative_to(here) if path.is_relative_to(here) else path}"


def _has(path: Path, section: str) -> bool:
    """Return whether a file has a section that begins so."""
    try:
        return any(line.startswith(section) for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError):
        return False


def write_suite(directory: Path) -> list[Path]:
    """Write `kick.toml` and `test_kick.py` into `directory`, which is made where it does not exist.

    Raises:
        UsageError: one of the files is there already, or the directory cannot be written; nothing is written then.
    """
    files = {directory / "kick.toml": _SUITE.format(directory=directory.as_posix()), directory / "test_kick.py": _MODULE}
    for path in files:
        if os.path.lexists(path):
            msg = f"kick init: {path}: got a file that is there already, expected none. Choose another directory."
            raise UsageError(msg)
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as stream:
                written.append(path)
                stream.write(text)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        msg = f"kick init: {directory}: got {error.strerror or error}, expected a writable directory. Choose another."
        raise UsageError(msg) from error
    return written
