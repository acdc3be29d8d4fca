"""Models behind lm-eval's interface: one of ours, and one that knows nothing."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from pytest_kick.errors import ProbeError
from pytest_kick.probes.generation import generated
from pytest_kick.probes.likelihood import Likelihood, encode_pairs, opening_of, window_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.tokens import Ids

    Pair = tuple[Ids, Ids]

MAX_GEN_TOKS = 256  # where a task does not say, as lm-eval's own model has it


class Encoder:
    """Turn lm-eval's requests into ids with one tokenizer, each once."""

    def __init__(self, model: LoadedModel) -> None:
        """Take the tokenizer of a model."""
        self._known: dict[tuple[str, str], Pair] = {}
        self._windows: dict[str, list[Pair]] = {}
        self._size = window_of(model)

    def pairs(self, model: LoadedModel, asked: Sequence[tuple[str, str]]) -> list[Pair]:
        """Return context and target ids of each `(context, continuation)`."""
        fresh = [pair for pair in dict.fromkeys(asked) if pair not in self._known]
        self._known |= dict(zip(fresh, encode_pairs(model, fresh), strict=True))
        return [self._known[pair] for pair in asked]

    def windows(self, model: LoadedModel, text: str) -> list[Pair]:
        """Return the pairs that a text falls into: each token is a target once, after as much of the text as fits."""
        if text not in self._windows:
            ids = model.tokenizer.encode(text, verbose=False)
            rolling = get_rolling_token_windows(ids, opening_of(model), self._size, 1)
            self._windows[text] = [(tuple(before), tuple(after)) for before, after in map(make_disjoint_window, rolling)]
        return self._windows[text]


class KickLM(LM):  # type: ignore[misc] # lm-eval ships no types
    """Answer lm-eval's requests with a loaded model, as its weights are now.

    Attributes:
        work: what was run.
    """

    def __init__(
        self,
        model: LoadedModel,
        encoder: Encoder | None = None,
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Take a model, cast to the dtype and device of the forward pass, and the encoder of its tokenizer."""
        super().__init__()
        self._model, self._encoder = model, encoder or Encoder(model)
        self._batch_size, self._progress = batch_size, progress
        self.work: dict[str, float] = {"tokens": 0.0, "padding": 0.0, "passes": 0.0, "truncated": 0.0}

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return log-probability and greediness of each continuation after its context."""
        return self._scored(self._encoder.pairs(self._model, [request.args[:2] for request in requests]))

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Return the log-probability of each text, in windows that do not overlap where they are scored."""
        windows = [self._encoder.windows(self._model, request.args[0]) for request in requests]
        found = iter(self._scored([pair for each in windows for pair in each]))
        return [math.fsum(next(found)[0] for _ in each) for each in windows]

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return the greedy continuation of each context, cut at the first of its stop strings.

        Raises:
            ProbeError: a task asks for sampling.
        """
        texts = [""] * len(requests)
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(number)
        done = 0
        for numbers in groups.values():
            asked = normalize_gen_kwargs(requests[numbers[0]].args[1], MAX_GEN_TOKS)
            if asked["do_sample"]:
                msg = f"lm_eval: {requests[numbers[0]].task_name}: do_sample: got true, expected greedy generation. Choose another task."
                raise ProbeError(msg)
            found = generated(
                self._model,
                [requests[number].args[0] for number in numbers],
                max_new_tokens=asked["max_gen_toks"],
                stop=[mark for mark in handle_stop_sequences(asked.get("until"), None) if mark],
                batch_size=self._batch_size,
            )
            for number, text in zip(numbers, found.texts, strict=True):
                texts[number] = text
            self._count(found.work)
            done += len(numbers)
            if self._progress:
                self._progress(done, len(requests))
        return texts

    def _scored(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        engine = Likelihood(self._model)
        scored = engine.score(pairs, batch_size=self._batch_size, progress=self._progress)
        work = engine.work
        self._count({"tokens": work.tokens, "padding": work.padding, "passes": work.passes, "truncated": scored.truncated.sum()})
        return list(zip(scored.logprob.tolist(), scored.greedy.tolist(), strict=True))

    def _count(self, work: dict[str, Any]) -> None:
        for name in self.work:
            self.work[name] += float(work.get(name, 0))


class NothingLM(KickLM):
    """Answer as a model of constant logits does: every token as likely as any other, and nothing written."""

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Return nothing for each context."""
        return [""] * len(requests)

    def _scored(self, pairs: list[Pair]) -> list[tuple[float, bool]]:
        nats = math.log(self._model.module.config.get_text_config().vocab_size)
        return [(-nats * len(target), False) for _, target in pairs]
