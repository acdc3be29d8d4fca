"""Load a model directory, and refuse one that would be measured wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from pytest_kick.errors import ModelError
from pytest_kick.models import checks
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.quiet import quiet

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pytest_kick.spec import ModelSpec

_CLASSES = {
    "encoder": AutoModelForMaskedLM,
    "encoder-decoder": AutoModelForSeq2SeqLM,
    "decoder": AutoModelForCausalLM,
}


def load(spec: ModelSpec, directory: Path, *, allow_pickle: bool = False, trust_remote_code: bool = False) -> LoadedModel:
    """Load the model in `directory` as a dense float32 master on the CPU.

    float32 safetensors are memory-mapped; other floating dtypes are converted. Nothing is fetched and nothing is printed.

    Args:
        spec: says the name and the family.
        directory: weights, configuration and tokenizer, as `resolve` returns it.
        allow_pickle: accept a checkpoint that is a pickle (torch unpickles tensors only).
        trust_remote_code: run the Python code that the directory brings along.

    Raises:
        ModelError: the directory lacks something, is not trusted, is of another family, or holds weights or a tokenizer that do
            not fit the architecture or each other.
    """
    where = f"model {spec.name!r}"
    checks.check_directory(directory, where, family=spec.family, allow_pickle=allow_pickle, trust_remote_code=trust_remote_code)
    options = {"local_files_only": True, "trust_remote_code": trust_remote_code}
    with quiet():
        tokenizer = _tokenizer(directory, where, options)
        module = _module(spec.family, directory, where, options)
    checks.check_weights(module, where)
    checks.check_tokenizer(tokenizer, module, where)
    return LoadedModel(name=spec.name, family=spec.family, module=module, tokenizer=tokenizer)


def _tokenizer(directory: Path, where: str, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory, **options)
    except Exception as error:
        # transformers raises whatever its parsers raise
        msg = f"{where}: tokenizer: got {checks.first_line(error)}, expected one that transformers reads. Check {directory}."
        raise ModelError(msg) from error
    return tokenizer


def _module(family: str, directory: Path, where: str, options: dict[str, Any]) -> PreTrainedModel:
    pickled = not checks.has_safetensors(directory)
    try:
        module, info = _CLASSES[family].from_pretrained(
            directory, dtype=torch.float32, use_safetensors=not pickled, weights_only=True, output_loading_info=True, **options
        )
    except Exception as error:
        msg = f"{where}: weights: got {checks.first_line(error)}, expected a readable checkpoint. Check {directory}."
        raise ModelError(msg) from error
    checks.check_keys(info, where)
    loaded: PreTrainedModel = module
    return loaded
