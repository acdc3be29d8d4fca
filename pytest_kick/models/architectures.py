"""Where the weight matrices of each architecture lie: a table of module name patterns per `model_type`.

Patterns are globs over module names, tried in the order attention, ffn, other; the first that matches gives the role. A matrix that
no pattern matches is an error of `pytest_kick.models.scopes`, so that a new layer in a new release cannot slip through.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """Say how several matrices lie in one parameter.

    Attributes:
        pattern: glob over module names, or over parameter names for experts.
        parts: names of the matrices inside, in order.
        how: `rows`, equal blocks of output rows; `gqa`, output rows q, k, v with fewer heads in k and v; `heads`, blocks that
            alternate within each attention head; `experts`, a 3-D parameter with one slice per expert, each holding equal blocks.
    """

    pattern: str
    parts: tuple[str, ...]
    how: str = "rows"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Hold the patterns of one architecture.

    Attributes:
        attention: projections of queries, keys, values and the output, of self and cross attention alike.
        ffn: the feed-forward layers, experts included.
        other: further matrices of the body: projections beside the embeddings, the transform of a masked-LM head.
        router: parameters that choose experts; part of the body, in no scope.
        cross: the attention modules that look at the encoder.
        fused: parameters that hold several matrices.
        a_attention: what study A's code took for attention where it differs; the rest of the layers was its ffn.
        in_study_a: whether study A's code knows these names.
    """

    attention: tuple[str, ...]
    ffn: tuple[str, ...]
    other: tuple[str, ...] = ()
    router: tuple[str, ...] = ()
    cross: tuple[str, ...] = ()
    fused: tuple[Fused, ...] = ()
    a_attention: tuple[str, ...] = ()
    in_study_a: bool = False


_QKVO = tuple(f"*.self_attn.{name}_proj" for name in "qkvo")
_BERT_QKV = tuple(f"*.attention.self.{name}" for name in ("query", "key", "value"))
_BERT_ATTENTION = (*_BERT_QKV, "*.attention.output.dense")
_BERT_FFN = ("*.intermediate.dense", "*.output.dense")

_BERT = Layout(
    attention=_BERT_ATTENTION,
    ffn=_BERT_FFN,
    other=("cls.predictions.transform.dense", "*pooler.dense"),
    a_attention=_BERT_QKV,
    in_study_a=True,
)
_ROBERTA = Layout(
    attention=_BERT_ATTENTION, ffn=_BERT_FFN, other=("lm_head.dense", "*pooler.dense"), a_attention=_BERT_QKV, in_study_a=True
)
_LLAMA = Layout(attention=_QKVO, ffn=("*.mlp.gate_proj", "*.mlp.up_proj", "*.mlp.down_proj"), in_study_a=True)
_T5 = Layout(
    attention=tuple(f"*.{kind}.{name}" for kind in ("SelfAttention", "EncDecAttention") for name in "qkvo"),
    ffn=("*.DenseReluDense.wi", "*.DenseReluDense.wi_0", "*.DenseReluDense.wi_1", "*.DenseReluDense.wo"),
    cross=("*.EncDecAttention.*",),
    in_study_a=True,
)

LAYOUTS: dict[str, Layout] = {
    "bert": _BERT,
    "electra": Layout(
        attention=_BERT_ATTENTION,
        ffn=_BERT_FFN,
        other=("*.embeddings_project", "generator_predictions.dense"),
        a_attention=_BERT_QKV,
        in_study_a=True,
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Layout(
        attention=tuple(f"*.attention.{name}_lin" for name in ("q", "k", "v", "out")),
        ffn=("*.ffn.lin1", "*.ffn.lin2"),
        other=("vocab_transform",),
        in_study_a=True,
    ),
    "albert": Layout(
        attention=tuple(f"*.attention.{name}" for name in ("query", "key", "value", "dense")),
        ffn=("*.ffn", "*.ffn_output"),
        other=("*.embedding_hidden_mapping_in", "predictions.dense", "*pooler"),
        in_study_a=True,
    ),
    "modernbert": Layout(
        attention=("*.attn.Wqkv", "*.attn.Wo"),
        ffn=("*.mlp.Wi", "*.mlp.Wo"),
        other=("head.dense",),
        fused=(Fused(pattern="*.attn.Wqkv", parts=("q", "k", "v")), Fused(pattern="*.mlp.Wi", parts=("input", "gate"))),
    ),
    "t5": _T5,
    "mt5": _T5,
    "umt5": _T5,
    "bart": Layout(
        attention=tuple(f"*.{kind}.{name}_proj" for kind in ("self_attn", "encoder_attn") for name in ("q", "k", "v", "out")),
        ffn=("*.fc1", "*.fc2"),
        cross=("*.encoder_attn.*",),
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3_text": _LLAMA,
    "phi": Layout(attention=(*_QKVO[:3], "*.self_attn.dense"), ffn=("*.mlp.fc1", "*.mlp.fc2")),
    "phi3": Layout(
        attention=("*.self_attn.qkv_proj", "*.self_attn.o_proj"),
        ffn=("*.mlp.gate_up_proj", "*.mlp.down_proj"),
        fused=(
            Fused(pattern="*.self_attn.qkv_proj", parts=("q", "k", "v"), how="gqa"),
            Fused(pattern="*.mlp.gate_up_proj", parts=("gate", "up")),
        ),
    ),
    "opt": Layout(
        attention=tuple(f"*.self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
        ffn=("*.fc1", "*.fc2"),
        other=("*.project_in", "*.project_out"),
    ),
    "gpt2": Layout(
        attention=("*.attn.c_attn", "*.attn.c_proj"),
        ffn=("*.mlp.c_fc", "*.mlp.c_proj"),
        fused=(Fused(pattern="*.attn.c_attn", parts=("q", "k", "v")),),
    ),
    "gpt_neox": Layout(
        attention=("*.attention.query_key_value", "*.attention.dense"),
        ffn=("*.mlp.dense_h_to_4h", "*.mlp.dense_4h_to_h"),
        fused=(Fused(pattern="*.attention.query_key_value", parts=("q", "k", "v"), how="heads"),),
    ),
    "mixtral": Layout(
        attention=_QKVO,
        ffn=("*.mlp.experts.gate_up_proj", "*.mlp.experts.down_proj"),
        router=("*.mlp.gate.weight",),
        fused=(
            Fused(pattern="*.mlp.experts.gate_up_proj", parts=("gate", "up"), how="experts"),
            Fused(pattern="*.mlp.experts.down_proj", parts=("",), how="experts"),
        ),
    ),
}
