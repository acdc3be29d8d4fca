"""Tasks of lm-eval over made-up local files, and tiny models with a tokenizer that lm-eval's own model takes."""

from __future__ import annotations

import json
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers as hf
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pytest_kick.models.loaded import LoadedModel
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.lm_eval_probe import LmEvalProbe

if TYPE_CHECKING:
    from pathlib import Path

WORDS = ["<s>", "</s>", "<unk>", "<pad>", "a", *(f"w{number}" for number in range(20))]
COMMON: dict[str, Any] = {"vocab_size": len(WORDS), "pad_token_id": 3, "bos_token_id": 0, "eos_token_id": 1}
WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32}
T5 = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 3, "n_positions": 32}
KINDS: dict[str, tuple[str, Any, Any]] = {
    "llama": ("decoder", hf.LlamaForCausalLM, hf.LlamaConfig(**COMMON, **WIDE, num_key_value_heads=1)),
    "gpt2": ("decoder", hf.GPT2LMHeadModel, hf.GPT2Config(**COMMON, n_embd=16, n_layer=2, n_head=2, n_positions=32)),
    "t5": ("encoder-decoder", hf.T5ForConditionalGeneration, hf.T5Config(**COMMON, **T5)),
}
ACC = {"metric": "acc", "aggregation": "mean", "higher_is_better": True}
MATCH = {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
CHOICE: dict[str, Any] = {
    "task": "made_choice",
    "output_type": "multiple_choice",
    "test_split": "test",
    "fewshot_split": "train",
    "doc_to_text": "a {{question}}",
    "doc_to_choice": "options",
    "doc_to_target": "gold",
    "metric_list": [ACC, {**ACC, "metric": "acc_norm"}],
    "metadata": {"version": 2.0},
}
WRITTEN: dict[str, Any] = {
    "task": "made_written",
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "a {{question}}",
    "doc_to_target": "{{options[gold]}}",
    "generation_kwargs": {"until": ["w3"], "max_gen_toks": 4},
    "metric_list": [MATCH],
    "filter_list": [
        {"name": "strict-match", "filter": [{"function": "take_first"}]},
        {"name": "first-word", "filter": [{"function": "regex", "regex_pattern": r"(w\d+)"}, {"function": "take_first"}]},
    ],
}
ROLLING: dict[str, Any] = {
    "task": "made_rolling",
    "output_type": "loglikelihood_rolling",
    "test_split": "test",
    "doc_to_text": "",
    "doc_to_target": "{{question}}",
    "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}],
}


def rows(n: int, start: int = 0, words: int = 5) -> list[dict[str, Any]]:
    """Return questions of `words` words with two to four options of one to three words."""

    def text(seed: int, count: int) -> str:
        return " ".join(f"w{word}" for word in np.random.default_rng(seed).integers(0, 20, count))

    made = []
    for number in range(start, start + n):
        options = [text(number + 11 * option, 1 + (number + option) % 3) for option in range(2 + number % 3)]
        options = list(dict.fromkeys(options))
        made.append({"question": text(number, words + number % 4), "options": options, "gold": number % len(options)})
    return made


def write_task(folder: Path, config: dict[str, Any], n: int = 12, **changes: Any) -> Path:
    """Write a YAML and its data beside it, and return the path of the YAML."""
    words = changes.pop("words", 5)
    for split, start, count in (("test", 0, n), ("train", 100, 6)):
        lines = map(json.dumps, rows(count, start, words))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "test.jsonl", "train": "train.jsonl"}}}
    whole = {key: value for key, value in {**source, **config, **changes}.items() if value is not None}
    path = folder / f"{whole['task']}.yaml"
    path.write_text(yaml.safe_dump(whole), encoding="utf-8")
    return path


def make_tokenizer(*, bos: bool) -> hf.PreTrainedTokenizerFast:
    """Return a word-level tokenizer; `bos` puts `<s>` before plain text."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))  # noqa: S106 - no secret
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **special)


def model_of(kind: str) -> LoadedModel:
    """Return a tiny random model of a window of 32 tokens, wide enough that options differ by nats; `llama` opens texts with `<s>`."""
    family, architecture, config = KINDS[kind]
    torch.manual_seed(0)
    module = architecture(config)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return LoadedModel(name=kind, family=family, module=module, tokenizer=make_tokenizer(bos=kind == "llama"))


def context_of(task: str, folder: Path, **changes: Any) -> ProbeContext:
    """Return what the probe of a task is made from."""
    params = {key: changes.pop(key) for key in ("shots", "limit", "seed") if key in changes}
    outside = (("task", task),) if task.startswith("path:") else ()
    name = task.rpartition("/")[2].removesuffix(".yaml")
    spec = ProbeSpec(name="lm_eval", params=(("task", name), *params.items()), outside=outside)
    return ProbeContext(spec=spec, cache=folder / "cache", **changes)


def probe_of(path: Path, **changes: Any) -> LmEvalProbe:
    """Return the probe of a YAML."""
    return LmEvalProbe(context_of(f"path:{path}", path.parent, **changes))


def write_index(folder: Path, names: dict[str, str]) -> None:
    """Write an index of lm-eval's tasks as the cache keeps it: name -> file, relative to lm-eval's tasks."""
    path = folder / "cache" / "lm_eval" / f"index-{metadata.version('lm-eval')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: ["TASK", file, []] for name, file in names.items()}), encoding="utf-8")
