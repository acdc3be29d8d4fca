"""Hashes of what was measured: tensors and tokenizers, not the files they came in."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

_DIGEST_BYTES = 16


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
