"""Probes that choose among given options."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.infos import ProbeInfo

CHOICES: tuple[ProbeInfo, ...] = ()
