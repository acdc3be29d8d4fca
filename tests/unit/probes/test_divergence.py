"""Distances from the dense model's predictions, against plain passes of each family."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_scorer import decoder, encoder, facts, log_softmax, plain_answer, plain_logits, plain_prompt, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes import divergence_measures
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.divergence import Divergence, _compared
from pytest_kick.probes.divergence_measures import divergence, from_uniform, normalized, top_tokens, with_tail
from pytest_kick.probes.reference import kept_reference

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.result import ProbeScore

FAMILIES = (decoder, span_model, encoder)
TOP = 5


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep so few tokens of the vocabulary that there is a tail."""
    monkeypatch.setattr(divergence_measures, "TOP", TOP)


@pytest.fixture(autouse=True)
def _made_up_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask facts that the tokenizer of these tests knows."""
    monkeypatch.setattr(ProbeContext, "fact_set", lambda _self: facts())


def probe_with(**params: Any) -> Divergence:
    """Return the probe with parameters."""
    return Divergence(ProbeContext(spec=ProbeSpec(name="divergence", params=tuple(params.items()))))


def changed(model: LoadedModel, by: float = 0.3) -> LoadedModel:
    """Return a model whose matrices were moved by a share of their own spread."""
    model.touch(name for name, _ in model.module.named_parameters())
    generator = torch.Generator().manual_seed(1)
    for parameter in model.module.parameters():
        if parameter.ndim > 1:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.std() * by)
    return model


def plain_tables(model: LoadedModel, ids: list[str], *, whole: bool) -> tuple[Any, list[Any]]:
    """Return by one pass per fact and answer the log-probabilities at the answers, and the scores of the options."""
    asked = {fact.id: fact for fact in facts().facts}
    tables, options = [], []
    for name in ids:
        fact = asked[name]
        relation = facts().relations[fact.relation]
        stem, after = relation.prompt(fact.subject)
        prompt = plain_prompt(model, stem, after)
        answers = [plain_answer(model, label, after) for label in relation.answers]
        if model.family == "encoder":
            answers = [ids for ids in answers if len(ids) == 1]
        table = log_softmax(plain_logits(model, prompt, []))[0]
        tables.append(table)
        if whole:
            tables_of = [log_softmax(plain_logits(model, prompt, ids)) for ids in answers]
            options.append([sum(t[step, token] for step, token in enumerate(ids)) for t, ids in zip(tables_of, answers, strict=True)])
        else:
            options.append([table[token] for token in sorted({ids[0] for ids in answers})])
    return np.asarray(tables), options


def plain_divergence(p: Any, q: Any) -> float:
    """Return the sum of p log(p / q) of two lists of log-probabilities or scores, made to add up to 1."""
    p, q = (np.exp(np.asarray(values) - max(values)) for values in (p, q))
    p, q = p / p.sum(), q / q.sum()
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def lumped(p: Any, q: Any) -> float:
    """Return the divergence where all but the likeliest tokens of p are one."""
    order = np.argsort(-p)
    top, rest = order[:TOP], order[TOP:]
    return plain_divergence(*([*values[top], math.log(np.exp(values[rest]).sum())] for values in (p, q)))


def compared(make: Any, **params: Any) -> tuple[ProbeScore, Any, Any, Any, Any]:
    """Return the score of a changed model, and plain tables and options of both models."""
    probe, model = probe_with(**params), make()
    reference = probe.reference(model)
    ids, whole = reference["ids"].tolist(), params.get("options") == "whole"
    dense = plain_tables(model, ids, whole=whole)
    changed(model)
    return probe.run(model, reference=reference), *dense, *plain_tables(model, ids, whole=whole)


@pytest.mark.parametrize("make", FAMILIES)
def test_the_distance_is_that_of_plain_passes(make: Any) -> None:
    """Each family: the dense top tokens and a tail, the whole vocabulary, the options' first tokens, and the likeliest token."""
    score, dense, dense_options, now, now_options = compared(make, sample=12)
    arrays = score.examples.arrays
    for place in range(score.n):
        assert arrays["kl"][place] == pytest.approx(lumped(dense[place], now[place]), rel=1e-4, abs=1e-6)
        assert arrays["kl_full"][place] == pytest.approx(plain_divergence(dense[place], now[place]), rel=1e-4, abs=1e-6)
        assert arrays["kl_options"][place] == pytest.approx(plain_divergence(dense_options[place], now_options[place]), rel=1e-4, abs=1e-6)
        assert arrays["top1_agrees"][place] == (dense[place].argmax() == now[place].argmax())
        assert arrays["predicted"][place] == now[place].argmax()
        assert arrays["margin"][place] == pytest.approx(np.diff(np.sort(dense[place])[-2:])[0], rel=1e-3, abs=1e-5)
    tail = np.mean([np.exp(np.sort(row)[:-TOP]).sum() for row in dense])
    assert score.metrics["dense_tail_mass"] == pytest.approx(tail, rel=1e-4)
    assert (arrays["kl"] <= arrays["kl_full"] + 1e-6).all()


@pytest.mark.parametrize("make", FAMILIES)
def test_whole_options_are_compared_by_the_sums_of_their_tokens(make: Any) -> None:
    """Answers of several tokens, closing text included, run to their end in both models."""
    score, _, dense, _, now = compared(make, options="whole", sample=5)
    for place in range(score.n):
        assert score.examples.arrays["kl_options"][place] == pytest.approx(plain_divergence(dense[place], now[place]), rel=1e-4, abs=1e-6)
    assert score.settings["options"] == "whole answers, sum"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", FAMILIES)
def test_the_dense_model_is_at_distance_zero_from_itself(make: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    """Exactly, also by way of the file in which its answers are kept, and it agrees with itself everywhere."""
    probe, model = probe_with(), make()
    model.cast_(dtype)
    kept = kept_reference(tmp_path, "key", lambda: probe.reference(model))
    score = probe.run(model, reference=kept)
    for name in ("kl", "kl_options", "kl_full"):
        assert not score.examples.arrays[name].any()
        assert score.metrics[name] == 0
    assert score.examples.arrays["top1_agrees"].all()


@pytest.mark.parametrize("make", FAMILIES)
def test_a_model_of_zeros_agrees_with_nothing(make: Any) -> None:
    """Equal logits name no token, and are as far from dense as a guess at random."""
    probe, model = probe_with(), make()
    reference = probe.reference(model)
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    score = probe.run(model, reference=reference)
    assert not score.examples.arrays["top1_agrees"].any()
    assert set(score.examples.arrays["predicted"]) == {-1}
    for name in ("kl", "kl_options", "kl_full"):
        assert score.metrics[name] == pytest.approx(score.floors[name], rel=1e-5)
    assert score.trivial == {"uniform": score.floors["kl"]}
    assert 0 < score.floors["top1_agrees"] <= 1


@pytest.mark.parametrize("make", FAMILIES)
def test_a_broken_model_is_an_error(make: Any) -> None:
    """NaN logits are no distance, neither as the dense model nor as another."""
    probe, model = probe_with(), make()
    reference = probe.reference(model)
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.fill_(torch.nan)
    for ask in (lambda: probe.run(model, reference=reference), lambda: probe.reference(model)):
        with pytest.raises(ProbeError, match="NaN or infinite"):
            ask()


def test_the_sample_is_the_same_whatever_the_run_asks() -> None:
    """The seed of a run decides only which facts a limit below the sample leaves; smaller samples lie inside larger ones."""
    model = decoder()

    def ids(probe: Divergence, **asked: int) -> set[str]:
        return set(probe.run(model, reference=probe.reference(model, **asked), **asked).examples.ids)

    probe = probe_with(sample=10)
    assert len(ids(probe)) == 10
    assert ids(probe, seed=3) == ids(probe) == ids(probe, limit=500)
    assert ids(probe, limit=4, seed=3) < ids(probe)
    assert len(ids(probe, limit=4)) == 4
    assert ids(probe_with(sample=6)) < ids(probe)
    assert probe.key != probe_with(sample=6).key
    assert probe.key == probe_with(sample=10).key


@pytest.mark.parametrize("padding", [0, 48])
def test_the_batch_size_changes_nothing(padding: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 the distances are the same at every batch size, and each stands with its own fact, also where a batch runs in parts."""
    monkeypatch.setattr("pytest_kick.probes.forward.CALL_TOKENS", padding)
    model, probe = decoder(), probe_with()
    references = [probe.reference(model, batch_size=size) for size in (2, 5, 64)]
    changed(model)
    scores = [probe.run(model, reference=r, batch_size=size) for r, size in zip(references, (2, 5, 64), strict=True)]
    for other in scores[1:]:
        assert list(other.examples.ids) == list(scores[0].examples.ids)
        for name in ("kl", "kl_options", "margin"):
            np.testing.assert_allclose(other.examples.arrays[name], scores[0].examples.arrays[name], rtol=1e-3, atol=1e-5)


def test_a_reference_of_other_facts_is_refused() -> None:
    """Distances between answers to different questions would mean nothing."""
    model = decoder()
    with pytest.raises(ProbeError, match="got other examples"):
        probe_with().run(model, reference=probe_with(sample=6).reference(model))


def test_facts_that_cannot_be_asked_are_counted() -> None:
    """An encoder fills one mask: answers of several tokens are left out."""
    probe, model = probe_with(), encoder()
    score = probe.run(model, reference=probe.reference(model))
    assert score.excluded["answer of several tokens"] == len(facts().facts) - score.n > 0


def test_a_tie_agrees_with_no_dense_token() -> None:
    """Whatever the dense model says first, equal logits do not say it."""
    n = 40
    dense = {"tokens": np.tile(np.arange(n, dtype=np.int32)[:, None], (1, 2)), "top": np.zeros((n, 3))}
    found = _compared(dense, torch.full((n, n), -math.log(n)))
    assert not found["top1_agrees"].any()
    assert set(found["predicted"]) == {-1}


def test_large_vocabularies_are_compared_by_their_top_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is no distance over the whole vocabulary, and nothing of its size is kept."""
    monkeypatch.setattr("pytest_kick.probes.divergence.FULL", 100)
    probe, model = probe_with(), decoder()
    reference = probe.reference(model)
    assert max(values.nbytes for values in reference.values()) < 24 * len(model.tokenizer) * 4
    assert "kl_full" not in probe.run(model, reference=reference).metrics


def test_agreement_is_told_apart_by_dense_margin() -> None:
    """Halves by the dense margin: the mean of both is the agreement."""
    probe, model = probe_with(), decoder()
    score = probe.run(changed(model), reference=probe.reference(decoder()))
    assert 0 < score.metrics["top1_agrees"] < 1
    halves = [score.metrics[f"top1_agrees_{size}_margin"] for size in ("small", "large")]
    assert np.mean(halves) == pytest.approx(score.metrics["top1_agrees"])


LOGITS = st.integers(0, 10_000).map(lambda seed: np.random.default_rng(seed).normal(0, 3, (2, 3, 40)))


@settings(max_examples=60, deadline=None)
@given(logits=LOGITS)
def test_distances_are_what_they_should_be(logits: Any) -> None:
    """At least 0, 0 of equal predictions; a tail in place of its tokens can only bring two predictions nearer."""
    p, q = log_softmax(logits)
    full = divergence(p, q)
    first, second = torch.from_numpy(p), torch.from_numpy(q)
    kept = top_tokens(first)
    bound = divergence(with_tail(first, kept).numpy(), with_tail(second, kept).numpy())
    assert (bound >= 0).all()
    assert (bound <= full + 1e-12).all()
    assert not divergence(p, p).any()
    np.testing.assert_allclose(full, [plain_divergence(a, b) for a, b in zip(p, q, strict=True)], rtol=1e-9)
    np.testing.assert_allclose(normalized(logits[0]), p, atol=1e-12)
    np.testing.assert_allclose(from_uniform(p, np.ones(40)), [math.log(40) + (np.exp(row) * row).sum() for row in p], rtol=1e-9)


def test_a_tail_below_rounding_is_still_there() -> None:
    """Where the top tokens have all but 1e-12, what is left is added up, not taken as 1 less the rest; no tail counts nothing."""
    logits = torch.full((1, 40), -30.0)
    logits[0, :TOP] = 0.0
    found = with_tail(torch.log_softmax(logits, -1), torch.arange(TOP)[None])
    assert float(found[0, -1]) == pytest.approx(math.log(35 / 5) - 30, abs=1e-3)
    whole = with_tail(torch.log_softmax(logits[:, :TOP], -1), torch.arange(TOP)[None]).numpy()
    assert whole[0, -1] == -np.inf
    assert divergence(whole, whole) == 0
    assert from_uniform(whole, np.append(np.ones(TOP), 0.0)) == pytest.approx(0, abs=1e-6)


def test_a_relation_with_fewer_options_has_no_more() -> None:
    """Places that only another relation fills count nothing."""
    p, q = np.asarray([[0.0, -1.0, -np.inf]]), np.asarray([[-1.0, 0.0, -np.inf]])
    assert divergence(normalized(p), normalized(q))[0] == pytest.approx(plain_divergence([0.0, -1.0], [-1.0, 0.0]))
