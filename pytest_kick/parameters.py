"""Parameters of methods and probes as suites give them: types, closed sets, ranges."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import SuiteError
from pytest_kick.references import check_reference, kinds_of, refers
from pytest_kick.spec import NAME_RULE, is_name

if TYPE_CHECKING:
    from pytest_kick.infos import MethodInfo, ProbeInfo, Scalar

_TYPES = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}


def as_list(value: object) -> list[Any]:
    """Return a list as it is, anything else as a list of one."""
    return value if isinstance(value, list) else [value]


def checked_param(where: str, info: MethodInfo | ProbeInfo, key: str, value: object) -> Scalar:
    """Return the value of a parameter of a method or probe as it will be used.

    Args:
        where: opens the error, such as `suites/a.toml: compressions[0]`.
        info: of the method or probe, which has the parameter.
        key: name of the parameter.
        value: as parsed from TOML.

    Raises:
        SuiteError: another type than the default's, no value of a closed set, or outside of its range.
    """
    default = dict(info.params)[key]
    choices = dict(info.choices).get(key)
    words = dict(info.words).get(key, ())
    if isinstance(value, str) and value in words:
        return value
    if isinstance(value, str) and refers(info, key, value):
        check_reference(where, key, value)
        return value
    if type(value) is int and isinstance(default, float):
        value = float(value)
    right = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
    if not right or (choices is not None and value not in choices):
        known = [*map(str, choices or ()), *(f"{kind}:NAME" for kind in kinds_of(info, key))]
        expected = f"one of {', '.join(known)}" if known else " or ".join([_TYPES[type(default)], *map(repr, words)])
        msg = f"{where}: {key}: got {value!r}, expected {expected}. Correct it."
        raise SuiteError(msg)
    assert isinstance(value, str | int | float | bool)
    # Values stand in ids and file names, where a sign would read as a separator.
    if isinstance(value, str) and key not in info.paths and not is_name(value):
        msg = f"{where}: {key}: got {value!r}, expected {NAME_RULE}. Correct it."
        raise SuiteError(msg)
    least = dict(info.least).get(key, 0)
    if isinstance(value, int | float) and not least <= value < math.inf:
        msg = f"{where}: {key}: got {value!r}, expected {least} or more. Correct it."
        raise SuiteError(msg)
    return value
