"""Probes of facts."""

from __future__ import annotations

from pytest_kick.infos import ProbeInfo

KNOWLEDGE = (
    ProbeInfo(
        name="facts",
        target="pytest_kick.probes.facts:facts_probe",
        summary="what the model still knows: rank the gold answer of each fact",
        metric="p1",
        metrics=("p1", "p5", "p10", "free_p1", "free_p5", "free_p10"),
    ),
)
