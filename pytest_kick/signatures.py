"""What a decorated function or class looks like: its parameters, where it is defined, what it says of itself."""

from __future__ import annotations

import inspect
import math
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_kick.infos import Scalar


def taken(where: str, code: Any, wanted: tuple[str, ...]) -> dict[str, inspect.Parameter]:  # noqa: ANN401 - something to be called
    """Return the parameters of a function, or of the making of a class, behind those that it is called with by position.

    Raises:
        UsageError: it cannot be called with those.
    """
    if not callable(code) or inspect.iscoroutinefunction(code):
        msg = f"{where}: code: got {code!r}, expected a plain function or a class. Decorate one."
        raise UsageError(msg)
    parameters = list(inspect.signature(code).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    first, rest = parameters[: len(wanted)], parameters[len(wanted) :]
    if len(first) < len(wanted) or any(parameter.kind not in plain for parameter in first):
        got = ", ".join(parameter.name for parameter in parameters)
        msg = f"{where}: signature: got ({got}), expected ({', '.join(wanted)}, ...) first, then parameters with defaults. Correct it."
        raise UsageError(msg)
    return {p.name: p for p in rest if p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)}


def suite_parameters(where: str, own: Mapping[str, inspect.Parameter], reserved: Collection[str]) -> tuple[tuple[str, Scalar], ...]:
    """Return the parameters that suites may give, with their defaults.

    Raises:
        UsageError: a default that suites cannot hold, or a name that they use for something else.
    """
    found: list[tuple[str, Scalar]] = []
    for name, parameter in own.items():
        if not isinstance(parameter.default, str | int | float | bool) or not math.isfinite(_number(parameter.default)):
            got = "none" if parameter.default is parameter.empty else repr(parameter.default)
            what = "a text, a finite number, True or False"
            msg = f"{where}: {name}: got {got} as its default, expected {what}: suites may give it. Write one."
            raise UsageError(msg)
        if name in reserved:
            msg = f"{where}: {name}: got a parameter of this name, which suites use for something else. Rename it."
            raise UsageError(msg)
        found.append((name, parameter.default))
    return tuple(found)


def checked_choices(
    where: str, own: Mapping[str, Scalar], choices: Mapping[str, Sequence[Scalar]]
) -> tuple[tuple[str, tuple[Scalar, ...]], ...]:
    """Return the closed sets of values of parameters.

    Raises:
        UsageError: there is no such parameter, or its default is none of them.
    """
    for name, values in choices.items():
        if name not in own or own[name] not in values:
            got = f"{list(values)} for {name!r}"
            msg = f"{where}: choices: got {got}, expected values of a parameter, its default among them. Correct it."
            raise UsageError(msg)
    return tuple((name, tuple(values)) for name, values in choices.items())


def summary_of(code: Any) -> str:  # noqa: ANN401 - a function or a class
    """Return the first paragraph of a docstring, or where the code is from."""
    first = " ".join((code.__doc__ or "").strip().partition("\n\n")[0].split()).rstrip(".")
    return first or f"registered in {Path(origin(code)[0]).name}"


def origin(code: Any) -> tuple[str, str]:  # noqa: ANN401 - a function or a class
    """Return the file in which a function or a class is defined, and its name there."""
    if not inspect.isclass(code) and hasattr(code, "__code__"):
        return code.__code__.co_filename, code.__qualname__
    try:
        return inspect.getfile(code), code.__qualname__
    except (TypeError, OSError, AttributeError):
        return getattr(code, "__module__", ""), getattr(code, "__qualname__", repr(code))


def place_in(error: BaseException, path: str) -> int:
    """Return the last line of a file that an exception passed through, 0 where it passed through none."""
    lines = [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else 0


def _number(value: Scalar) -> float:
    return 0.0 if isinstance(value, str) else float(value)
