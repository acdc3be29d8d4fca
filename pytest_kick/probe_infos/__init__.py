"""The table of built-in probes, a part for each kind."""

from __future__ import annotations

from pytest_kick.probe_infos.knowledge import KNOWLEDGE

BUILTIN_PROBES = (*KNOWLEDGE,)

__all__ = ["BUILTIN_PROBES"]
