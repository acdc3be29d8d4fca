"""Measure what restoring, compressing, checking, casting and packing cost for each method, on one model.

Run: `OMP_NUM_THREADS=1 python benchmarks/compress_cost.py DIRECTORY [float32|bfloat16]`, with a directory that `kick fetch` made.
"""

from __future__ import annotations

import sys
import time
from itertools import pairwise
from pathlib import Path

import torch

from pytest_kick.compress import compress_, finish_
from pytest_kick.models.load import load
from pytest_kick.spec import CompressionSpec, CompressionStep, ModelSpec

STEPS = (
    CompressionStep(method="l1_global", scope="overall", level=0.1),
    CompressionStep(method="l1_global", scope="overall", level=0.2),
    CompressionStep(method="l1_global", scope="overall", level=0.5),
    CompressionStep(method="l1_global", scope="attention", level=0.2),
    CompressionStep(method="l1_global", scope="head", level=0.2),
    CompressionStep(method="l1_per_matrix", scope="overall", level=0.2),
    CompressionStep(method="random_unstructured", scope="overall", level=0.2),
    CompressionStep(method="ln_structured", scope="overall", level=0.2),
    CompressionStep(method="ln_structured", scope="overall", level=0.2, params=(("n", 2), ("dim", "columns"))),
    CompressionStep(method="random_structured", scope="overall", level=0.2),
    CompressionStep(method="dynamic_int8", scope="overall", level=8),
    CompressionStep(method="quantize_dynamic", scope="overall", level=8),
)


def main() -> None:
    """Print one line per method: seconds of each phase, best of two."""
    dtype = torch.bfloat16 if "bfloat16" in sys.argv else torch.float32
    directory = Path(sys.argv[1])
    spec = ModelSpec(name="model", family="decoder", source=f"path:{directory}")
    model = load(spec, directory)
    model.fresh_()
    chain = CompressionSpec(steps=(STEPS[1], STEPS[-2]))
    back = CompressionSpec(steps=(STEPS[-2], STEPS[1]))
    print(f"{'compression':62} restore compress cast finish  zeros   bits")
    for case in (*(CompressionSpec(steps=(step,)) for step in STEPS), chain, back):
        best: list[float] = []
        for _ in range(2):
            marks = [time.perf_counter()]
            model.fresh_()
            marks.append(time.perf_counter())
            report = compress_(model, case)
            marks.append(time.perf_counter())
            model.cast_(torch.float32 if case.float32_only else dtype)
            marks.append(time.perf_counter())
            finish_(model, case)
            marks.append(time.perf_counter())
            seconds = [after - before for before, after in pairwise(marks)]
            best = [min(pair) for pair in zip(best or seconds, seconds, strict=True)]
        last = report.steps[-1]
        figures = " ".join(f"{s:7.3f}" for s in best)
        print(f"{case.id:62} {figures} {last.n_zeros / last.n_weights:.5f} {last.bits_per_weight:6.3f}", flush=True)


if __name__ == "__main__":
    main()
