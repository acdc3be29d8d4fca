"""Measure what a wanda sweep over nine levels costs with `propagate = "dense"`: one calibration pass serves all of them.

    python benchmarks/wanda_sweep.py MODEL_DIR

The sweep is what a run does: restore, calibrate or find what an earlier level left in the cache, mask, check. Beside it the pass alone
(the norms of all matrices' inputs, with an empty cache) and the masks alone (each matrix of the model once, at each level).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import torch

from pytest_kick.calibration import DenseCache
from pytest_kick.compress import Calibrator, compress_
from pytest_kick.compress.inputs import calibration_of
from pytest_kick.compress.solvers import Moments, wanda
from pytest_kick.models.load import load
from pytest_kick.models.scopes import find_matrices
from pytest_kick.spec import CompressionSpec, CompressionStep, ModelSpec

LEVELS = tuple(level / 10 for level in range(1, 10))


class Clock:
    """Count wall and processor seconds of what is done inside."""

    def __enter__(self) -> Self:
        """Start."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu


def main() -> None:
    """Print seconds of the three, and the ratio of the first to the other two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of a decoder, as `kick fetch` prints it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(ModelSpec(name="benchmarked", family="decoder", source=f"path:{args.model.resolve()}"), args.model)
    data_of = (("count", args.count), ("length", args.length), ("propagate", "dense"))
    steps = [CompressionStep(method="wanda", scope="overall", level=level, params=data_of) for level in LEVELS]
    model.fresh_()
    matrices = tuple(m for m in find_matrices(model.module) if m.role in {"attention", "ffn"})
    ratios = []
    for _ in range(args.repeats):
        with TemporaryDirectory() as empty, TemporaryDirectory() as cache:
            calibrator = Calibrator(cache=Path(cache))
            model.fresh_()
            data = calibrator.data(model, calibration_of(steps[0]))
            with Clock() as once:
                seen = DenseCache(Path(empty)).get(model, data, matrices, lambda n: Moments(n, gram=False), kind="norms")
            norms = {m.name: Moments.from_state(seen.state(m)).norms for m in matrices}
            weights = {m.name: m.read(model.module.get_parameter(m.parameter).detach()) for m in matrices}
            with Clock() as masking:
                for level in LEVELS:
                    for name, weight in weights.items():
                        wanda(weight, norms[name], level)
            with Clock() as sweep:
                for step in steps:
                    model.fresh_()
                    compress_(model, CompressionSpec(steps=(step,)), calibrator)
        ratios.append((sweep.wall / (once.wall + masking.wall), sweep.cpu / (once.cpu + masking.cpu)))
        print(
            f"sweep {sweep.wall:.1f} s ({sweep.cpu:.1f} cpu), pass {once.wall:.1f} ({once.cpu:.1f}), nine maskings {masking.wall:.1f}"
            f" ({masking.cpu:.1f}): ratio {ratios[-1][0]:.2f} ({ratios[-1][1]:.2f} cpu)",
            flush=True,
        )
    wall, cpu = (statistics.median(values) for values in zip(*ratios, strict=True))
    print(f"{args.threads} threads: median ratio {wall:.2f}, of processor time {cpu:.2f}")


if __name__ == "__main__":
    main()
