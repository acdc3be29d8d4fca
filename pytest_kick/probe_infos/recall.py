"""Probes of whether what was lost comes back: by examples, by the text itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.infos import ProbeInfo

RECALL: tuple[ProbeInfo, ...] = ()
