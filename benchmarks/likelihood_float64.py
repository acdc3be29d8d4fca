"""Hold log-likelihoods in float32, ours and those of a plain pass, against float64: which of the two is off where they differ?

The longest options of PIQA after their questions, each alone in its pass but ours; read from a directory laid out as for `--kick-data`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from pytest_kick.models.load import load
from pytest_kick.probes.likelihood import Likelihood, encode_pairs
from pytest_kick.spec import ModelSpec


@torch.inference_mode()
def plain(module: torch.nn.Module, pairs: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> np.ndarray:
    """Return the log-likelihood of each target, in the module's dtype up to the sum over tokens."""
    found = []
    for context, target in pairs:
        logits = module(input_ids=torch.tensor([[*context, *target]])[:, :-1], use_cache=False).logits[0, -len(target) :]
        found.append(torch.log_softmax(logits, -1).gather(1, torch.tensor(target)[:, None]).double().sum().item())
    return np.asarray(found)


def main() -> None:
    """Print how far each is from float64."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="directory of a decoder, as `kick fetch` prints it")
    parser.add_argument("--data", type=Path, required=True, help="directory laid out as for --kick-data")
    parser.add_argument("--options", type=int, default=80)
    args = parser.parse_args()
    model = load(ModelSpec(name="benchmarked", family="decoder", source=f"path:{args.model.resolve()}"), args.model)
    rows = [json.loads(line) for line in (args.data / "piqa" / "valid.jsonl").read_text(encoding="utf-8").splitlines()[:300]]
    texts = [(f"Question: {row['goal']}\nAnswer:", f" {row[name]}") for row in rows for name in ("sol1", "sol2")]
    pairs = sorted(encode_pairs(model, texts), key=lambda pair: len(pair[1]), reverse=True)[: args.options]
    ours, theirs = Likelihood(model).score(pairs).logprob, plain(model.module, pairs)
    exact = plain(model.module.double(), pairs)
    for name, one, other in (
        ("ours, float64", ours, exact),
        ("plain float32, float64", theirs, exact),
        ("ours, plain float32", ours, theirs),
    ):
        print(f"{name}: largest difference {np.abs(one - other).max():.1e}, mean {np.abs(one - other).mean():.1e}")
    print(f"{len(pairs)} options of up to {max(len(target) for _, target in pairs)} tokens, log-likelihoods from {exact.min():.1f}")


if __name__ == "__main__":
    main()
