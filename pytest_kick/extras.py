"""Which extras a compression or a probe needs and this environment lacks, told without importing them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from pytest_kick.registry import METHODS, PROBES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kick.infos import MethodInfo, ProbeInfo
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.spec import CompressionSpec


def lacking(spec: CompressionSpec) -> str:
    """Return why a compression cannot run here and what installs what it needs, one line; "" where nothing is missing."""
    found = (_missing(step.id, METHODS.get(step.method, step.id)) for step in spec.steps)
    return next(filter(None, found), "")


def lacking_of_probes(specs: Iterable[ProbeSpec]) -> str:
    """Return the same of probes."""
    found = (_missing(spec.id, PROBES.get(spec.name, spec.id)) for spec in specs)
    return next(filter(None, found), "")


def _missing(where: str, info: MethodInfo | ProbeInfo) -> str:
    if not info.needs or importlib.util.find_spec(info.needs) is not None:
        return ""
    install = f"pip install 'pytest-kick[{info.extra}]'" if info.extra else f"pip install {info.needs}"
    return f"{where}: extra: got no module {info.needs!r}, expected it for {info.name}. {install}"
