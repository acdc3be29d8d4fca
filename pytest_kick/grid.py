"""The grid of a suite: tables of methods, scopes, levels and parameters, expanded to steps and chains of steps."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import SuiteError
from pytest_kick.infos import LEVELS
from pytest_kick.parameters import as_list, checked_param
from pytest_kick.references import refers, shortened
from pytest_kick.registry import METHODS, did_you_mean
from pytest_kick.spec import SCOPES, CompressionSpec, CompressionStep, is_scope_pattern

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.infos import MethodInfo, Scalar

_NUMBERED = tuple(kind for kind in LEVELS if kind != "name")
_STEP_KEYS = frozenset({"method", "scope", *_NUMBERED})
_MAX_LEVELS = 1000
_MAX_PATTERN = 64
_Level = tuple[str, float, "tuple[tuple[str, Scalar], ...]"]  # its kind where not the method's first, its number, its own parameters


def expand(where: str, table: Mapping[str, Any]) -> tuple[CompressionSpec, ...]:
    """Expand one entry, with a `method` or with a `chain`, to its compressions, at least one.

    The scopes of a chain stand in the entry, each for all steps at once, or in the steps, each on its own.

    Args:
        where: opens every error, such as `suites/a.toml: compressions[0]`.
        table: as parsed from TOML, without the keys that choose models or a dtype.

    Raises:
        UsageError: an unknown name, a value outside its range, or steps that do not follow each other.
    """
    if ("chain" in table) == ("method" in table):
        msg = f"{where}: entry: got {sorted(table)}, expected either `method` or `chain`. Correct it."
        raise SuiteError(msg)
    if "chain" not in table:
        return tuple(CompressionSpec(steps=(step,)) for step in expand_steps(where, table))
    tables = table["chain"]
    if not isinstance(tables, list) or not tables or not all(isinstance(step, dict) for step in tables):
        msg = f"{where}: chain: got {tables!r}, expected a list of tables, each with a `method`. Correct it."
        raise SuiteError(msg)
    for key in table.keys() - {"chain", "scope"}:
        msg = f"{where}: entry: got {key!r} beside `chain`, expected it in a step. Move it into the chain."
        raise SuiteError(msg)
    for i, step in enumerate(tables):
        if "scope" in table and "scope" in step:
            msg = f"{where}.chain[{i}]: scope: got {step['scope']!r}, expected none beside the entry's. Name it here or there."
            raise SuiteError(msg)
    scopes = as_list(table.get("scope", "overall"))
    grids = [[expand_steps(f"{where}.chain[{i}]", step, scope) for i, step in enumerate(tables)] for scope in scopes]
    specs = tuple(CompressionSpec(steps=steps) for grid in grids for steps in itertools.product(*grid))
    _check_chains(where, specs)
    return specs


def _check_chains(where: str, specs: Sequence[CompressionSpec]) -> None:
    if not specs:
        msg = f"{where}: scope: got [], expected at least one value. Add one, or remove the key."
        raise SuiteError(msg)
    for step in itertools.chain.from_iterable(spec.steps[:-1] for spec in specs):
        if METHODS.get(step.method, where).packs:
            msg = f"{where}: chain: got a step after {step.method}, expected it last: it replaces the weights. Reorder the steps."
            raise SuiteError(msg)
    for step in itertools.chain.from_iterable(spec.steps[1:] for spec in specs):
        if METHODS.get(step.method, where).brings:
            msg = f"{where}: chain: got a step before {step.method}, expected it first: it brings its own weights. Reorder the steps."
            raise SuiteError(msg)
    for spec in specs:
        infos = [METHODS.get(step.method, where) for step in spec.steps]
        prunes = [info.name for info in infos if info.level in {"sparsity", "count"}]
        zeroless = [info.name for info in infos if info.zeroless]
        if prunes and zeroless:
            msg = (
                f"{where}: chain: got {zeroless[0]} beside {prunes[0]}, expected no pruning: zero is no value of its format, so that"
                " weights would not stay pruned. Take rtn or nf4."
            )
            raise SuiteError(msg)


def expand_steps(where: str, table: Mapping[str, Any], shared_scope: object = None) -> list[CompressionStep]:
    """Expand one table to its grid of steps: every method x scope x level x parameter value, at least one.

    Args:
        where: opens every error, such as `suites/a.toml: compressions[0]`.
        table: as parsed from TOML, without the keys that belong to a whole entry.
        shared_scope: scope of the whole chain, for a table that names none; `overall` otherwise.

    Raises:
        SuiteError: an unknown name, or a value outside its range.
    """
    methods = as_list(table.get("method"))
    if not methods or not all(isinstance(name, str) for name in methods):
        msg = f"{where}: method: got {table.get('method')!r}, expected the name of a method, or a list of names. Correct it."
        raise SuiteError(msg)
    return [step for name in methods for step in _steps_of(where, METHODS.get(name, where), table, shared_scope)]


def _steps_of(where: str, info: MethodInfo, table: Mapping[str, Any], shared_scope: object) -> list[CompressionStep]:
    params = dict(info.params)
    known = _STEP_KEYS | params.keys()
    for key in table:
        if key not in known:
            msg = f"{where}: {info.name}: got {key!r}, expected a known key. {did_you_mean(key, known)}"
            raise SuiteError(msg)
    for key in known & table.keys():
        if table[key] == []:
            msg = f"{where}: {key}: got [], expected at least one value. Add one, or remove the key."
            raise SuiteError(msg)
    scopes = [_scope(where, scope) for scope in as_list(table.get("scope", "overall" if shared_scope is None else shared_scope))]
    levels = _patterns(where, info, table) if "pattern" in table else _levels(where, info, table)
    grid: list[list[tuple[str, Scalar]]] = [
        [(key, checked_param(where, info, key, value)) for value in as_list(table[key])]
        for key in params
        if key in table and key != "pattern"
    ]
    steps = []
    for scope, (unit, level, pattern) in itertools.product(scopes, levels):
        for chosen in itertools.product(*grid):
            _check_level_of(where, info, params | dict(chosen), level)
            kept = tuple((key, value) for key, value in shortened(info, dict(chosen)).items() if value != params[key])
            outside = tuple((key, str(value)) for key, value in chosen if refers(info, key, value))
            named = (*pattern, *kept)
            steps.append(CompressionStep(method=info.name, scope=scope, level=level, params=named, unit=unit, outside=outside))
    return steps


def _patterns(where: str, info: MethodInfo, table: Mapping[str, Any]) -> list[_Level]:
    """Return the sparsity of each N:M pattern of a table, and the parameter that names it."""
    if info.level in table:
        msg = (
            f"{where}: pattern: got {table['pattern']!r} beside `{info.level}`, expected one of the two: N:M says how many go. Remove one."
        )
        raise SuiteError(msg)
    found: list[_Level] = []
    for value in as_list(table["pattern"]):
        keep, _, of = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not (keep.isdecimal() and of.isdecimal() and 0 < int(keep) < int(of) <= _MAX_PATTERN):
            msg = f"{where}: pattern: got {value!r}, expected 'N:M' with 0 < N < M <= {_MAX_PATTERN}, N of each M kept. Correct it."
            raise SuiteError(msg)
        found.append(("", 1 - int(keep) / int(of), (("pattern", f"{int(keep)}of{int(of)}"),)))
    return found


def _scope(where: str, scope: object) -> str:
    if isinstance(scope, str) and (scope in SCOPES or is_scope_pattern(scope)):
        return scope
    msg = (
        f"{where}: scope: got {scope!r}, expected a known scope or patterns such as '*.q_proj,*.k_proj'. {did_you_mean(str(scope), SCOPES)}"
    )
    raise SuiteError(msg)


def _check_level_of(where: str, info: MethodInfo, params: Mapping[str, Scalar], level: float) -> None:
    """Refuse a parameter value that goes with another level, such as a format of 16 bits at 8."""
    for key in {key for key, _, _ in info.levels_of}:
        able = [value for name, value, of in info.levels_of if name == key and of == level]
        if params[key] not in able:
            msg = f"{where}: {key}: got {params[key]!r} at {level:g} {info.level}, expected {' or '.join(map(str, able))}. Correct it."
            raise SuiteError(msg)


def _levels(where: str, info: MethodInfo, table: Mapping[str, Any]) -> list[_Level]:
    params = dict(info.params)  # of calibrated methods `count` is one
    given, able = [kind for kind in _NUMBERED if kind in table and kind not in params], (info.level, *info.also)
    optional = info.level == "name" or len(info.bits) == 1
    if not set(given) <= set(able) or len(given) > 1 or not (given or optional):
        wanted = "no level" if info.level == "name" else f"{' or '.join(f'`{kind}`' for kind in able)} as its level"
        msg = f"{where}: {info.name}: got {sorted(table)}, expected {wanted}. Correct it."
        raise SuiteError(msg)
    kind = given[0] if given else info.level
    value = [0] if kind == "name" else table.get(kind, list(info.bits) or [0])
    levels = _range(where, kind, value) if isinstance(value, dict) else as_list(value)
    return [("" if kind == info.level else kind, _level(where, info, kind, level), ()) for level in levels]


def _range(where: str, field: str, table: Mapping[str, Any]) -> list[float]:
    """Expand `{from, to, step}`, both ends included, in decimal arithmetic so that 0.1 + 0.2 is 0.3."""
    if set(table) != {"from", "to", "step"} or not all(type(value) in {int, float} and math.isfinite(value) for value in table.values()):
        msg = f"{where}: {field}: got {dict(table)!r}, expected {{from, to, step}}, three numbers. Correct it."
        raise SuiteError(msg)
    first, last, step = (Decimal(str(table[key])) for key in ("from", "to", "step"))
    if step <= 0 or last < first:
        msg = f"{where}: {field}: got {dict(table)!r}, expected from <= to and a step above 0. Correct it."
        raise SuiteError(msg)
    if last - first > step * _MAX_LEVELS:
        msg = f"{where}: {field}: got {dict(table)!r}, expected at most {_MAX_LEVELS} levels. Widen the step."
        raise SuiteError(msg)
    if (last - first) % step:
        msg = f"{where}: {field}: got {dict(table)!r}, expected steps that end at `to`. Change the step or the end."
        raise SuiteError(msg)
    return [float(first + i * step) for i in range(int((last - first) / step) + 1)]


def _level(where: str, info: MethodInfo, kind: str, level: object) -> float:
    if kind in {"rank", "count", "sigma"}:
        whole = kind != "sigma"
        if not isinstance(level, int | float) or isinstance(level, bool) or not 0 < level < math.inf or (whole and level % 1):
            msg = f"{where}: {kind}: got {level!r}, expected {'a whole number from 1' if whole else 'a number above 0'}. Correct it."
            raise SuiteError(msg)
        return int(level) if whole else float(level)
    if kind == "bits":
        if not isinstance(level, int | float) or isinstance(level, bool) or level not in info.bits:
            msg = f"{where}: bits: got {level!r}, expected one of {', '.join(map(str, info.bits))} for {info.name}. Correct it."
            raise SuiteError(msg)
        return int(level)
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 <= level < 1:
        hint = (
            "Write a fraction, such as 0.2, not a percentage."
            if isinstance(level, int | float) and level is not True and level >= 1
            else "Correct it."
        )
        msg = f"{where}: sparsity: got {level!r}, expected a fraction in [0, 1). {hint}"
        raise SuiteError(msg)
    return float(level) + 0.0  # no negative zero: 0 is one level
