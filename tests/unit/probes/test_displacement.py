"""The probe `displacement`: exemplars before a fact, compared with the dense model."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from plain_scorer import decoder, encoder, facts, span_model
from test_prompted import plain_outcomes

from pytest_kick.errors import ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.displacement import DisplacementProbe

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel


def probe(shots: int = 2, n: int = 24, **params: int) -> DisplacementProbe:
    """Return the probe over the made-up facts."""
    return DisplacementProbe(ProbeSpec(name="displacement", params=(("shots", shots), *params.items())), facts(n))


def nudged(model: LoadedModel, scale: float = 0.15) -> LoadedModel:
    """Change the weights of a model in place, as a compression does."""
    torch.manual_seed(1)
    for parameter in model.module.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_few_is_the_prompt_after_the_scoring_statements_of_its_exemplars(make: Any) -> None:
    """By hand: the first facts of the relation in the fixed order without the gold answer, as sentences, then the prompt."""
    model, asked, texts = make(), facts(10), []
    for fact in asked.facts:
        relation = asked.relations[fact.relation]
        names = [f" {name} " for name in (fact.answer, *fact.aliases)]
        others = [other for other in asked.facts if other.relation == fact.relation and other != fact]
        others = [o for o in others if not any(name in f" {text} " for name in names for text in (o.subject, o.answer, *o.aliases))]
        found = sorted(others, key=lambda other: hashlib.sha256(f"fixed\n{other.id}".encode()).hexdigest())[:2]
        texts.append("".join(relation.templates[0].replace("[X]", o.subject).replace("[Y]", o.answer) + " " for o in found))
    score = probe(n=10).run(model)
    expected = plain_outcomes(model, asked, texts)
    assert score.examples.ids.tolist() == list(expected)
    assert score.examples.outcome("few").tolist() == [right for right, *_ in expected.values()]
    np.testing.assert_allclose(score.examples.arrays["margin"], [margin for _, margin, _ in expected.values()], atol=1e-3)


def test_lost_back_and_never_known_follow_from_both_models() -> None:
    """Counted by hand from the two runs; beside itself the dense model loses nothing, and without a reference nothing is said."""
    probed, dense = probe(), decoder()
    reference = probed.reference(dense)
    before = probed.run(dense, reference=reference).examples
    assert not before.outcome("lost").any()
    assert before.outcome("dense_few").tolist() == before.outcome("few").tolist()
    after = probed.run(nudged(decoder()), reference=reference).examples
    lost = [d and not c for d, c in zip(before.outcome("zero"), after.outcome("zero"), strict=True)]
    assert after.outcome("lost").tolist() == lost
    assert any(lost)
    assert after.outcome("back").tolist() == [gone and few for gone, few in zip(lost, after.outcome("few"), strict=True)]
    never = [not z and not f for z, f in zip(before.outcome("zero"), before.outcome("few"), strict=True)]
    assert after.outcome("never_known").tolist() == never
    assert "lost" not in probed.run(dense).examples.arrays


def test_a_reference_of_other_facts_is_refused() -> None:
    """Answers of the dense model to another sample are not compared with."""
    probed, model = probe(), decoder()
    reference = probed.reference(model, limit=8)
    with pytest.raises(ProbeError, match=r"^probe displacement--shots-2: reference: got answers to 8 other facts"):
        probed.run(model, reference=reference)
    assert probed.run(model, limit=8, reference=reference).n == 8


def test_a_sample_is_part_of_the_whole_with_the_same_exemplars() -> None:
    """Asking fewer facts, by limit or parameter, changes neither hash nor outcome of those asked; another number of shots does."""
    model = decoder()
    whole = probe().run(model).examples
    for part in (probe().run(model, limit=9).examples, probe(sample=9).run(model).examples):
        assert len(part) == 9
        same = whole.subset(part.ids)
        assert part.hashes.tolist() == same.hashes.tolist()
        assert part.outcome("few").tolist() == same.outcome("few").tolist()
    assert not np.isin(probe(3).run(model, limit=9).examples.hashes, whole.hashes).any()
    assert probe().key == probe(sample=9).key
    other = facts()
    changed = replace(other, facts=(replace(other.facts[0], subject="zizi"), *other.facts[1:]))
    assert DisplacementProbe(ProbeSpec(name="displacement"), changed).key != probe().key


def test_leaving_out_the_exemplars_answers_is_a_baseline() -> None:
    """Of three colours with two exemplars, whoever avoids theirs is right: the floor with exemplars says so, the one without does not."""
    asked = facts()
    colours = replace(asked, facts=tuple(fact for fact in asked.facts if fact.relation == "colour"))
    probed = DisplacementProbe(ProbeSpec(name="displacement", params=(("shots", 4),)), colours)
    score = probed.run(decoder())
    left = []
    for fact in colours.facts:
        found = probed._others.fixed(fact, 4)
        assert found is not None
        left.append(3 - len({other.answer for other in found}))
    assert score.trivial["chance"] == pytest.approx(np.mean([1 / n for n in left]))
    assert score.trivial["unshown"] >= max(score.trivial["chance"], score.trivial["majority"])
    assert score.floors == {"zero": pytest.approx(1 / 3), "few": score.trivial["unshown"]}


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_a_dead_model_scores_at_most_the_floor(make: Any) -> None:
    """All-zero weights know nothing, with or without exemplars."""
    model = make()
    for parameter in model.module.parameters():
        parameter.data.zero_()
    score = probe().run(model)
    assert all(score.metrics[name] <= score.floors[name] for name in ("zero", "few"))
    assert set(score.metrics) == {"zero", "few"}


def test_more_exemplars_than_facts_cannot_be_asked() -> None:
    """Where no relation has as many, the error says why."""
    with pytest.raises(ProbeError, match=r"got no fact that can be asked \(too few other facts in its relation: 24"):
        probe(50).run(decoder())
