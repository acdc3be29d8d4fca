"""Nats per token of running text, against plain passes of each family."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_scorer import SYLLABLES, decoder, encoder, log_softmax, span_model, tokenizer

from pytest_kick.calibration.corrupt import Reader, reader_of
from pytest_kick.data_sets.texts import Passage
from pytest_kick.errors import ProbeError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.perplexity import Perplexity
from pytest_kick.probes.perplexity_spans import hide
from pytest_kick.probes.perplexity_windows import Window, cut

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FAMILIES = (decoder, span_model, encoder)
LLAMA, BERT = decoder(), encoder()  # of these the tokenizers alone are used


def running_text(n_words: int = 30, seed: int = 0) -> str:
    """Return words of one to three syllables, with full stops; the tokenizer of these tests knows all of them."""
    rng = random.Random(seed)  # noqa: S311 - no secret is made
    words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) + rng.choice(["", "", ".", "\n"]) for _ in range(n_words)]
    return " ".join(words)


@pytest.fixture
def probe_of(tmp_path: Path) -> Callable[..., Perplexity]:
    """Return a function that makes the probe for a text and parameters."""

    def make(text: str, **params: Any) -> Perplexity:
        (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
        given = {"text": "mine", "length": 12, "windows": 0, **params}
        spec = ProbeSpec(name="perplexity", params=tuple(given.items()), outside=(("text", f"path:{tmp_path / 'mine.txt'}"),))
        return Perplexity(ProbeContext(spec=spec))

    return make


def with_bos(model: LoadedModel) -> LoadedModel:
    """Return a decoder whose tokenizer opens each text with a token."""
    opening = tokenizer()
    opening.bos_token = "[CLS]"  # noqa: S105 - no secret
    return LoadedModel(name="opening", family="decoder", module=model.module, tokenizer=opening)


def zeroed(model: LoadedModel) -> LoadedModel:
    """Return a model with its weights set to 0."""
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    return model


@pytest.mark.parametrize("opens", [False, True], ids=["raw", "bos"])
def test_a_decoder_pays_for_each_token_after_those_before_it(probe_of: Callable[..., Perplexity], *, opens: bool) -> None:
    """Nats, tokens and bytes of each window are those of one plain pass; the opening token is read, and never predicted."""
    text = running_text()
    model = with_bos(decoder()) if opens else decoder()
    score = probe_of(text).run(model)
    opening = [2] if opens else []
    room = 12 - len(opening)
    encoded = model.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], [*encoded["offset_mapping"], (len(text), 0)]
    assert list(score.examples.ids) == [f"text/{number}" for number in range(len(ids) // room)]
    total = 0.0
    for number in range(len(ids) // room):
        row = opening + ids[number * room : (number + 1) * room]
        table = log_softmax(model.module(torch.tensor([row])).logits[0].detach())
        nats = -sum(table[place, token] for place, token in enumerate(row[1:]))
        assert score.examples.arrays["nats"][number] == pytest.approx(nats, rel=1e-5)
        assert score.examples.arrays["tokens"][number] == 11
        first = number * room + (0 if opens else 1)
        begin = offsets[first][0]
        assert score.examples.arrays["bytes"][number] == offsets[(number + 1) * room][0] - (begin if first else 0)
        total += nats
    assert score.metrics["nats_per_token"] == pytest.approx(total / (11 * score.n), rel=1e-6)
    assert score.metrics["perplexity"] == pytest.approx(math.exp(total / (11 * score.n)), rel=1e-5)
    n_bytes = int(score.examples.arrays["bytes"].sum())
    assert score.metrics["bits_per_byte"] == pytest.approx(total / n_bytes / math.log(2), rel=1e-5)


def test_an_encoder_decoder_pays_for_hidden_tokens_alone(probe_of: Callable[..., Perplexity]) -> None:
    """The cost is transformers' own loss of the target, sentinels and the end left out of it."""
    text, model = running_text(), span_model()
    score = probe_of(text).run(model)
    reader = reader_of(model)
    sentinels = set(reader.sentinels)
    windows = cut([Passage(id="text", group="text", text=text)], model, 12).windows
    assert list(score.examples.ids) == [window.id for window in windows]
    for number, window in enumerate(windows):
        asked = hide(window, reader, 0)
        target = [*asked.read[1:], model.tokenizer.eos_token_id or 3]
        labels = torch.tensor([[-100 if token in sentinels else token for token in target[:-1]] + [-100]])
        given = {"input_ids": torch.tensor([asked.shown]), "decoder_input_ids": torch.tensor([asked.read])}
        loss = float(model.module(**given, labels=labels).loss)
        hidden = int((labels != -100).sum())
        assert score.examples.arrays["tokens"][number] == hidden
        assert score.examples.arrays["nats"][number] == pytest.approx(loss * hidden, rel=1e-5)
    assert "span_perplexity" in score.metrics


def test_an_encoder_pays_for_each_token_with_the_rest_of_its_word_masked(probe_of: Callable[..., Perplexity]) -> None:
    """Nats are those of one plain pass for each token, itself and the later tokens of its word masked."""
    text, model = running_text(18), encoder()
    score = probe_of(text, length=10).run(model)
    mask = model.tokenizer.mask_token_id
    windows = cut([Passage(id="text", group="text", text=text)], model, 10).windows
    assert len(windows) == score.n > 3
    for number, window in enumerate(windows):
        ids = model.tokenizer.encode(window.text)
        pieces = model.tokenizer.convert_ids_to_tokens(ids)
        nats = 0.0
        for place in range(1, len(ids) - 1):
            end = place + 1
            while pieces[end].startswith("##"):
                end += 1
            row = [*ids[:place], *[mask] * (end - place), *ids[end:]]
            nats -= log_softmax(model.module(torch.tensor([row])).logits[0, place].detach())[ids[place]]
        assert score.examples.arrays["nats"][number] == pytest.approx(nats, rel=1e-5)
        assert score.examples.arrays["tokens"][number] == len(ids) - 2 <= 8
    assert "pseudo_perplexity" in score.metrics


@settings(max_examples=40, deadline=None)
@given(
    text=st.text(st.sampled_from([*"kalomi .\n\u00e4\u20ac", "\U0001f600"]), min_size=1, max_size=120),
    length=st.integers(4, 20),
    words=st.booleans(),
)
def test_windows_hold_the_text_once_and_in_order(text: str, length: int, *, words: bool) -> None:
    """Windows follow each other without a gap from the first character; their bytes are those of their text; what is left is short."""
    model = BERT if words else LLAMA
    found = cut([Passage(id="a", group="g", text=text)], model, length)
    room = max(2, length - (2 if words else 0))
    assert "".join(window.text for window in found.windows) == text[: sum(len(window.text) for window in found.windows)]
    for window in found.windows:
        assert sum(window.bytes) == len(window.text.encode())
        assert 2 <= len(window.tokens) <= room
    ids = model.tokenizer.encode(text, add_special_tokens=False)
    taken = [token for window in found.windows for token in window.tokens]
    assert taken == ids[: len(taken)]
    assert len(ids) - len(taken) < (room if taken else 2)
    assert found.n_short == (not found.windows)
    if not words:
        assert all(len(window.tokens) == room for window in found.windows) or len(found.windows) == 1


def test_an_encoders_windows_end_with_a_word() -> None:
    """No window begins inside a word, so that each word is asked for whole; the other families' windows are full."""
    text = " ".join(["kalomi"] * 20)
    passages = [Passage(id="a", group="g", text=text)]
    assert {len(window.tokens) for window in cut(passages, encoder(), 9).windows} == {6}
    assert {len(window.tokens) for window in cut(passages, decoder(), 7).windows} == {7}
    giant = cut([Passage(id="a", group="g", text="kalomi" * 15)], encoder(), 9).windows
    assert {len(window.tokens) for window in giant} == {7}


@pytest.mark.parametrize("make", FAMILIES)
def test_a_text_shorter_than_a_window_is_one(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """It is not left out, though what is left at the end of a longer text is."""
    score = probe_of("ka lo mi ren tu", length=40).run(make())
    assert score.n == 1
    assert score.examples.arrays["tokens"][0] == {decoder: 4, span_model: 1, encoder: 5}[make]


@pytest.mark.parametrize("make", FAMILIES)
def test_a_text_of_one_token_cannot_be_asked(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """There is nothing to predict it from."""
    with pytest.raises(ProbeError, match="without two tokens"):
        probe_of("ka").run(make())


@pytest.mark.parametrize("make", FAMILIES)
def test_a_window_is_cut_to_the_model_and_says_so(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """The settings hold the length that was used: positions bound it, or the number of sentinels."""
    score = probe_of(running_text(60), length=4096, windows=1).run(make())
    assert score.settings["length"] == {decoder: 64, span_model: 22, encoder: 64}[make]
    assert score.settings["param_length"] == 4096


@pytest.mark.parametrize("make", FAMILIES)
def test_a_model_of_zeros_costs_what_a_uniform_guess_does(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """That is the floor: the logarithm of the vocabulary, never less."""
    model = make()
    score = probe_of(running_text()).run(zeroed(model))
    assert score.floors == {"nats_per_token": pytest.approx(math.log(len(model.tokenizer)))}
    assert score.trivial["chance"] == score.floors["nats_per_token"]
    np.testing.assert_allclose(score.examples.arrays["nats_per_token"], score.floors["nats_per_token"], rtol=1e-6)


@pytest.mark.parametrize("make", FAMILIES)
def test_a_broken_model_is_an_error(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """NaN anywhere in the logits is no loss."""
    model = make()
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.fill_(torch.nan)
    with pytest.raises(ProbeError, match="NaN or infinite"):
        probe_of(running_text()).run(model)


@pytest.mark.parametrize("make", FAMILIES)
def test_bfloat16_is_near_float32(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """The vocabulary layer runs in float32, so the loss moves by no more than the rounding of what it reads."""
    model, probe = make(), probe_of(running_text())
    plain = probe.run(model).metrics["nats_per_token"]
    model.cast_(torch.bfloat16)
    assert probe.run(model).metrics["nats_per_token"] == pytest.approx(plain, rel=0.03)


@pytest.mark.parametrize("make", FAMILIES)
def test_the_batch_size_changes_nothing(probe_of: Callable[..., Perplexity], make: Any) -> None:
    """In float32 each window costs the same at every batch size."""
    model, probe = make(), probe_of(running_text(16))
    one, other = (probe.run(model, batch_size=size).examples.arrays for size in (2, 64))
    np.testing.assert_allclose(one["nats"], other["nats"], rtol=1e-5)


def test_windows_are_chosen_by_seed_and_cut_down_by_the_limit(probe_of: Callable[..., Perplexity]) -> None:
    """The parameter `seed` says which windows belong to the probe; a limit takes some of these, whatever the seed of the run."""
    text, model = running_text(200), decoder()

    def ids(params: dict[str, int], **asked: int) -> list[str]:
        return list(probe_of(text, **params).run(model, **asked).examples.ids)

    chosen = ids({"windows": 8})
    assert len(chosen) == 8
    assert chosen != ids({"windows": 8, "seed": 1})
    assert set(ids({"windows": 8}, limit=3, seed=5)) < set(chosen)
    assert set(ids({"windows": 4})) < set(chosen)
    assert chosen == sorted(chosen, key=lambda name: int(name.split("/")[1]))


@given(length=st.integers(2, 90), seed=st.integers(0, 99), marked=st.booleans())
def test_what_is_hidden_is_what_the_decoder_has_to_write(length: int, seed: int, *, marked: bool) -> None:
    """At each scored place the next token the decoder reads is the hidden one, and none is a special token.

    15% of the tokens are hidden, shown and hidden ones make up the window, and the bytes are those of the hidden tokens: with
    sentinels, and without.
    """
    sentinels, ordinary = tuple(range(100, 140)) if marked else (), tuple(range(200, 300))
    reader = Reader(family="encoder-decoder", prefix=(7, 8), suffix=(9,), mask=5, sentinels=sentinels, start=6, ordinary=ordinary)
    tokens = tuple(200 + number for number in range(length))
    asked = hide(Window(id="a", group="g", tokens=tokens, bytes=tuple(range(1, length + 1)), text=""), reader, seed)
    assert tuple((*asked.read, 9)[place + 1] for place in asked.places) == asked.hidden
    assert len(set(asked.hidden)) == len(asked.hidden) == max(1, round(0.15 * length))
    assert sorted([*asked.hidden, *(token for token in asked.shown if token >= 200)]) == list(tokens)
    assert asked.bytes == sum(token - 199 for token in asked.hidden)


def test_what_is_hidden_depends_on_the_window_alone(probe_of: Callable[..., Perplexity]) -> None:
    """A limit hides the same tokens of the windows that it leaves."""
    model, probe = span_model(), probe_of(running_text())
    whole, part = (probe.run(model, limit=limit).examples for limit in (None, 3))
    kept = np.isin(whole.ids, part.ids)
    np.testing.assert_allclose(part.arrays["nats"], whole.arrays["nats"][kept], rtol=1e-5)


def test_statements_are_windows_of_their_own() -> None:
    """No window runs from one statement into the next; relations are their groups."""
    spec = ProbeSpec(name="perplexity", params=(("text", "statements"), ("windows", 12)))
    score = Perplexity(ProbeContext(spec=spec)).run(decoder())
    assert score.n == 12
    assert all(
        name.startswith(f"{group}/") and name.endswith("/0") for name, group in zip(score.examples.ids, score.examples.groups, strict=True)
    )
    assert len(set(score.examples.groups)) > 1
    assert score.work["unknown_tokens"] > 0


def test_a_file_does_not_go_by_the_name_of_another_text() -> None:
    """Stored runs of both would have one name."""
    spec = ProbeSpec(name="perplexity", params=(("text", "wikitext-2"),), outside=(("text", "path:/tmp/wikitext-2.txt"),))
    with pytest.raises(ProbeError, match="Rename the file"):
        Perplexity(ProbeContext(spec=spec))


def test_a_tokenizer_without_offsets_is_refused(monkeypatch: pytest.MonkeyPatch, probe_of: Callable[..., Perplexity]) -> None:
    """What a token stands for cannot be told from it."""
    model = decoder()
    monkeypatch.setattr(type(model.tokenizer), "is_fast", property(lambda _self: False))
    with pytest.raises(ProbeError, match="knows no offsets"):
        probe_of(running_text()).run(model)


def test_an_encoder_decoder_needs_sentinels_or_a_mask(monkeypatch: pytest.MonkeyPatch, probe_of: Callable[..., Perplexity]) -> None:
    """Nothing could stand for what is hidden."""
    model = span_model()
    monkeypatch.setattr(model.module.config, "decoder_start_token_id", None)
    with pytest.raises(ProbeError, match=r"probe perplexity: model 'tiny-encoder-decoder': got a tokenizer without"):
        probe_of(running_text()).run(model)
