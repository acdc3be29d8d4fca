"""Tiny random models of several architectures."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

VOCABULARY = 40
WORDS = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", *(f"w{i}" for i in range(20)), "a"]
COMMON = {"vocab_size": VOCABULARY, "pad_token_id": 3}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
LLAMA = {**BERT, "num_key_value_heads": 1, "max_position_embeddings": 32}
T5 = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 3}
CONFIGS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "bert": ("encoder", "BertConfig", "BertForMaskedLM", {**BERT, "max_position_embeddings": 32}),
    "albert": ("encoder", "AlbertConfig", "AlbertForMaskedLM", {**BERT, "embedding_size": 8, "max_position_embeddings": 32}),
    "t5": ("encoder-decoder", "T5Config", "T5ForConditionalGeneration", T5),
    "llama": ("decoder", "LlamaConfig", "LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": True}),
    "llama-untied": ("decoder", "LlamaConfig", "LlamaForCausalLM", {**LLAMA, "tie_word_embeddings": False}),
    "gpt2": ("decoder", "GPT2Config", "GPT2LMHeadModel", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}),
}


def make_tokenizer(words: list[str] = WORDS, *, bos: bool = False) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer; `bos` puts `<s>` before plain text."""
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos:
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def make_module(kind: str) -> transformers.PreTrainedModel:
    """Return a random model, always the same one for a kind."""
    _, config, cls, options = CONFIGS[kind]
    torch.manual_seed(0)
    return getattr(transformers, cls)(getattr(transformers, config)(**{**COMMON, **options})).eval()
