"""What a cell yields: scores per example, what the compression did, and what it cost.

Everything here crosses process borders as plain JSON (`to_json`, `from_json`); per-example arrays travel as one base64 npz string.
Per-example outcomes are kept because every comparison is paired (`docs/verdicts.md`).
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pytest_kick.examples import Examples
from pytest_kick.infos import MeanInfo

PROBE_FIELDS = ("examples", "version", "settings")
"""What the fingerprint says of each probe, as `probe.field`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeScore:
    """Hold what one probe measured.

    Attributes:
        probe: name of the probe.
        version: of its scoring; blocking in the fingerprint.
        metric: the metric judged when a budget names none.
        metrics: fraction or mean of each metric over the examples (micro), `macro_*` over groups.
        floors: for each outcome metric the score of a model that knows nothing: `max(chance, majority)` on closed spaces, 0 on free.
        trivial: trivial baselines printed beside the score: `chance`, `majority`.
        n: number of scored examples.
        excluded: reason -> number of examples that this model's tokenizer cannot score.
        examples: per-example outcomes.
        settings: what fixes the scoring besides the examples (template, norm, prompt convention); blocking in the fingerprint.
        work: tokens scored, candidates per example and the like; noted, never compared.
        means: metrics that are means of numbers, as `infos.MeanInfo` describes them.
    """

    probe: str
    version: int
    metric: str
    metrics: Mapping[str, float]
    floors: Mapping[str, float]
    trivial: Mapping[str, float]
    n: int
    excluded: Mapping[str, int] = field(default_factory=dict)
    examples: Examples
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    work: Mapping[str, float] = field(default_factory=dict)
    means: tuple[MeanInfo, ...] = ()

    def mean(self, metric: str) -> MeanInfo | None:
        """Return what `metric` is the mean of, None where it is an outcome."""
        return next((mean for mean in self.means if mean.name == metric), None)

    def plain(self) -> dict[str, Any]:
        """Return all fields but the examples, JSON-able; means are left out where there are none."""
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in {"examples", "means"}}
        kept |= {name: dict(value) for name, value in kept.items() if isinstance(value, Mapping)}
        return kept | ({"means": [asdict(mean) for mean in self.means]} if self.means else {})

    @classmethod
    def from_plain(cls, data: Mapping[str, Any], examples: Examples) -> ProbeScore:
        """Rebuild from `plain` and the examples."""
        means = tuple(MeanInfo(**mean) for mean in data.get("means", ()))
        return cls(**{**data, "means": means, "examples": examples})

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict; the examples become one base64 string."""
        return self.plain() | {"examples": base64.b64encode(self.examples.to_npz()).decode("ascii")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeScore:
        """Rebuild from `to_json`."""
        return cls.from_plain(data, Examples.from_npz(base64.b64decode(data["examples"])))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Hold what one step of a compression did, measured on the float32 master weights.

    Attributes:
        method: name of the method.
        scope: name of the scope.
        n_matrices: matrices in the scope.
        n_weights: weights in the scope.
        n_zeros_before: exact zeros in the scope before the step.
        n_zeros: exact zeros in the scope after the step.
        n_changed: weights whose value the step changed.
        asked: the level asked for: a sparsity, or bits.
        achieved: the level found: zeros over weights (over all body weights for `sparsity_of = "model"`), or bits of the grid.
        bits_per_weight: effective, scales, zeros and bitmask included.
        calibration: hash of the token ids that a calibrated method saw, or "".
        checkpoint: hash of the tensors that a method brought from elsewhere, or "".
        notes: what a reader should know, such as `head untied from the input embedding`.
    """

    method: str
    scope: str
    n_matrices: int
    n_weights: int
    n_zeros_before: int
    n_zeros: int
    n_changed: int
    asked: float
    achieved: float
    bits_per_weight: float
    calibration: str = ""
    checkpoint: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionReport:
    """Hold what a whole compression did: one report per step, and the sizes.

    Attributes:
        steps: in the order applied; empty for dense.
        n_body: 2-D weights of the model without embeddings and head.
        n_total: all parameters, tied ones once.
    """

    steps: tuple[StepReport, ...]
    n_body: int
    n_total: int

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict; steps that saw no data, or no checkpoint, say nothing of it."""
        plain = asdict(self)
        return plain | {"steps": [{k: v for k, v in s.items() if v or k not in {"calibration", "checkpoint"}} for s in plain["steps"]]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Hold what a cell cost.

    Attributes:
        seconds: phase (`load`, `restore`, `compress`, `check`, `cast`, `evaluate`) -> wall-clock seconds.
        tokens_per_second: of the probes.
        candidates_per_example: expanded by the probes.
        peak_memory_bytes: of the process, highest so far.
        reliable: false where several workers shared the machine.
    """

    seconds: Mapping[str, float]
    tokens_per_second: float = 0.0
    candidates_per_example: float = 0.0
    peak_memory_bytes: int = 0
    reliable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Hold everything measured in one cell.

    Attributes:
        cell: id of the cell without the suite.
        dtype: of the forward pass, `float32` or `bfloat16`.
        scores: one per probe.
        compression: what was done to the weights.
        timing: what it cost.
        fingerprint: field -> value, see `pytest_kick.baseline.Fingerprint`; blocking and noted fields in one mapping each.
        warnings: warnings of third parties caught while it ran.
        noise_floor: probe -> metric -> how far chance alone moves it, see `pytest_kick.noise`; where it was measured.
    """

    cell: str
    dtype: str
    scores: tuple[ProbeScore, ...]
    compression: CompressionReport
    timing: Timing
    fingerprint: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...] = ()
    noise_floor: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def score(self, probe: str) -> ProbeScore | None:
        """Return the score of `probe`, or None where it was not run."""
        return next((score for score in self.scores if score.probe == probe), None)

    @property
    def probes(self) -> tuple[str, ...]:
        """Return the ids of the probes that were run."""
        return tuple(score.probe for score in self.scores)

    def only(self, probes: Collection[str]) -> Measurement:
        """Return what was measured with some of the probes."""
        dropped = {f"{probe}.{part}" for probe in self.probes if probe not in probes for part in PROBE_FIELDS}
        blocking = {name: value for name, value in self.fingerprint["blocking"].items() if name not in dropped}
        scores = tuple(score for score in self.scores if score.probe in probes)
        floors = {probe: floor for probe, floor in self.noise_floor.items() if probe in probes}
        return replace(self, scores=scores, fingerprint={**self.fingerprint, "blocking": blocking}, noise_floor=floors)

    def joined(self, other: Measurement) -> Measurement:
        """Return this measurement with the probes that another one of the same cell has besides; evaluation times add up."""
        more = tuple(score for score in other.scores if score.probe not in self.probes)
        seconds = dict(self.timing.seconds)
        seconds["evaluate"] = round(seconds.get("evaluate", 0.0) + other.timing.seconds.get("evaluate", 0.0), 4)
        blocking = {**other.fingerprint["blocking"], **self.fingerprint["blocking"]}
        return replace(
            self,
            scores=(*self.scores, *more),
            timing=replace(self.timing, seconds=seconds),
            fingerprint={**self.fingerprint, "blocking": blocking},
            warnings=tuple(sorted({*self.warnings, *other.warnings})),
            noise_floor={**other.noise_floor, **self.noise_floor},
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {
            "cell": self.cell,
            "dtype": self.dtype,
            "scores": [score.to_json() for score in self.scores],
            "compression": self.compression.to_json(),
            "timing": asdict(self.timing),
            "fingerprint": {kind: dict(values) for kind, values in self.fingerprint.items()},
            "warnings": list(self.warnings),
            **({"noise_floor": {probe: dict(floor) for probe, floor in self.noise_floor.items()}} if self.noise_floor else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Rebuild from `to_json`."""
        compression = data["compression"]
        steps = tuple(StepReport(**{**step, "notes": tuple(step["notes"])}) for step in compression["steps"])
        return cls(
            cell=data["cell"],
            dtype=data["dtype"],
            scores=tuple(ProbeScore.from_json(score) for score in data["scores"]),
            compression=CompressionReport(**{**compression, "steps": steps}),
            timing=Timing(**data["timing"]),
            fingerprint=data["fingerprint"],
            warnings=tuple(data["warnings"]),
            noise_floor=data.get("noise_floor", {}),
        )
