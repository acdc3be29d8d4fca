"""Checks of a model directory before it is loaded, and of what was loaded from it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import torch
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_MASKED_LM_MAPPING_NAMES

from pytest_kick.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
# Parts of pretraining checkpoints that the language-model head does not use, and buffers that older versions stored.
_HARMLESS_EXTRA = re.compile(
    r"(^|\.)(pooler|seq_relationship|sop_classifier|position_ids|inv_freq|masked_bias|rotary_emb)(\.|$)|attn\.bias$"
)
_SHOWN = 3
_ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask", "decoder_start")
# Rows of an embedding that no token uses, as padding explains them. The most known is 2.3% (DeepSeek: 100,015 tokens, 102,400 rows);
# the vocabulary of cased BERT on the rows of uncased BERT leaves 5.0% idle. Small vocabularies are padded to a multiple of 128.
_PADDING_SHARE, _PADDING_ROWS = 1 / 32, 127
_MOST_ROWLESS = 4


def first_line(error: BaseException) -> str:
    """Return what an exception says in one line, with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} ({lines[0].strip()})" if lines else type(error).__name__


def has_safetensors(directory: Path) -> bool:
    """Return whether the directory holds weights as safetensors."""
    return any(directory.glob("*.safetensors"))


def check_directory(directory: Path, where: str, *, family: str, allow_pickle: bool, trust_remote_code: bool) -> None:
    """Check what can be seen without loading: configuration, family, kind of weights, tokenizer files.

    Args:
        directory: of the model.
        where: what errors name as the place.
        family: what the model is said to be.
        allow_pickle: accept pickled weights.
        trust_remote_code: accept a model that brings its own code.

    Raises:
        ModelError: something is missing, not trusted or of another family.
    """
    config = read_json(directory / "config.json", where)
    tokenizer_config = directory / "tokenizer_config.json"
    settings = read_json(tokenizer_config, where) if tokenizer_config.is_file() else {}
    if ("auto_map" in config or "auto_map" in settings) and not trust_remote_code:
        msg = f"{where}: config: got auto_map, expected no code in the model directory. Allow it by --kick-trust-remote-code."
        raise ModelError(msg)
    if "quantization_config" in config:
        msg = f"{where}: config: got quantization_config, expected dense weights. Use the unquantized checkpoint."
        raise ModelError(msg)
    check_weight_files(directory, where, allow_pickle=allow_pickle)
    if not has_tokenizer(directory):
        msg = f"{where}: tokenizer: got none in {directory}, expected tokenizer.json or the like. Save the tokenizer there."
        raise ModelError(msg)
    found = family_of(config)
    if found and found != family:
        kind = ", ".join(config.get("architectures") or [str(config.get("model_type"))])
        msg = f"{where}: family: got {family!r}, expected {found!r} for {kind}. Correct the suite."
        raise ModelError(msg)


def has_tokenizer(directory: Path) -> bool:
    """Return whether the directory holds a tokenizer."""
    return any((directory / name).is_file() for name in _TOKENIZER_FILES)


def check_weight_files(directory: Path, where: str, *, allow_pickle: bool) -> None:
    """Check that a directory holds weights, and none that are pickled unless that is allowed.

    Raises:
        ModelError: it does not.
    """
    pickles = sorted(path.name for pattern in _PICKLES for path in directory.glob(pattern) if path.name != "training_args.bin")
    if not has_safetensors(directory):
        if not pickles:
            msg = f"{where}: weights: got none in {directory}, expected *.safetensors. Check the path."
            raise ModelError(msg)
        if not allow_pickle:
            msg = f"{where}: weights: got a pickle ({pickles[0]}), expected *.safetensors. Convert it, or use --kick-allow-pickle."
            raise ModelError(msg)


def read_json(path: Path, where: str) -> dict[str, Any]:
    """Read a JSON file of a model directory.

    Raises:
        ModelError: it is not there, or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{where}: {path.name}: got no such file in {path.parent}, expected a model directory. Check the path."
        raise ModelError(msg) from error
    except (OSError, ValueError) as error:
        msg = f"{where}: {path.name}: got {first_line(error)}, expected JSON. Check {path}."
        raise ModelError(msg) from error
    if not isinstance(content, dict):
        msg = f"{where}: {path.name}: got {type(content).__name__}, expected a JSON object. Check {path}."
        raise ModelError(msg)
    return content


def family_of(config: Mapping[str, Any]) -> str:
    """Return the family a configuration declares, or "" if it does not say.

    Args:
        config: content of `config.json`.
    """
    kind = (config.get("architectures") or [""])[0]
    model_type = config.get("model_type")
    if config.get("is_encoder_decoder"):
        return "encoder-decoder"
    if kind.endswith(("ForCausalLM", "LMHeadModel")):
        return "decoder"
    if kind.endswith(("ForMaskedLM", "ForPreTraining")) or model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    return "decoder" if model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else ""


def check_keys(info: Mapping[str, Any], where: str) -> None:
    """Check that the checkpoint and the architecture have the same tensors.

    Args:
        info: transformers' loading info: `missing_keys`, `unexpected_keys`, `mismatched_keys`.
        where: what errors name as the place.

    Raises:
        ModelError: tensors are missing (they would be random), have another shape, or are not known.
    """
    for field, expected in (("missing_keys", "all tensors of the architecture"), ("mismatched_keys", "tensors of its shapes")):
        if info[field]:
            msg = f"{where}: weights: got {field.replace('_', ' ')} {_some(info[field])}, expected {expected}. Use a complete checkpoint."
            raise ModelError(msg)
    unknown = [key for key in info["unexpected_keys"] if not _HARMLESS_EXTRA.search(key)]
    if unknown:
        msg = (
            f"{where}: weights: got unexpected keys {_some(unknown)}, expected only tensors of the architecture."
            " Use the checkpoint of this architecture."
        )
        raise ModelError(msg)


def _some(keys: Any) -> str:  # noqa: ANN401 - a set of names or of tuples that start with one
    names = sorted(key if isinstance(key, str) else str(key[0]) for key in keys)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def check_weights(module: PreTrainedModel, where: str) -> None:
    """Check that all weights are finite.

    Raises:
        ModelError: naming the first tensor with NaN or infinite values.
    """
    check_finite(dict(module.named_parameters()), where)


def check_finite(tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Check that all values of named tensors are finite.

    Raises:
        ModelError: naming the first tensor with NaN or infinite values.
    """
    for name, parameter in tensors.items():
        # One pass without a copy; a finite tensor whose sum overflows is looked at again.
        if not torch.isfinite(parameter.detach().sum()) and not torch.isfinite(parameter.detach()).all():
            bad = int((~torch.isfinite(parameter.detach())).sum())
            msg = f"{where}: {name}: got {bad} NaN or infinite weights, expected finite ones. Use an undamaged checkpoint."
            raise ModelError(msg)


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, module: PreTrainedModel, where: str) -> None:
    """Check that the tokenizer can be the model's own, as far as sizes and special tokens tell.

    Each id has a row in the embedding, but for a few added tokens without a role (Gemma 3 has one, for images). Rows without an id
    are no more than padding explains. Where the configuration names special tokens, the tokenizer has a special or added token at one of
    them at least; the ids that a configuration class fills in by itself count only for the vocabulary size that they were made for.

    Raises:
        ModelError: the tokenizer is empty, or is of another vocabulary; says what was compared.
    """
    ids = {*tokenizer.get_vocab().values()}
    rows = next(module.get_input_embeddings().parameters()).shape[0]
    added = {*getattr(tokenizer, "added_tokens_decoder", {})}
    largest = max(ids, default=-1)
    rowless = {number for number in ids if number >= rows}
    spare = added - {getattr(tokenizer, f"{role}_token_id", None) for role in _ROLES}
    if not ids or len(rowless) > _MOST_ROWLESS or rowless - spare:
        got = f"token ids up to {largest}" if ids else "an empty vocabulary"
        msg = f"{where}: tokenizer: got {got}, expected ids below the {rows} rows of the embedding. Use the model's own tokenizer."
        raise ModelError(msg)
    idle, most = rows - 1 - largest, max(_PADDING_ROWS, int(_PADDING_SHARE * rows))
    if idle > most:
        msg = (
            f"{where}: tokenizer: got token ids up to {largest} for the {rows} rows of the embedding, which leaves {idle} idle;"
            f" expected at most {most}, as padding does. Use the model's own tokenizer."
        )
        raise ModelError(msg)
    named, special = _special_ids(module, rows), added | {*tokenizer.all_special_ids}
    if named and special and special.isdisjoint(named):
        listed = ", ".join(f"{name} {number}" for number, name in sorted(named.items()))
        plain = ", ".join(repr(token) for token in tokenizer.convert_ids_to_tokens(sorted(named)))
        msg = (
            f"{where}: tokenizer: got the plain tokens {plain} where the model's configuration has special ones ({listed}), expected"
            " a special token there. Use the model's own tokenizer."
        )
        raise ModelError(msg)


def _special_ids(module: PreTrainedModel, rows: int) -> dict[int, str]:
    """Return the token ids that a model's configurations name, with the role of each."""
    config: Any = module.config.get_text_config()
    kind: Any = type(config)
    fitting = rows == getattr(kind, "vocab_size", None)
    found: dict[int, str] = {}
    for holder in (config, getattr(module, "generation_config", None)):
        for name in (f"{role}_token_id" for role in _ROLES):
            value = getattr(holder, name, None)
            if fitting or value != getattr(kind, name, None):
                listed = value if isinstance(value, list | tuple) else [value]
                found |= {number: name for number in listed if isinstance(number, int) and 0 <= number < rows}
    return found
