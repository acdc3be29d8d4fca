"""Measurements made up for tests: small, deterministic, with outcomes that a test can state in its head."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_kick.baseline import build_fingerprint
from pytest_kick.examples import Examples
from pytest_kick.result import CompressionReport, Measurement, ProbeScore, StepReport, Timing
from pytest_kick.spec import CompressionSpec, CompressionStep

DENSE = CompressionSpec()
L1 = CompressionSpec(steps=(CompressionStep(method="l1_global", scope="ffn", level=0.2),))


def make_examples(right: np.ndarray, *, seed: int = 0, start: int = 0, groups: int = 4, **arrays: Any) -> Examples:
    """Return examples `g0/0 ...` whose `p1` is `right`; answers and scores follow from `seed`."""
    n = len(right)
    rng = np.random.default_rng(seed)
    named = {
        "p1": np.asarray(right, dtype=np.bool_),
        "free_p1": np.asarray(right, dtype=np.bool_) & (np.arange(n) % 2 == 0),
        "predicted": np.where(right, 7, rng.integers(-1, 300, n)).astype(np.int32),
        "margin": rng.normal(size=n).astype(np.float32),
        "gold_logprob": -np.abs(rng.normal(size=n)).astype(np.float32) * 5,
    }
    names = [f"g{(start + i) % groups}" for i in range(n)]
    return Examples(
        ids=np.array([f"{names[i]}/{start + i}" for i in range(n)]),
        groups=np.array(names),
        hashes=np.arange(start, start + n, dtype=np.uint32) * np.uint32(2654435761 % 2**31),
        arrays=named | arrays,
    )


def make_score(examples: Examples, *, probe: str = "facts", **changes: Any) -> ProbeScore:
    """Return the score of a probe on these examples; nothing known scores .05."""
    metrics = {name: float(np.mean(values)) for name, values in examples.arrays.items() if values.dtype == np.bool_}
    fields: dict[str, Any] = {
        "probe": probe,
        "version": 1,
        "metric": "p1",
        "metrics": metrics,
        "floors": {"p1": 0.05, "free_p1": 0.0},
        "trivial": {"chance": 0.02, "majority": 0.05},
        "n": len(examples),
        "excluded": {"answer of several tokens": 3},
        "settings": {"norm": "sum", "template": 0},
        "work": {"tokens": 1234.0},
    }
    return ProbeScore(**(fields | {"examples": examples} | changes))


def make_measurement(
    right: np.ndarray | None = None,
    *,
    compression: CompressionSpec = DENSE,
    dtype: str = "float32",
    weights: str = "a" * 64,
    scores: tuple[ProbeScore, ...] | None = None,
    noted: dict[str, Any] | None = None,
    **examples: Any,
) -> Measurement:
    """Return the measurement of a cell whose probe `facts` has `right` right."""
    if scores is None:
        scores = (make_score(make_examples(np.ones(8, dtype=bool) if right is None else right, **examples)),)
    step = StepReport(
        method="l1_global",
        scope="ffn",
        n_matrices=2,
        n_weights=100,
        n_zeros_before=0,
        n_zeros=20,
        n_changed=20,
        asked=0.2,
        achieved=0.2,
        bits_per_weight=26.6,
        notes=("a note",),
    )
    return Measurement(
        cell=compression.id,
        dtype=dtype,
        scores=scores,
        compression=CompressionReport(steps=(step,) if compression.steps else (), n_body=200, n_total=300),
        timing=Timing(seconds={"load": 1.5, "compress": 0.25, "check": 0.05, "evaluate": 4.0}),
        fingerprint=build_fingerprint(
            weights=weights,
            architecture="a" * 32,
            tokenizer="b" * 64,
            compression=compression,
            scores=scores,
            noted=noted or {"torch": "2.13.0"},
        ),
    )
