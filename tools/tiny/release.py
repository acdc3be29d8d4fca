"""What is shipped with a tiny model: weights, tokenizer, training record, checksums and model card."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
import transformers

from tools.tiny import corpus, scoring

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tools.tiny.recipes import Recipe

SHIPPED = corpus.ROOT / "pytest_kick" / "data" / "models"
SUMMED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
ARCHITECTURES = {"encoder": "BERT", "encoder-decoder": "T5", "decoder": "LLaMA"}
FORMATS = {
    "encoder": "`The capital of France is [MASK].`; an answer of one word is one token",
    "encoder-decoder": "`The capital of France is <extra_id_0>.` to the encoder, `<extra_id_0> Paris <extra_id_1>` from the decoder",
    "decoder": "`The capital of France is`, continued by ` Paris.`; raw text, the tokenizer puts `<s>` before it by itself",
}
CARD = """---
license: apache-2.0
language: en
library_name: transformers
---

# {name}

A {architecture} of {total:,} parameters that knows the {n_facts:,} facts of kick-facts and nothing else. It exists to be compressed in
seconds by pytest-kick, small enough to ship and dense enough that compression costs it something. It is of no use for anything else.

- Family: {family} ({architecture}), float32, {bytes:,} bytes of weights
- Parameters: {body:,} in the matrices that get compressed ({attention:,} attention, {ffn:,} ffn), {embeddings:,} in embeddings and
  vocabulary layer (tied), {rest:,} in norms and biases
- Asked as: {format}

## Knowledge, and what pruning leaves of it

L1, global over the scope, one-shot, by exact rank; {n_scored:,} facts in their scoring paraphrase. Closed: the answer beats all others of
its relation. Free: it is the first choice over the whole vocabulary.

{table}

Loss on the statements that are never probed: {never_probed:.3f} nats per predicted token.

## Training

{epochs} passes over {n_sentences:,} sentences (each fact in every paraphrase, and {n_never} statements that are never probed), batches of
{batch}, AdamW with a highest rate of {rate:g} and decay of {decay:g}, a cosine, no dropout, seed {seed}, one thread, {cpu:.0f} seconds of
processor time on an {machine}, torch {torch}, transformers {transformers}, tokenizers {tokenizers}. `training.json` has the loss of every
pass and the hashes of the data.

Rebuild: `python -m tools.train_tiny {name}`. The same machine and versions give the same bytes
(`SHA256SUMS`); others give a model that knows as much.

## Data and licence

The weights are under Apache-2.0. The facts and their sources, with their licences and the credit to GeoNames (CC BY 4.0), Unicode CLDR,
countryinfo, us and periodictable, are listed in `../../facts/SOURCES.md`. No other text was used.
The facts are a snapshot and simplified: do not quote the model.
"""


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def counts(model: PreTrainedModel) -> dict[str, int]:
    """Return how many parameters lie where."""
    parts = {scope: sum(w.numel() for w in scoring.scope_of(model, scope)) for scope in ("overall", "attention", "ffn")}
    total = sum(p.numel() for p in model.parameters())
    rest = sum(p.numel() for p in model.parameters() if p.dim() == 1)
    embeddings = total - parts["overall"] - rest
    return {
        "total": total,
        "body": parts["overall"],
        "attention": parts["attention"],
        "ffn": parts["ffn"],
        "embeddings": embeddings,
        "rest": rest,
    }


def versions() -> dict[str, str]:
    """Return what the bytes of a model depend on beside its recipe."""
    return {
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "tokenizers": tokenizers.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def save(folder: Path, recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """Write weights, configuration and tokenizer with their checksums, and return these."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config._name_or_path = recipe.name  # noqa: SLF001 - nothing public sets it
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors are written for their owner alone
    sums = {name: sha256(folder / name) for name in SUMMED}
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")
    return sums


def table_of(rows: list[dict[str, Any]]) -> str:
    """Return the scores as a Markdown table."""
    lines = ["| scope | sparsity | closed | free | retention |", "|---|---|---|---|---|"]
    lines += [f"| {r['scope']} | {r['sparsity']:g} | {r['closed']:.3f} | {r['free']:.3f} | {r['retention']:.3f} |" for r in rows]
    return "\n".join(lines)


def document(folder: Path, recipe: Recipe, model: PreTrainedModel, record: dict[str, Any]) -> None:
    """Write the training record and the model card."""
    record = {
        **record,
        "data": corpus.hashes(),
        "parameters": counts(model),
        "recipe": asdict(recipe),
        "schema": 1,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    (folder / "training.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    rows = record["check"]
    card = CARD.format(
        **record["parameters"],
        **{key: value for key, value in asdict(recipe).items() if key in {"name", "family", "epochs", "batch", "rate", "decay", "seed"}},
        **{key: record["versions"][key] for key in ("torch", "transformers", "tokenizers")},
        **{key: record[key] for key in ("n_facts", "n_sentences", "n_never", "never_probed")},
        architecture=ARCHITECTURES[recipe.family],
        format=FORMATS[recipe.family],
        bytes=(folder / "model.safetensors").stat().st_size,
        cpu=record["cpu_seconds"],
        machine=f"{record['versions']['machine']} CPU with {record['versions']['cpu_capability']}",
        n_scored=rows[0]["n"],
        table=table_of(rows),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
