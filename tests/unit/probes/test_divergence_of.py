"""Distances at the examples of other probes than `facts`, against plain passes; what they share with facts is in `test_divergence.py`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import made_relations
import numpy as np
import pytest
import torch
from plain_scorer import decoder, encoder, facts, log_softmax, span_model
from test_choice import plain_logprob
from test_divergence import changed, lumped, plain_divergence

from pytest_kick.data_sets.bear import load_bear
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes import divergence_ask, divergence_measures
from pytest_kick.probes.choice import Question, ask
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.divergence import Divergence
from pytest_kick.probes.divergence_ask import Predictions
from pytest_kick.probes.divergence_measures import evened, normalized
from pytest_kick.probes.lama_cloze import prepare_clozes
from pytest_kick.probes.prepare import prepare
from pytest_kick.probes.reference import kept_reference

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.result import ProbeScore

FAMILIES = (decoder, span_model, encoder)
OPTIONS = (["kalo", "mi", "miren"], ["red", "blue"], ["ka", "rentu", "shakalomi", "zi"])
LAMA = {"of": "lama", "dataset": "trex", "licence": "cc-by-nc"}


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep so few tokens of the vocabulary that there is a tail."""
    monkeypatch.setattr(divergence_measures, "TOP", 5)


def lines(n: int = 9) -> list[dict[str, Any]]:
    """Return questions of two to four options of one to four tokens, in three groups."""
    words = ("ka", "lo", "mi", "ren", "tu", "vo")
    return [
        {"question": f"the city of {words[i % 6]} is", "options": OPTIONS[i % 3], "answer": 0, "id": f"q{i}", "group": f"g{i % 3}"}
        for i in range(n)
    ]


def probe_of(folder: Path, **params: Any) -> Divergence:
    """Return the probe on made-up data of every kind."""
    if not (folder / "bear").exists():
        made_relations.write_bear(folder)
        made_relations.write_lama(folder)
        (folder / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines()), encoding="utf-8")
    outside: tuple[tuple[str, str], ...] = ()
    if params["of"] == "questions":
        params, outside = {**params, "file": "mine", "prompt": "plain"}, (("file", f"path:{folder / 'mine.jsonl'}"),)
    return Divergence(
        ProbeContext(spec=ProbeSpec(name="divergence", params=tuple(params.items()), outside=outside), data=folder, offline=True)
    )


def scored(probe: Divergence, model: LoadedModel) -> ProbeScore:
    """Return the score of a model that is changed after its reference was taken."""
    reference = probe.reference(model)
    changed(model)
    return probe.run(model, reference=reference)


def both(make: Any, plain: Any) -> tuple[Any, Any]:
    """Return what a plain function says of the dense model and of the changed one."""
    return plain(make()), plain(changed(make()))


@torch.inference_mode()
def next_token(model: LoadedModel, prompt: str) -> Any:
    """Return a decoder's log-probabilities of what follows a prompt."""
    return log_softmax(model.module(torch.tensor([model.prompt_ids(prompt)])).logits[0, -1].double().numpy())


def check_options(score: ProbeScore, dense: Any, now: Any) -> None:
    """Compare distance, choice and margin with plain sums of each example's options."""
    arrays = score.examples.arrays
    for place in range(score.n):
        assert arrays["kl_options"][place] == pytest.approx(plain_divergence(dense[place], now[place]), rel=1e-3, abs=1e-6)
        assert arrays["option_agrees"][place] == (np.argmax(dense[place]) == np.argmax(now[place]))
        assert arrays["option_margin"][place] == pytest.approx(np.diff(np.sort(dense[place])[-2:])[0], rel=1e-3, abs=1e-4)


def asked_of(score: ProbeScore) -> list[dict[str, Any]]:
    """Return the questions of a score, in its order."""
    asked = {str(line["id"]): line for line in lines()}
    return [asked[name.removeprefix("mine/")] for name in score.examples.ids.tolist()]


def plain_options(model: LoadedModel, here: list[dict[str, Any]]) -> list[list[float]]:
    """Return the log-probability of each option of each question, by one plain pass each."""
    return [[plain_logprob(model, question["question"], option) for option in question["options"]] for question in here]


def test_questions_are_compared_at_the_prompt_and_by_their_options(tmp_path: Path) -> None:
    """The next token after the prompt, and the sums of all options, equal one plain pass for each; also where a batch holds few."""
    score = scored(probe_of(tmp_path, of="questions"), decoder())
    here = asked_of(score)
    check_options(score, *both(decoder, lambda model: plain_options(model, here)))
    dense, now = both(decoder, lambda model: [next_token(model, question["question"]) for question in here])
    arrays = score.examples.arrays
    for place in range(score.n):
        assert arrays["kl"][place] == pytest.approx(lumped(dense[place], now[place]), rel=1e-3, abs=1e-6)
        assert arrays["kl_full"][place] == pytest.approx(plain_divergence(dense[place], now[place]), rel=1e-3, abs=1e-6)
        assert arrays["predicted"][place] == now[place].argmax()
        assert arrays["option_predicted"][place] < len(here[place]["options"])
    assert score.metric == "kl"
    assert {"option_agrees", "top1_agrees"} <= score.floors.keys()
    halves = [
        score.metrics[f"option_agrees_{size}_margin"] for size in ("small", "large") if f"option_agrees_{size}_margin" in score.metrics
    ]
    assert min(halves) <= score.metrics["option_agrees"] <= max(halves)


def encoder_options(model: LoadedModel, here: list[dict[str, Any]]) -> list[Any]:
    """Return the pseudo-log-likelihood of each option of each question."""
    asked = [Question(id=str(q["id"]), group="", prompt=q["question"], options=tuple(q["options"]), gold=0) for q in here]
    return np.split(ask(model, asked).logprobs, np.cumsum([len(question.options) for question in asked])[:-1])


@pytest.mark.parametrize(("make", "plain"), [(encoder, encoder_options), (span_model, plain_options)])
def test_an_encoder_or_encoder_decoder_has_options_and_no_next_token(make: Any, plain: Any, tmp_path: Path) -> None:
    """The distance between its options is the one judged: an encoder masks each token, an encoder-decoder opens all with its sentinel."""
    score = scored(probe_of(tmp_path, of="questions"), make())
    here = asked_of(score)
    check_options(score, *both(make, lambda model: plain(model, here)))
    assert score.metric == "kl_options"
    assert score.trivial == {"uniform": score.floors["kl_options"]}
    assert set(score.floors) == {"kl_options", "option_agrees"}
    assert not {"kl", "kl_full", "top1_agrees", "margin", "option_predicted"} & score.examples.arrays.keys()
    assert not [name for name in score.metrics if "top1" in name or "tail" in name]
    assert set(score.examples.arrays["predicted"]) <= {-1, 0, 1, 2, 3}


@torch.inference_mode()
def statement_sums(model: LoadedModel, names: list[str], template: int, folder: Path) -> list[list[float]]:
    """Return the log-probability of each statement as a whole, by one plain pass each: what they share cancels out."""
    data = load_bear(DataSource(directory=folder, offline=True))
    by_id = {fact.id: fact for fact in data.facts}
    found = []
    for name in names:
        relation = data.relations[by_id[name].relation]
        before, _, after = relation.templates[template].replace("[X]", by_id[name].subject).partition("[Y]")
        sums = []
        for answer in relation.answers:
            ids = model.prompt_ids("") + model.tokenizer.encode(f"{before}{answer}{after}", add_special_tokens=False)
            table = log_softmax(model.module(torch.tensor([ids])).logits[0].double().numpy())
            sums.append(float(sum(table[place, token] for place, token in enumerate(ids[1:]))))
        found.append(sums)
    return found


@pytest.mark.parametrize("template", [0, 1])
def test_statements_are_compared_by_their_whole_answers(template: int, tmp_path: Path) -> None:
    """Where the answer comes last, at a prompt; where it does not, as whole statements: both are the plain sums of the statements."""
    probe = probe_of(tmp_path, of="bear", template=template)
    score = scored(probe, decoder())
    names = score.examples.ids.tolist()
    check_options(score, *both(decoder, lambda model: statement_sums(model, names, template, tmp_path)))
    assert score.settings["template"] == template
    assert score.metric == "kl"


@pytest.mark.parametrize("make", FAMILIES)
def test_clozes_are_compared_among_the_words_that_are_ranked(make: Any, tmp_path: Path) -> None:
    """LAMA: the whole vocabulary at the blank, and what is left of it among the common words."""
    probe = probe_of(tmp_path, **LAMA)
    score = scored(probe, make())
    source: Any = probe._source
    blanks = prepare_clozes(source._clozes.facts, source._words, make())
    ids = [source._clozes.facts[number].id for number in blanks.chosen]

    @torch.inference_mode()
    def plain(model: LoadedModel) -> list[Any]:
        found = []
        for name in score.examples.ids.tolist():
            at = ids.index(name)
            prompt = torch.tensor([blanks.prompts[at]])
            more = {"decoder_input_ids": torch.tensor([blanks.prefix])} if blanks.prefix else {}
            found.append(
                log_softmax(model.module(input_ids=prompt, **more).logits[0, -1 if more else blanks.marks[at][0]].double().numpy())
            )
        return found

    dense, now = both(make, plain)
    arrays = score.examples.arrays
    for place in range(score.n):
        p, q = dense[place][blanks.among], now[place][blanks.among]
        assert arrays["kl"][place] == pytest.approx(lumped(dense[place], now[place]), rel=1e-3, abs=1e-6)
        assert arrays["kl_options"][place] == pytest.approx(lumped(p, q), rel=1e-3, abs=1e-6)
        assert arrays["option_agrees"][place] == (p.argmax() == q.argmax())
        assert arrays["option_margin"][place] == pytest.approx(np.diff(np.sort(p)[-2:])[0], rel=1e-3, abs=1e-4)
    assert score.n > 1


def test_the_whole_vocabulary_has_no_options_of_its_own(tmp_path: Path) -> None:
    """Where LAMA ranks every token, the distance over the vocabulary says all."""
    score = scored(probe_of(tmp_path, of="lama", dataset="trex", vocabulary="whole", licence="cc-by-nc"), encoder())
    assert "kl" in score.metrics
    assert not {"kl_options", "option_agrees"} & score.metrics.keys()


@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize(
    "params", [{"of": "questions"}, {"of": "bear"}, {"of": "bear", "template": 1}, LAMA, {**LAMA, "scoring": "statement"}]
)
def test_the_dense_model_is_at_distance_zero_from_itself(params: dict[str, Any], make: Any, tmp_path: Path) -> None:
    """Exactly, in bfloat16 too, by way of the file in which its answers are kept; zeros are as far as a guess, and NaN is an error."""
    probe, model = probe_of(tmp_path, **params), make()
    model.cast_(torch.bfloat16)
    kept = kept_reference(tmp_path / "kept", "key", lambda: probe.reference(model))
    score = probe.run(model, reference=kept)
    for mean in score.means:
        assert not score.examples.arrays[mean.name].any(), mean.name
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    zeros = probe.run(model, reference=kept)
    assert {name for name in score.floors if not score.mean(name)} >= {"option_agrees"}
    for name, floor in zeros.floors.items():
        assert zeros.metrics[name] == (pytest.approx(floor, rel=1e-4) if zeros.mean(name) else 0.0), name
    for parameter in model.module.parameters():
        parameter.fill_(torch.nan)
    for broken in (lambda: probe.run(model, reference=kept), lambda: probe.reference(model)):
        with pytest.raises(ProbeError, match="NaN or infinite"):
            broken()


def test_the_sample_is_the_same_whatever_the_run_asks(tmp_path: Path) -> None:
    """Drawn before the tokenizer is asked, smaller ones inside larger; a limit leaves a part of it."""
    model = decoder()

    def ids(probe: Divergence, **asked: int) -> set[str]:
        return set(probe.run(model, reference=probe.reference(model, **asked), **asked).examples.ids)

    five = probe_of(tmp_path, of="questions", sample=5)
    assert ids(five) == ids(five, seed=3)
    assert len(ids(five)) == 5
    assert ids(five, limit=2, seed=3) < ids(five)
    assert ids(probe_of(tmp_path, of="questions", sample=3)) < ids(five)
    keys = {probe_of(tmp_path, **params).key for params in ({"of": "bear"}, {"of": "bear", "template": 1}, {"of": "questions"}, LAMA)}
    assert len(keys) == 4


def test_another_reference_is_refused(tmp_path: Path) -> None:
    """Distances between answers to different questions would mean nothing."""
    model = decoder()
    reference = probe_of(tmp_path, of="questions", sample=4).reference(model)
    with pytest.raises(ProbeError, match="got other examples"):
        probe_of(tmp_path, of="questions").run(model, reference=reference)


def test_options_far_behind_are_not_run_to_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is near the likeliest, in this model or in the dense one, has its whole sum; the others are bounded, for less work."""
    model = decoder()
    prepared = prepare(facts(), model)
    everything = np.arange(len(prepared))

    def read(behind: float, dense: Any = None) -> tuple[Any, int]:
        monkeypatch.setattr(divergence_ask, "BEHIND", behind)
        asked = Predictions(model, prepared, whole=True)
        return asked.read(everything, lambda *_: None, dense=dense), asked.work.scored

    exact, all_of_them = read(np.inf)
    bound, some = read(1.0)
    assert some < all_of_them
    near = exact >= exact.max(1, keepdims=True) - 1.0
    np.testing.assert_allclose(bound[near], exact[near], atol=1e-4)
    there = np.isfinite(exact)
    assert (bound[there] >= exact[there] - 1e-4).all()
    assert (bound[there] - exact[there]).max() > 0.1
    other = np.where(there, -exact, -np.inf)  # a dense model of the opposite taste
    for_dense, _ = read(1.0, other)
    wanted = normalized(other) >= -1.0
    np.testing.assert_allclose(for_dense[wanted], exact[wanted], atol=1e-4)
    assert (bound[wanted & ~near] - exact[wanted & ~near]).max() > 0.1


def test_a_silent_model_is_not_decided_by_length() -> None:
    """Where each token is as likely as any, options of two tokens are as likely as those of one; other models are left alone."""
    flat = -np.log(50.0)
    sums = np.asarray([[flat, 2 * flat, -np.inf], [flat, 2 * flat + 0.01, -np.inf]])
    found = evened(sums, np.asarray([[1, 2, 1], [1, 2, 1]]), 50)
    np.testing.assert_array_equal(found[0], [0.0, 0.0, -np.inf])
    np.testing.assert_array_equal(found[1], sums[1])
