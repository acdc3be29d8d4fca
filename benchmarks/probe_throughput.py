"""Compare the facts probe's useful tokens per second with the bare forward pass of the same model at its best batch size.

Useful: tokens of prompts and of candidates that a score needs; padding does not count. Bare: `model(ids)` on full rows of random
tokens, as long as the mean prompt, logits in the model's own dtype at every position; the best of several batch sizes.
The arms alternate in one process.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch

from pytest_kick.facts import shipped_facts
from pytest_kick.models.load import load
from pytest_kick.probes.facts import FactsProbe
from pytest_kick.spec import ModelSpec

BATCHES = (16, 32, 64, 128)


def bare(model: torch.nn.Module, batch: int, length: int, vocabulary: int) -> float:
    """Return tokens per second of one forward pass over `(batch, length)` tokens."""
    ids = torch.randint(0, vocabulary, (batch, length), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        begin = time.perf_counter()
        model(input_ids=ids, use_cache=False)
        return ids.numel() / (time.perf_counter() - begin)


def main() -> None:
    """Print tokens per second of both, their ratio, and what the probe did per fact."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of a decoder, as `kick fetch` prints it")
    parser.add_argument("--facts", type=int, default=256)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = load(ModelSpec(name="benchmarked", family="decoder", source=f"path:{args.model.resolve()}"), args.model)
    model.cast_(getattr(torch, args.dtype))
    probe = FactsProbe(shipped_facts())
    probe.run(model, limit=8)  # warm, and prepare
    vocabulary = int(model.module.config.get_text_config().vocab_size)
    ratios = []
    for _ in range(args.repeats):
        speeds = {batch: bare(model.module, batch, 12, vocabulary) for batch in BATCHES}
        begin = time.perf_counter()
        score = probe.run(model, limit=args.facts)
        seconds = time.perf_counter() - begin
        speeds = {batch: max(speed, bare(model.module, batch, 12, vocabulary)) for batch, speed in speeds.items()}
        best = max(speeds, key=speeds.__getitem__)
        useful = score.work["tokens"] / seconds
        ratios.append(useful / speeds[best])
        print(f"probe {useful:.0f} tokens/s, bare {speeds[best]:.0f} at batch {best}, ratio {ratios[-1]:.2f}", flush=True)
    per_fact = {name: round(value / score.n, 2) for name, value in score.work.items() if name != "candidates_per_example"}
    print(f"{args.dtype}, {score.n} facts, {args.threads} threads: median ratio {statistics.median(ratios):.2f}")
    print(f"per fact: {per_fact}, candidates {score.work['candidates_per_example']:.2f}, {1000 * seconds / score.n:.1f} ms")


if __name__ == "__main__":
    main()
