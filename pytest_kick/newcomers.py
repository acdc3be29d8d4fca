"""Cells of registered methods that no suite names: `--kick-method` alone brings them, at their standard levels.

Each stands in a suite that the run takes, as if written there at its end: with that suite's probes, facts, dtype and budgets. There is
nothing yet that it could be held against, so without a stored run it is NEW, not MISSING.
"""

from __future__ import annotations

import fnmatch
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_kick.budget import budgets_for, parse_budget
from pytest_kick.infos import CALIBRATION
from pytest_kick.registry import METHODS
from pytest_kick.selection import takes
from pytest_kick.spec import Case, CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kick.config import Settings
    from pytest_kick.infos import MethodInfo
    from pytest_kick.spec import ModelSpec
    from pytest_kick.suite import Suite

_GLOB = frozenset("*?[")


def with_newcomers(settings: Settings, suites: Sequence[Suite]) -> list[Suite]:
    """Return the suites, with the cells that `--kick-method` asks for and no suite of the run names.

    A model's cells stand in the first suite of the run that has its dense cell, else in the first that has the model.

    Args:
        settings: of the run.
        suites: as they were read.
    """
    taken = [suite for suite in suites if takes(settings, suite)]
    infos = [info for info in _asked(settings.method) if info.name not in _named(taken)]
    if not infos:
        return list(suites)
    added: dict[str, list[Case]] = {}
    for model in dict.fromkeys(case.model for suite in taken for case in suite.cases):
        home = min(taken, key=lambda suite: _rank(suite, model))
        calibration = _calibration(model, taken)
        added.setdefault(home.name, []).extend(case for info in infos for case in _cases(info, model, home, calibration))
    return [replace(suite, cases=(*suite.cases, *added.get(suite.name, ()))) if suite in taken else suite for suite in suites]


def recordable(suites: Sequence[Suite]) -> list[Case]:
    """Return the cells that `--kick-method` could bring by what is registered: their stored runs are no orphans."""
    infos = [info for info in METHODS.known() if info.name not in METHODS.builtin and info.name not in _named(suites)]
    found = []
    for suite in suites if infos else ():
        for model in dict.fromkeys(case.model for case in suite.cases):
            calibration = _calibration(model, suites)
            found += [case for info in infos for case in _cases(info, model, suite, calibration)]
    return found


def _asked(globs: Iterable[str]) -> list[MethodInfo]:
    """Return the registered methods that globs name; one that is spelt out is looked for among other packages too."""
    found: dict[str, MethodInfo] = {}
    for glob in globs:
        exact = METHODS.find(glob) if not set(glob) & _GLOB else None
        candidates = METHODS.known() if exact is None else (exact,)
        found |= {info.name: info for info in candidates if info.name not in METHODS.builtin and fnmatch.fnmatchcase(info.name, glob)}
    return list(found.values())


def _named(suites: Iterable[Suite]) -> set[str]:
    return {step.method for suite in suites for case in suite.cases for step in case.compression.steps}


def _rank(suite: Suite, model: ModelSpec) -> int:
    """Return 0 for a suite with the dense cell of a model, 1 for one with the model, 2 for others."""
    cells = [case.is_dense for case in suite.cases if case.model == model]
    return 0 if any(cells) else 1 if cells else 2


def _cases(info: MethodInfo, model: ModelSpec, home: Suite, calibration: CompressionStep | None) -> list[Case]:
    """Return the cells of a method on a model of a suite, one for each standard level."""
    if model.family not in info.families:
        return []
    like = min((case for case in home.cases if case.model == model), key=lambda case: not case.is_dense)
    tables = tomllib.loads(home.path.read_text(encoding="utf-8")).get("budgets", [])
    rules = [parse_budget(home.name, table) for table in tables]
    found = []
    for level in info.levels or info.bits:
        step = CompressionStep(method=info.name, scope="overall", level=level)
        if info.calibrated and calibration is not None:
            names = dict(CALIBRATION)
            params = tuple((key, value) for key, value in calibration.params if key in names)
            step = replace(step, params=params, outside=tuple(pair for pair in calibration.outside if pair[0] in names))
        spec = CompressionSpec(steps=(step,))
        budgets, _ = budgets_for(rules, model, spec, like.probes)
        dtype = "float32" if like.dtype and spec.float32_only else like.dtype
        found.append(replace(like, compression=spec, budgets=budgets, dtype=dtype, unlisted=True))
    return found


def _calibration(model: ModelSpec, suites: Iterable[Suite]) -> CompressionStep | None:
    """Return the first calibrated step that suites apply to a model: a newcomer sees the same data."""
    steps = (step for suite in suites for case in suite.cases if case.model == model for step in case.compression.steps)
    return next((step for step in steps if METHODS.get(step.method, "step").calibrated), None)
