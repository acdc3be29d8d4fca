"""Hashes of what was measured: tensors and tokenizers, not the files they came in."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DIGEST_BYTES = 16
_INCIDENTAL = frozenset(
    {"_name_or_path", "architectures", "dtype", "quantization_config", "torch_dtype", "transformers_version", "use_cache"}
)
"""Keys of a configuration that do not change what a forward pass of the dense model computes."""


def tensors_hash(tensors: Iterable[torch.Tensor]) -> str:
    """Return the blake2b hash of dtype, shape and bytes of dense CPU tensors, in the order given.

    Each tensor is hashed on its own, on as many threads as torch has, and the hashes are hashed.
    """
    with ThreadPoolExecutor(max_workers=torch.get_num_threads()) as pool:
        digests = list(pool.map(_tensor_digest, tensors))
    return hashlib.blake2b(b"".join(digests), digest_size=_DIGEST_BYTES).hexdigest()


def _tensor_digest(tensor: torch.Tensor) -> bytes:
    digest = hashlib.blake2b(f"{tensor.dtype}{tuple(tensor.shape)}".encode(), digest_size=_DIGEST_BYTES)
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.numel():
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.digest()


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the blake2b hash of all that decides how a tokenizer cuts text, padding and truncation left out."""
    content: dict[str, Any] = {"special": {key: str(value) for key, value in tokenizer.special_tokens_map.items()}}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content["vocabulary"] = tokenizer.get_vocab()
    else:
        content["backend"] = json.loads(backend.to_str())
        for setting in ("padding", "truncation", "version"):
            content["backend"].pop(setting, None)
    text = json.dumps(content, sort_keys=True, ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def architecture_hash(module: PreTrainedModel, parameters: Container[str]) -> str:
    """Return the blake2b hash of a model's configuration, as far as it differs from its defaults, and of its stored buffers.

    Args:
        module: the model.
        parameters: names in its state that are parameters, hashed elsewhere.
    """
    config = {key: value for key, value in module.config.to_diff_dict().items() if key not in _INCIDENTAL and not key.startswith("_")}
    state = module.state_dict()
    buffers = sorted(name for name in state if name not in parameters)
    text = json.dumps([config, buffers], sort_keys=True, default=str) + tensors_hash(state[name].cpu() for name in buffers)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
