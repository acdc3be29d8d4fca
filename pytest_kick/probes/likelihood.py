"""Log-likelihood of continuations, for decoders and encoder-decoders: the one engine behind lm-eval's tasks and all choices.

What is asked is a pair of a context and a target, both in token ids. A decoder reads them as one sequence; an encoder-decoder has the
context in its encoder and the target in its decoder. `encode_pair` cuts text into such a pair as lm-evaluation-harness does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_kick.errors import ProbeError
from pytest_kick.probes.forward import BLOCK_LOGITS, ROW_TOKENS, Work
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.tokens import Ids

BATCH_SIZE = 64
DEFAULT_WINDOW = 2048  # of a model that says nothing of its own, as lm-eval has it
UNSET_WINDOW = 10**12  # transformers writes a larger number where a tokenizer knows none


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scored:
    """Hold what was found of n targets, in the order asked.

    Attributes:
        logprob: `(n,)` float64: sum of the log-probabilities of the target's tokens, nats.
        greedy: `(n,)` bool: each token of the target is the single most likely one.
        n_tokens: `(n,)` int64: tokens of the target that were scored.
        truncated: `(n,)` bool: context and target were longer than the model's window, and lost tokens on the left.
    """

    logprob: NDArray[np.float64]
    greedy: NDArray[np.bool_]
    n_tokens: Ints
    truncated: NDArray[np.bool_]


def encode_pair(model: LoadedModel, context: str, continuation: str) -> tuple[Ids, Ids]:
    """Return the ids of a context and of what continues it, as lm-eval encodes them.

    Spaces at the end of the context move to the continuation. A decoder's target is what the whole text has beyond the context's ids;
    an encoder-decoder's parts are encoded apart, the context with its special tokens. An empty context is the token that opens a text.
    """
    tokenizer: Any = model.tokenizer
    opening = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    bare = context.rstrip()
    target_text = context[len(bare) :] + continuation
    if not bare:
        target = tokenizer.encode(target_text, add_special_tokens=False)
        before = () if opening is None or target[:1] == [opening] else (opening,)
        return (before, tuple(target)) if before else (tuple(target[:1]), tuple(target[1:]))
    marked = opening is not None and context.startswith(tokenizer.decode([opening]))
    ids = tokenizer.encode(bare, add_special_tokens=not marked)
    if model.family == "encoder-decoder":
        return tuple(ids), tuple(tokenizer.encode(target_text, add_special_tokens=False))
    return tuple(ids), tuple(tokenizer.encode(bare + target_text, add_special_tokens=not marked)[len(ids) :])


def window_of(model: LoadedModel) -> int:
    """Return how many tokens a model takes: from its configuration, else its tokenizer, else lm-eval's 2048."""
    config = getattr(model.module.config, "text_config", None) or model.module.config
    for field in ("n_positions", "max_position_embeddings", "n_ctx"):
        if getattr(config, field, None) is not None:
            return int(getattr(config, field))
    given = getattr(model.tokenizer, "model_max_length", None)
    return DEFAULT_WINDOW if given is None or given > UNSET_WINDOW else int(given)


class Likelihood:
    """Score targets with one model, as its weights are now.

    Attributes:
        work: what was run so far.
    """

    def __init__(self, model: LoadedModel) -> None:
        """Take a model, cast to the dtype and device of the forward pass.

        Raises:
            ProbeError: it is an encoder, has no vocabulary layer, or lacks the token its decoder starts with.
        """
        start = getattr(model.module.config, "decoder_start_token_id", None)
        if model.family == "encoder" or (model.family == "encoder-decoder" and start is None):
            got = "an encoder" if model.family == "encoder" else "an encoder-decoder without a decoder start token"
            msg = f"likelihood: model {model.name!r}: got {got}, expected a model that continues a text. Choose another model or probe."
            raise ProbeError(msg)
        self._model, self._start = model, start
        self._head = ScoredHead(model)
        self._window = window_of(model)
        self.work = Work()

    @torch.inference_mode()
    def score(
        self,
        asked: Sequence[tuple[Ids, Ids]],
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Scored:
        """Return the log-likelihood of each target after its context.

        Args:
            asked: context and target ids, neither empty.
            batch_size: sequences per pass; None for 64, fewer where they are long.
            progress: called with the numbers of targets done and asked.

        Raises:
            ProbeError: a context or a target is empty, or a logit is NaN or infinite.
        """
        empty = next((number for number, pair in enumerate(asked) if not all(pair)), None)
        if empty is not None:
            what = "target" if asked[empty][0] else "context"
            msg = f"likelihood: asked[{empty}]: got an empty {what}, expected a token. Exclude what the tokenizer cannot encode."
            raise ProbeError(msg)
        cut = [self._cut(*pair) for pair in asked]
        logprob, greedy = np.zeros(len(asked)), np.zeros(len(asked), np.bool_)
        lengths = np.asarray([len(context) + len(target) for context, target in cut], np.int64)
        done = 0
        for batch in self._batches(lengths, [len(target) for _, target in cut], batch_size or BATCH_SIZE):
            logprob[batch], greedy[batch] = self._batch([cut[number] for number in batch])
            done += len(batch)
            if progress:
                progress(done, len(asked))
        truncated = [sum(map(len, before)) > sum(map(len, after)) for before, after in zip(asked, cut, strict=True)]
        n_tokens = np.asarray([len(target) for _, target in cut], np.int64)
        return Scored(logprob=logprob, greedy=greedy, n_tokens=n_tokens, truncated=np.asarray(truncated, np.bool_))

    def _cut(self, context: Ids, target: Ids) -> tuple[Ids, Ids]:
        """Return a pair as far as it fits: a decoder's window need not hold the last token, which it only predicts."""
        kept = target[-self._window :]
        if self._start is not None and self._model.family == "encoder-decoder":
            return context[-self._window :], kept
        return context[-(self._window + 1 - len(kept)) :], kept

    def _batches(self, lengths: Ints, n_targets: Sequence[int], batch_size: int) -> Iterator[Ints]:
        """Yield groups of nearly one length, longest first."""
        vocabulary = int(self._model.module.config.get_text_config().vocab_size)
        order = np.argsort(-lengths, kind="stable")
        begin = 0
        for end in range(1, len(order) + 1):
            here = order[begin : end + 1]
            area = len(here) * int(lengths[here[0]])
            scored = sum(n_targets[number] for number in here)
            if end == len(order) or len(here) > batch_size or area > ROW_TOKENS * 4 or scored * vocabulary > BLOCK_LOGITS:
                yield order[begin:end]
                begin = end

    def _batch(self, pairs: Sequence[tuple[Ids, Ids]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        targets = [target for _, target in pairs]
        counts = np.asarray([len(target) for target in targets], np.int64)
        row = np.repeat(np.arange(len(pairs)), counts)
        step = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        if self._model.family == "encoder-decoder":
            contexts = [context for context, _ in pairs]
            ids = pad_rows([(self._start or 0, *target[:-1]) for target in targets], 0)
            encoded = pad_rows(contexts, 0)
            inputs = {"input_ids": self._tensor(encoded), "attention_mask": self._here(encoded, contexts), "decoder_input_ids": ids}
            inputs["decoder_input_ids"] = self._tensor(ids)
            self.work.add(sum(map(len, contexts)) + int(counts.sum()), encoded.size + ids.size, len(row))
        else:
            rows = [(*context, *target)[:-1] for context, target in pairs]
            ids = pad_rows(rows, 0)
            step += np.repeat([len(context) - 1 for context, _ in pairs], counts)
            inputs = {"input_ids": self._tensor(ids), "attention_mask": self._here(ids, rows)}
            self.work.add(sum(map(len, rows)), ids.size, len(row))
        logits, _ = self._head.run(self._tensor(row * ids.shape[1] + step), **inputs, use_cache=False)
        logprobs, best = self._read(logits, self._tensor(np.concatenate(targets)))
        missed: Any = np.bincount(row, weights=~best, minlength=len(pairs))
        sums: Any = np.bincount(row, weights=logprobs, minlength=len(pairs))
        return sums, missed == 0

    def _read(self, logits: torch.Tensor, tokens: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the log-probability of tokens `(M,)` under logits `(M, vocabulary)`, and whether each is the single best."""
        least, most = torch.aminmax(logits, dim=-1)
        if not bool((torch.isfinite(least) & torch.isfinite(most)).all()):
            msg = f"likelihood: model {self._model.name!r}: got NaN or infinite logits, expected finite ones."
            msg += " The compression or the dtype broke it."
            raise ProbeError(msg)
        own = logits.gather(1, tokens[:, None])[:, 0]
        best = own == most
        places = torch.nonzero(best)[:, 0]
        best[places] = (logits[places] == most[places, None]).sum(1) == 1  # equal logits for all tokens say nothing
        return (own - torch.logsumexp(logits, -1)).double().cpu().numpy(), best.cpu().numpy()

    def _tensor(self, values: Any) -> torch.Tensor:  # noqa: ANN401 - an array of ints
        return torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(self._model.device)

    def _here(self, ids: Ints, rows: Sequence[Ids]) -> torch.Tensor:
        """Return the mask of what is no padding."""
        lengths = np.asarray([len(row) for row in rows], np.int64)
        return self._tensor(np.arange(ids.shape[1])[None] < lengths[:, None])
