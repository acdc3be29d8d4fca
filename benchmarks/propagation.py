"""Measure what `propagate = "compressed"` keeps more than `"dense"`: the same method, level, data and facts, paired fact by fact.

    python benchmarks/propagation.py [MODEL ...] [--limit 1000] [--dtype bfloat16]

Without models: SmolLM2 and the shipped ones. SmolLM2 is calibrated on 32 windows of 256 tokens of the shipped text, the tiny models on 256
of the statements that no probe asks. Prints a table of retentions and of their difference, with the interval that the claims use.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_kick import stats
from pytest_kick.catalog import catalog
from pytest_kick.claims.cell import Cell, cell_from
from pytest_kick.claims.panel import panels
from pytest_kick.runner import Runner, RunSettings
from pytest_kick.spec import DTYPES, Case, CompressionSpec, CompressionStep

MODELS = ("smollm2-135m", "tiny-encoder", "tiny-encoder-decoder", "tiny-decoder")
LEVELS = (("wanda", 0.5), ("sparsegpt", 0.5), ("gptq", 3), ("gptq", 4))
TINY_LEVELS = (*LEVELS, ("wanda", 0.6), ("sparsegpt", 0.6), ("gptq", 2))
TEXT = (("count", 32), ("length", 256))
STATEMENTS = (("source", "statements"), ("count", 256), ("length", 32))
CONFIDENCE = 0.95


def arms(model: str) -> list[tuple[CompressionSpec, CompressionSpec]]:
    """Return the pairs of compressions of a model: compressed, dense."""
    levels, data = (TINY_LEVELS, STATEMENTS) if model.startswith("tiny") else (LEVELS, TEXT)
    return [(spec(method, level, data), spec(method, level, (*data, ("propagate", "dense")))) for method, level in levels]


def spec(method: str, level: float, params: tuple[tuple[str, str | int], ...]) -> CompressionSpec:
    """Return one step on the whole body."""
    return CompressionSpec(steps=(CompressionStep(method=method, scope="overall", level=level, params=params),))


def main() -> None:
    """Print one row per method, level and model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--limit", type=int, default=1000, help="facts")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path(".kick/cache"))
    args = parser.parse_args()
    runner = Runner(RunSettings(cache=args.cache, threads=args.threads, limit=args.limit))
    print("| model | method | compressed | dense | difference [90% interval] | facts only compressed / only dense knows |")
    print("|---|---|---:|---:|---|---:|")

    def measure(name: str, compression: CompressionSpec) -> Cell:
        case = Case(suite="propagation", model=catalog()[name], compression=compression, probes=("facts",))
        cell = cell_from(name, case.model.family, compression, runner.run_case(case, args.dtype))
        assert cell is not None
        return cell

    for name in args.models:
        dense = measure(name, CompressionSpec())
        for specs in arms(name):
            x, y = (measure(name, found) for found in specs)
            panel = panels([dense, x, y], CONFIDENCE)[0]
            contrast = panel.contrast(x, y)
            interval = contrast.interval(CONFIDENCE)
            step = specs[0].steps[0]
            kept = [stats.retention(counts, contrast.floor) for counts in (contrast.x, contrast.y)]
            print(
                f"| {name} | {step.method} {step.level:g} | {kept[0]:.3f} | {kept[1]:.3f} | {contrast.estimate:+.3f}"
                f" [{interval.low:+.3f}, {interval.high:+.3f}] | {contrast.pair.lost} / {contrast.pair.gained} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
