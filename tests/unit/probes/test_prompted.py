"""Facts with text before them, against one full pass per candidate; and which facts stand there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plain_scorer import CITIES, DECODERS, decoder, encoder, facts, log_softmax, plain_answer, plain_logits, plain_prompt, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.facts import Fact, shipped_facts
from pytest_kick.probes.facts import FactsProbe
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.prepare import prepare
from pytest_kick.probes.prompted import LONG, SPELLED, answered, asked_twice
from pytest_kick.probes.prompted_draw import TOO_FEW, Lead, Others, lead
from pytest_kick.probes.prompted_tree import SharedTreeForward
from pytest_kick.probes.tree import TreeForward
from pytest_kick.probes.ways import forward_for

if TYPE_CHECKING:
    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.prompted import Twice

BEFORE = "the colour of kalo is red. the city of mi has a blue colour. kalo is 1 city. "
WIDE = [kind for kind in DECODERS if kind != "mistral-narrow"]


def plain_outcomes(model: LoadedModel, asked: FactSet, texts: list[str]) -> dict[str, tuple[bool, float, int]]:
    """Score every fact after its text by brute force: id -> right, margin, place of the best answer in the relation's space."""
    found = {}
    for fact, before in zip(asked.facts, texts, strict=True):
        relation = asked.relations[fact.relation]
        stem, after = relation.prompt(fact.subject)
        prompt = plain_prompt(model, before + stem, after)
        answers = {label: plain_answer(model, label, after) for label in relation.answers}
        if model.family == "encoder":
            answers = {label: ids for label, ids in answers.items() if len(ids) == 1}
        if fact.answer not in answers:
            continue
        values = {}
        for label, ids in answers.items():
            table = log_softmax(plain_logits(model, prompt, ids))
            values[label] = sum(table[step, token] for step, token in enumerate(ids))
        best = max(values, key=lambda label: values[label])
        others = max(value for label, value in values.items() if label != fact.answer)
        margin = values[fact.answer] - others
        found[fact.id] = (margin > 0, margin, relation.answers.index(best))
    return found


def twice_asked(model: LoadedModel, texts: list[str] | None = None, n: int = 24) -> Twice:
    """Prepare the made-up facts with texts before them."""
    asked = facts(n)
    texts = texts or [BEFORE] * len(asked.facts)
    return asked_twice("probe made-up", asked, asked, [Lead(text=text, answers=()) for text in texts], model)


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_both_ways_of_asking_score_as_one_pass_per_candidate_does(make: Any) -> None:
    """Outcome, margin and answer of every fact are those of brute force, after texts of several lengths and after none."""
    model, asked = make(), facts(10)
    texts = ["red is a colour. " * (number % 4) for number in range(len(asked.facts))]
    twice = twice_asked(model, texts, 10)
    for prepared, at, before in ((twice.bare, twice.bare_at, [""] * len(texts)), (twice.led, twice.led_at, texts)):
        expected = plain_outcomes(model, asked, before)
        arrays, _ = answered(model, prepared, at, "probe made-up", batch_size=5)
        assert [fact.id for fact in twice.facts] == list(expected)
        assert arrays["p1"].tolist() == [right for right, _, _ in expected.values()]
        np.testing.assert_allclose(arrays["margin"], [margin for _, margin, _ in expected.values()], atol=1e-3)
        assert arrays["predicted"].tolist() == [place for *_, place in expected.values()]


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_without_text_outcomes_are_those_of_the_probe_facts(make: Any) -> None:
    """Closed book and zero-shot are the same measurement as the probe of facts."""
    model = make()
    twice = twice_asked(model)
    known = FactsProbe(facts()).run(model).examples
    arrays, _ = answered(model, twice.bare, twice.bare_at, "probe made-up")
    assert [fact.id for fact in twice.facts] == known.ids.tolist()
    for name in ("p1", "predicted"):
        assert arrays[name].tolist() == known.arrays[name].tolist()


@pytest.mark.parametrize("kind", WIDE)
def test_a_shared_beginning_changes_no_score(kind: str) -> None:
    """A text that stands before several facts is read once; outcomes and margins stay those of reading it for each."""
    model = decoder(kind)
    texts = [BEFORE if number % 3 else "" for number in range(len(facts().facts))]
    twice = twice_asked(model, texts)
    alone, plain = answered(model, twice.led, twice.led_at, "probe made-up")
    shared, work = answered(model, twice.led, twice.led_at, "probe made-up", together=texts)
    for name, values in alone.items():
        np.testing.assert_allclose(np.asarray(shared[name], float), np.asarray(values, float), atol=1e-3, err_msg=name)
    if type(forward_for(model, ScoredHead(model), twice.led)) is TreeForward:
        assert work.tokens < 0.6 * plain.tokens


def test_a_shared_beginning_keeps_prompts_of_several_lengths_apart() -> None:
    """Prompts of one block may differ in length behind their beginning; each is read at its own positions."""
    model = decoder()
    prepared = prepare(facts(), model, [BEFORE] * len(facts().facts))
    everything = np.arange(len(prepared))
    blocks = []
    for kind in (TreeForward, SharedTreeForward):
        forward = kind(model, ScoredHead(model), prepared)
        rows, lengths = forward._prompts(everything)
        forward._width = rows.shape[1]
        logits, cache = forward._prompt_block(rows, lengths)
        blocks.append((logits.clone(), cache, lengths, rows.shape[1]))
    (logits, cache, lengths, width), (other, shared, *_) = blocks
    assert len(set(lengths.tolist())) > 1
    np.testing.assert_allclose(other, logits, atol=1e-4)
    real = np.arange(width)[None] >= width - lengths[:, None]
    for layer, same in zip(cache, shared, strict=True):
        for a, b in zip(layer, same, strict=True):
            np.testing.assert_allclose(b.transpose(1, 2).numpy()[real], a.transpose(1, 2).numpy()[real], atol=1e-4)


def test_what_does_not_fit_is_left_out_and_counted() -> None:
    """A text that leaves no room for the longest candidate is not cut: its fact is excluded under a reason; nothing left is an error."""
    model, n = decoder(), len(facts().facts)
    long = "red " * 80
    twice = twice_asked(model, [long if number < 5 else "" for number in range(n)])
    assert (len(twice.facts), twice.excluded) == (n - 5, {LONG: 5})
    with pytest.raises(ProbeError, match=rf"^probe made-up: .*{LONG}: {n}"):
        twice_asked(model, [long] * n)
    # A prompt fits as long as its longest candidate, three tokens and the closing text, does not go beyond the 64 positions.
    room = 64 - len(prepare(facts(), model).prompts[0]) - 4
    for words, left_out in ((room, 0), (room + 1, 1)):
        assert twice_asked(model, ["red " * words, *[""] * (n - 1)]).excluded == ({LONG: 1} if left_out else {})


def test_facts_without_text_are_counted_under_their_reason() -> None:
    """A fact for which no text can be made is excluded as such."""
    asked = facts()
    leads: list[Lead | str] = [TOO_FEW if number < 7 else lead([]) for number in range(len(asked.facts))]
    twice = asked_twice("w", asked, asked, leads, decoder())
    assert twice.excluded == {TOO_FEW: 7}
    assert SPELLED not in twice.excluded


def made(relation: str, rows: list[tuple[str, str]], aliases: tuple[str, ...] = ()) -> FactSet:
    """Return one relation of facts `(subject, answer)`; the first has aliases."""
    named = facts()
    first = replace(named.relations["city"], name=relation, answers=tuple(sorted({answer for _, answer in rows})))
    listed = [
        Fact(id=f"{relation}/{subject}", relation=relation, subject=subject, answer=answer, aliases=() if number else aliases)
        for number, (subject, answer) in enumerate(rows)
    ]
    return replace(named, relations=MappingProxyType({relation: first}), facts=tuple(listed))


def test_no_text_holds_the_answer() -> None:
    """Neither as an answer, an alias nor a word of a subject, whatever the case; a longer word that begins with it may stand there."""
    rows = [("Conakry", "Guinea"), ("Lae", "Papua New Guinea"), ("GUINEA town", "Mali"), ("Guineatown", "Chad"), ("Kindia", "Guinea")]
    drawn = made("in", [*rows, ("Labe", "Mali"), ("French Republic", "Fiji")], aliases=("French",))
    others = Others(drawn)
    fact = drawn.facts[0]
    for way in (others.fixed, others.own):
        found = way(fact, 2)
        assert found is not None
        assert {other.subject for other in found} == {"Guineatown", "Labe"}
        assert way(fact, 3) is None


def test_no_shipped_fact_is_given_away() -> None:
    """Over the shipped facts, by a plain search for the answer's words in what stands before: none holds it."""
    shipped = shipped_facts().sample(300)
    others = Others(shipped_facts())
    for fact in shipped.facts:
        for found in (others.fixed(fact, 4), others.own(fact, 4)):
            assert found is not None
            assert len({other.id for other in found} | {fact.id}) == 5
            text = f" {' | '.join(f'{other.subject} | {other.answer}' for other in found)} ".casefold()
            assert not re.search(rf"\b{re.escape(fact.answer.casefold())}\b", text)


def test_fixed_texts_are_shared_and_own_ones_are_not() -> None:
    """Facts of a relation have the same exemplars but where one holds their answer; distractors are each fact's own; no draw differs."""
    rows = [(f"s{number}", CITIES[number % 12]) for number in range(60)]
    drawn = made("city", rows)
    fixed = Counter(Others(drawn).fixed(fact, 3) for fact in drawn.facts)
    own = Counter(Others(drawn).own(fact, 3) for fact in drawn.facts)
    assert fixed.most_common(1)[0][1] >= 60 - 3 * 5
    assert len(own) > 50
    assert fixed == Counter(Others(replace(drawn, facts=drawn.facts[::-1])).fixed(fact, 3) for fact in drawn.facts)


def test_nan_names_the_probe_that_asked() -> None:
    """Weights that are NaN stop the probe under its own name."""
    model = decoder()
    for parameter in model.module.parameters():
        parameter.data.fill_(float("nan"))
    twice = twice_asked(model)
    with pytest.raises(ProbeError, match=r"^probe made-up: model 'tiny-decoder': got NaN"):
        answered(model, twice.led, twice.led_at, "probe made-up")
