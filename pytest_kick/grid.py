"""The grid of a suite: tables of methods, scopes, levels and parameters, expanded to steps."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import SuiteError
from pytest_kick.registry import METHODS, MethodInfo, Scalar, did_you_mean
from pytest_kick.spec import SCOPES, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Mapping

_ENTRY_KEYS = frozenset({"method", "scope", "sparsity", "bits", "models", "families", "dtype"})


def expand_steps(where: str, table: Mapping[str, Any], shared_scope: object) -> list[CompressionStep]:
    """Expand one table to its grid of steps: every method x scope x level x parameter value.

    Args:
        where: opens every error, such as `suites/a.toml: compressions[0]`.
        table: as parsed from TOML.
        shared_scope: scope of the whole chain, for a table that names none.

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
    known = _ENTRY_KEYS | params.keys()
    for key in table:
        if key not in known:
            msg = f"{where}: {info.name}: got {key!r}, expected a known key. {did_you_mean(key, known)}"
            raise SuiteError(msg)
    scopes = [_scope(where, scope) for scope in as_list(table.get("scope", shared_scope or "overall"))]
    levels = _levels(where, info, table)
    grid = [[(key, value) for value in as_list(table[key])] for key in params if key in table]
    steps = []
    for scope, level, *chosen in itertools.product(scopes, levels, *grid):
        kept = tuple((key, _param(where, info, key, value)) for key, value in chosen if value != params[key])
        steps.append(CompressionStep(method=info.name, scope=scope, level=level, params=kept))
    return steps


def as_list(value: object) -> list[Any]:
    """Return a list as it is, anything else as a list of one."""
    return value if isinstance(value, list) else [value]


def _scope(where: str, scope: object) -> str:
    if not isinstance(scope, str) or not scope:
        msg = f"{where}: scope: got {scope!r}, expected a scope's name or a name pattern. Correct it."
        raise SuiteError(msg)
    if scope not in SCOPES and not any(char in scope for char in "*?["):
        msg = f"{where}: scope: got {scope!r}, expected a known scope or a pattern such as '*.q_proj'. {did_you_mean(scope, SCOPES)}"
        raise SuiteError(msg)
    return scope


def _param(where: str, info: MethodInfo, key: str, value: object) -> Scalar:
    default = dict(info.params)[key]
    choices = dict(info.choices).get(key)
    right = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
    if not right or (choices is not None and value not in choices):
        expected = f"one of {', '.join(map(str, choices))}" if choices else f"a {type(default).__name__}"
        msg = f"{where}: {key}: got {value!r}, expected {expected}. Correct it."
        raise SuiteError(msg)
    assert isinstance(value, str | int | float | bool)
    return value


def _levels(where: str, info: MethodInfo, table: Mapping[str, Any]) -> list[float]:
    other = "bits" if info.level == "sparsity" else "sparsity"
    if other in table or (info.level not in table and len(info.bits) != 1):
        msg = f"{where}: {info.name}: got {sorted(table)}, expected `{info.level}` as its level. Correct it."
        raise SuiteError(msg)
    value = table.get(info.level, list(info.bits))
    levels = _range(where, info.level, value) if isinstance(value, dict) else as_list(value)
    if not levels:
        msg = f"{where}: {info.level}: got {value!r}, expected at least one level. Correct it."
        raise SuiteError(msg)
    return [_level(where, info, level) for level in levels]


def _range(where: str, field: str, table: Mapping[str, Any]) -> list[float]:
    """Expand `{from, to, step}`, both ends included, in decimal arithmetic so that 0.1 + 0.2 is 0.3."""
    if set(table) != {"from", "to", "step"} or not all(type(value) in {int, float} and math.isfinite(value) for value in table.values()):
        msg = f"{where}: {field}: got {dict(table)!r}, expected {{from, to, step}}, three numbers. Correct it."
        raise SuiteError(msg)
    first, last, step = (Decimal(str(table[key])) for key in ("from", "to", "step"))
    if step <= 0 or last < first:
        msg = f"{where}: {field}: got {dict(table)!r}, expected from <= to and a step above 0. Correct it."
        raise SuiteError(msg)
    return [float(first + i * step) for i in range(int((last - first) / step) + 1)]


def _level(where: str, info: MethodInfo, level: object) -> float:
    if info.level == "bits":
        if level not in info.bits or isinstance(level, bool):
            msg = f"{where}: bits: got {level!r}, expected one of {', '.join(map(str, info.bits))} for {info.name}. Correct it."
            raise SuiteError(msg)
        return int(str(level))
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 <= level < 1:
        hint = "Write a fraction, such as 0.2, not a percentage." if isinstance(level, int | float) and level >= 1 else "Correct it."
        msg = f"{where}: sparsity: got {level!r}, expected a fraction in [0, 1). {hint}"
        raise SuiteError(msg)
    return float(level)
