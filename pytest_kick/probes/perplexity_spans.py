"""The loss of encoder-decoders on hidden spans: the decoder writes what the encoder was not shown."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from pytest_kick.calibration.corrupt import spans
from pytest_kick.errors import ProbeError
from pytest_kick.probes.forward import BLOCK_LOGITS, ROW_TOKENS, Work
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.trie import pad_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_kick.calibration.corrupt import Reader
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.perplexity_windows import Window
    from pytest_kick.probes.trie import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Spanned:
    """Hold what an encoder-decoder is asked of a window.

    Attributes:
        shown: what the encoder reads.
        read: what the decoder reads; it predicts the next one at each place.
        places: of `read`, after which a hidden token comes.
        hidden: those tokens; no sentinel is among them.
        bytes: of UTF-8 that they stand for.
    """

    shown: tuple[int, ...]
    read: tuple[int, ...]
    places: tuple[int, ...]
    hidden: tuple[int, ...]
    bytes: int


def hide(window: Window, reader: Reader, seed: int) -> Spanned:
    """Return a window with spans hidden, 15% of the tokens, as in pretraining; which they are depends on seed and id alone.

    Source: Raffel et al., T5 (2020), 3.1.4; where the tokenizer has no sentinels, text infilling of Lewis et al., BART (2020): the
    decoder writes the whole window, and hidden tokens alone are scored.
    """
    rng = f"{seed} {window.id}"
    sample = reader.sample(window.tokens, random.Random(rng))  # noqa: S311 - no secret is made
    place = 0 if reader.sentinels else len(reader.prefix)
    places: list[int] = []
    hidden: list[int] = []
    n_bytes = token = 0
    for kept, span in spans(window.tokens, random.Random(rng)):  # noqa: S311 - the same draws again
        token += len(kept)
        place += 1 if reader.sentinels else len(kept)
        places += range(place, place + len(span))
        hidden += span
        n_bytes += sum(window.bytes[token : token + len(span)])
        token += len(span)
        place += len(span)
    return Spanned(shown=sample.input_ids, read=sample.decoder_input_ids, places=tuple(places), hidden=tuple(hidden), bytes=n_bytes)


@torch.inference_mode()
def span_nats(
    model: LoadedModel, asked: Sequence[Spanned], batch_size: int | None = None, progress: Callable[[int, int], None] | None = None
) -> tuple[NDArray[np.float64], Work]:
    """Return what the hidden tokens of each window cost, `(n,)` nats, and what was run.

    Args:
        model: an encoder-decoder, cast to the dtype and device of the forward pass.
        asked: at least one.
        batch_size: windows per pass; None for as many as fit.
        progress: called with the numbers of windows done and asked.

    Raises:
        ProbeError: a logit is NaN or infinite.
    """
    head, work, nats, done = ScoredHead(model), Work(), np.zeros(len(asked)), 0
    for batch in _batches(model, asked, batch_size):
        rows = [asked[number] for number in batch]
        shown, read = pad_rows([row.shown for row in rows], 0), pad_rows([row.read for row in rows], 0)
        lengths = np.asarray([len(row.shown) for row in rows], np.int64)
        counts = np.asarray([len(row.hidden) for row in rows], np.int64)
        owner = np.repeat(np.arange(len(rows)), counts)
        logits, _ = head.run(
            _tensor(model, owner * read.shape[1] + np.concatenate([row.places for row in rows])),
            input_ids=_tensor(model, shown),
            attention_mask=_tensor(model, np.arange(shown.shape[1]) < lengths[:, None]),
            decoder_input_ids=_tensor(model, read),
            use_cache=False,
        )
        if not bool(torch.isfinite(logits).all()):
            msg = f"probe perplexity: model {model.name!r}: got NaN or infinite logits, expected finite ones. The compression broke it."
            raise ProbeError(msg)
        gold = _tensor(model, np.concatenate([row.hidden for row in rows]))
        cost = torch.nn.functional.cross_entropy(logits, gold, reduction="none").double().cpu().numpy()
        nats[batch] = np.bincount(owner, weights=cost, minlength=len(rows))
        n_read = sum(len(row.read) for row in rows)
        work.add(int(lengths.sum()) + n_read, shown.size + read.size, len(cost))
        done += len(batch)
        if progress:
            progress(done, len(asked))
    return nats, work


def _batches(model: LoadedModel, asked: Sequence[Spanned], batch_size: int | None) -> Iterator[Ints]:
    """Yield the numbers of windows that run together: of nearly one length, their logits bounded."""
    vocabulary = int(model.module.config.get_text_config().vocab_size)
    order = np.argsort([len(row.shown) for row in asked], kind="stable")
    most = max(len(row.hidden) for row in asked) * vocabulary, max(len(row.shown) for row in asked)
    size = batch_size or max(1, min(BLOCK_LOGITS // most[0], ROW_TOKENS // most[1]))
    yield from (order[begin : begin + size] for begin in range(0, len(order), size))


def _tensor(model: LoadedModel, values: Ints | NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(model.device)
