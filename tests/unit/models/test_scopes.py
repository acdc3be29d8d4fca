"""Scopes are found on a tiny random configuration of every architecture, against counts derived by hand."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf

from pytest_kick.errors import ScopeError
from pytest_kick.models.scopes import body_size, find_matrices, select

D, F, V, L = 32, 48, 97, 2
WIDE = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": 4, "intermediate_size": F}
GQA = {**WIDE, "num_key_value_heads": 2, "head_dim": 8}
T5 = {"vocab_size": V, "d_model": D, "d_kv": 8, "d_ff": F, "num_layers": L, "num_heads": 4}
BART = {
    "vocab_size": V, "d_model": D, "encoder_layers": L, "decoder_layers": L, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": F, "decoder_ffn_dim": F,
}  # fmt: skip
OPT = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": 4, "ffn_dim": F, "word_embed_proj_dim": 16}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODERN = {**WIDE, **SPECIAL, "cls_token_id": 1, "sep_token_id": 2}
FULL, GROUPED = 4 * D * D, 2 * D * D + 2 * D * 16

# class, config class, arguments, family, then per model: attention, ffn, other, matrices in attention, in ffn
ZOO: dict[str, tuple[str, dict[str, Any], str, int, int, int, int, int]] = {
    "Bert/MaskedLM": ("BertConfig", WIDE, "encoder", L * FULL, L * 2 * D * F, D * D, 8, 4),
    "Roberta/MaskedLM": ("RobertaConfig", WIDE, "encoder", L * FULL, L * 2 * D * F, D * D, 8, 4),
    "DistilBert/MaskedLM": (
        "DistilBertConfig", {"vocab_size": V, "dim": D, "n_layers": L, "n_heads": 4, "hidden_dim": F}, "encoder",
        L * FULL, L * 2 * D * F, D * D, 8, 4,
    ),
    "Albert/MaskedLM": ("AlbertConfig", {**WIDE, "embedding_size": 16}, "encoder", FULL, 2 * D * F, 2 * D * 16, 4, 2),
    "Electra/MaskedLM": ("ElectraConfig", {**WIDE, "embedding_size": 16}, "encoder", L * FULL, L * 2 * D * F, 2 * D * 16, 8, 4),
    "ModernBert/MaskedLM": ("ModernBertConfig", MODERN, "encoder", L * FULL, L * 3 * D * F, D * D, 8, 6),
    "T5/ConditionalGeneration": ("T5Config", T5, "encoder-decoder", 3 * L * FULL, 2 * L * 2 * D * F, 0, 24, 8),
    "T5/gated": (
        "T5Config", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, "encoder-decoder",
        3 * L * FULL, 2 * L * 3 * D * F, 0, 24, 12,
    ),
    "Bart/ConditionalGeneration": ("BartConfig", BART, "encoder-decoder", 3 * L * FULL, 2 * L * 2 * D * F, 0, 24, 8),
    "Llama/CausalLM": ("LlamaConfig", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Mistral/CausalLM": ("MistralConfig", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Qwen2/CausalLM": ("Qwen2Config", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Qwen3/CausalLM": ("Qwen3Config", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Gemma/CausalLM": ("GemmaConfig", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Gemma2/CausalLM": ("Gemma2Config", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Gemma3/CausalLM": ("Gemma3TextConfig", GQA, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "Phi/CausalLM": ("PhiConfig", {**WIDE, "num_key_value_heads": 2}, "decoder", L * GROUPED, L * 2 * D * F, 0, 8, 4),
    "Phi3/CausalLM": ("Phi3Config", {**GQA, **SPECIAL}, "decoder", L * GROUPED, L * 3 * D * F, 0, 8, 6),
    "OPT/CausalLM": ("OPTConfig", OPT, "decoder", L * FULL, L * 2 * D * F, 2 * D * 16, 8, 4),
    "GPT2/LMHeadModel": (
        "GPT2Config", {"vocab_size": V, "n_embd": D, "n_layer": L, "n_head": 4, "n_inner": F, **SPECIAL}, "decoder",
        L * FULL, L * 2 * D * F, 0, 8, 4,
    ),
    "GPTNeoX/CausalLM": ("GPTNeoXConfig", WIDE, "decoder", L * FULL, L * 2 * D * F, 0, 8, 4),
    "Mixtral/CausalLM": ("MixtralConfig", {**GQA, "num_local_experts": 3}, "decoder", L * GROUPED, L * 3 * 3 * D * F, 0, 8, 18),
}  # fmt: skip


@functools.cache
def model(name: str) -> Any:
    """Build one tiny random model of the zoo."""
    prefix, _, suffix = name.partition("/")
    config, arguments, *_ = ZOO[name]
    torch.manual_seed(0)
    build = getattr(hf, f"{prefix}For{'ConditionalGeneration' if suffix == 'gated' else suffix}", None) or getattr(hf, prefix + suffix)
    return build(getattr(hf, config)(**arguments)).eval()


def count(name: str, scope: str, **options: bool) -> int:
    """Count the weights of a scope."""
    return sum(m.n for m in select(model(name), ZOO[name][2], scope, **options))


@pytest.mark.parametrize("name", ZOO)
def test_scopes_of_every_architecture(name: str) -> None:
    """Attention, ffn, overall and the body hold exactly the weights that the configuration implies."""
    _, _, family, attention, ffn, other, n_attention, n_ffn = ZOO[name]
    assert count(name, "attention") == attention
    assert count(name, "ffn") == ffn
    assert count(name, "overall") == attention + ffn + other
    assert len(select(model(name), family, "attention")) == n_attention
    assert len(select(model(name), family, "ffn")) == n_ffn
    router = L * 3 * D if name.startswith("Mixtral") else 0
    assert body_size(find_matrices(model(name))) == attention + ffn + other + router


@pytest.mark.parametrize("name", ZOO)
def test_every_matrix_is_accounted_for(name: str) -> None:
    """No matrix is unknown, none is listed twice, and body, head and embeddings are all parameters of two axes and more."""
    matrices = find_matrices(model(name))
    assert not [m.name for m in matrices if m.role == "unknown"]
    assert len({m.name for m in matrices}) == len(matrices)
    parameters = dict(model(name).named_parameters(remove_duplicate=False))
    heads = [m for m in matrices if m.role == "head"]
    assert [m.shape for m in heads] == [(V, parameters[heads[0].parameter].shape[1])]
    tied = any(m.role == "embedding" and parameters[m.parameter] is parameters[heads[0].parameter] for m in matrices)
    total = sum(p.numel() for p in model(name).parameters() if p.ndim > 1)
    assert sum(m.n for m in matrices if m.role != "norm") - tied * heads[0].n == total
    assert not {m.parameter for m in select(model(name), ZOO[name][2], "overall")} & {
        m.parameter for m in matrices if m.role in {"head", "embedding"}
    }


@pytest.mark.parametrize("name", ZOO)
def test_reading_and_writing_a_matrix(name: str) -> None:
    """Parts tile their parameter: writing a number into each matrix covers every weight once, and is read back."""
    parameters = dict(model(name).named_parameters())
    canvas: dict[str, torch.Tensor] = {}
    chosen = select(model(name), ZOO[name][2], "overall")
    for i, matrix in enumerate(chosen):
        tensor = canvas.setdefault(matrix.parameter, torch.full_like(parameters[matrix.parameter], -1.0))
        matrix.write_(tensor, torch.full((1, 1), float(i)))
    for i, matrix in enumerate(chosen):
        values = matrix.read(canvas[matrix.parameter])
        assert tuple(values.shape) == matrix.shape
        assert bool((values == i).all())
    assert all(bool((tensor >= 0).all()) for tensor in canvas.values())


def test_parts_are_what_the_forward_pass_takes() -> None:
    """The queries of GPT-NeoX interleave with keys and values head by head; those of GPT-2 are the first third of columns."""
    neox = model("GPTNeoX/CausalLM")
    values = next(m for m in find_matrices(neox) if m.name == "gpt_neox.layers.1.attention.query_key_value.v")
    weight = neox.gpt_neox.layers[1].attention.query_key_value.weight.detach()
    want = np.concatenate([weight.numpy()[head * 24 + 16 : head * 24 + 24] for head in range(4)])
    assert np.array_equal(values.read(weight).numpy(), want)
    gpt2 = model("GPT2/LMHeadModel")
    keys = next(m for m in find_matrices(gpt2) if m.name == "transformer.h.0.attn.c_attn.k")
    weight = gpt2.transformer.h[0].attn.c_attn.weight.detach()
    assert keys.transposed
    assert np.array_equal(keys.read(weight).numpy(), weight.numpy()[:, D : 2 * D].T)
    phi3 = model("Phi3/CausalLM")
    keys = next(m for m in find_matrices(phi3) if m.name == "model.layers.0.self_attn.qkv_proj.k")
    weight = phi3.model.layers[0].self_attn.qkv_proj.weight.detach()
    assert np.array_equal(keys.read(weight).numpy(), weight.numpy()[D : D + 16])


def test_the_router_of_mixtral_is_in_no_scope() -> None:
    """What chooses experts is not compressed, unless a pattern spells its parameter out."""
    mixtral = model("Mixtral/CausalLM")
    assert not any("mlp.gate" in m.name and "experts" not in m.name for m in select(mixtral, "decoder", "overall"))
    assert [m.role for m in select(mixtral, "decoder", "*.mlp.gate.weight")] == ["router", "router"]
    assert len(select(mixtral, "decoder", "*.gate_up_proj.2.*,*.layers.0.mlp.experts.down_proj.0")) == L * 2 + 1


@pytest.mark.parametrize("name", ["T5/gated", "Bart/ConditionalGeneration"])
def test_sides_of_an_encoder_decoder(name: str) -> None:
    """The three attentions are told apart and add up to the scope attention."""
    sides = [select(model(name), "encoder-decoder", s) for s in ("encoder_self_attention", "decoder_self_attention", "cross_attention")]
    assert [len(side) for side in sides] == [8, 8, 8]
    assert all("encoder" in m.module.split(".") for m in sides[0])
    assert all("EncDecAttention" in m.name or "encoder_attn" in m.name for m in sides[2])
    names = {m.name for side in sides for m in side}
    assert names == {m.name for m in select(model(name), "encoder-decoder", "attention")}


def test_sides_are_refused_elsewhere() -> None:
    """A decoder has no cross attention to name."""
    with pytest.raises(ScopeError, match="expected 'encoder-decoder'"):
        select(model("Llama/CausalLM"), "decoder", "cross_attention")


def test_sets_of_study_a() -> None:
    """On BERT its attention is query, key and value only; on the others the clean sets; its int8 overall includes the head."""
    bert = "Bert/MaskedLM"
    assert count(bert, "a_compat_attention") == L * 3 * D * D
    assert count(bert, "a_compat_ffn") == L * (D * D + 2 * D * F)
    assert count(bert, "a_compat_overall") == count(bert, "overall")
    assert count(bert, "a_compat_overall", bits=True) == count(bert, "overall") + V * D
    for name in ("DistilBert/MaskedLM", "Albert/MaskedLM", "T5/gated", "Llama/CausalLM"):
        assert count(name, "a_compat_attention") == count(name, "attention")
        assert count(name, "a_compat_ffn") == count(name, "ffn")
    with pytest.raises(ScopeError, match="study A's code knows"):
        count("GPT2/LMHeadModel", "a_compat_attention")


def test_ffn_like_attention_takes_evenly_spaced_layers() -> None:
    """Ten of thirty layers when an ffn layer weighs three attention layers, spread evenly."""
    config = hf.LlamaConfig(**{**GQA, "num_hidden_layers": 12, "hidden_size": 24, "head_dim": 6, "intermediate_size": 72})
    with torch.device("meta"):
        module = hf.LlamaForCausalLM(config)
    chosen = select(module, "decoder", "ffn_like_attention")
    attention = sum(m.n for m in select(module, "decoder", "attention"))
    assert attention == 12 * (2 * 24 * 24 + 2 * 24 * 12)
    assert sum(m.n for m in chosen) == 4 * 3 * 24 * 72 == attention
    assert list(dict.fromkeys(m.module.split(".")[2] for m in chosen)) == ["1", "4", "7", "10"]


def test_ffn_like_attention_refuses_a_small_ffn() -> None:
    """Where the ffn is smaller than attention there is no such set of layers."""
    with pytest.raises(ScopeError, match="whole ffn layers"):
        count("Bart/ConditionalGeneration", "ffn_like_attention")


def test_patterns() -> None:
    """Globs name matrices by module or parameter, keep the model's order, and never take embeddings, norms or biases."""
    llama = model("Llama/CausalLM")
    names = [m.name for m in select(llama, "decoder", "*.k_proj, *.layers.0.*.q_proj")]
    assert names == [f"model.layers.{i}.self_attn.{p}_proj" for i, p in ((0, "q"), (0, "k"), (1, "k"))]
    assert {m.role for m in select(llama, "decoder", "*")} == {"attention", "ffn", "head"}
    assert {m.role for m in select(llama, "decoder", "*.weight")} == {"attention", "ffn", "head"}
    assert {m.role for m in select(llama, "decoder", "*layernorm.weight")} == {"norm"}
    assert [m.shape for m in select(llama, "decoder", "model.norm.weight")] == [(1, D)]


@pytest.mark.parametrize("scope", ["atention", "*.qproj", "*.k_proj,*.nothing", "*embed_tokens*", "*bias", "", "*.input_layernorm"])
def test_patterns_that_name_nothing(scope: str) -> None:
    """Each glob of a list has to name a matrix; a near miss of a scope is named."""
    with pytest.raises(ScopeError) as caught:
        select(model("Llama/CausalLM"), "decoder", scope)
    assert "\n" not in str(caught.value)
    assert "expected a scope" in str(caught.value)
    if scope == "atention":
        assert "Did you mean 'attention'?" in str(caught.value)


def test_unknown_architecture() -> None:
    """The error lists the matrices and shows a pattern; patterns and the head work there nevertheless."""
    config = hf.StableLmConfig(**{k: v for k, v in GQA.items() if k != "head_dim"})
    with torch.device("meta"):
        module = hf.StableLmForCausalLM(config)
    with pytest.raises(ScopeError) as caught:
        select(module, "decoder", "ffn")
    text = str(caught.value)
    assert "'stablelm'" in text
    assert "model.layers.*.mlp.down_proj" in text
    assert "'*.self_attn.q_proj'" in text
    assert "\n" not in text
    assert len(select(module, "decoder", "*.mlp.*")) == 3 * L
    assert [m.name for m in select(module, "decoder", "head")] == ["lm_head"]
    assert body_size(find_matrices(module)) == L * (GROUPED + 3 * D * F)


def test_a_matrix_that_the_table_does_not_name() -> None:
    """A layer added to a known architecture is an error of every named scope, never left out in silence."""
    module = hf.LlamaForCausalLM(hf.LlamaConfig(**GQA))
    module.model.layers[1].mlp.adapter = torch.nn.Linear(4, 4)
    with pytest.raises(ScopeError, match=r"got model\.layers\.\*\.mlp\.adapter"):
        select(module, "decoder", "attention")
    assert len(select(module, "decoder", "*.adapter")) == 1


def test_a_model_without_a_head() -> None:
    """A scope that is empty is an error."""
    with pytest.raises(ScopeError, match="got none"):
        select(hf.BertModel(hf.BertConfig(**WIDE)), "encoder", "head")
