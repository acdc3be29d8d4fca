"""BEAR's and the paraphrases' scores against plain loops, and what models that know nothing get."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_relations import ANSWERS, TEMPLATES, made, write_bear, write_pararel
from plain_scorer import decoder, encoder, facts, log_softmax, plain_answer, plain_logits, plain_prompt, span_model
from test_pseudo import plain_pseudo

from pytest_kick.errors import DataError, ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.answered import NOT_ASKED, Answered, agreement
from pytest_kick.probes.paraphrase import TemplatesProbe

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

FAMILIES = (decoder, span_model, encoder)
SPACES = {"P7": (TEMPLATES, ANSWERS), "P8": (TEMPLATES[::-1], ("red", "lomi"))}


def plain_statement(model: LoadedModel, template: str, subject: str, answer: str) -> float:
    """Return the log-probability of a whole statement, or at the sentinel of its blank, from one full pass."""
    before, _, after = template.replace("[X]", subject).partition("[Y]")
    if model.family == "encoder":
        return plain_pseudo(model, before + answer + after)[0]
    if model.family == "encoder-decoder":
        prompt, ids = plain_prompt(model, before.rstrip(" "), after), plain_answer(model, answer, after)
    else:
        # What opens a text stands before an answer that begins it, and nowhere else: this tokenizer puts none before plain text.
        opening = [] if before else [model.tokenizer.bos_token_id]
        first, *ids = [*opening, *model.tokenizer.encode(before + answer + after, add_special_tokens=False)]
        prompt = [first]
    table = log_softmax(plain_logits(model, prompt, ids))
    return float(sum(table[step, token] for step, token in enumerate(ids)))


def zeroed(model: LoadedModel) -> LoadedModel:
    """Return a model with all weights zero."""
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    return model


@pytest.mark.parametrize("template", [0, 1, 2])
@pytest.mark.parametrize("make", FAMILIES)
def test_bear_ranks_as_one_pass_per_statement_does(tmp_path: Path, make: Any, template: int) -> None:
    """Outcome, answer and margin of every fact are those of the likeliest whole statement, in each family, under each template."""
    write_bear(tmp_path)
    model = make()
    model.tokenizer.bos_token = "[CLS]"  # noqa: S105 - what opens a statement that begins with its answer
    score = made("bear", tmp_path, template=template).run(model)
    assert score.n == 12
    assert score.floors["p1"] == pytest.approx(np.mean([2 / 6, 3 / 6]))
    for place, name in enumerate(score.examples.ids):
        relation, _, number = str(name).partition("/Q")
        templates, answers = SPACES[relation]
        subject = ["kalo", "ren", "tuvo", "zimi", "lo", "sha"][int(number)]
        gold = answers[int(number) % len(answers)]
        values = {answer: plain_statement(model, templates[template], subject, answer) for answer in sorted(answers)}
        best = max(values, key=lambda answer: values[answer])
        margin = values[gold] - max(value for answer, value in values.items() if answer != gold)
        assert score.examples.arrays["predicted"][place] == list(values).index(best)
        assert score.examples.arrays["p1"][place] == (best == gold)
        assert score.examples.arrays["margin"][place] == pytest.approx(margin, abs=2e-3)


def test_bear_asks_all_templates_and_the_first_decides(tmp_path: Path) -> None:
    """With `all`, right or wrong is the first template's; the accuracy under each stands beside, and agreement is counted."""
    write_bear(tmp_path)
    model = decoder()
    each = [made("bear", tmp_path, template=template).run(model) for template in range(3)]
    score = made("bear", tmp_path, template="all").run(model)
    assert score.examples.arrays["p1"].tolist() == each[0].examples.arrays["p1"].tolist()
    answers = np.stack([one.examples.arrays["predicted"] for one in each])
    assert score.examples.arrays["agrees"].tolist() == (answers == answers[0]).all(0).tolist()
    for template, one in enumerate(each):
        assert score.metrics[f"p1_template_{template}"] == pytest.approx(one.metrics["p1"])


@pytest.mark.parametrize("make", FAMILIES)
def test_paraphrases_are_asked_as_the_facts_are(make: Any) -> None:
    """Answers and agreement are what brute force over the family's own way gives: a blank, a sentinel, a continuation."""
    model, base = make(), facts(10)
    templates = ("the city of [X] is [Y].", "[X] has [Y]!", "[Y] is the city of [X].")
    base = replace(base, relations={name: replace(r, templates=templates) for name, r in base.relations.items()})
    score = TemplatesProbe(ProbeSpec(name="paraphrase"), base, range(3), statements=False).run(model)
    asked = templates[:2] if model.family == "decoder" else templates
    by_id = {fact.id: fact for fact in base.facts}
    for place, name in enumerate(score.examples.ids):
        fact = by_id[str(name)]
        labels = base.relations[fact.relation].answers
        found = []
        for template in asked:
            before, _, after = template.replace("[X]", fact.subject).partition("[Y]")
            values = {}
            for label in labels:
                prompt, ids = plain_prompt(model, before.rstrip(" "), after), plain_answer(model, label, after)
                if model.family != "encoder" or len(ids) == 1:
                    table = log_softmax(plain_logits(model, prompt, ids))
                    values[label] = sum(table[step, token] for step, token in enumerate(ids))
            found.append(max(values, key=lambda label: values[label]))
        pairs = [one == other for row, one in enumerate(found) for other in found[row + 1 :]]
        assert score.examples.arrays["consistency"][place] == pytest.approx(np.mean(pairs))
        assert score.examples.arrays["agrees"][place] == all(pairs)
        assert score.examples.arrays["accuracy"][place] == pytest.approx(np.mean([answer == fact.answer for answer in found]))
        assert score.examples.arrays["consistent_p1"][place] == all(answer == fact.answer for answer in found)
        assert labels[score.examples.arrays["predicted"][place]] == found[0]


def test_agreement_beyond_what_is_always_said() -> None:
    """A model that says one thing agrees everywhere and is at 0 beyond that; one with an answer per fact is at 1; by hand between."""
    groups = np.asarray(["r"] * 4)

    def of(rows: list[list[int]]) -> dict[str, Any]:
        predicted = np.asarray(rows)
        none: dict[str, Any] = {"scoring": {}, "sizes": np.ones(4), "place": np.zeros(4), "excluded": {}, "work": {}}
        return agreement(Answered(numbers=np.arange(4), predicted=predicted, right=predicted == 0, **none), groups)

    constant, own = of([[1, 1, 1, 1]] * 2), of([[0, 1, 2, 3]] * 3)
    assert constant["agrees"].all()
    assert constant["specific_consistency"].tolist() == [0, 0, 0, 0]
    assert own["specific_consistency"].tolist() == [1, 1, 1, 1]
    assert own["consistent_p1"].tolist() == [True, False, False, False]
    mixed = of([[0, 1, 1, 2], [0, 1, 2, -1], [0, 0, 1, NOT_ASKED]])
    assert mixed["consistency"].tolist() == pytest.approx([1, 1 / 3, 1 / 3, 0])
    # the fact 0: its answer under the second template is nobody else's, under the third one other of two: (4 - 2 / 2) / 6
    assert mixed["specific_consistency"][0] == pytest.approx((6 - 2 * (1 / 2)) / 6)
    alone = of([[-1, -1, -1, -1]] * 2)
    assert not alone["agrees"].any()
    assert alone["consistency"].tolist() == [0, 0, 0, 0]


def test_pararel_asks_relations_with_several_patterns(tmp_path: Path) -> None:
    """ParaRel's patterns over the relation's objects; a relation of one pattern has no paraphrases; the licence is asked for."""
    write_pararel(tmp_path)
    score = made("paraphrase", tmp_path, data="pararel", licence="cc-by-nc").run(encoder())
    assert set(score.examples.groups) == {"P7"}
    assert score.n == 6
    assert score.trivial["majority"] == pytest.approx(2 / 6)
    with pytest.raises(DataError, match=r"^probe paraphrase:pararel: licence: got '', expected 'cc-by-nc': ParaRel's facts, .*\.$"):
        made("paraphrase", tmp_path, data="pararel")


@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize("name", ["bear", "paraphrase"])
def test_a_model_of_zeros_knows_nothing(tmp_path: Path, make: Any, name: str) -> None:
    """Equal logits are never right and never agree."""
    write_bear(tmp_path)
    write_pararel(tmp_path)
    given = {"template": "all"} if name == "bear" else {"data": "pararel", "licence": "cc-by-nc"}
    score = made(name, tmp_path, **given).run(zeroed(make()))
    assert {metric: score.metrics[metric] for metric in score.floors} == dict.fromkeys(score.floors, 0.0)
    assert (score.examples.arrays["margin"] <= 0).all()


@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize("name", ["bear", "paraphrase"])
def test_a_model_that_says_one_thing_scores_at_most_its_floors(tmp_path: Path, make: Any, name: str) -> None:
    """A head whose bias alone speaks gives one answer to all facts of a relation: no more than the commonest is worth."""
    write_bear(tmp_path)
    write_pararel(tmp_path)
    given = {"template": "all"} if name == "bear" else {"data": "pararel", "licence": "cc-by-nc"}
    model = zeroed(make())
    head = model.module.get_output_embeddings()
    logits = np.linspace(-3, 3, len(head.weight)).astype(np.float32)
    head.bias = torch.nn.Parameter(torch.from_numpy(logits), requires_grad=False)
    score = made(name, tmp_path, **given).run(model)
    for metric, floor in score.floors.items():
        assert score.metrics[metric] <= floor + 1e-9, metric


@pytest.mark.parametrize("make", FAMILIES)
@pytest.mark.parametrize("name", ["bear", "paraphrase"])
def test_broken_weights_are_an_error(tmp_path: Path, make: Any, name: str) -> None:
    """NaN logits are an error in one line."""
    write_bear(tmp_path)
    write_pararel(tmp_path)
    model = make()
    head = model.module.get_output_embeddings()
    weight = next(name for name, parameter in model.module.named_parameters() if parameter is head.weight)
    model.touch([weight])
    head.weight[7] = float("nan")
    given = {} if name == "bear" else {"data": "pararel", "licence": "cc-by-nc"}
    with pytest.raises(ProbeError, match=r"^[^\n]*NaN or infinite[^\n]*\.$"):
        made(name, tmp_path, **given).run(model)


def test_what_cannot_be_asked_is_counted(tmp_path: Path) -> None:
    """A template that is not there is refused; facts of no single-token answer are counted with the reason."""
    write_bear(tmp_path)
    with pytest.raises(DataError, match=r"^probe bear--template-3: template: got 3, expected 0 to 2, or 'all'\. Correct it\.$"):
        made("bear", tmp_path, template=3)
    score = TemplatesProbe(ProbeSpec(name="paraphrase"), twice(), range(2), statements=False).run(encoder())
    assert sum(score.excluded.values()) + score.n == len(twice().facts)
    assert any("several tokens" in reason for reason in score.excluded)


def twice() -> Any:
    """Return facts with a second template."""
    base = facts()
    return replace(base, relations={name: replace(r, templates=(*r.templates, "[X] is [Y].")) for name, r in base.relations.items()})


def test_a_sample_lies_inside_of_the_whole(tmp_path: Path) -> None:
    """The examples of a sample score as they do among all, under the same hash; a second run finds what the first prepared."""
    write_bear(tmp_path)
    probe, model = made("bear", tmp_path), encoder()
    whole, part = probe.run(model), probe.run(model, limit=4, batch_size=3)
    places = [whole.examples.ids.tolist().index(name) for name in part.examples.ids]
    for name, values in part.examples.arrays.items():
        np.testing.assert_allclose(values, whole.examples.arrays[name][places], atol=1e-3)
    assert part.examples.hashes.tolist() == whole.examples.hashes[places].tolist()
    assert probe.run(model).examples.arrays["margin"].tolist() == whole.examples.arrays["margin"].tolist()
