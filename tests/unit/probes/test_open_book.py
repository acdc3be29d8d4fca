"""The probe `open_book`: the statement of a fact among others before its prompt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plain_scorer import decoder, encoder, facts, span_model
from test_prompted import plain_outcomes

from pytest_kick.errors import ProbeError
from pytest_kick.facts import shipped_facts
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.open_book import ONE_TEMPLATE, OpenBookProbe
from pytest_kick.probes.prompted_draw import TOO_FEW, Lead

if TYPE_CHECKING:
    from pytest_kick.facts import FactSet

OTHER = {"city": "a city of [Y] has [X].", "colour": "the [Y] of [X]."}


def two_templates(n: int = 24) -> FactSet:
    """Return the made-up facts with a second template for each relation."""
    asked = facts(n)
    relations = {name: replace(found, templates=(*found.templates, OTHER[name])) for name, found in asked.relations.items()}
    return replace(asked, relations=MappingProxyType(relations))


def probe(distractors: int = 2, asked: FactSet | None = None, **params: int) -> OpenBookProbe:
    """Return the probe over the made-up facts."""
    return OpenBookProbe(ProbeSpec(name="open_book", params=(("distractors", distractors), *params.items())), asked or two_templates())


@pytest.mark.parametrize(("make", "distractors"), [(decoder, 2), (decoder, 0), (span_model, 2), (encoder, 2)])
def test_open_and_closed_are_the_same_facts_with_and_without_their_statement(make: Any, distractors: int) -> None:
    """By hand: sentences of the other template, one of them the fact's own, then the scoring prompt; closed book is the prompt alone."""
    model, asked = make(), two_templates(10)
    probed = probe(distractors, asked)
    texts = []
    for fact in asked.facts:
        made = probed._lead(fact)
        assert isinstance(made, Lead)
        sentences = made.text.replace("  ", " ").strip().split(". ")
        own = OTHER[fact.relation].replace("[X]", fact.subject).replace("[Y]", fact.answer)
        assert len(made.answers) == distractors + 1
        assert [f"{sentence.rstrip('.')}." for sentence in sentences].count(own) == 1
        assert made.answers.count(fact.answer) == 1
        texts.append(made.text)
    score = probed.run(model)
    for metric, before in (("open", texts), ("closed", [""] * len(texts))):
        expected = plain_outcomes(model, asked, before)
        assert score.examples.ids.tolist() == list(expected)
        assert score.examples.outcome(metric).tolist() == [right for right, *_ in expected.values()]
    np.testing.assert_allclose(score.examples.arrays["closed_margin"], [margin for _, margin, _ in expected.values()], atol=1e-3)


def test_the_statement_stands_at_any_place() -> None:
    """Over many facts each of the five places is taken about as often, and again the same."""
    shipped = shipped_facts().sample(200)
    probed = OpenBookProbe(ProbeSpec(name="open_book"), shipped_facts())
    leads = [probed._lead(fact) for fact in shipped.facts]
    places = Counter(made.answers.index(fact.answer) for made, fact in zip(leads, shipped.facts, strict=True) if isinstance(made, Lead))
    assert sorted(places) == [0, 1, 2, 3, 4]
    assert min(places.values()) > 20
    again = OpenBookProbe(ProbeSpec(name="open_book"), shipped_facts())
    assert leads == [again._lead(fact) for fact in shipped.facts]


def test_copying_an_answer_from_the_text_is_a_baseline() -> None:
    """One of the distinct answers in the text is right; a statement that stands alone leaves nothing to choose, and no such floor."""
    probed = probe(2)
    score = probed.run(decoder())
    leads = [probed._lead(fact) for fact in two_templates().facts]
    shares = [1 / len(set(made.answers)) for made in leads if isinstance(made, Lead)]
    assert score.trivial["copy"] == pytest.approx(np.mean(shares))
    assert score.floors["open"] == max(score.trivial.values())
    assert score.floors["closed"] == max(score.trivial["chance"], score.trivial["majority"]) < score.floors["open"]
    alone = probe(0).run(decoder())
    assert "copy" not in alone.trivial
    assert alone.floors["open"] == alone.floors["closed"] == score.floors["closed"]


def test_facts_that_cannot_be_stated_otherwise_are_counted() -> None:
    """A relation of one template has no paraphrase, and one of few facts not enough distractors: both are left out under a reason."""
    asked = two_templates()
    single = replace(asked, relations=MappingProxyType({**asked.relations, "colour": facts().relations["colour"]}))
    score = probe(2, single).run(decoder())
    assert (score.n, score.excluded) == (12, {ONE_TEMPLATE: 12})
    few = replace(asked, facts=tuple(fact for fact in asked.facts if fact.relation == "city" or fact.id in {"colour/0", "colour/1"}))
    assert probe(2, few).run(decoder()).excluded == {TOO_FEW: 2}
    excluded = "text longer than the model's positions: 8, too few other facts in its relation: 4"
    with pytest.raises(ProbeError, match=rf"^probe open_book--distractors-11: .*{excluded}"):
        probe(11, replace(asked, facts=tuple(fact for fact in asked.facts if fact.relation == "city"))).run(decoder())


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_a_dead_model_scores_at_most_the_floor(make: Any) -> None:
    """All-zero weights find nothing in a text."""
    model = make()
    for parameter in model.module.parameters():
        parameter.data.zero_()
    for distractors in (0, 2):
        score = probe(distractors).run(model)
        assert all(score.metrics[name] <= score.floors[name] for name in ("open", "closed"))


def test_a_sample_is_part_of_the_whole_with_the_same_texts() -> None:
    """Distractors come from all facts, asked or not, and do not depend on the sample or its seed."""
    model = decoder()
    whole = probe().run(model).examples
    for part in (probe().run(model, limit=9, seed=4).examples, probe(sample=9).run(model).examples):
        assert len(part) == 9
        assert part.hashes.tolist() == whole.subset(part.ids).hashes.tolist()
        assert part.outcome("open").tolist() == whole.subset(part.ids).outcome("open").tolist()
