"""A small random model of every architecture that scopes are known for, with biases and norms that matter, three blocks deep."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

import torch
import transformers as hf
from torch import nn

from pytest_kick.catalog import catalog
from pytest_kick.models.cache import ModelCache
from pytest_kick.models.loaded import LoadedModel

if TYPE_CHECKING:
    from pathlib import Path

D, F, V, DEPTH, TOKENS = 32, 48, 97, 3, 12
SPECIAL = {"vocab_size": V, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE = {**SPECIAL, "hidden_size": D, "num_hidden_layers": DEPTH, "num_attention_heads": 4, "intermediate_size": F}
GQA = {**WIDE, "num_key_value_heads": 2, "head_dim": 8}
T5 = {"vocab_size": V, "d_model": D, "d_kv": 8, "d_ff": F, "num_layers": DEPTH, "num_heads": 4, "decoder_start_token_id": 0}
BART = {
    **SPECIAL, "d_model": D, "encoder_layers": DEPTH, "decoder_layers": DEPTH, "encoder_attention_heads": 4,
    "decoder_attention_heads": 2, "encoder_ffn_dim": F, "decoder_ffn_dim": F,
}  # fmt: skip
ZOO: dict[str, tuple[str, dict[str, Any], str]] = {
    "BertForMaskedLM": ("BertConfig", WIDE, "encoder"),
    "RobertaForMaskedLM": ("RobertaConfig", WIDE, "encoder"),
    "DistilBertForMaskedLM": (
        "DistilBertConfig", {"vocab_size": V, "dim": D, "n_layers": DEPTH, "n_heads": 4, "hidden_dim": F}, "encoder",
    ),
    "AlbertForMaskedLM": ("AlbertConfig", {**WIDE, "embedding_size": 16}, "encoder"),
    "ElectraForMaskedLM": ("ElectraConfig", {**WIDE, "embedding_size": 16}, "encoder"),
    "ModernBertForMaskedLM": ("ModernBertConfig", {**WIDE, "cls_token_id": 1, "sep_token_id": 2}, "encoder"),
    "T5ForConditionalGeneration": ("T5Config", T5, "encoder-decoder"),
    "T5ForConditionalGeneration gated": (
        "T5Config", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "encoder-decoder",
    ),
    "BartForConditionalGeneration": ("BartConfig", BART, "encoder-decoder"),
    "LlamaForCausalLM": ("LlamaConfig", GQA, "decoder"),
    "MistralForCausalLM": ("MistralConfig", GQA, "decoder"),
    "Qwen2ForCausalLM": ("Qwen2Config", GQA, "decoder"),
    "Qwen3ForCausalLM": ("Qwen3Config", GQA, "decoder"),
    "GemmaForCausalLM": ("GemmaConfig", {**GQA, "head_dim": 16}, "decoder"),
    "Gemma2ForCausalLM": ("Gemma2Config", GQA, "decoder"),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", {**GQA, "sliding_window": 4, "layer_types": [
        "full_attention", "sliding_attention", "full_attention"]}, "decoder"),
    "PhiForCausalLM": ("PhiConfig", {**WIDE, "num_key_value_heads": 2}, "decoder"),
    "Phi3ForCausalLM": ("Phi3Config", GQA, "decoder"),
    "OPTForCausalLM": (
        "OPTConfig", {**SPECIAL, "hidden_size": D, "num_hidden_layers": DEPTH, "num_attention_heads": 4, "ffn_dim": F,
                      "word_embed_proj_dim": 16}, "decoder",
    ),
    "GPT2LMHeadModel": ("GPT2Config", {**SPECIAL, "n_embd": D, "n_layer": DEPTH, "n_head": 4, "n_inner": F}, "decoder"),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", WIDE, "decoder"),
    "MixtralForCausalLM": ("MixtralConfig", {**GQA, "num_local_experts": 3}, "decoder"),
}  # fmt: skip
"""Class, and a word where there are two of it -> configuration class, arguments, family."""


class StandInTokenizer:
    """Answer what a LoadedModel asks of a tokenizer."""

    bos_token_id = None
    special_tokens_map: dict[str, str] = {}  # noqa: RUF012 - never written

    def get_vocab(self) -> dict[str, int]:
        """Return a vocabulary."""
        return {"a": 0}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return one token per character."""
        del add_special_tokens
        return [0 for _ in text]


def build(name: str, **changes: Any) -> nn.Module:
    """Build a model whose configuration has these changes, with weights large enough that no head is without effect."""
    config, arguments, _ = ZOO[name]
    torch.manual_seed(5)
    module: nn.Module = getattr(hf, name.split(maxsplit=1)[0])(getattr(hf, config)(**{**arguments, **changes})).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.15)
    return module


@functools.cache
def loaded(name: str) -> LoadedModel:
    """Build a model once per process; callers make it fresh."""
    return LoadedModel(name=name, family=ZOO[name][2], module=build(name), tokenizer=StandInTokenizer())  # type: ignore[arg-type]


def fresh(name: str) -> LoadedModel:
    """Return a model, dense."""
    model = loaded(name)
    model.fresh_()
    return model


def twin(model: LoadedModel) -> Any:
    """Return a copy of a dense module that shares nothing with it."""
    return copy.deepcopy(model.module)


@torch.no_grad()
def logits(module: Any) -> torch.Tensor:
    """Run a fixed input through a module, `(batch, tokens, vocabulary)`."""
    ids = torch.arange(5, 5 + 2 * TOKENS).reshape(2, TOKENS)
    extra = {"decoder_input_ids": ids[:, :5]} if module.config.is_encoder_decoder else {}
    return torch.as_tensor(module(input_ids=ids, **extra, use_cache=False).logits)


@functools.cache
def shipped(name: str, cache: Path) -> LoadedModel:
    """Load a shipped model once."""
    return ModelCache(cache).get(catalog()[name])
