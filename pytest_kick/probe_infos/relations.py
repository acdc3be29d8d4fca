"""Probes of relational facts in the formats of LAMA, BEAR and ParaRel."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.infos import ProbeInfo

RELATIONS: tuple[ProbeInfo, ...] = ()
