"""Pseudo-log-likelihood against a plain loop, and what the engine refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_scorer import SYLLABLES, decoder, encoder, log_softmax

from pytest_kick.errors import ProbeError
from pytest_kick.probes.pseudo import PseudoLikelihood, _words

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel

TEXTS = ("the city of kalo is miren.", "rentuvo has the colour red!", "kalomi", "a 1", "the city of zi is mirentu. vo", "kalo.kalo")


@torch.inference_mode()
def plain_pseudo(model: LoadedModel, text: str, span: tuple[int, int] | None = None) -> tuple[float, int]:
    """Return the sum over a text, and the number of tokens: one pass per token, words read off WordPiece's own `##`."""
    found = model.tokenizer(text, return_offsets_mapping=True)
    ids, tokens = found["input_ids"], model.tokenizer.convert_ids_to_tokens(found["input_ids"])
    total, n = 0.0, 0
    for place in range(1, len(ids) - 1):
        begin, end = found["offset_mapping"][place]
        if span is not None and not (begin < span[1] and end > span[0] and span[0] < span[1]):
            continue
        copy = list(ids)
        copy[place] = model.tokenizer.mask_token_id
        later = place + 1
        while tokens[later].startswith("##"):
            copy[later] = model.tokenizer.mask_token_id
            later += 1
        table = log_softmax(model.module(torch.tensor([copy])).logits[0, place].double().numpy())
        total, n = total + float(table[ids[place]]), n + 1
    return total, n


@pytest.mark.parametrize("batch_size", [None, 1, 3])
def test_it_sums_what_a_plain_loop_sums(batch_size: int | None) -> None:
    """Batched, deduplicated scoring gives the sums and counts of one pass per token, whatever the batch size."""
    model = encoder()
    scored = PseudoLikelihood(model).score(TEXTS, batch_size=batch_size)
    expected = [plain_pseudo(model, text) for text in TEXTS]
    np.testing.assert_allclose(scored.logprob, [total for total, _ in expected], atol=1e-4)
    assert scored.n_tokens.tolist() == [n for _, n in expected]
    assert not scored.truncated.any()
    assert not scored.unknown.any()


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(st.lists(st.sampled_from(SYLLABLES), min_size=1, max_size=3).map("".join), min_size=1, max_size=6),
    data=st.data(),
)
def test_spans_choose_the_tokens_that_overlap_them(words: list[str], data: Any) -> None:
    """A span sums the tokens that share a character with it, each with the whole text around it."""
    model, text = encoder(), " ".join(words)
    begin = data.draw(st.integers(0, len(text)))
    span = (begin, data.draw(st.integers(begin, len(text))))
    scored = PseudoLikelihood(model).score([text, "a"], [span, (0, 1)])
    total, n = plain_pseudo(model, text, span)
    assert scored.n_tokens[0] == n
    assert scored.logprob[0] == pytest.approx(total, abs=1e-4)
    assert scored.greedy[0] <= (n > 0)


def test_the_rest_of_a_word_is_hidden() -> None:
    """A word's first token scores otherwise than with its end in sight: the plain masking of single tokens is not what is measured."""
    model, text = encoder(), "the city of kalomi is miren."
    ids = model.tokenizer.encode(text)
    place = model.tokenizer.tokenize(text).index("ka") + 1
    with torch.inference_mode():
        copy = [model.tokenizer.mask_token_id if number == place else token for number, token in enumerate(ids)]
        leaky = log_softmax(model.module(torch.tensor([copy])).logits[0, place].double().numpy())[ids[place]]
    begin = text.index("kalomi")
    scored = PseudoLikelihood(model).score([text], [(begin, begin + 2)])
    assert scored.n_tokens.tolist() == [1]
    assert abs(scored.logprob[0] - leaky) > 1e-3


def test_white_space_ends_a_word() -> None:
    """Where a tokenizer calls a whole text one word, white space ends it, whether the offsets hold the space or not."""
    for offsets in ([[0, 2], [2, 5], [5, 7], [8, 10]], [[0, 2], [3, 5], [5, 7], [8, 10]]):
        words = _words("ka lomi zi", [0, 0, 0, 0], np.asarray(offsets))
        assert (np.diff(words) > 0).tolist() == [True, False, True]


def test_long_texts_lose_their_beginning_and_say_so() -> None:
    """What does not fit is cut off at the left, between the special tokens; the rest scores as a text of its own."""
    model = encoder()
    long = " ".join(["ka"] * 50 + ["lo"] * 62)
    scored = PseudoLikelihood(model).score([long, "ka lo"])
    rest = PseudoLikelihood(model).score([" ".join(["lo"] * 62)])
    assert scored.truncated.tolist() == [True, False]
    assert scored.n_tokens[0] == model.module.config.max_position_embeddings - 2
    assert scored.logprob[0] == pytest.approx(rest.logprob[0], abs=1e-4)


def test_nothing_to_score_scores_nothing() -> None:
    """No texts, an empty one and an empty span: zero tokens, never greedy."""
    model = encoder()
    assert len(PseudoLikelihood(model).score([]).logprob) == 0
    scored = PseudoLikelihood(model).score(["", "ka"], [(0, 5), (1, 1)])
    assert scored.n_tokens.tolist() == [0, 0]
    assert scored.greedy.tolist() == [False, False]
    assert scored.logprob.tolist() == [0.0, 0.0]


def test_an_unknown_token_is_told() -> None:
    """A text that holds the unknown token says so."""
    assert PseudoLikelihood(encoder()).score(["ka qqq", "ka"]).unknown.tolist() == [True, False]


def test_equal_logits_are_never_greedy() -> None:
    """A model of zeros gives each token 1 over the vocabulary, and is right about none."""
    model = encoder()
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    scored = PseudoLikelihood(model).score(TEXTS)
    np.testing.assert_allclose(scored.logprob, -np.log(model.module.config.vocab_size) * scored.n_tokens, rtol=1e-5)
    assert not scored.greedy.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error(value: float) -> None:
    """NaN and infinite logits are an error in one line."""
    model = encoder()
    head = model.module.get_output_embeddings()
    name = next(name for name, parameter in model.module.named_parameters() if parameter is head.weight)
    model.touch([name])
    head.weight[7] = value
    with pytest.raises(ProbeError, match=r"^model 'tiny-encoder': logits: got NaN or infinite ones, .*\.$"):
        PseudoLikelihood(model).score(TEXTS)


def test_what_is_no_masked_model_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder and a slow tokenizer are refused in one line each."""
    with pytest.raises(ProbeError, match=r"^model 'tiny-decoder': pseudo-log-likelihood: got decoder, expected .*\.$"):
        PseudoLikelihood(decoder())
    model = encoder()
    monkeypatch.setattr(type(model.tokenizer), "is_fast", False)
    with pytest.raises(ProbeError, match=r"^model 'tiny-encoder': tokenizer: got \w+, a slow one, expected a fast one, .*\.$"):
        PseudoLikelihood(model)
