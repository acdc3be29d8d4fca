"""What identifies a measurement: blocking fields must agree before two runs are compared, noted fields are only reported."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.registry import METHODS
from pytest_kick.result import PROBE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_kick.examples import Examples
    from pytest_kick.result import ProbeScore
    from pytest_kick.spec import CompressionSpec, CompressionStep

_SHOWN = 40
_HASH_SHOWN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Hold one field that differs; None stands for a field that one side does not have."""

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """Return `field: old -> new`, long values shortened."""
        return f"{self.field}: {_shown(self.old)} -> {_shown(self.new)}"


def build_fingerprint(
    *,
    weights: str,
    architecture: str,
    tokenizer: str,
    compression: CompressionSpec,
    calibration: Sequence[str] = (),
    checkpoints: Sequence[str] = (),
    scores: Iterable[ProbeScore],
    noted: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
    """Return the fingerprint of a measurement, plain JSON types throughout.

    Args:
        weights: hash of the dense tensors.
        architecture: hash of what else decides what the model computes: its configuration and stored buffers.
        tokenizer: hash of the tokenizer.
        compression: what was asked for; parameters are written out with the defaults, so that a default that changes blocks too.
        calibration: hashes of the data that the calibrated steps saw, in their order.
        checkpoints: hashes of the tensors that steps brought from elsewhere, in their order.
        scores: of each probe: its examples, version and settings block.
        noted: what is recorded but never blocks: versions, CPU, threads, batch size.

    Returns:
        `{"blocking": {field: value}, "noted": {field: value}}`.
    """
    steps = [_asked(step) for step in compression.steps]
    blocking: dict[str, Any] = {"weights": weights, "architecture": architecture, "tokenizer": tokenizer, "compression": steps}
    if calibration:
        blocking["calibration"] = list(calibration)
    if checkpoints:
        blocking["checkpoint"] = list(checkpoints)
    for score in scores:
        said = (examples_digest(score.examples), score.version, dict(score.settings))
        blocking |= {f"{score.probe}.{part}": value for part, value in zip(PROBE_FIELDS, said, strict=True)}
    fingerprint: dict[str, dict[str, Any]] = json.loads(json.dumps({"blocking": blocking, "noted": dict(noted)}))
    return fingerprint


def _asked(step: CompressionStep) -> dict[str, Any]:
    """Return a step as the fingerprint holds it, without parameters that are not given ("") and without paths."""
    info = METHODS.get(step.method, "fingerprint")
    params = dict(info.params) | dict(step.params)
    given = {name: value for name, value in params.items() if value != "" and name not in info.paths}
    unit = {"unit": step.unit} if step.unit else {}
    return {"method": step.method, "scope": step.scope, "level": step.level, "params": given, **unit}


def examples_digest(examples: Examples) -> str:
    """Return a digest over the (id, content hash) pairs, whatever their order: 32 hexadecimal digits."""
    order = np.argsort(examples.ids)
    pairs = "".join(f"{examples.ids[i]}\0{int(examples.hashes[i]):08x}\n" for i in order)
    return hashlib.sha256(pairs.encode()).hexdigest()[:32]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Compare two mappings field by field, nested ones by dotted names, sorted by field."""
    before, after = dict(_flat(old)), dict(_flat(new))
    return tuple(
        Difference(field=name, old=before.get(name), new=after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    )


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - JSON values
    if isinstance(value, dict):
        nested = value.items()
    elif isinstance(value, (list, tuple)):
        nested = {str(index): item for index, item in enumerate(value)}.items()
    else:
        yield prefix, value
        return
    for key, item in nested:
        yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))


def _shown(value: Any) -> str:  # noqa: ANN401 - JSON values
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.split())
    if len(text) >= 2 * _HASH_SHOWN and all(character in "0123456789abcdef" for character in text):
        return text[:_HASH_SHOWN]
    return text if len(text) <= _SHOWN else text[: _SHOWN - 2] + ".."
