"""Tiny random models of each family, and a plain scorer that runs one full pass per candidate."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from pytest_kick.facts import Fact, FactSet, Relation
from pytest_kick.models.loaded import LoadedModel

SYLLABLES = ("ka", "lo", "mi", "ren", "tu", "vo", "zi", "sha")
CITIES = ("kalo", "kalomi", "mi", "miren", "rentu", "zi", "zivo", "shakalo", "vomi", "tulo", "loka", "renzi")
COLOURS = ("red", "blue", "lomi")


def facts(n: int = 24) -> FactSet:
    """Return two relations: 12 answers of one to three tokens, some the beginning of others, and 3 answers."""
    relations = {
        "city": relation("city", "the city of [X] is [Y].", CITIES),
        "colour": relation("colour", "[X] has the colour [Y]!", COLOURS),
    }
    asked = [
        Fact(
            id=f"{name}/{number}",
            relation=name,
            subject=SYLLABLES[number % 8] * (1 + number % 3),
            answer=answers[number % len(answers)],
            aliases=("ren zi", "tutu") if number % 4 == 0 else (),
        )
        for number in range(n // 2)
        for name, answers in (("city", CITIES), ("colour", COLOURS))
    ]
    return FactSet(name="made-up", version="1", relations=MappingProxyType(relations), facts=tuple(asked))


def relation(name: str, template: str, answers: tuple[str, ...]) -> Relation:
    """Return a relation of one template."""
    return Relation(
        name=name, templates=(template,), scoring=0, answers=tuple(sorted(answers)), aliases=MappingProxyType({}), source="", license=""
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer of syllables with every special token that a family may ask for."""
    words = ["the", "city", "of", "is", "has", "colour", "red", "blue", ".", "!", "a", "1"]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<extra_id_0>", "<extra_id_1>", *words, *SYLLABLES]
    vocabulary += [f"##{syllable}" for syllable in SYLLABLES]
    table = {token: number for number, token in enumerate(vocabulary)}
    made = Tokenizer(models.WordPiece(table, unk_token="[UNK]"))  # noqa: S106 - no secret
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in ("<extra_id_0>", "<extra_id_1>")])
    made.post_processor = processors.BertProcessing(("[SEP]", table["[SEP]"]), ("[CLS]", table["[CLS]"]))
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **{f"{name}_token": token for name, token in special.items()})


COMMON: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "mistral": ("Mistral", {"sliding_window": 32}),
    "mistral-narrow": ("Mistral", {"sliding_window": 4}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", {"query_pre_attn_scalar": 8, "final_logit_softcapping": 3.0}),
    "gemma3": ("Gemma3", {"query_pre_attn_scalar": 8, "sliding_window": 32}),
    "phi": ("Phi", {}),
    "phi3": ("Phi3", {}),
    "mixtral": ("Mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "opt": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "gpt2": ("GPT2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    "gpt_neox": ("GPTNeoX", {}),
    "bloom": ("Bloom", {"n_layer": 2, "n_head": 4}),
}


def decoder(kind: str = "llama", seed: int = 0) -> LoadedModel:
    """Return a random decoder."""
    prefix, extra = DECODERS[kind]
    config_name = f"{prefix}TextConfig" if kind == "gemma3" else f"{prefix}Config"
    values = {**COMMON, **extra, "vocab_size": len(tokenizer())}
    if prefix in {"GPT2", "Bloom", "OPT", "GPTNeoX"}:
        values = {key: value for key, value in values.items() if key not in {"head_dim", "num_key_value_heads"}}
    config = getattr(transformers, config_name)(**values)
    return _loaded("decoder", transformers.AutoModelForCausalLM.from_config, config, seed)


def span_model(seed: int = 0) -> LoadedModel:
    """Return a random T5."""
    config = transformers.T5Config(
        vocab_size=len(tokenizer()), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0, decoder_start_token_id=0
    )
    return _loaded("encoder-decoder", transformers.T5ForConditionalGeneration, config, seed)


def encoder(seed: int = 0) -> LoadedModel:
    """Return a random BERT."""
    values = {key: COMMON[key] for key in COMMON if key not in {"head_dim", "num_key_value_heads"}}
    return _loaded("encoder", transformers.BertForMaskedLM, transformers.BertConfig(**values, vocab_size=len(tokenizer())), seed)


def _loaded(family: str, kind: Any, config: Any, seed: int) -> LoadedModel:
    torch.manual_seed(seed)
    module = kind(config)
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)  # wide enough that candidates differ by nats
    return LoadedModel(name=f"tiny-{family}", family=family, module=module, tokenizer=tokenizer())


def log_softmax(logits: Any) -> Any:
    """Return log-probabilities by NumPy in float64."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@torch.inference_mode()
def plain_logits(model: LoadedModel, prompt: list[int], answer: list[int]) -> Any:
    """Return the logits at each token of an answer, and after it, from one full pass: `(len(answer) + 1, vocabulary)` float64."""
    if model.family == "decoder":
        return model.module(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 :].double().numpy()
    if model.family == "encoder-decoder":
        ids = torch.tensor([[model.module.config.decoder_start_token_id, 5, *answer]])
        return model.module(input_ids=torch.tensor([prompt]), decoder_input_ids=ids).logits[0, 1:].double().numpy()
    place = prompt.index(model.tokenizer.mask_token_id)
    return model.module(torch.tensor([prompt])).logits[0, place : place + 1].double().numpy()


def plain_prompt(model: LoadedModel, stem: str, after: str) -> list[int]:
    """Return the ids that ask for an answer."""
    if model.family == "decoder":
        return model.prompt_ids(stem)
    blank = "<extra_id_0>" if model.family == "encoder-decoder" else "[MASK]"
    return model.tokenizer.encode(f"{stem} {blank}{after}")


def plain_answer(model: LoadedModel, label: str, after: str) -> list[int]:
    """Return the ids of an answer with what closes it; this tokenizer splits at spaces and punctuation, so parts join."""
    closing = {"decoder": after, "encoder-decoder": "<extra_id_1>" if after else "", "encoder": ""}[model.family]
    return model.tokenizer.encode(label, add_special_tokens=False) + model.tokenizer.encode(closing, add_special_tokens=False)
