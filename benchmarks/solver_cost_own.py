"""Compress one model with pytest-kick's own solvers as a job says; run by `solver_cost.py` in a process of its own.

    python -m benchmarks.solver_cost_own JOB.json

Timed is `compress_` alone: calibration, solving, and the check of what was achieved, without loading and saving. The cache of dense
passes is empty, so that writing it is in the time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.solver_cost_measure import Watch
from pytest_kick.compress import Calibrator, compress_
from pytest_kick.compress.inputs import calibration_of
from pytest_kick.models.load import load
from pytest_kick.models.scopes import find_matrices
from pytest_kick.spec import CompressionSpec, CompressionStep, ModelSpec


def step_of(job: dict[str, Any]) -> CompressionStep:
    """Return the step of a job."""
    if job["method"] == "gptq":
        own = {"group": job["group"], "act_order": job["act_order"]}
    else:
        own = {"pattern": job["pattern"].replace(":", "of")} if job["pattern"] else {}
    data = {"count": job["count"], "length": job["length"], "seed": job["seed"], "propagate": job["propagate"]}
    level = job["bits"] if job["method"] == "gptq" else job["sparsity"]
    return CompressionStep(method=job["method"], scope="overall", level=level, params=tuple({**own, **data}.items()))


def main() -> None:
    """Compress, and write the weights and what they cost."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    watch = Watch()
    directory = Path(job["model"])
    model = load(ModelSpec(name="benchmarked", family="decoder", source=f"path:{directory}"), directory)
    model.fresh_()
    step = step_of(job)
    with TemporaryDirectory() as cache:
        calibrator = Calibrator(cache=Path(cache))
        samples = calibrator.data(model, calibration_of(step)).samples
        assert [list(sample.input_ids) for sample in samples] == json.loads(Path(job["ids"]).read_text()), "both see the same tokens"
        with watch:
            compress_(model, CompressionSpec(steps=(step,)), calibrator)
        report = watch.report()
    matrices = [m for m in find_matrices(model.module) if m.role in {"attention", "ffn"}]
    found = {m.module: model.module.get_parameter(m.parameter).detach() for m in matrices}
    save_file(found, Path(job["out"]) / "weights.safetensors")
    (Path(job["out"]) / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
