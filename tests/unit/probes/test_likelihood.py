"""The log-likelihood engine against one plain pass per target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from plain_scorer import DECODERS, decoder, encoder, log_softmax, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probes.likelihood import Likelihood, encode_pair

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.tokens import Ids

VOCABULARY = 35
WINDOW = 64


@torch.inference_mode()
def plain(model: LoadedModel, context: Ids, target: Ids) -> tuple[float, bool]:
    """Score one target by one pass over everything, cut from the left as lm-eval's model does."""
    if model.family == "decoder":
        whole = [*context, *target][-(WINDOW + 1) :]
        logits = model.module(torch.tensor([whole[:-1]])).logits[0, -len(target) :]
    else:
        labels = torch.tensor([list(target)])
        logits = model.module(input_ids=torch.tensor([list(context)]), labels=labels).logits[0]
    table = log_softmax(logits.double().numpy())
    return sum(table[step, token] for step, token in enumerate(target)), list(target) == table.argmax(1).tolist()


def made(seed: int, n: int = 40) -> list[tuple[Ids, Ids]]:
    """Return pairs of several lengths, among them the same context with many targets, one target the beginning of another."""
    rng = np.random.default_rng(seed)

    def ids(low: int, high: int) -> Ids:
        return tuple(rng.integers(0, VOCABULARY, rng.integers(low, high)).tolist())

    shots = ids(8, 20)
    contexts = [ids(1, 12), *((*shots, *ids(1, 9)) for _ in range(6)), ids(1, 2)]
    pairs = [(contexts[rng.integers(len(contexts))], ids(1, 6)) for _ in range(n)]
    return [*pairs, pairs[0], (pairs[1][0], (*pairs[1][1], 7)), (pairs[2][0], pairs[2][1][:1])]


def few_shot(seed: int) -> list[tuple[Ids, Ids]]:
    """Return two subjects of ten questions behind the same shots, four options each, and questions of their own."""
    rng = np.random.default_rng(seed)

    def ids(n: int) -> Ids:
        return tuple(rng.integers(0, VOCABULARY, n).tolist())

    shots = [ids(24), (*ids(2), *ids(20))]
    contexts = [(*shots[number % 2], *ids(1 + number % 7)) for number in range(20)] + [ids(9) for _ in range(3)]
    options = [ids(1), ids(3), ids(1), ids(4)]
    return [(context, option) for context in contexts for option in options]


@pytest.mark.parametrize("kind", [*DECODERS, "t5"])
def test_every_target_scores_as_in_a_plain_pass(kind: str) -> None:
    """Log-likelihoods and greedy flags equal those of one pass per target, in the order asked, for every architecture."""
    model = span_model() if kind == "t5" else decoder(kind)
    pairs = made(3) + few_shot(3)
    scored = Likelihood(model).score(pairs, batch_size=7)
    expected = [plain(model, *pair) for pair in pairs]
    np.testing.assert_allclose(scored.logprob, [value for value, _ in expected], atol=1e-3)
    assert scored.greedy.tolist() == [best for _, best in expected]
    assert scored.n_tokens.tolist() == [len(target) for _, target in pairs]
    assert not scored.truncated.any()


def test_shared_prefixes_are_run_once() -> None:
    """The shots of a subject and the context of a question are computed once, not per option."""
    pairs, engine = few_shot(0), Likelihood(decoder())
    engine.score(pairs)
    shots, questions, options = 24 + 22, sum(len(context) for context, _ in pairs[::4]) - 10 * (24 + 22), 23 * (0 + 2 + 0 + 3)
    assert shots <= engine.work.tokens <= 1.05 * (shots + questions + options)
    plain_tokens = sum(len(context) + len(target) - 1 for context, target in pairs)
    assert engine.work.tokens * 4 < plain_tokens


def test_nothing_asked_is_nothing_scored() -> None:
    """No targets give empty arrays."""
    for model in (decoder(), span_model()):
        assert len(Likelihood(model).score([]).logprob) == 0


def test_greedy_is_what_the_model_would_say() -> None:
    """A target made of the most likely tokens is greedy, and with one other token it is not."""
    model, context = decoder(), (5, 9, 11)
    said: list[int] = []
    for _ in range(3):
        said.append(int(model.module(torch.tensor([[*context, *said]])).logits[0, -1].argmax()))
    other = (*said[:2], (said[2] + 1) % VOCABULARY)
    assert Likelihood(model).score([(context, tuple(said)), (context, other)]).greedy.tolist() == [True, False]


def test_constant_logits_are_never_greedy() -> None:
    """With all-zero weights every token is as likely, and none is the single best."""
    model = decoder()
    for parameter in model.module.parameters():
        parameter.zero_()
    scored = Likelihood(model).score([((5,), (token,)) for token in range(VOCABULARY)])
    np.testing.assert_allclose(scored.logprob, -np.log(VOCABULARY), atol=1e-6)
    assert not scored.greedy.any()


def test_what_is_longer_than_the_window_loses_its_left() -> None:
    """Context and target beyond the window are cut from the left as lm-eval does, and marked."""
    model = decoder()
    pairs = [(tuple(range(5, 35)) * 3, (7, 8)), (tuple(range(5, 35)) * 2, (7, 8, 9, 10, 11)), (tuple(range(5, 35)), (7,))]
    scored = Likelihood(model).score(pairs)
    np.testing.assert_allclose(scored.logprob, [plain(model, *pair)[0] for pair in pairs], atol=1e-3)
    assert scored.truncated.tolist() == [True, False, False]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_logits_are_an_error(bad: float) -> None:
    """NaN or infinite logits end in one line that names the model."""
    model = decoder()
    model.module.model.norm.weight[0] = bad
    with pytest.raises(ProbeError, match=r"^likelihood: model 'tiny-decoder': got NaN or infinite logits, expected finite ones\."):
        Likelihood(model).score([((5,), (6,))])


def test_an_empty_part_is_an_error() -> None:
    """Neither nothing can be scored, nor what follows nothing."""
    for pair, what in ((((5,), ()), "target"), (((), (5,)), "context")):
        with pytest.raises(ProbeError, match=rf"^likelihood: asked\[1\]: got an empty {what}"):
            Likelihood(decoder()).score([((5,), (6,)), pair])


def test_an_encoder_has_no_continuations() -> None:
    """A masked language model is refused, not scored from the left."""
    with pytest.raises(ProbeError, match="got an encoder, expected a model that continues a text"):
        Likelihood(encoder())


def test_progress_reaches_the_end() -> None:
    """Progress counts up to the number asked."""
    told: list[tuple[int, int]] = []
    Likelihood(decoder()).score(made(1), batch_size=4, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (43, 43)


def test_spaces_of_the_context_go_to_the_continuation() -> None:
    """A pair is cut as lm-eval cuts it: spaces move, and the context's ids are those that it has alone."""
    model = span_model()
    whole = model.tokenizer.encode("the city is ")
    assert encode_pair(model, "the city is ", "red") == (tuple(whole), tuple(model.tokenizer.encode(" red", add_special_tokens=False)))
