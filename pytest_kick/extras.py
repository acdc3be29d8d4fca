"""Which extras a compression needs and this environment lacks, told without importing them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from pytest_kick.spec import CompressionSpec


def lacking(spec: CompressionSpec) -> str:
    """Return why a compression cannot run here and what installs what it needs, one line; "" where nothing is missing."""
    for step in spec.steps:
        info = METHODS.get(step.method, step.id)
        if info.needs and importlib.util.find_spec(info.needs) is None:
            install = f"pip install 'pytest-kick[{info.extra}]'" if info.extra else f"pip install {info.needs}"
            return f"{step.id}: extra: got no module {info.needs!r}, expected it for {step.method}. {install}"
    return ""
