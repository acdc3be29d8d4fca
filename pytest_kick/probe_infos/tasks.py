"""Tasks of lm-evaluation-harness."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_kick.infos import ProbeInfo

TASKS: tuple[ProbeInfo, ...] = ()
