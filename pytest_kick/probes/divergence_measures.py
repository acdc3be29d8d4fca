"""Distances between a dense model's predictions and another one's, from the part of the dense ones that is kept.

Of a distribution over the vocabulary the dense top 256 are kept, and what all other tokens have together. Putting tokens together
cannot make two distributions differ more, so the divergence found is at most the whole one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TOP = 256


def divergence(log_p: Floats, log_q: Floats) -> Floats:
    """Return the Kullback-Leibler divergence of q from p in nats, `(n,)`, at least 0.

    Args:
        log_p: `(n, k)` log-probabilities; `-inf` for what cannot happen.
        log_q: `(n, k)` likewise, finite wherever `log_p` is.
    """
    possible = np.isfinite(log_p)
    gap = np.subtract(log_p, log_q, out=np.zeros_like(log_p), where=possible)
    # Rounded probabilities add up to 1 only nearly.
    total: Floats = (np.exp(np.where(possible, log_p, -np.inf)) * gap).sum(1)
    return np.maximum(total, 0.0)


def from_uniform(log_p: Floats, sizes: Floats) -> Floats:
    """Return the divergence of a guess at random from p in nats, `(n,)`.

    Args:
        log_p: `(n, k)` log-probabilities of k groups of outcomes.
        sizes: `(k,)` or `(n, k)` outcomes in each group.
    """
    total = sizes.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        log_q = np.broadcast_to(np.log(sizes) - np.log(total), log_p.shape)
    return divergence(log_p, log_q)


def normalized(scores: Floats) -> Floats:
    """Return log-probabilities `(n, k)` that are in proportion to scores in nats, `(n, k)`, `-inf` for what is no option."""
    shifted = scores - scores.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)), np.float64)


def top_tokens(logprobs: torch.Tensor) -> torch.Tensor:
    """Return the ids of the likeliest tokens, `(n, k)` of `(n, vocabulary)`, the likeliest first; k is 256 or the vocabulary."""
    return logprobs.topk(min(TOP, logprobs.shape[-1]), -1).indices


def with_tail(logprobs: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of tokens `(n, k)`, and at the end of all others together: `(n, k + 1)` of `(n, vocabulary)`.

    The others are added up themselves: 1 less the sum of the rest would lose what is smaller than its rounding.
    """
    kept = logprobs.gather(1, ids)
    others = logprobs.scatter(1, ids, -torch.inf)
    return torch.cat([kept, others.logsumexp(-1, keepdim=True)], 1)
