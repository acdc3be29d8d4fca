"""Turn a calibration's settings into the token sequences of a model."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from pytest_kick.calibration.batches import Sample, samples_hash
from pytest_kick.calibration.corrupt import reader_of
from pytest_kick.calibration.draw import draw
from pytest_kick.calibration.heap import give_back
from pytest_kick.calibration.leaks import find_leaks
from pytest_kick.calibration.sources import read_statements, read_text
from pytest_kick.errors import CalibrationError
from pytest_kick.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.spec import Calibration

Ids = tuple[int, ...]
_MANY_UNKNOWN = 0.1
_UNBOUNDED = 1_000_000
"""What tokenizers without a limit give as theirs is far above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationData:
    """Hold the sequences of one model.

    Attributes:
        samples: in the order they run.
        hash: of all token ids, for the fingerprint and the cache.
        length: the most tokens of a sequence; below what was asked where the model has fewer positions.
        notes: warnings, each one line: leaks, many unknown tokens.
    """

    samples: tuple[Sample, ...]
    hash: str
    length: int
    notes: tuple[str, ...] = ()

    @property
    def n_tokens(self) -> int:
        """Return the tokens of all sequences, on both sides."""
        return sum(sample.n_tokens for sample in self.samples)


def prepare(calibration: Calibration, model: LoadedModel, facts: Sequence[FactSet] = (), *, offline: bool = False) -> CalibrationData:
    """Return the sequences that a calibrated method sees.

    Text is cut into windows that do not overlap, of which the seed chooses; statements are short, and each is a sequence of its own,
    as the models that were trained on them know them. What each family is shown: see `Reader.sample`.

    Args:
        calibration: the settings.
        model: dense; its tokenizer cuts, and with the source `model` it draws.
        facts: of the probes; looked for in the sequences.
        offline: never use the network.

    Raises:
        CalibrationError: the source cannot be read, has too little text, does not fit the family, or holds a fact of a probe.
    """
    reader = reader_of(model)
    length = min(calibration.length, max_length(model))
    room = min(length - reader.n_special, reader.most() or length)
    with quiet():
        windows = _windows(calibration, model, room, offline=offline)
    give_back()  # all that the whole text took
    tokenizer: Any = model.tokenizer
    texts = [tokenizer.decode(window, clean_up_tokenization_spaces=False) for window in windows]
    found = [find_leaks(texts, known).note for known in facts]
    rng = random.Random(f"{calibration.seed} corrupt")  # noqa: S311 - no secret is made
    samples = tuple(reader.sample(window, rng) for window in windows)
    notes = tuple(dict.fromkeys(note for note in (*found, _unknown(windows, tokenizer.unk_token_id)) if note))
    return CalibrationData(samples=samples, hash=samples_hash(samples), length=room + reader.n_special, notes=notes)


def _windows(calibration: Calibration, model: LoadedModel, room: int, *, offline: bool) -> list[Ids]:
    tokenizer: Any = model.tokenizer
    if calibration.source == "model":
        return list(draw(model, calibration.count, room, calibration.seed))
    if calibration.source == "statements":
        encoded = tokenizer(list(read_statements()), add_special_tokens=False)["input_ids"]
        windows = [tuple(ids[:room]) for ids in encoded]
        unit = "statements"
    else:
        ids = tokenizer.encode(read_text(calibration, offline=offline), add_special_tokens=False, verbose=False)
        windows = [tuple(ids[start : start + room]) for start in range(0, len(ids) - room + 1, room)]
        unit = f"windows of {room} tokens"
    if len(windows) < calibration.count:
        msg = (
            f"calibration: count: got {calibration.count}, but {calibration.source!r} has {len(windows)} {unit};"
            " expected at most as many. Ask for fewer or shorter ones, or give more text."
        )
        raise CalibrationError(msg)
    rng = random.Random(f"{calibration.seed} windows")  # noqa: S311 - no secret is made
    return [windows[number] for number in sorted(rng.sample(range(len(windows)), calibration.count))]


def max_length(model: LoadedModel) -> int:
    """Return the most tokens that a model has positions for; a very large number where nothing bounds them."""
    config = model.module.config.get_text_config()
    limits = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    for name, child in model.module.named_modules():
        # RoBERTa counts positions from after its padding index.
        if isinstance(child, nn.Embedding) and name.endswith("position_embeddings") and child.padding_idx is not None:
            limits.append(child.num_embeddings - child.padding_idx - 1)
    known = [int(limit) for limit in limits if limit]
    return min(known) if known else min(int(model.tokenizer.model_max_length), _UNBOUNDED)


def _unknown(windows: Sequence[Ids], unknown: int | None) -> str:
    total = sum(map(len, windows))
    share = sum(window.count(unknown) for window in windows if unknown is not None) / total
    return f"calibration: {share:.0%} of the tokens are unknown to the tokenizer" if share > _MANY_UNKNOWN else ""
