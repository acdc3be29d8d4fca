"""Probes whose answers are generated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.infos import ProbeInfo

ANSWERS: tuple[ProbeInfo, ...] = ()
