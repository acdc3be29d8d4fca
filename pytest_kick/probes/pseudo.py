"""Pseudo-log-likelihood of texts for encoders: each token of a word is scored with itself and the rest of its word masked.

Scoring a token with the later tokens of its own word in sight would let the model copy the word's end (`##field` gives `Cope` away);
masking them gives words of several tokens the likelihood they deserve.
Source: Kauf and Ivanova 2023, A Better Way to Do Masked Language Model Scoring (`PLL-word-l2r`), arXiv 2305.10588.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_kick.calibration.prepare import max_length
from pytest_kick.errors import ProbeError
from pytest_kick.probes.forward import BLOCK_LOGITS
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel

    Bools = NDArray[np.bool_]
    Floats = NDArray[np.float64]

BATCH_ROWS = 256
BATCH_TOKENS = 4096  # positions of a pass where no batch size is asked for
CHUNK_ROWS = 8192  # masked copies that are compared with each other, so that equal ones run once
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PseudoScored:
    """Hold the scores of n texts.

    Attributes:
        logprob: `(n,)` float64 sums of log-probabilities, nats; 0 where nothing is scored.
        greedy: `(n,)` whether each scored token is strictly the likeliest in its place; False where nothing is scored.
        n_tokens: `(n,)` scored tokens.
        truncated: `(n,)` whether the text's beginning was cut off to fit the context.
        unknown: `(n,)` whether a scored token is the unknown one: then the score says little about the text.
        passes: calls of the model.
        tokens: positions computed, padding not counted.
    """

    logprob: Floats
    greedy: Bools
    n_tokens: Ints
    truncated: Bools
    unknown: Bools
    passes: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Texts:
    """Texts as padded arrays `(n, length)`; `word` numbers the words of a text and is -1 at special tokens and padding."""

    ids: Ints
    lengths: Ints
    word: Ints
    scored: Bools
    truncated: Bools


class PseudoLikelihood:
    """Score texts with one encoder; make a new one after its weights change."""

    def __init__(self, model: LoadedModel) -> None:
        """Take a masked language model with a fast tokenizer.

        Raises:
            ProbeError: it is none, or its tokenizer cannot say which tokens make a word.
        """
        self._model, self._tokenizer = model, model.tokenizer
        self._where = f"model {model.name!r}"
        mask = self._tokenizer.mask_token_id
        if model.family != "encoder" or mask is None:
            got = "no mask token" if model.family == "encoder" else model.family
            msg = f"{self._where}: pseudo-log-likelihood: got {got}, expected a masked language model. Use the log-likelihood."
            raise ProbeError(msg)
        if not getattr(self._tokenizer, "is_fast", False):
            msg = (
                f"{self._where}: tokenizer: got {type(self._tokenizer).__name__}, a slow one, expected a fast one, which knows"
                " words and offsets. Install `tokenizers`, or save the model with its tokenizer.json."
            )
            raise ProbeError(msg)
        self._mask: int = mask
        self._head = ScoredHead(model)
        self._limit = max_length(model)

    def score(
        self,
        texts: Sequence[str],
        spans: Sequence[tuple[int, int]] | None = None,
        *,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> PseudoScored:
        """Score texts.

        Args:
            texts: raw, without special tokens.
            spans: of each text the characters, begin and end, whose tokens are summed: those that overlap them. None for all.
            batch_size: masked copies per pass; None for as many as make 4096 positions.
            progress: called with the numbers of masked copies done and asked.

        Raises:
            ProbeError: logits are NaN or infinite.
        """
        cut = self._cut(texts, spans)
        text, place = np.nonzero(cut.scored)
        logprob, best = np.zeros(len(text)), np.zeros(len(text), np.bool_)
        order = np.argsort(cut.lengths[text], kind="stable")  # batches of nearly one length
        passes = tokens = 0
        for begin in range(0, len(order), CHUNK_ROWS):
            chosen = order[begin : begin + CHUNK_ROWS]
            for pairs, logprobs, greedy, n_tokens in self._chunk(cut, text[chosen], place[chosen], batch_size):
                logprob[chosen[pairs]], best[chosen[pairs]] = logprobs, greedy
                passes, tokens = passes + 1, tokens + n_tokens
            if progress:
                progress(min(begin + CHUNK_ROWS, len(order)), len(order))
        counts = np.bincount(text, minlength=len(texts))
        unknown = cut.scored & (cut.ids == (-1 if self._tokenizer.unk_token_id is None else self._tokenizer.unk_token_id))
        return PseudoScored(
            logprob=np.bincount(text, logprob, len(texts)).astype(np.float64),  # of no tokens NumPy makes integers
            greedy=(np.bincount(text, best, len(texts)) == counts) & (counts > 0),
            n_tokens=counts,
            truncated=cut.truncated,
            unknown=unknown.any(1),
            passes=passes,
            tokens=tokens,
        )

    def _cut(self, texts: Sequence[str], spans: Sequence[tuple[int, int]] | None) -> _Texts:
        """Turn texts into tokens, words, and which tokens are scored."""
        if not len(texts):
            none = np.zeros((0, 1), np.int64)
            return _Texts(ids=none, lengths=none[:, 0], word=none, scored=none > 0, truncated=none[:, 0] > 0)
        found: Any = self._tokenizer(list(texts), return_offsets_mapping=True, return_special_tokens_mask=True, verbose=False)
        rows: list[tuple[Ints, Ints, Ints]] = []
        truncated = []
        for number, text in enumerate(texts):
            offsets = np.asarray(found["offset_mapping"][number], np.int64).reshape(-1, 2)
            special = np.asarray(found["special_tokens_mask"][number], np.bool_)
            word = _words(text, found.word_ids(number), offsets)
            word[special] = -1
            scored = ~special
            if spans is not None:
                begin, end = spans[number]
                scored &= (offsets[:, 0] < end) & (offsets[:, 1] > begin) & (begin < end)
            kept = _kept(special, self._limit)
            truncated.append(len(kept) < len(special))
            rows.append((np.asarray(found["input_ids"][number], np.int64)[kept], word[kept], scored[kept].astype(np.int64)))
        ids, word, wanted = (pad_rows([tuple(row[part]) for row in rows], fill) for part, fill in enumerate((self._pad(), -1, 0)))
        lengths = np.asarray([len(row[0]) for row in rows], np.int64)
        return _Texts(ids=ids, lengths=lengths, word=word, scored=wanted > 0, truncated=np.asarray(truncated))

    @torch.inference_mode()
    def _chunk(
        self, cut: _Texts, text: Ints, place: Ints, batch_size: int | None
    ) -> Iterator[tuple[Ints, NDArray[np.float32], Bools, int]]:
        """Yield, pass by pass, which of the pairs `(text, place)` it scores, their log-probabilities, whether they are greedy, and tokens.

        Texts that differ in a masked word alone have the same masked copy: it runs once.
        """
        width = int(cut.lengths[text].max())
        ids, word = cut.ids[text, :width], cut.word[text, :width]
        masked = (word == word[np.arange(len(text)), place][:, None]) & (np.arange(width) >= place[:, None])
        rows = np.where(masked, self._mask, ids)
        keyed, copy = np.unique(np.column_stack([cut.lengths[text], place, rows]), axis=0, return_inverse=True)
        copy = copy.reshape(-1)  # its shape differs between versions of NumPy
        gold = cut.ids[text, place]
        by_copy = np.argsort(copy, kind="stable")
        for begin, end in self._batches(keyed[:, 0], batch_size):
            batch = keyed[begin:end]
            length = int(batch[:, 0].max())
            pairs = by_copy[slice(*np.searchsorted(copy[by_copy], (begin, end)))]
            logits = self._run(batch[:, 2 : 2 + length], batch[:, 0], batch[:, 1])
            logprobs, greedy = _read(logits, self._tensor(copy[pairs] - begin), self._tensor(gold[pairs]), self._where)
            yield pairs, logprobs, greedy, int(batch[:, 0].sum())

    def _batches(self, lengths: Ints, batch_size: int | None) -> Iterator[tuple[int, int]]:
        """Yield begin and end of batches of rows, ascending in length."""
        most = max(1, BLOCK_LOGITS // int(self._model.module.config.get_text_config().vocab_size))
        begin = 0
        while begin < len(lengths):
            size = batch_size or max(1, min(BATCH_ROWS, BATCH_TOKENS // int(lengths[begin])))
            end = min(len(lengths), begin + min(size, most))
            yield begin, end
            begin = end

    def _run(self, rows: Ints, lengths: Ints, place: Ints) -> torch.Tensor:
        here = np.arange(rows.shape[1]) < lengths[:, None]
        scored = np.arange(len(rows)) * rows.shape[1] + place
        inputs = {"input_ids": self._tensor(rows), "attention_mask": self._tensor(here.astype(np.int64))}
        return self._head.run(self._tensor(scored), **inputs)[0]

    def _tensor(self, values: Ints) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self._model.device)

    def _pad(self) -> int:
        pad = self._tokenizer.pad_token_id
        return 0 if pad is None else int(pad)


def _words(text: str, word_ids: Sequence[int | None], offsets: Ints) -> Ints:
    """Return `(length,)` the number of each token's word: the tokenizer's own, broken at white space where it does not do so."""
    own = np.asarray([-1 if word is None else word for word in word_ids], np.int64)
    begins = np.asarray([match.start() for match in _WORD.finditer(text)], np.int64)
    apart = np.searchsorted(begins, offsets[:, 1] - 1, side="right")
    changes = (np.diff(own, prepend=-2) != 0) | (np.diff(apart, prepend=-1) != 0)
    return np.cumsum(changes)


def _kept(special: Bools, limit: int) -> Ints:
    """Return the places that fit: all special tokens, and the last of the others."""
    surplus = len(special) - limit
    if surplus <= 0:
        return np.arange(len(special))
    dropped = np.flatnonzero(~special)[:surplus]
    return np.setdiff1d(np.arange(len(special)), dropped)


def _read(logits: torch.Tensor, row: torch.Tensor, gold: torch.Tensor, where: str) -> tuple[NDArray[np.float32], Bools]:
    """Return the log-probability of each gold token `(n,)` in its row of logits `(rows, vocabulary)`, and whether no other is as likely."""
    logprobs = torch.log_softmax(logits, -1, out=logits)
    if not bool(torch.isfinite(logprobs.amin(-1)).all()):
        msg = f"{where}: logits: got NaN or infinite ones, expected finite ones. The compression or the dtype broke it."
        raise ProbeError(msg)
    top = logprobs.topk(2, -1).values[row]
    values = logprobs[row, gold]
    greedy = (values == top[:, 0]) & (top[:, 1] < top[:, 0])
    return values.cpu().numpy(), greedy.cpu().numpy()
