"""The probe `perplexity`: what running text costs a model, in nats per token.

Decoders read raw text; encoder-decoders write hidden spans; encoders are asked for each word, its own and later tokens of it masked.
The three figures are not comparable with each other, only each with the dense model's. See `docs/probes.md`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.data_sets.source import DataSource
from pytest_kick.data_sets.texts import NAMES, read_passages
from pytest_kick.errors import ProbeError
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.likelihood import Likelihood
from pytest_kick.probes.perplexity_spans import hide, span_nats
from pytest_kick.probes.perplexity_windows import Cut, cut
from pytest_kick.probes.pseudo import PseudoLikelihood

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from pytest_kick.calibration.corrupt import Reader
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.perplexity_windows import Window
    from pytest_kick.result import ProbeScore

    Progress = Callable[[int, int], None] | None

CHARACTERS_PER_TOKEN = 16
"""Text taken of a data set for each token asked for, so that the windows are a choice; see `calibration.sources`."""
SCORINGS = {
    "decoder": ("perplexity", "log-likelihood"),
    "encoder-decoder": ("span_perplexity", "hidden spans"),
    "encoder": ("pseudo_perplexity", "pseudo-log-likelihood within words"),
}
"""Family -> the name of exp(nats per token), and how they are found."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Costs:
    """Hold of n windows: nats, `(n,)` float64, and the tokens and bytes that they were paid for, `(n,)` int64."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes: NDArray[np.int64]
    work: dict[str, float]


class Perplexity:
    """Score windows of a text; what depends on the tokenizer alone is prepared once and kept.

    Attributes:
        name: `perplexity`.
        version: of the scoring; a change makes stored scores incomparable.
    """

    name: ClassVar[str] = "perplexity"
    version: ClassVar[int] = 1

    def __init__(self, context: ProbeContext) -> None:
        """Take the parameters.

        Raises:
            ProbeError: a file goes by the name of one of the texts.
        """
        self._spec = context.spec
        self._source = DataSource(directory=context.data, offline=context.offline)
        self._text = context.spec.named("text")
        self._length, self._n_windows, self._seed = (int(context.spec.param(name)) for name in ("length", "windows", "seed"))
        self._cuts: dict[tuple[str, str, int], Cut] = {}
        if self._text not in NAMES and context.spec.param("text") in NAMES:
            msg = f"probe {context.spec.id}: text: got {self._text!r}, expected another name than {', '.join(NAMES)}. Rename the file."
            raise ProbeError(msg)

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Progress = None,
    ) -> ProbeScore:
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: windows of those that the parameters choose; None for all.
            seed: of that sample; the parameter `seed` says which windows of the text are chosen in the first place.
            batch_size: windows per pass; None for the engines' choice.
            progress: called with the numbers of windows done and asked.

        Raises:
            DataError: the text cannot be read.
            ProbeError: logits are NaN or infinite, or the text has no window.
        """
        found = self._cut(model)
        windows = _chosen(found.windows, self._n_windows or None, self._seed)
        windows = _chosen(windows, limit, seed)
        if not windows:
            msg = (
                f"probe {self._spec.id}: model {model.name!r}: text: got {self._text!r} without two tokens, expected more. Choose another."
            )
            raise ProbeError(msg)
        score = {"decoder": _continue, "encoder-decoder": self._fill, "encoder": _guess}[model.family]
        costs = score(model, windows, found.reader, batch_size, progress)
        return self._assemble(model, found, windows, costs)

    def _cut(self, model: LoadedModel) -> Cut:
        key = (model.tokenizer_hash, model.architecture_hash, self._length)
        if key not in self._cuts:
            passages = read_passages(self._text, self._source, self._n_windows * self._length * CHARACTERS_PER_TOKEN)
            self._cuts[key] = cut(passages, model, self._length)
        return self._cuts[key]

    def _fill(self, model: LoadedModel, windows: Sequence[Window], reader: Reader, batch_size: int | None, progress: Progress) -> _Costs:
        asked = [hide(window, reader, self._seed) for window in windows]
        nats, work = span_nats(model, asked, batch_size, progress)
        tokens, n_bytes = (np.asarray(values, np.int64) for values in zip(*((len(a.hidden), a.bytes) for a in asked), strict=True))
        return _Costs(nats=nats, tokens=tokens, bytes=n_bytes, work=_work(work.tokens, work.scored, work.passes))

    def _assemble(self, model: LoadedModel, found: Cut, windows: Sequence[Window], costs: _Costs) -> ProbeScore:
        uniform = math.log(model.module.config.get_text_config().vocab_size)
        shown, scoring = SCORINGS[model.family]
        unknown = model.tokenizer.unk_token_id
        n_unknown = 0 if unknown is None else sum(window.tokens.count(unknown) for window in windows)
        score = assembled(
            self._spec,
            version=self.version,
            ids=[window.id for window in windows],
            groups=[window.group for window in windows],
            hashes=[content_hash(scoring, self._seed, window.tokens) for window in windows],
            arrays={
                "nats_per_token": costs.nats / costs.tokens,
                "nats": costs.nats.astype(np.float32),
                "tokens": costs.tokens.astype(np.int32),
                "bytes": costs.bytes.astype(np.int32),
            },
            floors={"nats_per_token": uniform},
            trivial={"chance": uniform},
            excluded={"fewer than two tokens": found.n_short} if found.n_short else {},
            settings={"scoring": scoring, "length": found.length, "of_windows": len(found.windows)},
            work=costs.work | {"unknown_tokens": float(n_unknown)},
        )
        nats = score.metrics["nats_per_token"]
        # A broken model may cost more than exp can say.
        more = {shown: math.exp(min(nats, 700.0)), "bits_per_byte": float(costs.nats.sum() / costs.bytes.sum()) / math.log(2)}
        return replace(score, metrics={**score.metrics, **more})


def make(context: ProbeContext) -> Perplexity:
    """Make the probe for a suite's text."""
    return Perplexity(context)


def _chosen(windows: Sequence[Window], limit: int | None, seed: int) -> Sequence[Window]:
    ids, groups = [window.id for window in windows], [window.group for window in windows]
    return [windows[place] for place in sampled(ids, groups, limit, seed)]


def _continue(model: LoadedModel, windows: Sequence[Window], reader: Reader, batch_size: int | None, progress: Progress) -> _Costs:
    """Score a decoder: each token after those before it; without an opening token the first one is read, not predicted."""
    n_read = 0 if reader.prefix else 1
    asked = [(reader.prefix or window.tokens[:1], window.tokens[n_read:]) for window in windows]
    engine = Likelihood(model)
    scored = engine.score(asked, batch_size=batch_size, progress=progress)
    n_bytes = np.asarray([sum(window.bytes[n_read:]) for window in windows], np.int64)
    work = _work(engine.work.tokens, engine.work.scored, engine.work.passes)
    return _Costs(nats=-scored.logprob, tokens=scored.n_tokens, bytes=n_bytes, work=work)


def _guess(model: LoadedModel, windows: Sequence[Window], reader: Reader, batch_size: int | None, progress: Progress) -> _Costs:
    """Score an encoder; a window is cut anew by itself, which at its edges may give a token more or less."""
    del reader
    scored = PseudoLikelihood(model).score([window.text for window in windows], batch_size=batch_size, progress=progress)
    n_bytes = np.asarray([len(window.text.encode()) for window in windows], np.int64)
    work = _work(scored.tokens, int(scored.n_tokens.sum()), scored.passes) | {"truncated": float(scored.truncated.sum())}
    return _Costs(nats=-scored.logprob, tokens=scored.n_tokens, bytes=n_bytes, work=work)


def _work(tokens: int, scored: int, passes: int) -> dict[str, float]:
    return {"tokens": float(tokens), "scored_positions": float(scored), "passes": float(passes)}
