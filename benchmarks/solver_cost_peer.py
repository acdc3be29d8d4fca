"""Compress one model with llm-compressor as a job says; run by `solver_cost.py`, in an environment of its own.

    python -m benchmarks.solver_cost_peer JOB.json

Nothing of pytest-kick is imported. The peer is given the same token ids in batches of the same size, and its `basic` pipeline: one pass
of the dense model for all matrices, as our `propagate = "dense"`. Timed is `oneshot` alone, without loading and saving.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]
import torch
from llmcompressor import oneshot  # type: ignore[import-not-found]
from llmcompressor.modifiers.gptq import GPTQModifier  # type: ignore[import-not-found]
from llmcompressor.modifiers.pruning import WandaPruningModifier  # type: ignore[import-not-found]
from llmcompressor.modifiers.pruning.sparsegpt import SparseGPTModifier  # type: ignore[import-not-found]
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.solver_cost_measure import Watch


def recipe(job: dict[str, Any]) -> Any:  # noqa: ANN401 - a modifier of either kind
    """Return the modifier of a job; the vocabulary layer stays as it is."""
    if job["method"] == "gptq":
        weights = {"num_bits": job["bits"], "type": "int", "symmetric": True, "strategy": "group", "group_size": job["group"]}
        order = "static" if job["act_order"] else None
        return GPTQModifier(config_groups={"all": {"targets": ["Linear"], "weights": weights}}, actorder=order, ignore=["lm_head"])
    kind = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}[job["method"]]
    settings = {"mask_structure": job["pattern"]} if job["pattern"] else {}
    return kind(sparsity=job["sparsity"], targets=["Linear"], ignore=["re:.*lm_head"], **settings)


def main() -> None:
    """Compress, and write the weights and what they cost."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    samples = json.loads(Path(job["ids"]).read_text())
    watch = Watch()
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    model.config._name_or_path = job["model"]  # noqa: SLF001 - it reads the configuration from there again
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in samples]
    with watch:
        oneshot(
            model=model,
            processor=tokenizer,
            dataset=datasets.Dataset.from_list(rows),
            recipe=recipe(job),
            pipeline="basic",
            batch_size=job["batch"],
            num_calibration_samples=len(rows),
            max_seq_length=len(samples[0]),
            shuffle_calibration_samples=False,
        )
    report = watch.report()
    found = {name: module.weight.detach().float().contiguous() for name, module in model.named_modules() if name.endswith("_proj")}
    save_file(found, Path(job["out"]) / "weights.safetensors")
    (Path(job["out"]) / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
