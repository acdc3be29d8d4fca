"""Probes of whether what was lost comes back: by examples, by the text itself."""

from __future__ import annotations

from pytest_kick.infos import ProbeInfo

RECALL = (
    ProbeInfo(
        name="displacement",
        target="pytest_kick.probes.displacement:displacement_probe",
        summary="which lost facts come back when a few others of the relation stand before the prompt",
        metric="few",
        metrics=("few", "zero"),
        params=(("shots", 4), ("sample", 0)),
        least=(("shots", 1),),
        dense=True,
    ),
    ProbeInfo(
        name="open_book",
        target="pytest_kick.probes.open_book:open_book_probe",
        summary="does the model find a fact in a text of others before the prompt; the same facts without",
        metric="open",
        metrics=("open", "closed"),
        params=(("distractors", 4), ("sample", 0)),
    ),
)
