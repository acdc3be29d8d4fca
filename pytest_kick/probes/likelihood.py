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
from pytest_kick.probes.forward import Work
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.likelihood_forward import rows_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.likelihood_forward import Block
    from pytest_kick.probes.tokens import Ids
    from pytest_kick.probes.trie import Ints

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


def opening_of(model: LoadedModel) -> int | None:
    """Return the token that stands for an empty context, as lm-eval has it: what opens a text, else what ends it; None for neither."""
    tokenizer: Any = model.tokenizer
    found: int | None = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return found


def encode_pair(model: LoadedModel, context: str, continuation: str) -> tuple[Ids, Ids]:
    """Return the ids of a context and of what continues it, see `encode_pairs`."""
    return encode_pairs(model, [(context, continuation)])[0]


def encode_pairs(model: LoadedModel, pairs: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
    """Return the ids of contexts and of what continues them, as lm-eval encodes them.

    Spaces at the end of a context move to the continuation. A decoder's target is what the whole text has beyond the context's ids;
    an encoder-decoder's parts are encoded apart, the context with its special tokens. An empty context is the token that opens a text.
    """
    opening = opening_of(model)
    mark = None if opening is None else str(model.tokenizer.decode([opening]))
    bare = [context.rstrip() for context, _ in pairs]
    targets = [context[len(text) :] + continuation for text, (context, continuation) in zip(bare, pairs, strict=True)]
    special = [bool(text) and not (mark and text.startswith(mark)) for text in bare]
    if model.family == "decoder":
        known = _encoded(model, [*zip(bare, special, strict=True), *((a + b, c) for a, b, c in zip(bare, targets, special, strict=True))])
        whole = [known[text + target, own] for text, target, own in zip(bare, targets, special, strict=True)]
        found = [(known[text, own], all_[len(known[text, own]) :]) for text, own, all_ in zip(bare, special, whole, strict=True)]
    else:
        known = _encoded(model, [*zip(bare, special, strict=True), *((target, False) for target in targets)])
        found = [(known[text, own], known[target, False]) for text, own, target in zip(bare, special, targets, strict=True)]
    return [pair if text else _opened(pair[1], opening) for text, pair in zip(bare, found, strict=True)]


def _encoded(model: LoadedModel, asked: Iterable[tuple[str, bool]]) -> dict[tuple[str, bool], Ids]:
    """Return the ids of texts, each with or without the tokenizer's special tokens."""
    tokenizer: Any = model.tokenizer
    wanted = list(dict.fromkeys(asked))
    found: dict[tuple[str, bool], Ids] = {}
    for special in (False, True):
        texts = [text for text, own in wanted if own == special]
        ids = tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"] if texts else []
        found |= {(text, special): tuple(row) for text, row in zip(texts, ids, strict=True)}
    return found


def _opened(target: Ids, opening: int | None) -> tuple[Ids, Ids]:
    """Return a target behind the opening token; where it begins with that one itself, that is its context."""
    return (target[:1], target[1:]) if opening is None or target[:1] == (opening,) else ((opening,), target)


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
        self._model, self._head = model, ScoredHead(model)
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
            batch_size: rows per pass; None for 64, fewer where they are long.
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
        n_tokens = np.asarray([len(target) for _, target in cut], np.int64)
        logprob, greedy = np.zeros(len(asked)), np.zeros(len(asked), np.bool_)
        rows = rows_for(self._model, self._head, max((len(context) + len(target) for context, target in cut), default=1), self.work)
        done = 0
        for block in rows.blocks(cut, batch_size or BATCH_SIZE):
            here = list(block.asked)
            logprob[here], greedy[here] = self._read(block, [cut[number][1] for number in here])
            done += len(here)
            if progress:
                progress(done, len(asked))
        truncated = [sum(map(len, before)) > sum(map(len, after)) for before, after in zip(asked, cut, strict=True)]
        return Scored(logprob=logprob, greedy=greedy, n_tokens=n_tokens, truncated=np.asarray(truncated, np.bool_))

    def _cut(self, context: Ids, target: Ids) -> tuple[Ids, Ids]:
        """Return a pair as far as it fits: a decoder's window need not hold the last token, which it only predicts."""
        kept = target[-self._window :]
        if self._model.family == "encoder-decoder":
            return context[-self._window :], kept
        return context[-(self._window + 1 - len(kept)) :], kept

    def _read(self, block: Block, targets: list[Ids]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the log-probability of each target of a block, and whether all its tokens are the single best; overwrites the logits."""
        logits = block.logits
        least, most = torch.aminmax(logits, dim=-1)
        if not bool((torch.isfinite(least) & torch.isfinite(most)).all()):
            msg = f"likelihood: model {self._model.name!r}: got NaN or infinite logits, expected finite ones."
            msg += " The compression or the dtype broke it."
            raise ProbeError(msg)
        rows = torch.from_numpy(np.concatenate(block.rows)).to(logits.device)
        own = logits[rows, torch.tensor([token for target in targets for token in target], device=logits.device)]
        best = own == most[rows]
        tops, inverse = torch.unique(rows[best], return_inverse=True)
        # Equal logits for all tokens say nothing: the best one has to be alone.
        best[best.clone()] = ((logits[tops] == most[tops, None]).sum(1) == 1)[inverse]
        sums = most.double() + logits.sub_(most[:, None]).exp_().sum(-1).double().log()
        logprobs = (own.double() - sums[rows]).cpu().numpy()
        begins = np.cumsum([0, *(len(target) for target in targets[:-1])])
        return np.add.reduceat(logprobs, begins), np.logical_and.reduceat(best.cpu().numpy(), begins)
