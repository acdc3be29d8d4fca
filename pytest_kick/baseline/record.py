"""A stored run in memory, its JSON document, and the check that it may be compared with a measurement."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.baseline.fingerprint import Difference, differences
from pytest_kick.budget import base_name
from pytest_kick.errors import BaselineError, KickError, StaleBaselineError
from pytest_kick.registry import PROBES
from pytest_kick.result import PROBE_FIELDS, CompressionReport, Measurement, ProbeScore, StepReport, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.examples import Examples

SCHEMA = 1
_SHOWN_DIFFERENCES = 3
# What may differ between two runs that measured the same: a file is not rewritten for these alone.
_INCIDENTAL = ("recorded", "timing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Hold the stored run of one cell.

    Attributes:
        model: name of the model.
        cell: `CompressionSpec.id`; `dense` for the uncompressed model.
        dtype: of the forward pass.
        recorded: ISO date of the run, UTC.
        scores: one per probe; examples sorted by id, scores in half precision.
        compression: what was done to the weights.
        timing: what it cost, noted only.
        fingerprint: `blocking` and `noted` fields.
        noise_floor: probe -> metric -> fraction of the examples that a run may lose net by noise alone; dense cells only.
    """

    model: str
    cell: str
    dtype: str
    recorded: str
    scores: tuple[ProbeScore, ...]
    compression: CompressionReport
    timing: Timing
    fingerprint: Mapping[str, Mapping[str, Any]]
    noise_floor: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Return `model/dtype/cell`, the path without its suffix."""
        return f"{self.model}/{self.dtype}/{self.cell}"

    @property
    def examples(self) -> dict[str, Examples]:
        """Return the examples of each probe, as `judge` takes them."""
        return {score.probe: score.examples for score in self.scores}

    def noted_differences(self, measurement: Measurement) -> tuple[Difference, ...]:
        """Return what differs in the fields that are noted and never block."""
        return differences(self.fingerprint["noted"], measurement.fingerprint["noted"])


def to_document(measurement: Measurement, model: str, *, recorded: str, identities: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON document of a measurement, still without `arrays_sha256` and `noise_floor`.

    Args:
        measurement: what was measured.
        model: name of the model.
        recorded: ISO date.
        identities: probe -> digest that names the file of its example identities.
    """
    probes = {}
    for score in measurement.scores:
        plain = {name: value for name, value in score.plain().items() if name != "probe"}
        probes[score.probe] = plain | {"examples": identities[score.probe]}
    return {
        "schema": SCHEMA,
        "model": model,
        "cell": measurement.cell,
        "dtype": measurement.dtype,
        "recorded": recorded,
        "probes": probes,
        "compression": measurement.compression.to_json(),
        "timing": asdict(measurement.timing),
        "fingerprint": {kind: dict(values) for kind, values in measurement.fingerprint.items()},
    }


def from_document(document: Mapping[str, Any], examples: Mapping[str, Examples]) -> Baseline:
    """Rebuild from the document and the examples of each probe.

    Raises:
        KeyError, TypeError, AttributeError: the document lacks a field or has a wrong type; the store says so in one line.
    """
    compression = document["compression"]
    steps = tuple(StepReport(**{**step, "notes": tuple(step["notes"])}) for step in compression["steps"])
    scores = tuple(ProbeScore.from_plain({**values, "probe": probe}, examples[probe]) for probe, values in document["probes"].items())
    return Baseline(
        model=document["model"],
        cell=document["cell"],
        dtype=document["dtype"],
        recorded=document["recorded"],
        scores=scores,
        compression=CompressionReport(**{**compression, "steps": steps}),
        timing=Timing(**document["timing"]),
        fingerprint={kind: dict(document["fingerprint"][kind]) for kind in ("blocking", "noted")},
        noise_floor={probe: _floors(document, probe, found) for probe, found in document["noise_floor"].items()},
    )


def _floors(document: Mapping[str, Any], probe: str, found: Mapping[str, object]) -> dict[str, float]:
    """Return noise floors as they are: of an outcome a fraction below one half, since a larger one would excuse any loss; of a mean any."""
    means = {mean["name"] for mean in document["probes"].get(probe, {}).get("means", ())}
    for name, value in found.items():
        most = math.inf if name in means else 0.5
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < most:
            msg = f"noise_floor: got {value!r} for {probe} {name}, expected a number in [0, {most:g})"
            raise TypeError(msg)
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def measured_the_same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Say whether two documents differ in dates, timings and noted fields at most."""
    return _essence(old) == _essence(new)


def _essence(document: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in document.items() if name not in _INCIDENTAL}
    kept["fingerprint"] = document["fingerprint"]["blocking"]
    kept["probes"] = {
        probe: {name: value for name, value in values.items() if name != "work"} for probe, values in document["probes"].items()
    }
    return kept


def check_fresh(baseline: Baseline, measurement: Measurement, *, sampled: bool = False, command: str = "") -> None:
    """Check that a stored run measured the same thing as a measurement.

    Args:
        baseline: the stored run of the same cell, or of the dense model: then the compression is not compared.
        measurement: what was measured now.
        sampled: the measurement covers a sample of the examples (`--kick-limit`); then each of its examples must be in the
            baseline, with the same content hash.
        command: what records the baseline again, for the message.

    Raises:
        StaleBaselineError: a blocking field differs; the message names the fields with old and new value.
        BaselineError: the baseline is neither of this cell nor dense.
    """
    if baseline.cell not in {measurement.cell, "dense"}:
        msg = f"baseline {baseline.name}: cell: got {baseline.cell!r}, expected {measurement.cell!r} or 'dense'. Read the right file."
        raise BaselineError(msg)
    found = [Difference(field="dtype", old=baseline.dtype, new=measurement.dtype)] if baseline.dtype != measurement.dtype else []
    skipped = _not_compared(baseline, measurement, sampled=sampled)
    stored, now = (
        {name: value for name, value in blocking.items() if name not in skipped}
        for blocking in (baseline.fingerprint["blocking"], measurement.fingerprint["blocking"])
    )
    found += differences(stored, now)
    shown = [str(difference) for difference in found]
    compared = [score for score in measurement.scores if score.probe in baseline.examples and (sampled or _judged(score.probe))]
    shown += [change for score in compared if (change := _changed_example(baseline, score))]
    if shown:
        more = f"; {len(shown) - _SHOWN_DIFFERENCES} more" if len(shown) > _SHOWN_DIFFERENCES else ""
        what = "; ".join(shown[:_SHOWN_DIFFERENCES]) + more
        fix = f"record it again: {command}." if command else "record it again with --kick-update."
        msg = f"baseline {baseline.name} ({baseline.recorded}): {what}. It measured something else; if the change is meant, {fix}"
        raise StaleBaselineError(msg)


def _not_compared(baseline: Baseline, measurement: Measurement, *, sampled: bool) -> set[str]:
    """Return the blocking fields, by their whole names, that say nothing about what is compared.

    Those of a probe that only one of the two has; the digest of all examples where a sample is asked; the compression where the
    stored run is the dense one.
    """
    skipped = {f"{probe}.{part}" for probe in set(measurement.probes) ^ baseline.examples.keys() for part in PROBE_FIELDS}
    loose = {probe for probe in measurement.probes if sampled or _judged(probe)}
    skipped |= {f"{probe}.examples" for probe in loose}
    return skipped | ({"compression", "calibration", "checkpoint"} if baseline.cell != measurement.cell else set())


def _judged(probe: str) -> bool:
    """Return whether a judge scores a probe: then examples may be missing, those whose rating could not be read."""
    info = PROBES.find(str(base_name(probe)))
    return info is not None and info.judge


def with_stored(measurement: Measurement, baseline: Baseline) -> Measurement:
    """Return a measurement with the scores of probes that it did not run and a stored run of the same cell has.

    They are kept as long as all that they share was the same: model, tokenizer, compression, calibration.
    """
    kept = [probe for probe in baseline.examples if probe not in measurement.probes]
    shared = [
        {name: value for name, value in blocking.items() if name.rpartition(".")[2] not in PROBE_FIELDS}
        for blocking in (baseline.fingerprint["blocking"], measurement.fingerprint["blocking"])
    ]
    if not kept or shared[0] != shared[1]:
        return measurement
    stored = Measurement(
        cell=baseline.cell,
        dtype=baseline.dtype,
        scores=baseline.scores,
        compression=baseline.compression,
        timing=baseline.timing,
        fingerprint=baseline.fingerprint,
    )
    return measurement.joined(stored.only(kept))


def _changed_example(baseline: Baseline, score: ProbeScore) -> str:
    """Return what is wrong with the sample of one probe, or nothing."""
    known = baseline.examples[score.probe].ids
    if _judged(score.probe):
        score = replace(score, examples=score.examples.take(np.flatnonzero(np.isin(score.examples.ids, known))))
    try:
        stored = baseline.examples[score.probe].subset(score.examples.ids)
    except KickError:
        absent = score.examples.ids[~np.isin(score.examples.ids, baseline.examples[score.probe].ids)]
        return f"{score.probe}.examples.{absent[0]}: (none) -> sampled"
    wrong = np.flatnonzero(stored.hashes != score.examples.hashes)
    if not len(wrong):
        return ""
    index = wrong[0]
    old, new = int(stored.hashes[index]), int(score.examples.hashes[index])
    return f"{score.probe}.examples.{stored.ids[index]}: {old:08x} -> {new:08x}"
