"""Methods of others, by a decorator: a function or a class becomes an entry of the table of methods.

What is registered is known to suites like a built-in method; `docs/new-method.md` shows how. A file that registers is imported by
`load_plugin`, where a suite names it, or by pytest (a `conftest.py`), or as an entry point.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pytest_kick.errors import UsageError
from pytest_kick.infos import CALIBRATION, CALIBRATION_CHOICES, CALIBRATION_LEAST, FAMILIES, LEVELS, Level, MethodInfo, Scalar
from pytest_kick.registry import METHODS, did_you_mean
from pytest_kick.signatures import checked_choices, origin, place_in, suite_parameters, summary_of, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pytest_kick.registry import Info, Registry

Code = TypeVar("Code")
_TARGET, _CHECK = "pytest_kick.compress.registered:run", "pytest_kick.compress.check_registered:check"
KINDS = tuple(kind for kind in get_args(Level) if kind != "name")
ABLE = tuple(range(2, 9))
"""Bits that a suite may ask of a method that declares no levels."""
STANDARD: dict[str, tuple[float, ...]] = {
    "bits": (2, 3, 4, 8),
    "sparsity": (0.1, 0.2, 0.3, 0.5),
    "rank": (8, 32),
    "count": (1, 2),
    "sigma": (0.1, 0.2),
}
"""Levels at which a method runs that declares none, where no suite names it."""
UNCOUNTED = "scales and the like are not counted: the method returned no bits per weight"
"""What the report of a step notes then."""
_TAKEN = frozenset({"method", "scope", "models", "families", "dtype", "chain", "pattern", "name", "sparsity_of", *LEVELS})
_MAX_BITS = 16


def method(
    name: str,
    level: Level = "bits",
    *,
    levels: Sequence[float] = (),
    families: Sequence[str] = FAMILIES,
    choices: Mapping[str, Sequence[Scalar]] | None = None,
    compensates: bool = False,
    float32_only: bool = False,
) -> Callable[[Code], Code]:
    """Register a compression method.

    A function is called once for each matrix of the scope, `(weight, level)`: `weight` is a copy, `(out, in)` float32 on the CPU;
    `level` is a number of the kind named here. It returns the new weights, of the same shape and dtype, or a pair of them and the
    bits that one weight then takes, scales and all. Parameters with a default become parameters of suites; one called `inputs`
    makes the method calibrated and is given a `pytest_kick.compress.LayerInputs`. One called `group` is the number of inputs that share
    a grid, 0 for the whole row, and is held to that.

    A class is made once for each compression, `(level, **parameters)`, and called once for each matrix with a
    `pytest_kick.compress.Target` (its weights, name and module), and `inputs` where its call takes that. What it returns is as for a
    function. Where it has a `start`, this is called before, once, with the `pytest_kick.compress.Targets` of the whole scope.

    Args:
        name: in suites, ids and reports; letters, digits, `_` and `.`.
        level: `bits`, `sparsity` (in [0, 1)), `rank`, `count` or `sigma`.
        levels: those at which it runs where no suite names it, and the only bits it can do; usual ones by default.
        families: model families it is defined for.
        choices: for parameters with a closed set of values, those values.
        compensates: a pruning method that changes the weights it keeps.
        float32_only: it runs its cell, and the dense comparison of that cell, in float32.

    Returns:
        A decorator that gives back what it decorates.

    Raises:
        UsageError: a name that is taken or does not fit an id, a level, a family or a parameter that suites cannot hold.
    """
    _check_name(name)

    def decorate(code: Code) -> Code:
        where = f"method {name!r}"
        _check(where, level, levels, families)
        own, calibrated = _parameters(where, code)
        enter(
            METHODS,
            MethodInfo(
                name=name,
                level=level,
                target=_TARGET,
                check="" if level == "sparsity" else _CHECK,
                summary=summary_of(code),
                families=tuple(families),
                bits=tuple(int(bits) for bits in levels or ABLE) if level == "bits" else (),
                levels=tuple(levels) or STANDARD[level],
                params=(*own, *(CALIBRATION if calibrated else ())),
                choices=(*checked_choices(where, dict(own), choices or {}), *(CALIBRATION_CHOICES if calibrated else ())),
                least=CALIBRATION_LEAST if calibrated else (),
                calibrated=calibrated,
                compensates=compensates,
                float32_only=float32_only,
                code=code,
            ),
        )
        return code

    return decorate


def load_plugins(where: str, folder: Path, names: Sequence[object]) -> None:
    """Import the files that a suite names, relative to its folder.

    Args:
        where: opens errors, such as `suites/a.toml`.
        folder: of the suite.
        names: as the suite gives them.

    Raises:
        UsageError: one is no Python file, or does not import.
    """
    for i, name in enumerate(names):
        if not isinstance(name, str) or not name.endswith(".py"):
            msg = f"{where}: plugins[{i}]: got {name!r}, expected the name of a Python file. Correct it."
            raise UsageError(msg)
        load_plugin(f"{where}: plugins[{i}]", (folder / name).resolve())


def load_plugin(where: str, path: Path) -> None:
    """Import a file that registers methods; the same file is imported once, until `METHODS` is restored.

    Args:
        where: opens the error, such as `suites/a.toml: plugins[0]`.
        path: absolute, of a Python file.

    Raises:
        UsageError: there is no such file, or it does not import; names its line.
    """
    digest = hashlib.blake2s(str(path).encode(), digest_size=4).hexdigest()
    name = f"kick_plugin_{path.stem}_{digest}"
    if name in METHODS.plugins:
        return
    spec = importlib.util.spec_from_file_location(name, path) if path.is_file() else None
    if spec is None or spec.loader is None:
        msg = f"{where}: got {str(path)!r}, expected a Python file at this path. Correct the path."
        raise UsageError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as for any import: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        place, text = _place(error, path), " ".join(str(error).split())
        msg = f"{where}: got {type(error).__name__} ({text}) in {path.name} line {place}, expected a file that imports. Correct it."
        raise UsageError(msg) from error
    METHODS.plugins.add(name)


def _place(error: BaseException, path: Path) -> int:
    broken = error.lineno if isinstance(error, SyntaxError) and error.filename == str(path) else None
    return broken or place_in(error, str(path)) or 1


def enter(table: Registry[Info], info: Info) -> None:
    """Enter a method or probe in its table; a file that is imported a second time enters its own again.

    Raises:
        UsageError: the name is taken by another one.
    """
    known = next((entry for entry in table.known() if entry.name == info.name), None)
    if known is not None and origin(known.code) != origin(info.code):
        place = "a built-in one" if known.code is None else f"one of {origin(known.code)[0]}"
        msg = f"{table.kind} {info.name!r}: name: got that of {place}, expected a name of its own. Rename it."
        raise UsageError(msg)
    table.register(info, replace=True)
    setattr(info.code, f"kick_{table.kind}", info)  # an entry point resolves to what was decorated


def check_families(where: str, families: Sequence[str]) -> None:
    """Check the families that a method or probe is defined for.

    Raises:
        UsageError: it is no list of families.
    """
    _check_list(where, "families", families)
    for name in families:
        if name not in FAMILIES:
            msg = f"{where}: families: got {name!r}, expected some of {', '.join(FAMILIES)}. {did_you_mean(name, FAMILIES)}"
            raise UsageError(msg)


def _check_list(where: str, field: str, given: object) -> None:
    if isinstance(given, str) or not isinstance(given, list | tuple):
        msg = f"{where}: {field}: got {given!r}, expected a list or a tuple. Correct it."
        raise UsageError(msg)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or name == "dense":
        got = getattr(name, "__name__", name)
        msg = f'method: name: got {got!r}, expected a text that names no cell, as in @pytest_kick.method("my_quant"). Write one.'
        raise UsageError(msg)


def _check(where: str, level: object, levels: Sequence[float], families: Sequence[str]) -> None:
    if level not in KINDS:
        msg = f"{where}: level: got {level!r}, expected one of {', '.join(KINDS)}. {did_you_mean(str(level), KINDS)}"
        raise UsageError(msg)
    _check_list(where, "levels", levels)
    check_families(where, families)
    for value in levels:
        if isinstance(value, bool) or not isinstance(value, int | float) or not _fits(str(level), value):
            rule = {"bits": f"whole numbers from 1 to {_MAX_BITS}", "sparsity": "fractions in (0, 1)", "sigma": "numbers above 0"}
            msg = f"{where}: levels: got {value!r}, expected {rule.get(str(level), 'whole numbers from 1')}. Correct it."
            raise UsageError(msg)


def _fits(level: str, value: float) -> bool:
    if level in {"sparsity", "sigma"}:
        return 0 < value < (1 if level == "sparsity" else math.inf)
    return 1 <= value <= (_MAX_BITS if level == "bits" else math.inf) and value % 1 == 0


def _parameters(where: str, code: Any) -> tuple[tuple[tuple[str, Scalar], ...], bool]:  # noqa: ANN401 - a function or a class
    """Return the parameters that suites may give, with their defaults, and whether `inputs` are asked for."""
    if inspect.isclass(code):
        made, called = taken(where, code, ("level",)), taken(where, _call_of(where, code), ("target",))
        own, asks = made, called
    else:
        own = asks = taken(where, code, ("weight", "level"))
    calibrated = "inputs" in asks
    reserved = _TAKEN | set(dict(CALIBRATION) if calibrated else ())
    return suite_parameters(where, {name: parameter for name, parameter in own.items() if name != "inputs"}, reserved), calibrated


def _call_of(where: str, code: Any) -> Any:  # noqa: ANN401 - a class
    if "__call__" not in vars(code) and not any("__call__" in vars(base) for base in code.__mro__[:-1]):
        msg = f"{where}: class: got {code.__name__} without __call__, expected one that is called with each matrix. Write it."
        raise UsageError(msg)
    return code.__call__
