"""Ways to read what a model says at its answers: the next-token distribution where there is one, and the sum of each option.

`BlankReader` asks as the probe `facts` does; `PairReader` scores options after their contexts by the engine of all choices, and looks at
a decoder's distribution before the first token; `TextReader` scores options within texts by an encoder, which has no such place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from pytest_kick.probes.divergence_ask import Predictions
from pytest_kick.probes.divergence_measures import evened
from pytest_kick.probes.likelihood import Likelihood
from pytest_kick.probes.pseudo import PseudoLikelihood

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.choice import Pairs
    from pytest_kick.probes.divergence_ask import Floats, Take
    from pytest_kick.probes.likelihood import Scored
    from pytest_kick.probes.likelihood_forward import Block
    from pytest_kick.probes.prepare import Prepared
    from pytest_kick.probes.pseudo import PseudoScored
    from pytest_kick.probes.tokens import Ids
    from pytest_kick.probes.trie import Ints

CHUNK = 4096  # options held as tokens at a time


class Reader(Protocol):
    """Read n examples with one model, as its weights are now."""

    def read(
        self,
        model: LoadedModel,
        take: Take,
        *,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        dense: Floats | None = None,
    ) -> tuple[Floats, Mapping[str, float]]:
        """Return sums in nats of the options of each example, `(n, W)`, `-inf` where it has fewer, and what was run.

        Args:
            model: cast to the dtype and device of the forward pass.
            take: called with places `(M,)` and the log-probabilities at their answers, `(M, vocabulary)` float32; see `Predictions.read`.
            batch_size: examples, or options, per pass.
            progress: called with the number of examples done.
            dense: `(n, W)` what the dense model says of the options.

        Raises:
            ProbeError: a logit is NaN or infinite.
        """


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BlankReader:
    """Ask prepared facts: those with the numbers `facts`, `(n,)`; `whole` answers, or their distinct first tokens."""

    prepared: Prepared
    facts: Ints
    whole: bool

    def read(
        self,
        model: LoadedModel,
        take: Take,
        *,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        dense: Floats | None = None,
    ) -> tuple[Floats, Mapping[str, float]]:
        """Read; see `Reader`."""
        asked = Predictions(model, self.prepared, whole=self.whole)
        options = asked.read(self.facts, take, batch_size=batch_size, progress=progress, dense=dense)
        return options, _ran(asked.work.tokens, asked.work.padding, asked.work.scored)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairReader:
    """Score the options of each example, pairs of a context and a target, with a decoder or an encoder-decoder.

    An encoder-decoder writes its sentinel first whatever it is asked, so that its first distribution says nothing: it is not taken.
    """

    pairs: tuple[Pairs, ...]

    def read(
        self,
        model: LoadedModel,
        take: Take,
        *,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        dense: Floats | None = None,
    ) -> tuple[Floats, Mapping[str, float]]:
        """Read; see `Reader`."""
        del dense  # every option is scored
        engine, found, vocabulary = _Reading(model), [], _vocabulary(model)
        sizes = [len(options) for options in self.pairs]
        for begin, end in chunks(sizes):
            looks = at(np.arange(begin, end), take) if model.family == "decoder" else None
            scored = engine.options(self.pairs[begin:end], looks, batch_size)
            found.append(rows_of(scored, sizes[begin:end], max(sizes), vocabulary))
            if progress:
                progress(end)
        return np.concatenate(found), _ran(engine.work.tokens, engine.work.padding, engine.work.scored)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextReader:
    """Score the options of each example as parts of texts with an encoder: of each text the characters `spans`, or all of it."""

    texts: tuple[tuple[str, ...], ...]
    spans: tuple[tuple[tuple[int, int], ...], ...] = ()

    def read(
        self,
        model: LoadedModel,
        take: Take,
        *,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
        dense: Floats | None = None,
    ) -> tuple[Floats, Mapping[str, float]]:
        """Read; see `Reader`. Nothing is taken: each token has its own masked text."""
        del take, dense
        engine, found, tokens, scored_tokens = PseudoLikelihood(model), [], 0, 0
        sizes = [len(options) for options in self.texts]
        for begin, end in chunks(sizes):
            texts = [text for options in self.texts[begin:end] for text in options]
            spans = [span for options in self.spans[begin:end] for span in options] if self.spans else None
            scored = engine.score(texts, spans, batch_size=batch_size)
            found.append(rows_of(scored, sizes[begin:end], max(sizes), _vocabulary(model)))
            tokens, scored_tokens = tokens + scored.tokens, scored_tokens + int(scored.n_tokens.sum())
            if progress:
                progress(end)
        return np.concatenate(found), _ran(tokens, 0, scored_tokens)


class _Reading(Likelihood):
    """Score options, and hand on the distribution before the first token of each example's first one."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model)
        self._owner: dict[int, int] = {}
        self._take: Take | None = None

    def options(self, pairs: Sequence[Pairs], take: Take | None, batch_size: int | None) -> Scored:
        """Score the options of examples in one line, example after example; without `take` nothing is looked at."""
        begins = np.cumsum([0, *(len(options) for options in pairs[:-1])])
        self._owner, self._take = {int(begin): place for place, begin in enumerate(begins) if take}, take
        return self.score([pair for options in pairs for pair in options], batch_size=batch_size)

    def _read(self, block: Block, targets: list[Ids]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Look at the distributions of a block before its logits are overwritten."""
        first = [(self._owner[number], int(rows[0])) for number, rows in zip(block.asked, block.rows, strict=True) if number in self._owner]
        logprobs = None
        if first:
            logprobs = torch.log_softmax(block.logits[torch.tensor([row for _, row in first], device=block.logits.device)], -1)
        found = super()._read(block, targets)  # refuses logits that are not finite
        if logprobs is not None and self._take:
            self._take(np.asarray([place for place, _ in first], np.int64), logprobs)
        return found


def at(places: Ints, take: Take) -> Take:
    """Return what takes for examples `(m,)` of a part what `take` does for their places among all."""
    return lambda here, logprobs: take(places[here], logprobs)


def chunks(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Return begin and end of groups of examples that have at most 4096 options together, one example at least."""
    found, begin, held = [], 0, 0
    for place, size in enumerate(sizes):
        if place > begin and held + size > CHUNK:
            found.append((begin, place))
            begin, held = place, 0
        held += size
    return [*found, (begin, len(sizes))]


def rows_of(scored: Scored | PseudoScored, sizes: Sequence[int], width: int, vocabulary: int) -> Floats:
    """Return sums in one line, example after example, as `(n, width)`, `-inf` where an example has fewer; see `evened`."""
    found, tokens = np.full((len(sizes), width), -np.inf), np.ones((len(sizes), width), np.int64)
    exists = np.arange(width)[None] < np.asarray(sizes)[:, None]
    found[exists], tokens[exists] = scored.logprob, np.maximum(scored.n_tokens, 1)
    return evened(found, tokens, vocabulary)


def _vocabulary(model: LoadedModel) -> int:
    return int(model.module.config.get_text_config().vocab_size)


def _ran(tokens: int, padding: int, scored: int) -> dict[str, float]:
    return {"tokens": float(tokens), "padding": float(padding), "scored_positions": float(scored)}
