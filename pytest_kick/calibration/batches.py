"""Sequences of token ids, and batches of them that hold no padding."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

BATCH_TOKENS = 2048
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Hold one calibration sequence.

    Attributes:
        input_ids: what a decoder or encoder reads, special tokens included.
        decoder_input_ids: what the decoder of an encoder-decoder reads; empty for the other families.
    """

    input_ids: tuple[int, ...]
    decoder_input_ids: tuple[int, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Return the tokens of both sides."""
        return len(self.input_ids) + len(self.decoder_input_ids)


def make_batches(samples: Sequence[Sample], most: int = BATCH_TOKENS) -> tuple[dict[str, torch.Tensor], ...]:
    """Return batches of samples of equal lengths, so that no row is ever padded.

    Padding enters no norm and no Hessian because there is none: not in the inputs of a layer, not in the keys that attention looks
    at, not in the routing of experts. Sequences of unequal lengths cost smaller batches.

    Args:
        samples: any.
        most: tokens of a batch, both sides together; a batch holds at least one sample.

    Returns:
        Keyword arguments of a transformers model: `input_ids`, and `decoder_input_ids` where the samples have them, int64 of
        `(samples, length)`.
    """
    groups: dict[tuple[int, int], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((len(sample.input_ids), len(sample.decoder_input_ids)), []).append(sample)
    batches = []
    for group in groups.values():
        size = max(1, most // group[0].n_tokens)
        batches += [_batch(group[start : start + size]) for start in range(0, len(group), size)]
    return tuple(batches)


def _batch(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    batch = {"input_ids": torch.tensor([sample.input_ids for sample in samples])}
    if samples[0].decoder_input_ids:
        batch["decoder_input_ids"] = torch.tensor([sample.decoder_input_ids for sample in samples])
    return batch


def samples_hash(samples: Sequence[Sample]) -> str:
    """Return the blake2b hash of all token ids, in order: what a fingerprint tells calibration data apart by."""
    text = json.dumps([[sample.input_ids, sample.decoder_input_ids] for sample in samples])
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
