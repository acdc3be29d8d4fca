"""What `kick init` writes: a commented suite and the test module that runs it."""

from __future__ import annotations

import os
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
