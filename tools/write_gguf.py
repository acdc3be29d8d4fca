"""Write a Llama-like model as a GGUF file, its matrices quantized by `gguf.quants`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel

    Float32 = NDArray[np.float32]

KINDS = {name.lower(): getattr(gguf.GGMLQuantizationType, name) for name in ("F16", "Q4_0", "Q5_0", "Q8_0")}
_HEADS = {".self_attn.q_proj.": "num_attention_heads", ".self_attn.k_proj.": "num_key_value_heads"}


def write_gguf(model: LoadedModel, path: Path, kind: str) -> None:
    """Write a model.

    As llama.cpp does it: vectors stay float32, embeddings take 8 bits at least, a matrix whose inputs are no multiple of the block of
    32 stays float16.

    Args:
        model: dense, of the architecture Llama, with a byte-level BPE tokenizer.
        path: receives the file.
        kind: a key of `KINDS`.
    """
    config: Any = model.module.config
    if config.model_type != "llama":
        message = f"{model.name}: expected the architecture llama, got {config.model_type}"
        raise SystemExit(message)
    writer = gguf.GGUFWriter(path, "llama")
    _settings(writer, config)
    _tokenizer(writer, model)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, parameter in model.module.named_parameters():
        values: Float32 = parameter.detach().numpy()
        for part, heads in _HEADS.items():
            values = rotary_order(values, getattr(config, heads)) if part in name else values
        stored = _kind(name, values, kind)
        blocks = gguf.quants.quantize(np.ascontiguousarray(values), stored)
        own = names.get_name(name, (".weight",))
        assert own, name
        writer.add_tensor(own, blocks, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rotary_order(weight: Float32, heads: int) -> Float32:
    """Return the rows of a query or key matrix `(out, in)` as llama.cpp has them: the halves of each head interleaved."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def _kind(name: str, values: Float32, kind: str) -> gguf.GGMLQuantizationType:
    if values.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = KINDS["q8_0"] if "embed_tokens" in name and kind != "f16" else KINDS[kind]
    return wanted if values.shape[-1] % gguf.GGML_QUANT_SIZES[wanted][0] == 0 else gguf.GGMLQuantizationType.F16


def _settings(writer: gguf.GGUFWriter, config: Any) -> None:  # noqa: ANN401 - transformers' attributes
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _tokenizer(writer: gguf.GGUFWriter, model: LoadedModel) -> None:
    tokenizer: Any = model.tokenizer
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    special = {*tokenizer.all_special_ids}
    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in backend["model"]["merges"]])
    for role, add in (("bos", writer.add_bos_token_id), ("eos", writer.add_eos_token_id), ("pad", writer.add_pad_token_id)):
        if (number := getattr(tokenizer, f"{role}_token_id")) is not None:
            add(number)
