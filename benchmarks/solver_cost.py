"""Compare our calibrated solvers with llm-compressor's, side by side: time, memory, perplexity, masks, layer errors.

    python -m venv PEER && PEER/bin/pip install -r benchmarks/peer-requirements.txt
    python benchmarks/solver_cost.py MODEL_DIR --peer-python PEER/bin/python

Each arm is a process of its own that is given the same dense weights and the same calibration tokens; arms alternate, seed by seed.
The peer runs its `basic` pipeline, one dense pass, which is our `propagate = "dense"`; masks and layer errors are compared with that.
`compressed`, our default, runs each block twice; `--compressed` shows it beside. Perplexity is taken here, for all, in float32 on
windows of the text that no seed calibrates on. Wall time and processor time are both shown: on a shared machine the second is steadier.
Memory is the process's most, in units of the float32 weights: all that was resident; less what libraries took before anything was loaded;
and the anonymous part of the latter. The rest of it are pages of mapped files, which can be evicted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from pytest_kick.calibration import make_batches, prepare, run_dense
from pytest_kick.calibration.sources import read_text
from pytest_kick.compress.solvers import Moments, output_error
from pytest_kick.models.load import load
from pytest_kick.models.scopes import find_matrices
from pytest_kick.spec import Calibration, ModelSpec

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.models.scopes import Matrix

ROOT = Path(__file__).parents[1]
Weights = dict[str, torch.Tensor]
Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Name one setting of a solver, as both sides take it."""

    method: str
    bits: int = 0
    group: int = 64
    act_order: bool = False
    sparsity: float = 0.5
    pattern: str = ""

    @property
    def name(self) -> str:
        """Return what tables call it."""
        if self.method == "gptq":
            return f"gptq{'-act-order' * self.act_order} {self.bits} bits"
        return f"{self.method} {self.pattern or self.sparsity}"


CASES = (
    Case(method="gptq", bits=4),
    Case(method="gptq", bits=4, act_order=True),
    Case(method="wanda"),
    Case(method="wanda", pattern="2:4"),
    Case(method="sparsegpt"),
    Case(method="sparsegpt", pattern="2:4"),
)
ARMS = ("own dense", "peer")
DEFAULT = "own compressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Hold what one arm took and gave: seconds, and bytes as `solver_cost_measure.Watch` reports them."""

    seconds: float
    cpu: float
    peak: int
    own: int
    anonymous: int
    perplexity: float


class Bench:
    """Run arms on one model and measure what they give."""

    def __init__(self, args: argparse.Namespace, home: Path) -> None:
        """Load the dense model and choose the held-out windows."""
        self.args = args
        self.home = home
        self.directory = args.model.resolve()
        self.model: LoadedModel = load(ModelSpec(name="benchmarked", family="decoder", source=f"path:{self.directory}"), self.directory)
        self.model.fresh_()
        self.matrices: tuple[Matrix, ...] = tuple(m for m in find_matrices(self.model.module) if m.role in {"attention", "ffn"})
        self.dense = {m.module: self.model.module.get_parameter(m.parameter).detach().clone() for m in self.matrices}
        self.data = {seed: prepare(self.calibration(seed), self.model) for seed in range(args.seeds)}
        seen = {tuple(sample.input_ids) for data in self.data.values() for sample in data.samples}
        self.held_out = self._held_out(seen)

    def calibration(self, seed: int) -> Calibration:
        """Return the settings of a seed."""
        return Calibration(source="shipped", count=self.args.count, length=self.args.length, seed=seed, propagate="dense")

    def _held_out(self, seen: set[Ids]) -> list[Ids]:
        tokenizer: Any = self.model.tokenizer
        ids = tokenizer.encode(read_text(self.calibration(0)), add_special_tokens=False)
        length = self.args.length
        windows = [w for start in range(0, len(ids) - length + 1, length) if (w := tuple(ids[start : start + length])) not in seen]
        return windows[:: len(windows) // self.args.held_out][: self.args.held_out]

    @torch.inference_mode()
    def perplexity(self, weights: Weights) -> float:
        """Return exp of the mean negative log-likelihood of the held-out windows."""
        for matrix in self.matrices:
            self.model.module.get_parameter(matrix.parameter).data = weights[matrix.module].float()
        total, n = 0.0, 0
        for start in range(0, len(self.held_out), 4):
            ids = torch.tensor(self.held_out[start : start + 4])
            logits = self.model.module(input_ids=ids, use_cache=False).logits[:, :-1]
            total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum"))
            n += ids[:, 1:].numel()
        return float(torch.tensor(total / n).exp())

    def run(self, case: Case, arm: str, seed: int) -> tuple[Run, Weights]:
        """Run one arm in a process of its own."""
        ids = self.home / f"{seed}.json"
        ids.write_text(json.dumps([sample.input_ids for sample in self.data[seed].samples]))
        batch = len(make_batches(self.data[seed].samples)[0]["input_ids"])
        shared = {"model": str(self.directory), "ids": str(ids), "out": str(self.home), "threads": self.args.threads, "batch": batch}
        own = {"seed": seed, "count": self.args.count, "length": self.args.length, "propagate": arm.rpartition(" ")[2]}
        job = self.home / "job.json"
        job.write_text(json.dumps({**asdict(case), **shared, **own}))
        python, side = (self.args.peer_python.absolute(), "peer") if arm == "peer" else (sys.executable, "own")
        threads = {"OMP_NUM_THREADS": str(self.args.threads), "TOKENIZERS_PARALLELISM": "false"}
        with (self.home / "log").open("w") as log:
            command = [python, "-m", f"benchmarks.solver_cost_{side}", job]
            done = subprocess.run(command, cwd=ROOT, env={**os.environ, **threads}, stdout=log, stderr=log, check=False)  # noqa: S603
        if done.returncode:
            sys.exit(f"{arm}, {case.name}: got exit status {done.returncode}, expected 0:\n{(self.home / 'log').read_text()[-2000:]}")
        weights = load_file(self.home / "weights.safetensors")
        report = json.loads((self.home / "report.json").read_text())
        return Run(**report, perplexity=self.perplexity(weights)), weights

    def hessians(self, seed: int) -> dict[str, torch.Tensor]:
        """Return name of a module -> Hessian of the dense model's inputs."""
        self.perplexity_of_dense()
        moments: dict[str, Moments] = {}

        def add(key: str, x: torch.Tensor) -> None:
            moments.setdefault(key, Moments(x.shape[-1])).add(x)

        keys = run_dense(self.model.module, make_batches(self.data[seed].samples), self.matrices, add)
        whole = {key: found.hessian for key, found in moments.items()}
        return {m.module: whole[keys[m.name]] for m in self.matrices}

    def perplexity_of_dense(self) -> float:
        """Put the dense weights back and return their perplexity."""
        return self.perplexity(self.dense)


def compare(dense: Weights, own: Weights, peer: Weights, hessians: Weights, *, masks: bool) -> str:
    """Return in one line how layer errors, and masks where they should be equal, compare."""
    errors = {name: [output_error(dense[name], side[name].float(), h) for side in (own, peer)] for name, h in hessians.items()}
    ratios = sorted(mine / theirs for mine, theirs in errors.values())
    totals = [sum(pair[side] for pair in errors.values()) for side in (0, 1)]
    text = (
        f"layer error, own / peer: sum {totals[0] / totals[1]:.4f}, median {statistics.median(ratios):.4f}, largest {ratios[-1]:.4f},"
        f" no worse in {sum(r <= 1 for r in ratios)} of {len(ratios)}"
    )
    if masks:
        other = sum(int(((own[name] == 0) != (peer[name] == 0)).sum()) for name in dense)
        rows = sum(int(((own[name] == 0) != (peer[name] == 0)).any(dim=1).sum()) for name in dense)
        text += f"; {other} of {sum(w.numel() for w in dense.values())} weights masked otherwise, in {rows} rows"
    return text


def table(case: Case, runs: dict[str, list[Run]], size: int) -> str:
    """Return one row per arm: medians over the seeds, and ratios of the peer's time to ours of the same seed."""
    rows = []
    for arm, found in runs.items():
        ratio = [peer.seconds / mine.seconds for mine, peer in zip(found, runs["peer"], strict=True)]
        cpu = [peer.cpu / mine.cpu for mine, peer in zip(found, runs["peer"], strict=True)]
        values = ", ".join(f"{run.perplexity:.3f}" for run in found)
        rows.append(
            f"| {case.name} | {arm} | {statistics.median(r.seconds for r in found):.1f} | {statistics.median(r.cpu for r in found):.1f} |"
            f" {statistics.median(ratio):.2f} | {statistics.median(cpu):.2f} | {values} |"
            f" {' | '.join(f'{max(getattr(r, part) for r in found) / size:.2f}' for part in ('peak', 'own', 'anonymous'))} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Print a table of all cases, and how weights compare on the first seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of a decoder, as `kick fetch` prints it")
    parser.add_argument("--peer-python", type=Path, required=True, help="of an environment made of peer-requirements.txt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--held-out", type=int, default=32, help="windows")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--compressed", action="store_true", help="run our default, propagate = compressed, beside")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with TemporaryDirectory() as home:
        bench = Bench(args, Path(home))
        size = 4 * bench.model.n_total
        print(f"dense perplexity {bench.perplexity_of_dense():.3f} over {args.held_out} windows of {args.length}", flush=True)
        arms, lines = (*ARMS, *([DEFAULT] if args.compressed else [])), []
        for case in (case for case in CASES if args.only in case.name):
            runs: dict[str, list[Run]] = {arm: [] for arm in arms}
            for seed in range(args.seeds):
                kept = {}
                for arm in arms if seed % 2 == 0 else arms[::-1]:
                    found, kept[arm] = bench.run(case, arm, seed)
                    runs[arm].append(found)
                    cost = f"{found.seconds:.1f} s, {found.cpu:.1f} s cpu, load {os.getloadavg()[0]:.1f}"
                    print(f"# {case.name}, {arm}, seed {seed}: {cost}, perplexity {found.perplexity:.3f}", flush=True)
                if seed == 0:
                    masks = case.method == "wanda"
                    print(f"# {compare(bench.dense, kept['own dense'], kept['peer'], bench.hessians(0), masks=masks)}", flush=True)
            lines.append(table(case, runs, size))
            print(lines[-1], flush=True)
    memory = "peak / dense | without libraries | of it anonymous"
    print(f"\n| solver | arm | s | cpu s | peer s / s | peer cpu / cpu | perplexity by seed | {memory} |")
    print("|---|---|---:|---:|---:|---:|---|---:|---:|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
