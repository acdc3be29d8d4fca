"""Compare the tokenizer that comes with a checkpoint with the dense model's own: token by token, and on text."""

from __future__ import annotations

import importlib.resources
import itertools
import re
from typing import TYPE_CHECKING

from transformers import AutoTokenizer

from pytest_kick.errors import ModelError
from pytest_kick.models import checks, hashing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

_LINES = 200
_UNUSED = re.compile(r"\[PAD\d+\]")  # what llama.cpp calls rows of the embedding without a token
NONE = ("no tokenizer with the checkpoint: not compared",)


def compare_tokenizer(path: Path, model: LoadedModel, where: str, *, trust_remote_code: bool) -> tuple[str, ...]:
    """Compare the tokenizer in a directory.

    Returns:
        Notes: that there is none, or that settings differ which do not change how text is cut.

    Raises:
        ModelError: it cannot be read, has other tokens, or cuts text otherwise.
    """
    if not checks.has_tokenizer(path):
        return NONE
    try:
        found = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=trust_remote_code)
    except Exception as error:
        msg = f"{where}: tokenizer: got {checks.first_line(error)}, expected one that transformers reads. Check {path.name}."
        raise ModelError(msg) from error
    if hashing.tokenizer_hash(found) == model.tokenizer_hash:
        return ()
    _compare({number: token for token, number in found.get_vocab().items()}, model, where)
    text = importlib.resources.files("pytest_kick").joinpath("data", "texts", "calibration.txt").read_text(encoding="utf-8")
    for line in itertools.islice(filter(None, text.splitlines()), _LINES):
        if found.encode(line) != model.tokenizer.encode(line):
            start = " ".join(line.split()[:5])
            msg = f"{where}: tokenizer: got other tokens for {start!r}, expected those of {model.name}. Use the model's own tokenizer."
            raise ModelError(msg)
    return ("tokenizer: same tokens and cuts as the dense model's, other settings",)


def compare_tokens(tokens: Sequence[str], model: LoadedModel, where: str) -> tuple[str, ...]:
    """Compare the list of tokens in a GGUF file.

    Returns:
        A note where there is none.

    Raises:
        ModelError: there are other tokens.
    """
    if not tokens:
        return NONE
    _compare({number: token for number, token in enumerate(tokens) if not _UNUSED.fullmatch(token)}, model, where)
    return ()


def _compare(found: Mapping[int, str], model: LoadedModel, where: str) -> None:
    """Compare the tokens of all ids that either has; a token in plain spelling counts as one in the byte alphabet."""
    wanted = {number: token for token, number in model.tokenizer.get_vocab().items()}
    other = sorted(number for number in found.keys() | wanted.keys() if found.get(number) != wanted.get(number))
    if other:
        number = other[0]
        got = f"{found.get(number)!r} as token {number} (dense: {wanted.get(number)!r}), {len(other)} tokens differ"
        msg = f"{where}: tokenizer: got {got}, expected that of {model.name}. Compare it with its own dense model."
        raise ModelError(msg)
