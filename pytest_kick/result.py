"""What a cell yields: scores per example, what the compression did, and what it cost.

Everything here crosses process borders as plain JSON (`to_json`, `from_json`); per-example arrays travel as one base64 npz string.
Per-example outcomes are kept because every comparison is paired (`docs/verdicts.md`).
"""

from __future__ import annotations

import base64
import io
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pytest_kick.errors import KickError

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Hold outcomes and scores of the examples of one probe, in the order of the probe's data.

    Attributes:
        ids: `(n,)` unicode array, unique.
        groups: `(n,)` unicode array: the relation (subject, category) of each example.
        hashes: `(n,)` uint32: content hash of each example (prompt, answer, aliases, answer space).
        arrays: named arrays of length n. Boolean arrays are outcomes that a budget can name (`p1`, `free_p1`, ...); the others are
            scores (`gold_logprob`, `margin`, nats, float16) or answers (`predicted`: int32 index into the answer space, -1 none).
    """

    ids: Array
    groups: Array
    hashes: NDArray[np.uint32]
    arrays: Mapping[str, Array]

    def __post_init__(self) -> None:
        """Check that all arrays have one length and the ids are unique."""
        n = len(self.ids)
        lengths = {name: len(values) for name, values in {**self.arrays, "groups": self.groups, "hashes": self.hashes}.items()}
        wrong = {name: length for name, length in lengths.items() if length != n}
        if wrong:
            msg = f"examples: arrays: got lengths {wrong}, expected {n} as the ids have. Record the baseline again."
            raise KickError(msg)
        if len(np.unique(self.ids)) != n:
            msg = f"examples: ids: got duplicates among {n}, expected unique ids. Rename the examples."
            raise KickError(msg)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.ids)

    def outcome(self, metric: str) -> NDArray[np.bool_]:
        """Return right or wrong per example, `(n,)` bool, under `metric`.

        Raises:
            KickError: no outcome of that name.
        """
        values = self.arrays.get(metric)
        if values is None or values.dtype != np.bool_:
            known = sorted(name for name, array in self.arrays.items() if array.dtype == np.bool_)
            msg = f"examples: metric: got {metric!r}, expected one of {', '.join(known)}. Name one of these in the budget."
            raise KickError(msg)
        return values

    def take(self, index: NDArray[np.intp]) -> Examples:
        """Return the examples at `index`, `(m,)` int, in that order."""
        return Examples(
            ids=self.ids[index],
            groups=self.groups[index],
            hashes=self.hashes[index],
            arrays={name: values[index] for name, values in self.arrays.items()},
        )

    def subset(self, ids: Array) -> Examples:
        """Return the examples named by `ids`, `(m,)` unicode, in that order.

        Raises:
            KickError: an id is not among these examples.
        """
        order = np.argsort(self.ids)
        place = np.searchsorted(self.ids, ids, sorter=order)
        known = np.isin(ids, self.ids)
        if not known.all():
            expected = f"an id of the {len(self)} examples compared with"
            msg = f"examples: ids: got {str(ids[~known][0])!r}, expected {expected}. Record them again."
            raise KickError(msg)
        return self.take(order[place])

    def to_npz(self) -> bytes:
        """Serialize to npz bytes that are equal for equal content."""
        named = {"ids": _encoded(self.ids), "groups": _encoded(self.groups), "hashes": self.hashes}
        named |= {f"a_{name}": self.arrays[name] for name in sorted(self.arrays)}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **named)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> Examples:
        """Read what `to_npz` wrote.

        Raises:
            KickError: the bytes are no such archive.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return cls(
                ids=np.char.decode(arrays.pop("ids"), "utf-8"),
                groups=np.char.decode(arrays.pop("groups"), "utf-8"),
                hashes=arrays.pop("hashes"),
                arrays={name.removeprefix("a_"): values for name, values in arrays.items()},
            )
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError) as error:
            msg = f"examples: npz: got unreadable bytes ({type(error).__name__}), expected what this tool wrote. Record it again."
            raise KickError(msg) from error
        except Exception as error:  # zipfile and zlib raise their own types for damaged archives
            msg = f"examples: npz: got a damaged archive ({type(error).__name__}), expected what this tool wrote. Record it again."
            raise KickError(msg) from error


def _encoded(text: Array) -> Array:
    """Return text as UTF-8 bytes: a quarter of numpy's own width."""
    encoded: Array = np.char.encode(text, "utf-8")
    return encoded


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

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict; the examples become one base64 string."""
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "examples"}
        return plain | {"examples": base64.b64encode(self.examples.to_npz()).decode("ascii")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ProbeScore:
        """Rebuild from `to_json`."""
        examples = Examples.from_npz(base64.b64decode(data["examples"]))
        return cls(**{**data, "examples": examples})


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
    """

    cell: str
    dtype: str
    scores: tuple[ProbeScore, ...]
    compression: CompressionReport
    timing: Timing
    fingerprint: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...] = ()

    def score(self, probe: str) -> ProbeScore | None:
        """Return the score of `probe`, or None where it was not run."""
        return next((score for score in self.scores if score.probe == probe), None)

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
        )
