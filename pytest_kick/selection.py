"""Which suites and which of their cells a run takes. A run that would take none is an error: it would pass."""

from __future__ import annotations

import fnmatch
import tomllib
from typing import TYPE_CHECKING

from pytest_kick.budget import parse_budget, shadowed
from pytest_kick.errors import UsageError
from pytest_kick.infos import LEVELS
from pytest_kick.registry import METHODS, did_you_mean
from pytest_kick.series import unnumbered
from pytest_kick.suite import Suite, read_suites
from pytest_kick.together import check_together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pytest_kick.config import Settings
    from pytest_kick.spec import Case, CompressionStep


def touched_directories(settings: Settings, args: Sequence[str], invocation_dir: Path) -> tuple[Path, ...]:
    """Return the suite directories that the command line's arguments touch: lie in, or contain."""
    targets = [(invocation_dir / arg.partition("::")[0].partition("[")[0]).resolve() for arg in args]
    directories = [(settings.rootdir / name).resolve() for name in settings.suites]
    return tuple(
        directory
        for directory in dict.fromkeys(directories)
        if directory.is_dir() and any(target.is_relative_to(directory) or directory.is_relative_to(target) for target in targets)
    )


def select(settings: Settings, suites: Sequence[Suite]) -> tuple[Case, ...]:
    """Return the cells this run takes, suite by suite."""
    return tuple(case for suite in suites if takes(settings, suite) for case in suite.cases if _wanted(settings, case))


def takes(settings: Settings, suite: Suite) -> bool:
    """Return whether the run takes a suite: by default, by name, as one of the hub, or as one of the data there is."""
    if settings.suite:
        return _any(settings.suite, (suite.name,))
    return bool(settings.data) if suite.data else settings.hub if suite.hub else suite.default


def left_out(settings: Settings, suites: Sequence[Suite]) -> str:
    """Say in one line which suites are not run and how to run them, or return ""."""
    if settings.suite:
        return ""
    parts = [f"{suite.name} ({suite.n_cells} cells: {how_to_run(suite)})" for suite in suites if not takes(settings, suite)]
    return f"not run by default: {', '.join(parts)}" if parts else ""


def how_to_run(suite: Suite) -> str:
    """Return the option that brings a suite, `default` where it needs none."""
    named = "" if suite.default else f"--kick-suite {suite.name}"
    return "--kick-data DIR" if suite.data else "--kick-hub" if suite.hub else named or "default"


def without_effect(suites: Iterable[Suite]) -> list[str]:
    """Say which budgets judge no cell because more specific ones hold, and which checkpoints have no number; one line each."""
    lines: list[str] = []
    for suite in suites:
        where, data = f"{suite.path.parent.name}/{suite.path.name}", tomllib.loads(suite.path.read_text(encoding="utf-8-sig"))
        for i, budget in shadowed([parse_budget(suite.name, table) for table in data.get("budgets", [])], suite.cases):
            said = f"{where}: budgets[{i}]: {budget.kind}:{budget.metric} {budget.limit:g}"
            lines.append(f"{said} judges no cell: more specific budgets hold wherever it matches")
        for i, entry in enumerate(data.get("compressions", [])):
            lines += unnumbered(f"{where}: compressions[{i}]", entry, suite.path.parent)
    return lines


def _wanted(settings: Settings, case: Case) -> bool:
    steps = case.compression.steps
    if case.on_request and not settings.model:
        return False
    return _any(settings.model, (case.model.name,)) and (
        not steps
        or (
            _any(settings.method, [step.method for step in steps])
            and _any(settings.level, [name for step in steps for name in level_names(step)])
        )
    )


def method_names(case: Case) -> tuple[str, ...]:
    """Return the names that `--kick-method` takes: the methods of a cell's steps, `dense` where it has none."""
    return tuple(step.method for step in case.compression.steps) or ("dense",)


def level_names(step: CompressionStep) -> tuple[str, ...]:
    """Return the spellings of a level that `--kick-level` takes: `s0.2` and `0.2`, `b8` and `8`; of a name, the name."""
    shown = step.id.split("--")[2]
    return tuple(dict.fromkeys((shown, shown.removeprefix(LEVELS[step.kind]))))


def _any(globs: Iterable[str], names: Iterable[str]) -> bool:
    globs = tuple(globs)
    return not globs or any(fnmatch.fnmatchcase(name, glob) for glob in globs for name in names)


FILTERS = ("suite", "model", "method", "level")


def filtered(settings: Settings) -> bool:
    """Return whether an option narrows what is run."""
    return any(getattr(settings, name) for name in FILTERS)


def check_filters(settings: Settings, suites: Sequence[Suite]) -> None:
    """Check all suites of a run against each other and against the filters.

    Raises:
        UsageError: suites that do not go together, a filter that matches nothing, or filters that together leave nothing to judge.
    """
    check_together(suites)
    _check_each(settings, suites)
    cases = select(settings, suites)
    given = " ".join(f"--kick-{name} {glob}" for name in FILTERS for glob in getattr(settings, name))
    if given and not cases:
        msg = f"suites: cells: got none that match {given} at once, expected at least one. Loosen a filter."
        raise UsageError(msg)
    if (settings.method or settings.level) and "dense" not in settings.method and all(case.is_dense for case in cases):
        msg = f"suites: cells: got only dense ones that match {given} at once, expected a compressed one. Loosen a filter."
        raise UsageError(msg)


def _check_each(settings: Settings, suites: Sequence[Suite]) -> None:
    cases = [case for suite in suites for case in suite.cases]
    known: dict[str, tuple[tuple[str, ...], Callable[[], set[str]]]] = {
        "suite": (settings.suite, lambda: {suite.name for suite in suites}),
        "model": (settings.model, lambda: {case.model.name for case in cases}),
        "method": (settings.method, lambda: {name for case in cases for name in method_names(case)}),
        "level": (settings.level, lambda: {name for case in cases for step in case.compression.steps for name in level_names(step)}),
    }
    for option, (globs, names) in known.items():
        for glob in globs:
            if not fnmatch.filter(names(), glob):
                registered = {info.name for info in METHODS.known()} - METHODS.builtin if option == "method" else set()
                hint = did_you_mean(glob, names() | registered) + (" Or name it in `models` of a suite." if option == "model" else "")
                msg = f"--kick-{option}: {option}: got {glob!r}, which matches nothing in the suites. {hint}"
                raise UsageError(msg)


__all__ = [
    "FILTERS",
    "check_filters",
    "filtered",
    "how_to_run",
    "left_out",
    "level_names",
    "method_names",
    "read_suites",
    "select",
    "takes",
    "touched_directories",
    "without_effect",
]
