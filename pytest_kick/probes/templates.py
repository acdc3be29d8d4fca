"""Facts under each template of their relation, ranked over the relation's answers: in the way of the model's family.

Encoders fill one mask with answers of a single token, or are asked for whole statements; encoder-decoders write the answer at their
sentinel; decoders continue the text where the answer comes last, and where it does not they are asked for whole statements, or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.facts import CLOSING
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.prepare import Prepared, prepare
from pytest_kick.probes.scoring import Scorer
from pytest_kick.probes.statements import Statement, StatementRanker
from pytest_kick.probes.tokens import asker_for
from pytest_kick.probes.ways import forward_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.facts import Fact, FactSet, Relation
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.trie import Ints

BATCH_SIZE = 256
KEPT = ("p1", "p5", "p10", "gold_logprob", "margin", "predicted")


class Part(Protocol):
    """Some facts under one template, asked in one way.

    Attributes:
        numbers: `(n,)` of the facts, in their data set.
        answers: relation -> numbers of the answers, in its own answer space, that the tokenizer can express in this way.
    """

    numbers: Ints
    answers: Mapping[str, Sequence[int]]

    def rank(self, model: LoadedModel, where: str, batch_size: int | None) -> tuple[dict[str, Array], dict[str, float]]:
        """Return arrays `KEPT` of length n, and what was run."""


@dataclass(slots=True, kw_only=True)
class Asked:
    """Hold what is asked under one template: its parts, and why facts are left out, by number."""

    parts: list[Part] = field(default_factory=list)
    excluded: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class PromptPart:
    """Ask at a blank; `places` are those of the facts in `prepared`."""

    numbers: Ints
    answers: Mapping[str, Sequence[int]]
    prepared: Prepared
    places: Ints

    def rank(self, model: LoadedModel, where: str, batch_size: int | None) -> tuple[dict[str, Array], dict[str, float]]:
        """Rank; see `Part`."""
        forward = forward_for(model, ScoredHead(model), self.prepared)
        found = Scorer(forward, self.prepared, where).score(self.places, batch_size or BATCH_SIZE)
        work = {"tokens": float(forward.work.tokens), "passes": float(forward.work.passes)}
        return {name: found[name] for name in KEPT}, work


@dataclass(slots=True, kw_only=True)
class StatementPart:
    """Ask for whole statements; `columns` are the numbers of each statement's answers in the relation's own answer space."""

    numbers: Ints
    answers: Mapping[str, Sequence[int]]
    asked: list[Statement]
    columns: list[Sequence[int]]

    def rank(self, model: LoadedModel, where: str, batch_size: int | None) -> tuple[dict[str, Array], dict[str, float]]:
        """Rank; see `Part`."""
        del where  # the engine says where
        ranker = StatementRanker(model)
        found = ranker.rank(self.asked, batch_size=batch_size)
        chosen = [column[number] if number >= 0 else -1 for column, number in zip(self.columns, found["predicted"], strict=True)]
        found["predicted"] = np.asarray(chosen, np.int32)
        return found, {"tokens": float(ranker.tokens), "truncated": float(ranker.truncated)}


def ask(facts: FactSet, chosen: Ints, template: int, model: LoadedModel, *, statements: bool) -> Asked:
    """Prepare facts under one template; those are left out silently whose relation has fewer templates.

    Args:
        facts: a data set.
        chosen: `(n,)` numbers of the facts to ask.
        template: number of the template in each relation.
        model: whose tokenizer and family decide how.
        statements: ask encoders for whole statements, and decoders too where the answer does not come last.
    """
    asked = Asked()
    able = [int(number) for number in chosen if template < len(facts.relations[facts.facts[number].relation].templates)]
    if model.family == "encoder" and statements:
        _add_statements(asked, facts, able, template, model)
        return asked
    last = [number for number in able if model.family != "decoder" or answer_last(_template(facts, number, template))]
    rest = sorted(set(able) - set(last))
    if last:
        _add_prompts(asked, facts, last, template, model)
    if rest and statements:
        _add_statements(asked, facts, rest, template, model)
    elif rest:
        asked.excluded |= dict.fromkeys(rest, "answer not last")
    return asked


def answer_last(template: str) -> bool:
    """Return whether nothing but closing punctuation follows the answer."""
    return not set(template.partition("[Y]")[2]) - CLOSING - {" "}


def _template(facts: FactSet, number: int, template: int) -> str:
    return facts.relations[facts.facts[number].relation].templates[template]


def _add_prompts(asked: Asked, facts: FactSet, numbers: list[int], template: int, model: LoadedModel) -> None:
    under = {name: replace(relation, scoring=template) for name, relation in facts.relations.items() if template < len(relation.templates)}
    # Aliases matter to free answers alone.
    chosen = tuple(replace(facts.facts[number], aliases=()) for number in numbers)
    try:
        prepared = prepare(replace(facts, relations=MappingProxyType(under), facts=chosen), model)
    except ProbeError:
        asker_for(model)  # raises where this family cannot be asked at all; else no fact of this template can be
        asked.excluded |= dict.fromkeys(numbers, "answer of several tokens" if model.family == "encoder" else "unknown token")
        return
    kept = np.arange(len(prepared))
    if model.family != "decoder":
        prepared, kept = _with_subjects(prepared, under, chosen, model)
    left = set(range(len(numbers))) - set(prepared.chosen[kept].tolist())
    asked.excluded |= {numbers[place]: " or ".join(prepared.excluded) or "unknown token" for place in left}
    answers = {
        chosen[fact].relation: [int(answer) for answer in prepared.answers[space] if answer >= 0]
        for fact, space in zip(prepared.chosen, prepared.space, strict=True)
    }
    if len(kept):
        asked.parts.append(PromptPart(numbers=np.asarray(numbers)[prepared.chosen[kept]], answers=answers, prepared=prepared, places=kept))


def _with_subjects(prepared: Prepared, under: Mapping[str, Relation], chosen: Sequence[Fact], model: LoadedModel) -> tuple[Prepared, Ints]:
    """Return prompts whose text after the blank holds the subject, and the places of those that the tokenizer can express."""
    asker = asker_for(model)
    prompts, marks, kept = list(prepared.prompts), prepared.marks.copy(), []
    for place, number in enumerate(prepared.chosen):
        fact = chosen[number]
        stem, after = under[fact.relation].prompt(fact.subject)
        found = asker.prompt(stem, after or ".")
        if found is not None:
            prompts[place], marks[place] = found
            kept.append(place)
    return replace(prepared, prompts=tuple(prompts), marks=marks), np.asarray(kept, np.int64)


def _add_statements(asked: Asked, facts: FactSet, numbers: list[int], template: int, model: LoadedModel) -> None:
    unknown = model.tokenizer.unk_token_id
    answers: dict[str, list[int]] = {}
    kept, statements = [], []
    for number in numbers:
        fact = facts.facts[number]
        relation = facts.relations[fact.relation]
        if fact.relation not in answers:
            found = _encoded(model, [f"a {label}" for label in relation.answers])
            answers[fact.relation] = [place for place, ids in enumerate(found) if unknown not in ids]
        space = answers[fact.relation]
        before, _, after = (part.replace("[X]", fact.subject) for part in relation.templates[template].partition("[Y]"))
        gold = relation.answers.index(fact.answer)
        if gold not in space or len(space) == 1 or unknown in _encoded(model, [f"{before} {after}"])[0]:
            asked.excluded[number] = "unknown token" if len(space) > 1 else "answer space of one"
            continue
        kept.append(number)
        labels = tuple(relation.answers[place] for place in space)
        statements.append(Statement(before=before, after=after, answers=labels, gold=space.index(gold)))
    if kept:
        columns: list[Sequence[int]] = [answers[facts.facts[number].relation] for number in kept]
        asked.parts.append(StatementPart(numbers=np.asarray(kept), answers=answers, asked=statements, columns=columns))


def _encoded(model: LoadedModel, texts: list[str]) -> list[list[int]]:
    found: list[list[int]] = model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return found
