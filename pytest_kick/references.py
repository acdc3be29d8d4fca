"""What a suite names outside of itself, files and data sets, and the short names that stand for them in ids.

A parameter may be `path:FILE`, relative to the suite, or `datasets:ID[#CONFIG][@SPLIT]`. Ids and fingerprints hold the stem of the
file, or the data set's id made safe, so that stored runs mean the same on every machine.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import SuiteError
from pytest_kick.infos import CALIBRATION_SOURCES, ProbeInfo
from pytest_kick.spec import NAME_RULE, is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_kick.infos import MethodInfo
    from pytest_kick.spec import CompressionSpec

CALIBRATION_KINDS = ("path", "datasets")
_PATH = "path:"


def kinds_of(info: MethodInfo | ProbeInfo, key: str) -> tuple[str, ...]:
    """Return the kinds of reference, `KIND:NAME`, that a parameter of a method or probe takes beside its other values."""
    able = key in info.refers if isinstance(info, ProbeInfo) else info.calibrated and key == "source"
    return CALIBRATION_KINDS if able else ()


def refers(info: MethodInfo | ProbeInfo, key: str, value: object) -> bool:
    """Return whether the value of a parameter is a reference."""
    return isinstance(value, str) and ":" in value and value.partition(":")[0] in kinds_of(info, key)


def resolved(value: Any, folder: Path) -> Any:  # noqa: ANN401 - whatever TOML holds
    """Return a value of a suite, tables and lists within it too, with each `path:FILE` made absolute.

    Args:
        value: as parsed from TOML.
        folder: what relative paths are relative to.
    """
    if isinstance(value, dict):
        return {key: resolved(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, folder) for item in value]
    if isinstance(value, str) and value.startswith(_PATH) and value != _PATH:
        return f"{_PATH}{(folder / value.removeprefix(_PATH)).resolve()}"
    return value


def short(value: str) -> str:
    """Return what ids print for a reference: the stem of a file; a data set's id with `_` for each run of other characters."""
    kind, _, rest = value.partition(":")
    if kind == "path":
        return PurePath(rest).stem
    return re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._-]+", "_", rest)).strip("-_")


def check_reference(where: str, key: str, value: str) -> None:
    """Check that a reference has a short name that can stand in ids, and none that means something else there.

    Raises:
        SuiteError: it does not.
    """
    name, rest = short(value), value.partition(":")[2]
    if not rest or not is_name(name):
        msg = f"{where}: {key}: got {value!r}, expected a file or data set with a name of {NAME_RULE}. Correct or rename it."
        raise SuiteError(msg)
    if name in CALIBRATION_SOURCES:
        msg = f"{where}: {key}: got {value!r}, expected another name than {', '.join(CALIBRATION_SOURCES)}. Rename the file."
        raise SuiteError(msg)


def references(spec: CompressionSpec) -> Iterator[tuple[str, str]]:
    """Iterate over the references of a compression: short name, and what it stands for."""
    for step in spec.steps:
        yield from ((short(value), value) for _, value in step.outside)


def shortened(info: MethodInfo | ProbeInfo, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parameters as ids hold them."""
    return {key: short(value) if refers(info, key, value) else value for key, value in chosen.items()}
