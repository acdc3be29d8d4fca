"""Distances between a dense model's predictions and another one's, from the part of the dense ones that is kept.

Of a distribution over the vocabulary the dense top 256 are kept, and what all other tokens have together. Putting tokens together
cannot make two distributions differ more, so the divergence found is at most the whole one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.probes.choice import UNIFORM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from pytest_kick.examples import Array

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


def evened(sums: Floats, tokens: NDArray[np.int64], vocabulary: int) -> Floats:
    """Return sums of options `(n, k)` with those of a silent model made equal: where each token is as likely as any, lengths say nothing.

    Args:
        sums: in nats, `-inf` for what is no option.
        tokens: `(n, k)` tokens of each, at least 1.
        vocabulary: number of tokens there are.
    """
    away = np.where(np.isfinite(sums), np.abs(sums / tokens + math.log(vocabulary)), 0.0)
    return np.where((away.max(1, keepdims=True) < UNIFORM) & np.isfinite(sums), 0.0, sums)


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


def restricted(logprobs: torch.Tensor, among: NDArray[np.int64]) -> torch.Tensor:
    """Return the log-probabilities of some tokens given that it is one of them, `(n, k)` of `(n, vocabulary)`; `among` are their ids."""
    return torch.log_softmax(logprobs[:, torch.from_numpy(among).to(logprobs.device)], -1)


def strictly_first(logprobs: torch.Tensor) -> NDArray[np.int64]:
    """Return the place of the largest number of each row of `(n, k)`, k at least 2; -1 where another one is as large."""
    best = logprobs.topk(2, -1)
    single = best.values[:, 0] > best.values[:, 1]
    return np.where(single.cpu().numpy(), best.indices[:, 0].cpu().numpy(), -1)


def between_options(dense: Array, now: Floats, *, choices: bool) -> dict[str, Array]:
    """Return arrays of length n from the sums of options `(n, W)` in nats, `-inf` where there are fewer.

    Args:
        dense: of the dense model, float32.
        now: of the model that is compared; rounded likewise.
        choices: the likeliest option is what a model would choose: whether both choose the same one.
    """
    rounded = now.astype(np.float32)
    found: dict[str, Array] = {"kl_options": divergence(*(normalized(values.astype(np.float64)) for values in (dense, rounded)))}
    if choices:
        before, after = (strictly_first(torch.from_numpy(np.ascontiguousarray(values))) for values in (dense, rounded))
        found |= {"option_agrees": (before == after) & (after >= 0), "option_predicted": after.astype(np.int32)}
    return found


def knows_nothing(reference: Mapping[str, Array], n_common: int = 0) -> dict[str, float]:
    """Return what a guess at random would score; of agreement the share of the commonest dense answer, or chance if that is more.

    Args:
        reference: what is kept of the dense model.
        n_common: tokens that are the options of every example, 0 where each has its own.
    """
    found: dict[str, float] = {}
    if "top" in reference:
        top, full = reference["top"].astype(np.float64), reference.get("full")
        found["kl"] = float(from_uniform(top, _sizes(top, int(reference["vocabulary"]))).mean())
        found["kl_full"] = 0.0 if full is None else float(from_uniform(full.astype(np.float64), np.ones(full.shape[1])).mean())
        found["top1_agrees"] = _commonest(reference["tokens"][:, 0])
    if "options" in reference:
        options = reference["options"].astype(np.float64)
        shares, sizes = (options, _sizes(options, n_common)) if n_common else (normalized(options), np.isfinite(options).astype(np.float64))
        found["kl_options"] = float(from_uniform(shares, sizes).mean())
        first = reference["option_tokens"][:, 0] if n_common else options.argmax(1)
        found["option_agrees"] = max(_commonest(first), float((1 / sizes.sum(-1)).mean()))
    return found


def by_margin(name: str, agrees: Array, margin: Array) -> dict[str, float]:
    """Return the agreement where the dense margin is at most its median, and where it is larger."""
    small = margin <= np.median(margin)
    parts = {"small": agrees[small], "large": agrees[~small]}
    return {f"{name}_{size}_margin": float(part.mean()) for size, part in parts.items() if len(part)}


def _sizes(kept: Floats, total: int) -> Floats:
    """Return how many outcomes each place of log-probabilities `(n, k + 1)` stands for: one, the last one for the rest of `total`."""
    return np.append(np.ones(kept.shape[1] - 1), total - (kept.shape[1] - 1))


def _commonest(answers: Array) -> float:
    _, counts = np.unique(answers, return_counts=True)
    return float(counts.max() / counts.sum())
