"""Texts cut into windows of tokens that do not overlap, with the bytes that each token stands for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.calibration.corrupt import reader_of
from pytest_kick.calibration.prepare import max_length
from pytest_kick.errors import CalibrationError, ProbeError
from pytest_kick.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_kick.calibration.corrupt import Reader
    from pytest_kick.data_sets.texts import Passage
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.trie import Ints

LEAST = 2
"""Tokens of a window: one to be read and one to be predicted, one to be kept and one to be hidden."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hold a piece of a text.

    Attributes:
        id: of its passage, and its number there.
        group: of its passage.
        tokens: without special ones.
        bytes: of UTF-8 that each token stands for, the white space after it included; they add up to those of `text`.
        text: the piece itself.
    """

    id: str
    group: str
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Hold the windows of a text for one tokenizer and family.

    Attributes:
        reader: how this family reads a window.
        windows: in the order of the text.
        length: the most tokens of a window, special ones included.
        n_short: passages of fewer than 2 tokens, which are left out.
    """

    reader: Reader
    windows: tuple[Window, ...]
    length: int
    n_short: int


def cut(passages: Sequence[Passage], model: LoadedModel, length: int) -> Cut:
    """Cut passages into windows.

    What is left at the end of a passage is left out, unless it is all of the passage. An encoder's windows end where a word does,
    because it is asked for whole words.

    Args:
        passages: at least one.
        model: its tokenizer cuts, its positions bound the length.
        length: tokens of a window, special ones included.

    Raises:
        ProbeError: the tokenizer cannot say where its tokens stand, or lacks what the family needs.
    """
    tokenizer: Any = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        where = f"probe perplexity: model {model.name!r}: tokenizer"
        msg = f"{where}: got {type(tokenizer).__name__}, which knows no offsets, expected a fast one. Save the model with tokenizer.json."
        raise ProbeError(msg)
    try:
        reader = reader_of(model)
    except CalibrationError as error:
        raise ProbeError(str(error).replace("calibration: ", "probe perplexity: ", 1)) from error
    length = min(length, max_length(model))
    room = max(LEAST, min(length - reader.n_special, reader.most() or length))
    with quiet():
        found = [tuple(_windows(passage, tokenizer, room, words=model.family == "encoder")) for passage in passages]
    return Cut(
        reader=reader,
        windows=tuple(window for windows in found for window in windows),
        length=room + reader.n_special,
        n_short=sum(not windows for windows in found),
    )


def _windows(passage: Passage, tokenizer: Any, room: int, *, words: bool) -> Iterator[Window]:  # noqa: ANN401 - transformers' base lacks these
    encoded = tokenizer(passage.text, add_special_tokens=False, verbose=False, return_offsets_mapping=True)
    tokens: list[int] = encoded["input_ids"]
    # A token reaches to where the next one begins: so no byte between them is lost or counted twice.
    begins = np.asarray([begin for begin, _ in encoded["offset_mapping"]] + [len(passage.text)], np.int64)
    begins[:1] = 0
    before = _bytes_before(passage.text)[begins]
    ends = _word_ends(passage.text, begins) if words else None
    for number, (start, stop) in enumerate(_bounds(len(tokens), room, ends)):
        yield Window(
            id=f"{passage.id}/{number}",
            group=passage.group,
            tokens=tuple(tokens[start:stop]),
            bytes=tuple(np.diff(before[start : stop + 1]).tolist()),
            text=passage.text[begins[start] : begins[stop]],
        )


def _bounds(n: int, room: int, ends: Ints | None) -> Iterator[tuple[int, int]]:
    """Yield begin and end of each window; `ends` are the places, ascending, where a word does."""
    start = 0
    while n - start >= (room if start else LEAST):
        stop = min(start + room, n)
        if ends is not None and stop < n:
            inside = ends[(ends > start) & (ends <= stop)]
            stop = int(inside[-1]) if len(inside) and inside[-1] - start >= LEAST else stop
        yield start, stop
        start = stop


def _word_ends(text: str, begins: Ints) -> Ints:
    """Return the tokens, ascending, between which and the one before there is white space; some tokenizers count it to the token."""
    space = np.asarray([char.isspace() for char in text], np.bool_)
    inner = begins[1:-1]
    return 1 + np.flatnonzero(space[inner] | space[inner - 1])


def _bytes_before(text: str) -> Ints:
    """Return `(len(text) + 1,)` the bytes of UTF-8 before each character."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    sizes = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)  # noqa: PLR2004 - where UTF-8 grows
    return np.concatenate([[0], np.cumsum(sizes)])
