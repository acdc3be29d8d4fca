"""How each family is asked for an answer, in token ids of its own tokenizer."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_kick.models.loaded import LoadedModel

Ids = tuple[int, ...]
SENTINELS = ("<extra_id_0>", "<extra_id_1>")


class Asker:
    """Ask a decoder: the prompt is the text before the answer, and the answer continues it after a space."""

    prefix: Ids = ()

    def __init__(self, model: LoadedModel) -> None:
        """Take the model's tokenizer.

        Raises:
            ProbeError: the tokenizer cannot ask in this way.
        """
        self._model = model
        self._tokenizer: Any = model.tokenizer
        self._unknown = self._tokenizer.unk_token_id

    @property
    def convention(self) -> str:
        """Return the name of the prompt convention."""
        return "bos" if self._model.prompt_ids("a")[:1] == [self._tokenizer.bos_token_id] else "raw"

    def prompt(self, stem: str, after: str) -> tuple[Ids, int] | None:
        """Return the ids of a prompt and where its answer is read, or None where the tokenizer lacks a token."""
        del after
        return self._whole(self._model.prompt_ids(stem), -1)

    def answers(self, stem: str, labels: Sequence[str], after: str) -> list[Ids | None]:
        """Return the ids of each label with its closing text; None where a token lacks, `()` where it is not one of this family's."""
        return self.each([(stem, label, after) for label in labels])

    def each(self, asked: Sequence[tuple[str, str, str]]) -> list[Ids | None]:
        """Return the ids of each `(stem, label, after)`: those that the whole text has beyond its stem's."""
        stems = self._encode([stem for stem, _, _ in asked])
        whole = self._encode([f"{stem} {label}{after}" for stem, label, after in asked])
        return [self._known(tuple(b[len(a) :])) for a, b in zip(stems, whole, strict=True)]

    def continues(self) -> NDArray[np.bool_]:
        """Return `(vocabulary,)` whether a token makes the word before it longer: it begins with a letter, digit, hyphen or accent.

        Tokens that are part of a character count as one; an apostrophe does not (`Paris's` is an answer of `Paris`).
        """
        size = max(len(self._tokenizer), self._model.module.config.get_text_config().vocab_size)
        word = self._encode(["a"])[0]
        # Decoders cut a leading space: a word in front keeps it.
        base = len(self._tokenizer.decode(word, clean_up_tokenization_spaces=False))
        rows = [[*word, token] for token in range(len(self._tokenizer))]
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return np.asarray([_continues(text[base : base + 1]) for text in texts] + [False] * (size - len(texts)))

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _known(self, ids: Ids) -> Ids | None:
        return None if self._unknown in ids else ids

    def _whole(self, ids: Sequence[int], mark: int) -> tuple[Ids, int] | None:
        known = self._known(tuple(ids))
        return None if known is None else (known, mark % len(known))


class SentinelAsker(Asker):
    """Ask an encoder-decoder: a sentinel stands for the answer, and the decoder writes it between two sentinels."""

    convention = "sentinel"

    def __init__(self, model: LoadedModel) -> None:
        """Find the sentinels and the decoder's start token."""
        super().__init__(model)
        vocabulary = self._tokenizer.get_vocab()
        start = model.module.config.decoder_start_token_id
        if start is None or any(mark not in vocabulary for mark in SENTINELS):
            msg = (
                f"probe facts: model {model.name!r}: got an encoder-decoder without {' and '.join(SENTINELS)} and a decoder start token,"
                " expected T5's span corruption. Choose a T5 model, or another probe."
            )
            raise ProbeError(msg)
        self._marks = tuple(vocabulary[mark] for mark in SENTINELS)
        self.prefix = (start, self._marks[0])

    def prompt(self, stem: str, after: str) -> tuple[Ids, int] | None:
        """Return the encoder's ids; the answer is read after the decoder's prefix."""
        return self._whole(self._tokenizer.encode(f"{stem} {SENTINELS[0]}{after}", verbose=False), -1)

    def answers(self, stem: str, labels: Sequence[str], after: str) -> list[Ids | None]:
        """Return the ids between the sentinels, with the closing sentinel where there is a closing text."""
        return self.each([(stem, label, after) for label in labels])

    def each(self, asked: Sequence[tuple[str, str, str]]) -> list[Ids | None]:
        """Return the ids of each label; the closing text itself stays with the encoder."""
        found = self._encode([f"{SENTINELS[0]} {label} {SENTINELS[1]}" for _, label, _ in asked])
        closing = [(self._marks[1],) if after else () for _, _, after in asked]
        return [self._known((*ids[1:-1], *close)) for ids, close in zip(found, closing, strict=True)]


class MaskAsker(Asker):
    """Ask an encoder: one mask stands for the answer, so only answers of a single token can be asked for."""

    convention = "mask"

    def __init__(self, model: LoadedModel) -> None:
        """Find the mask."""
        super().__init__(model)
        self._mask = self._tokenizer.mask_token_id
        if self._mask is None:
            msg = (
                f"probe facts: model {model.name!r}: got an encoder without a mask token, expected a masked language model. Choose another."
            )
            raise ProbeError(msg)

    def prompt(self, stem: str, after: str) -> tuple[Ids, int] | None:
        """Return the ids of the sentence with a mask for its answer, and where the mask is."""
        ids = self._tokenizer.encode(f"{stem} {self._tokenizer.mask_token}{after}", verbose=False)
        return self._whole(ids, ids.index(self._mask))

    def each(self, asked: Sequence[tuple[str, str, str]]) -> list[Ids | None]:
        """Return the ids of each label in its place, `()` where it has several tokens."""
        found = super().each([(stem, label, "") for stem, label, _ in asked])
        return [ids if ids is None or len(ids) == 1 else () for ids in found]

    def continues(self) -> NDArray[np.bool_]:
        """Return an empty table: one mask is filled, nothing follows."""
        return np.zeros(0, np.bool_)


def asker_for(model: LoadedModel) -> Asker:
    """Return how to ask a model of its family."""
    return {"decoder": Asker, "encoder-decoder": SentinelAsker, "encoder": MaskAsker}[model.family](model)


def _continues(char: str) -> bool:
    return char.isalnum() or char in {"-", "_", "\N{REPLACEMENT CHARACTER}"} or unicodedata.category(char or " ")[0] == "M"
