"""The whole probe against a scorer that runs one full pass per candidate."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from plain_scorer import DECODERS, decoder, encoder, facts, log_softmax, plain_answer, plain_logits, plain_prompt, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probes.facts import FactsProbe
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.rows import RowForward
from pytest_kick.probes.tree import TreeForward
from pytest_kick.probes.ways import forward_for

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.result import ProbeScore

CONTINUES = tuple("##" + s for s in ("ka", "lo", "mi", "ren", "tu", "vo", "zi", "sha"))


def plain_score(model: LoadedModel, fact_set: Any) -> dict[str, dict[str, Any]]:
    """Score every fact by brute force: id -> outcomes and scores; facts with answers of several tokens are left out for encoders."""
    scored = {}
    for fact in fact_set.facts:
        relation = fact_set.relations[fact.relation]
        stem, after = relation.prompt(fact.subject)
        prompt = plain_prompt(model, stem, after)
        answers = {label: plain_answer(model, label, after) for label in relation.answers}
        if model.family == "encoder":
            answers = {label: ids for label, ids in answers.items() if len(ids) == 1}
        if fact.answer not in answers:
            continue
        values = {}
        for label, ids in answers.items():
            table = log_softmax(plain_logits(model, prompt, ids))
            values[label] = sum(table[step, token] for step, token in enumerate(ids))
        gold = values.pop(fact.answer)
        rank = 1 + sum(value >= gold for value in values.values())
        best = max({**values, fact.answer: gold}, key=lambda label: {**values, fact.answer: gold}[label])
        free = [free_ranks(model, prompt, plain_answer(model, name, "")) for name in (fact.answer, *fact.aliases)]
        scored[fact.id] = {
            **{f"p{cut}": rank <= cut for cut in (1, 5, 10)},
            **{f"free_p{cut}": any(worst <= cut for worst, _ in free) for cut in (5, 10)},
            "free_p1": any(worst == 1 and ends for worst, ends in free),
            "gold_logprob": gold,
            "margin": gold - max(values.values()),
            "predicted": relation.answers.index(best),
        }
    return scored


def free_ranks(model: LoadedModel, prompt: list[int], ids: list[int]) -> tuple[int, bool]:
    """Return the worst rank of the tokens of a spelling, and whether the word ends there."""
    if model.family == "encoder" and len(ids) != 1:
        return 99, False
    table = plain_logits(model, prompt, ids)
    worst = max(int((table[step] >= table[step, token]).sum()) for step, token in enumerate(ids))
    if model.family == "encoder":
        return worst, True
    following = model.tokenizer.convert_ids_to_tokens([int(table[len(ids)].argmax())])[0]
    return worst, following not in CONTINUES


def assert_equal(score: ProbeScore, expected: dict[str, dict[str, Any]]) -> None:
    """Compare a score with the plain one: outcomes exactly, scores to what storage keeps."""
    assert list(score.examples.ids) == list(expected)
    for name in ("p1", "p5", "p10", "free_p1", "free_p5", "free_p10", "predicted"):
        assert score.examples.arrays[name].tolist() == [values[name] for values in expected.values()], name
    for name in ("gold_logprob", "margin"):
        np.testing.assert_allclose(score.examples.arrays[name], [v[name] for v in expected.values()], rtol=2e-3, atol=2e-3)
        assert score.metrics[name] == pytest.approx(np.mean([v[name] for v in expected.values()]), abs=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
def test_decoders_score_as_one_pass_per_candidate_does(kind: str) -> None:
    """Packed, cut-short scoring gives every outcome and score of the plain one, on each architecture."""
    model = decoder(kind)
    assert_equal(FactsProbe(facts()).run(model), plain_score(model, facts()))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("make", [span_model, encoder])
def test_other_families_score_as_one_pass_per_candidate_does(make: Any, seed: int) -> None:
    """So does the encoder-decoder between its sentinels, and the encoder at its mask."""
    model = make(seed)
    assert_equal(FactsProbe(facts()).run(model), plain_score(model, facts()))


@pytest.mark.parametrize(("kind", "way"), [("llama", TreeForward), ("bloom", RowForward), ("mistral-narrow", RowForward)])
def test_only_models_that_take_a_tree_mask_get_one(kind: str, way: type) -> None:
    """ALiBi models, and windows narrower than a prompt, are run row by row."""
    model = decoder(kind)
    probe = FactsProbe(facts())
    assert type(forward_for(model, ScoredHead(model), probe._prepare(model))) is way


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_the_batch_size_changes_nothing(make: Any) -> None:
    """In float32 each outcome and prediction is the same at every batch size."""
    model = make()
    scores = [FactsProbe(facts()).run(model, batch_size=size).examples.arrays for size in (1, 5, 64)]
    for other in scores[1:]:
        for name, values in scores[0].items():
            np.testing.assert_allclose(np.asarray(values, float), np.asarray(other[name], float), atol=2e-3, err_msg=name)


def test_every_norm_ranks_as_the_plain_scorer_does() -> None:
    """Dividing by tokens or bytes changes the ranking as brute force says."""
    model, asked = decoder(), facts()
    for norm in ("tokens", "bytes"):
        score = FactsProbe(asked, norm=norm).run(model)
        for place, fact in enumerate(asked.facts):
            relation = asked.relations[fact.relation]
            stem, after = relation.prompt(fact.subject)
            prompt, values = plain_prompt(model, stem, after), []
            for label in relation.answers:
                ids = plain_answer(model, label, after)
                table = log_softmax(plain_logits(model, prompt, ids))
                length = len(ids) if norm == "tokens" else len(f" {label}{after}")
                values.append(sum(table[step, token] for step, token in enumerate(ids)) / length)
            assert score.examples.arrays["predicted"][place] == int(np.argmax(values))


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_a_model_of_zeros_knows_nothing(make: Any) -> None:
    """Weights of zero give equal logits, and equal logits are never right, whatever the lengths of the answers."""
    model = make()
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    score = FactsProbe(facts()).run(model)
    assert {name: score.metrics[name] for name in score.floors} == dict.fromkeys(score.floors, 0.0)


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error(make: Any, value: float) -> None:
    """NaN and infinite logits are an error of the cell in one line, never a score."""
    model = make()
    head = model.module.get_output_embeddings()
    weight = next(name for name, parameter in model.module.named_parameters() if parameter is head.weight)
    model.touch([weight])
    head.weight[7] = value
    with pytest.raises(ProbeError, match=r"^probe facts: model 'tiny-.*': got NaN or infinite logits, expected finite ones\. .*\.$"):
        FactsProbe(facts()).run(model)


def test_the_majority_answerer_is_no_better_than_the_floor() -> None:
    """A model that ignores the prompt (every position alike but for its bias) scores at most chance or majority."""
    model = decoder("phi")
    model.touch(name for name, _ in model.module.named_parameters())
    for name, parameter in model.module.named_parameters():
        parameter.zero_()
        if name == "lm_head.bias":
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    score = FactsProbe(facts()).run(model)
    for cut in (1, 5, 10):
        assert score.metrics[f"p{cut}"] <= score.floors[f"p{cut}"]


def test_floors_are_the_better_of_chance_and_majority() -> None:
    """Chance is one over the answer space, majority the share of the commonest gold answers."""
    asked = facts()
    score = FactsProbe(asked).run(decoder())
    # 12 facts with 12 answers, once each; 12 facts with 3 answers, four times each.
    assert score.trivial == pytest.approx({"chance": (1 / 12 + 1 / 3) / 2, "majority": (1 / 12 + 4 / 12) / 2})
    assert score.floors["p5"] == pytest.approx((5 / 12 + 1) / 2)
    assert score.floors["free_p1"] == 0


def test_encoders_leave_out_answers_of_several_tokens() -> None:
    """They are counted, and neither asked nor offered."""
    score = FactsProbe(facts()).run(encoder())
    assert score.excluded == {"answer of several tokens": 14}
    assert score.n == 10
    # of 12 cities two are one token; of 3 colours two
    assert score.trivial["chance"] == pytest.approx(0.5)


def test_what_the_tokenizer_cannot_spell_is_left_out() -> None:
    """A fact with an unknown token in its subject or its answer is counted, not scored."""
    asked = facts()
    first, second, *rest = asked.facts
    changed = replace(asked, facts=(replace(first, subject="xyz"), second, *rest))
    score = FactsProbe(changed).run(decoder())
    assert score.excluded == {"unknown token": 1}
    assert first.id not in score.examples.ids


def test_nothing_scorable_is_an_error() -> None:
    """A data set in another script is refused in one line."""
    asked = facts()
    changed = replace(asked, facts=tuple(replace(fact, subject="xyz") for fact in asked.facts))
    with pytest.raises(ProbeError, match=r"^probe facts: model .* no fact that its tokenizer can express .*\.$"):
        FactsProbe(changed).run(decoder())


def test_an_unknown_norm_is_an_error() -> None:
    """With the name that was probably meant."""
    with pytest.raises(ProbeError, match=r"^probe facts: norm: got 'token', expected one of .* Did you mean 'tokens'\?$"):
        FactsProbe(facts(), norm="token")


def test_a_sample_scores_its_facts_as_the_whole_does() -> None:
    """A limit asks fewer facts, with equal outcomes, and twice the same ones."""
    model, probe = decoder(), FactsProbe(facts())
    whole, part = probe.run(model), probe.run(model, limit=10, seed=3)
    assert part.n == 10
    index = [list(whole.examples.ids).index(name) for name in part.examples.ids]
    for name, values in part.examples.arrays.items():
        np.testing.assert_allclose(values.astype(float), whole.examples.arrays[name][index].astype(float), atol=2e-3)
    assert part.examples.hashes.tolist() == whole.examples.hashes[index].tolist()


def test_progress_is_told() -> None:
    """Facts done and asked are reported after each batch."""
    told: list[tuple[int, int]] = []
    FactsProbe(facts()).run(decoder(), batch_size=10, progress=lambda done, total: told.append((done, total)))
    assert told == [(10, 24), (20, 24), (24, 24)]
