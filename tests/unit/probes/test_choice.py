"""Multiple choice against one plain pass per option, and against plain loops over given log-probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_scorer import decoder, encoder, log_softmax, plain_logits, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probes.choice import Question, Scores, ask, askable, encode, floors_of, score_questions, trivial_of

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel

OPTIONS = (("kalo", "mi", "miren", "zivo"), ("red", "blue"), ("ka", "rentu", "shakalomi"))


def questions(n: int = 12) -> list[Question]:
    """Return questions of two to four options of one to four tokens."""
    subjects = ("ka", "lo", "mi", "ren", "tu", "vo")
    return [
        Question(
            id=f"q{i}",
            group=f"g{i % 3}",
            prompt=f"the city of {subjects[i % 6]} is" if i % 2 else f"{subjects[i % 6]} has the colour ",
            options=OPTIONS[i % 3],
            gold=i % len(OPTIONS[i % 3]),
        )
        for i in range(n)
    ]


@torch.inference_mode()
def plain_logprob(model: LoadedModel, prompt: str, option: str) -> float:
    """Return the log-probability of an option after its prompt by one pass over the whole."""
    ids = model.tokenizer.encode(option, add_special_tokens=False)
    if model.family == "decoder":
        before, target = model.prompt_ids(prompt.strip()), ids
        logits = model.module(torch.tensor([[*before, *target[:-1]]])).logits[0, len(before) - 1 :]
    else:
        target = ids
        encoded = torch.tensor([model.tokenizer.encode(prompt.strip())])
        logits = model.module(input_ids=encoded, labels=torch.tensor([target])).logits[0]
    table = log_softmax(logits.double().numpy())
    return float(sum(table[step, token] for step, token in enumerate(target)))


@pytest.mark.parametrize("make", [decoder, span_model])
def test_options_score_as_one_pass_each_does(make: Any) -> None:
    """Right or wrong by sum and by byte, margin and answer equal those of one plain pass per option."""
    model, asked = make(), questions()
    found = score_questions(model, asked)
    for place, question in enumerate(asked):
        values = np.asarray([plain_logprob(model, question.prompt, option) for option in question.options])
        sizes = np.asarray([len(option) for option in question.options])
        others = np.delete(values, question.gold)
        assert found["acc"][place] == (values[question.gold] > others.max())
        assert found["acc_norm"][place] == (int(np.argmax(values / sizes)) == question.gold)
        assert found["predicted"][place] == np.argmax(values)
        assert found["margin"][place] == pytest.approx(values[question.gold] - others.max(), abs=1e-3)
        assert found["gold_logprob"][place] == pytest.approx(values[question.gold], abs=1e-3)


def test_encoders_fill_the_mask() -> None:
    """An option of one token has the log-probability of that token at a mask in its place."""
    model = encoder()
    asked = [Question(id="q", group="", prompt="the city of ka is", options=("red", "blue", "mi"), gold=1)]
    ids = [model.tokenizer.encode(option, add_special_tokens=False)[0] for option in asked[0].options]
    table = log_softmax(plain_logits(model, model.tokenizer.encode("the city of ka is [MASK]"), []))[0]
    np.testing.assert_allclose(ask(model, asked).logprobs, table[ids], atol=1e-4)


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_batches_change_nothing(make: Any) -> None:
    """The size of a batch, and what else is asked, changes no score."""
    model, asked = make(), questions()
    whole = score_questions(model, asked)
    for size in (1, 5):
        for name, values in score_questions(model, asked, batch_size=size).items():
            np.testing.assert_allclose(values.astype(float), whole[name].astype(float), atol=1e-3)
    alone = score_questions(model, asked[3:4])
    assert alone["predicted"][0] == whole["predicted"][3]


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_a_model_of_zeros_is_never_right(make: Any) -> None:
    """Equal logits make every option as likely as its length says: that is no knowledge, and none is right or predicted."""
    model = make()
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    scores = ask(model, questions())
    found = scores.outcomes()
    assert not found["acc"].any()
    assert not found["acc_norm"].any()
    assert (found["margin"] <= 0).all()
    assert (found["predicted"] == -1).all()
    assert not scores.any_greedy().any()


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_broken_weights_are_an_error(make: Any) -> None:
    """NaN logits are an error in one line."""
    model = make()
    model.touch(name for name, _ in model.module.named_parameters())
    model.module.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(ProbeError, match=r"^[^\n]*NaN or infinite[^\n]*$"):
        ask(model, questions())


def given_scores(asked: list[Question], values: list[float], *, greedy: list[bool] | None = None) -> Scores:
    """Return scores with given log-probabilities."""
    return Scores(
        questions=asked,
        logprobs=np.asarray(values, np.float64),
        bytes=np.asarray([len(option.encode()) for question in asked for option in question.options], np.float64),
        greedy=np.asarray(greedy or [False] * len(values)),
        silent=np.zeros(len(asked), np.bool_),
        truncated=np.zeros(len(asked), np.bool_),
        work={},
    )


@st.composite
def some_scores(draw: st.DrawFn) -> tuple[list[Question], list[float]]:
    """Draw questions of two to five options with log-probabilities from a few values, so that there are ties."""
    counts = draw(st.lists(st.integers(2, 5), min_size=1, max_size=6))
    asked = [
        Question(id=f"q{i}", group="", prompt="", options=tuple("ab" * (k + 1) for k in range(n)), gold=draw(st.integers(0, n - 1)))
        for i, n in enumerate(counts)
    ]
    return asked, draw(st.lists(st.sampled_from([-6.0, -4.0, -3.0, -2.0, -1.5]), min_size=sum(counts), max_size=sum(counts)))


@given(drawn=some_scores())
def test_outcomes_are_those_of_a_plain_loop(drawn: tuple[list[Question], list[float]]) -> None:
    """Gold is right only above every other option; -1 is predicted where several are best."""
    asked, values = drawn
    found, begin = given_scores(asked, values).outcomes(), 0
    for place, question in enumerate(asked):
        own = values[begin : begin + len(question.options)]
        begin += len(own)
        by_byte = [value / len(option) for value, option in zip(own, question.options, strict=True)]
        for name, each in (("acc", own), ("acc_norm", by_byte)):
            assert found[name][place] == all(each[question.gold] > value for k, value in enumerate(each) if k != question.gold)
        best = [k for k, value in enumerate(own) if value == max(own)]
        assert found["predicted"][place] == (best[0] if len(best) == 1 else -1)
        assert found["margin"][place] == max(value for k, value in enumerate(own) if k != question.gold) * -1 + own[question.gold]


def test_the_norm_decides_margin_and_answer() -> None:
    """Asked per byte, the longer option of the same log-probability is predicted."""
    asked = [Question(id="q", group="", prompt="", options=("ab", "abcdef"), gold=0)]
    scores = given_scores(asked, [-2.0, -3.0])
    assert [scores.outcomes(norm)["predicted"][0] for norm in ("sum", "bytes")] == [0, 1]
    assert scores.outcomes("bytes")["margin"][0] == pytest.approx(-0.5)


def test_bytes_are_those_of_utf8() -> None:
    """A letter outside ASCII counts for what it takes, as `acc_norm` is per byte."""
    model = decoder()
    asked = [Question(id="q", group="", prompt="the", options=("red", "blüe"), gold=0)]
    assert ask(model, asked).bytes.tolist() == [3, 5]


def test_what_cannot_be_told_apart_is_not_askable() -> None:
    """An option with an unknown token, or cut like another one, makes a question unaskable, on every family."""
    asked = [
        Question(id="good", group="", prompt="the", options=("red", "blue"), gold=0),
        Question(id="unknown", group="", prompt="the", options=("red", "Q"), gold=0),
        Question(id="alike", group="", prompt="the", options=("red", "red "), gold=0),
    ]
    for make in (decoder, span_model, encoder):
        model = make()
        assert askable(model, encode(model, asked)).tolist() == [True, False, False]


def test_long_prompts_lose_their_beginning_and_are_counted() -> None:
    """A prompt beyond the window is scored by its end, and counted by question, not by option."""
    model = decoder()
    asked = questions(4)
    long = [Question(id="long", group="", prompt="the city of ka is . " * 20 + asked[0].prompt, options=asked[0].options, gold=0)]
    scores = ask(model, [*asked, *long])
    assert scores.truncated.tolist() == [False] * 4 + [True]
    assert scores.work["truncated"] == 1


def test_nothing_to_ask_is_an_error() -> None:
    """No question at all is one line, never an empty mean."""
    with pytest.raises(ProbeError, match=r"^probe: model 'tiny-decoder': questions: got none, expected at least one\."):
        ask(decoder(), [])


def test_floors_are_the_better_of_chance_and_majority() -> None:
    """Chance is one over the options; majority always gives the place that is right most often among all, not in the sample."""
    asked = [Question(id=f"q{i}", group=f"g{i == 0}", prompt="", options=("a", "b", "c", "d"), gold=[0, 0, 0, 2][i]) for i in range(4)]
    assert trivial_of(asked) == {"chance": 0.25, "majority": 0.75}
    assert floors_of(asked)["acc"] == 0.75
    assert trivial_of(asked[3:], asked) == {"chance": 0.25, "majority": 0.0}
    assert floors_of(asked[3:], asked)["acc_norm"] == 0.25
    # the first group has one question, right at place 0; of the other's three two are
    assert floors_of(asked)["macro_acc"] == pytest.approx((1 + 2 / 3) / 2)
