"""What a model is shown of a text besides the text itself: masks for encoders, missing spans for encoder-decoders."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_kick.calibration.batches import Sample
from pytest_kick.errors import CalibrationError

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from pytest_kick.models.loaded import LoadedModel

SHARE = 0.15
MEAN_SPAN = 3
_MASKED, _REPLACED = 0.8, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Hold what a tokenizer and a family need to make a sample of a window.

    Attributes:
        family: `encoder`, `encoder-decoder` or `decoder`.
        prefix: special tokens before plain text.
        suffix: special tokens after it.
        mask: id of the mask token; None where there is none.
        sentinels: ids of T5's sentinels in order; empty where there are none.
        start: id that begins what a decoder of an encoder-decoder reads.
        ordinary: ids that are no special tokens: what a random token is drawn from.
    """

    family: str
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    mask: int | None
    sentinels: tuple[int, ...]
    start: int | None
    ordinary: tuple[int, ...]

    @property
    def n_special(self) -> int:
        """Return the special tokens around each window."""
        return len(self.prefix) + len(self.suffix)

    def most(self) -> int | None:
        """Return the most tokens of a window, where the sentinels bound them: one for each span, and one to close."""
        return int((len(self.sentinels) - 1) * MEAN_SPAN / SHARE) if self.family == "encoder-decoder" and self.sentinels else None

    def sample(self, window: Sequence[int], rng: random.Random) -> Sample:
        """Return what the model reads of a window of plain tokens.

        Decoders read it as it is. Encoders: 15% of the tokens are chosen; of these 80% become the mask, 10% a random token, 10% stay,
        as in pretraining. Encoder-decoders with sentinels: spans of 3 tokens on average, 15% in all, are replaced by sentinels, and
        the decoder reads sentinels and spans. Encoder-decoders without them (BART): a mask stands for each span, and the decoder
        reads the whole window.

        Source: Devlin et al., BERT (2019), 3.1; Raffel et al., T5 (2020), 3.1.4; Lewis et al., BART (2020), text infilling.
        """
        if self.family == "encoder":
            return Sample(input_ids=(*self.prefix, *self._masked(window, rng), *self.suffix))
        if self.family == "encoder-decoder":
            return self._with_spans(window, rng)
        return Sample(input_ids=(*self.prefix, *window, *self.suffix))

    def _masked(self, window: Sequence[int], rng: random.Random) -> list[int]:
        ids = list(window)
        assert self.mask is not None, "reader_of has checked it"
        for place in rng.sample(range(len(ids)), max(1, round(SHARE * len(ids)))):
            drawn = rng.random()
            if drawn < _MASKED:
                ids[place] = self.mask
            elif drawn < _REPLACED:
                ids[place] = rng.choice(self.ordinary)
        return ids

    def _with_spans(self, window: Sequence[int], rng: random.Random) -> Sample:
        shown: list[int] = []
        hidden: list[int] = []
        for number, (kept, span) in enumerate(spans(window, rng)):
            mark = self.sentinels[number] if self.sentinels else self.mask
            assert mark is not None, "reader_of has checked it"
            shown += [*kept, mark]
            hidden += [mark, *span]
            closing = number + 1
        target = [*hidden, self.sentinels[closing]] if self.sentinels else [*self.prefix, *window]
        assert self.start is not None, "reader_of has checked it"
        # The decoder reads its target shifted by one: the last special token is only ever written.
        read = (self.start, *target, *self.suffix[:-1]) if self.suffix else (self.start, *target[:-1])
        return Sample(input_ids=(*self.prefix, *shown, *self.suffix), decoder_input_ids=read)


def spans(window: Sequence[int], rng: random.Random) -> list[tuple[list[int], list[int]]]:
    """Cut a window into pairs of a kept and a hidden piece, none empty; the last piece is hidden.

    Args:
        window: at least 2 tokens.
        rng: draws the lengths.

    Source: Raffel et al., T5 (2020), as its code draws them: the number of hidden tokens and of spans is fixed, their lengths are a
    random composition.
    """
    n_hidden = min(max(round(SHARE * len(window)), 1), len(window) - 1)
    n_spans = max(1, min(round(n_hidden / MEAN_SPAN), n_hidden, len(window) - n_hidden))
    hidden, kept = _composition(n_hidden, n_spans, rng), _composition(len(window) - n_hidden, n_spans, rng)
    found = []
    place = 0
    for k, h in zip(kept, hidden, strict=True):
        found.append((list(window[place : place + k]), list(window[place + k : place + k + h])))
        place += k + h
    return found


def _composition(total: int, parts: int, rng: random.Random) -> list[int]:
    cuts = [0, *sorted(rng.sample(range(1, total), parts - 1)), total]
    return [after - before for before, after in pairwise(cuts)]


def reader_of(model: LoadedModel) -> Reader:
    """Return how windows are made into samples for a model.

    Raises:
        CalibrationError: the tokenizer lacks the mask, or an encoder-decoder both sentinels and a mask, or a start token.
    """
    tokenizer: Any = model.tokenizer  # transformers' base class lacks these attributes
    vocabulary = tokenizer.get_vocab()
    sentinels: list[int] = []
    while f"<extra_id_{len(sentinels)}>" in vocabulary:
        sentinels.append(vocabulary[f"<extra_id_{len(sentinels)}>"])
    prefix, suffix = tuple(model.prompt_ids("")), ()
    if model.family != "decoder":
        plain, whole = (tokenizer.encode("a", add_special_tokens=special) for special in (False, True))
        at = next((i for i in range(len(whole)) if whole[i : i + len(plain)] == plain), 0)
        prefix, suffix = tuple(whole[:at]), tuple(whole[at + len(plain) :])
    reader = Reader(
        family=model.family,
        prefix=prefix,
        suffix=suffix,
        mask=tokenizer.mask_token_id,
        sentinels=tuple(sentinels),
        start=getattr(model.module.config, "decoder_start_token_id", None),
        ordinary=tuple(sorted(set(vocabulary.values()) - set(tokenizer.all_special_ids) - set(sentinels))),
    )
    lacking = reader.mask is None and (model.family == "encoder" or (model.family == "encoder-decoder" and not sentinels))
    if lacking or (model.family == "encoder-decoder" and reader.start is None):
        what = "a mask token" if model.family == "encoder" else "sentinels or a mask, and a decoder start token"
        msg = (
            f"calibration: model {model.name!r}: got a tokenizer without {what}, expected it for this {model.family}. Choose another model."
        )
        raise CalibrationError(msg)
    return reader
