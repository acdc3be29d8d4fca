"""Generation against a plain loop: one full pass per token, one prompt at a time, nothing cached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from plain_scorer import DECODERS, decoder, encoder, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probes.generation import generate, generated

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel

PROMPTS = [
    "the city of kalo is",
    "kalomi",
    "red has the colour blue ! the city of rentu zi vo is",
    "a city",
    "mi ren tu",
    "zi",
    "loka has",
    "1",
]
NEW = 8
SAMPLED = {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 9.0, "num_beams": 3, "no_repeat_ngram_size": 1}
FORCED = {"min_new_tokens": 9, "forced_eos_token_id": 3, "suppress_tokens": list(range(9, 20)), "max_new_tokens": 2}


@torch.inference_mode()
def plain(model: LoadedModel, prompt: str, steps: int = NEW, ends: tuple[int, ...] = (3,)) -> tuple[list[int], list[float]]:
    """Return the token ids that follow a prompt, and by how much each beat the second, until an end token or for so many steps."""
    ids = model.prompt_ids(prompt) if model.family == "decoder" else model.tokenizer.encode(prompt)
    found: list[int] = []
    gaps = []
    while len(found) < steps and not set(found) & set(ends):
        if model.family == "decoder":
            logits = model.module(torch.tensor([[*ids, *found]]), use_cache=False).logits[0, -1]
        else:
            start = model.module.config.decoder_start_token_id
            logits = model.module(torch.tensor([ids]), decoder_input_ids=torch.tensor([[start, *found]]), use_cache=False).logits[0, -1]
        first, second = logits.double().topk(2).values
        gaps.append(float(first - second))
        found.append(int(logits.argmax()))
    return found, gaps


def text_of(model: LoadedModel, ids: list[int]) -> str:
    """Return the text of token ids up to the end token."""
    kept = ids[: ids.index(3)] if 3 in ids else ids
    return str(model.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def made(kind: str) -> LoadedModel:
    """Return a tiny random model."""
    return span_model() if kind == "t5" else decoder(kind)


@pytest.mark.parametrize("kind", [*DECODERS, "t5"])
def test_every_batch_size_gives_the_text_of_the_plain_loop(kind: str) -> None:
    """In float32 padding changes nothing: texts and margins are those of one prompt at a time, on each architecture."""
    model = made(kind)
    expected = [plain(model, prompt) for prompt in PROMPTS]
    for size in (1, 8):
        found = generated(model, PROMPTS, max_new_tokens=NEW, stop=(), batch_size=size)
        assert found.texts == [text_of(model, ids) for ids, _ in expected]
        np.testing.assert_allclose(found.margins, [min(gaps) for _, gaps in expected], atol=1e-4)
        assert found.lengths.tolist() == [ids.index(3) if 3 in ids else len(ids) for ids, _ in expected]


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("settings", [SAMPLED, FORCED])
def test_a_models_own_settings_never_matter(kind: str, settings: dict[str, Any]) -> None:
    """A checkpoint that samples, searches, penalises or forces tokens is generated from greedily, and keeps its settings."""
    model = made(kind)
    before = generate(model, PROMPTS, max_new_tokens=NEW)
    own = model.module.generation_config
    for name, value in settings.items():
        setattr(own, name, value)
    assert generate(model, PROMPTS, max_new_tokens=NEW) == before
    assert model.module.generation_config is own
    assert {name: getattr(own, name) for name in settings} == settings


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_text_ends_before_the_first_stop_string(kind: str) -> None:
    """Wherever a stop string begins, inside a token or across several, the text is what stands before it."""
    model = made(kind)
    whole = generate(model, PROMPTS, max_new_tokens=NEW, stop=())
    long = max(whole, key=len)
    for size in (1, 4):
        for begin in range(0, len(long) - size, 5):
            stop = long[begin : begin + size]
            assert generate(model, PROMPTS, max_new_tokens=NEW, stop=("\n", stop)) == [text.partition(stop)[0] for text in whole]


def test_generation_ends_when_all_rows_have_stopped() -> None:
    """Once each row has its stop string no further token is computed; the tokens of the stop string count as written."""
    model = decoder()
    text = generate(model, ["kalomi"], max_new_tokens=NEW, stop=())[0]
    stopped = generated(model, ["kalomi"], max_new_tokens=NEW, stop=(text[0],))
    assert stopped.texts == [""]
    assert stopped.lengths.tolist() == [1]
    assert stopped.work["passes"] == 1


def test_any_of_a_models_end_tokens_ends_a_text() -> None:
    """Chat models name several end tokens: the earliest one ends the text, and the margin counts the choice to end."""
    model = decoder()
    ids, gaps = plain(model, PROMPTS[1])
    third = ids[2]
    assert third not in ids[:2]
    model.module.generation_config.eos_token_id = [3, third]
    found = generated(model, PROMPTS[1:2], max_new_tokens=NEW, stop=())
    assert found.texts == [model.tokenizer.decode(ids[:2], skip_special_tokens=True)]
    assert found.lengths.tolist() == [2]
    assert found.margins[0] == pytest.approx(min(gaps[:3]), abs=1e-4)


def test_long_prompts_lose_their_beginning_and_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A prompt longer than the context is cut from the left, so that what follows it is what follows its end, and nothing warns of it."""
    model = decoder()
    model.tokenizer.model_max_length = 64
    prompt = " ".join(["red", "blue", "city"] * 30)
    found = generated(model, [prompt, "kalomi"], max_new_tokens=NEW, stop=())
    assert "indexing errors" not in caplog.text
    assert found.truncated.tolist() == [True, False]
    assert found.work["truncated"] == 1
    ids = model.prompt_ids(prompt)[-(64 - NEW) :]
    tail = str(model.tokenizer.decode(ids))
    assert model.prompt_ids(tail) == ids
    assert found.texts[0] == generate(model, [tail], max_new_tokens=NEW, stop=())[0]


def test_half_of_a_short_context_is_left_for_the_prompt() -> None:
    """More new tokens than a context holds are not asked for, and the number is told."""
    assert generated(decoder(), ["kalomi"], max_new_tokens=500, stop=()).max_new_tokens == 32


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_no_numbers_are_an_error(kind: str, value: float) -> None:
    """NaN and infinite logits end the probe in one line, and leave the model as it was."""
    model = made(kind)
    before = generate(model, PROMPTS[:2], max_new_tokens=3)
    name = next(name for name, _ in model.module.named_parameters() if "norm" in name)
    model.touch([name])
    dict(model.module.named_parameters())[name].data.fill_(value)
    with pytest.raises(ProbeError, match="NaN or infinite logits, expected finite ones") as error:
        generate(model, PROMPTS)
    assert "\n" not in str(error.value)
    model.fresh_()
    assert generate(model, PROMPTS[:2], max_new_tokens=3) == before


def test_a_dead_model_says_nothing() -> None:
    """All weights zero: every logit is the same, the first token of the vocabulary is padding, and the texts are empty."""
    model = decoder()
    model.touch([name for name, _ in model.module.named_parameters()])
    for parameter in model.module.parameters():
        parameter.data.zero_()
    found = generated(model, PROMPTS, max_new_tokens=4)
    assert found.texts == [""] * len(PROMPTS)
    assert not found.margins.any()


def test_bfloat16_logits_are_computed_in_float32() -> None:
    """The margin is that of float32 logits from the bfloat16 hidden state, not of logits rounded to bfloat16."""
    model = decoder()
    model.cast_(torch.bfloat16)
    found = generated(model, PROMPTS[:1], max_new_tokens=1, stop=())
    with torch.inference_mode():
        out = model.module(torch.tensor([model.prompt_ids(PROMPTS[0])]), output_hidden_states=True)
    logits = out.hidden_states[-1][0, -1].float() @ model.module.get_output_embeddings().weight.float().T
    first, second = logits.topk(2).values
    assert found.margins[0] == pytest.approx(float(first - second), rel=1e-4)
    rounded = logits.bfloat16().topk(2).values
    assert float(rounded[0] - rounded[1]) != pytest.approx(float(first - second), rel=1e-4)


def test_chat_puts_the_prompt_into_the_template() -> None:
    """A text is the user's turn; a list of messages is the conversation; the template opens the answer."""
    model = decoder()
    model.tokenizer.chat_template = (
        "{% for m in messages %}{{ 'red ' if m.role == 'user' else 'blue ' }}{{ m.content }} ! {% endfor %}"
        "{% if add_generation_prompt %}blue{% endif %}"
    )
    assert generate(model, ["kalo"], chat=True) == generate(model, ["red kalo ! blue"])
    talk = [{"role": "user", "content": "kalo"}, {"role": "assistant", "content": "mi"}, {"role": "user", "content": "zi"}]
    assert generate(model, [talk], chat=True) == generate(model, ["red kalo ! blue mi ! red zi ! blue"])


@pytest.mark.parametrize(
    ("model", "prompt", "chat", "said"),
    [
        (encoder, "kalo", False, "got an encoder, expected a model that generates"),
        (decoder, "", False, "expected one with at least one token"),
        (decoder, "kalo", True, "got a tokenizer without a chat template"),
    ],
)
def test_what_cannot_be_generated_from_is_an_error(model: Any, prompt: str, chat: bool, said: str) -> None:
    """Encoders, empty prompts and templates that are not there end in one line that says what to do."""
    with pytest.raises(ProbeError, match=said):
        generate(model(), [prompt], chat=chat)


def test_progress_counts_prompts_and_nothing_asked_is_nothing_written() -> None:
    """Progress goes up to the number of prompts; no prompt gives no text."""
    told: list[tuple[int, int]] = []
    generate(decoder(), PROMPTS, max_new_tokens=2, batch_size=3, progress=lambda done, of: told.append((done, of)))
    assert told == [(3, 8), (6, 8), (8, 8)]
    assert generate(decoder(), []) == []
