"""Small random models of every kind of layer, as cells get them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers as hf
from made_zoo import StandInTokenizer, shipped

from pytest_kick.models.loaded import LoadedModel

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDE = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GQA = {**WIDE, **SPECIAL, "num_key_value_heads": 2, "tie_word_embeddings": True}
T5 = {"vocab_size": 97, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"}
GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, **SPECIAL}

KINDS: dict[str, tuple[Any, Any, dict[str, Any], str]] = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, GQA, "decoder"),
    "bert": (hf.BertForMaskedLM, hf.BertConfig, WIDE, "encoder"),
    "albert": (hf.AlbertForMaskedLM, hf.AlbertConfig, {**WIDE, "embedding_size": 16}, "encoder"),
    "t5": (hf.T5ForConditionalGeneration, hf.T5Config, {**T5, "decoder_start_token_id": 0}, "encoder-decoder"),
    "gpt2": (hf.GPT2LMHeadModel, hf.GPT2Config, GPT2, "decoder"),
    "neox": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, {**WIDE, **SPECIAL}, "decoder"),
    "mixtral": (hf.MixtralForCausalLM, hf.MixtralConfig, {**GQA, "num_local_experts": 3}, "decoder"),
}


@functools.cache
def build(kind: str) -> LoadedModel:
    """Build a model once per process."""
    cls, config, arguments, family = KINDS[kind]
    torch.manual_seed(3)
    module = cls(config(**arguments))
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return LoadedModel(name=kind, family=family, module=module, tokenizer=StandInTokenizer())  # type: ignore[arg-type]


@pytest.fixture
def loaded() -> Callable[[str], LoadedModel]:
    """Return a function that gives a model of a kind, dense."""

    def get(kind: str) -> LoadedModel:
        model = build(kind)
        model.fresh_()
        return model

    return get


@pytest.fixture
def logits() -> Callable[[LoadedModel], torch.Tensor]:
    """Return a function that runs a fixed input through a model, `(batch, tokens, vocabulary)` float32."""

    def run(model: LoadedModel) -> torch.Tensor:
        ids = torch.arange(5, 29).reshape(2, 12)
        extra = {"decoder_input_ids": ids[:, :5]} if model.family == "encoder-decoder" else {}
        with torch.no_grad():
            return torch.as_tensor(model.module(input_ids=ids, **extra).logits).float()

    return run


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory for dense passes."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["tiny-encoder", "tiny-encoder-decoder", "tiny-decoder"])
def model(request: pytest.FixtureRequest, cache: Path) -> LoadedModel:
    """Return a shipped model of each family, dense."""
    found = shipped(request.param, cache)
    found.fresh_()
    return found
