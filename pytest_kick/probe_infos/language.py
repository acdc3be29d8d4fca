"""Probes of the language model itself: perplexity, and the distance from the dense model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.infos import ProbeInfo

LANGUAGE: tuple[ProbeInfo, ...] = ()
