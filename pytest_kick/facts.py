"""Facts to probe: relations with templates and a closed answer space, and facts of one subject and one answer.

The file format is described in `docs/facts.md`; `load_facts` reads it, `shipped_facts` reads kick-facts.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_kick.identity import content_hash, sampled
from pytest_kick.jsonl import Line, fail, read_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SCHEMA = 1
SUBJECT, ANSWER = "[X]", "[Y]"
CLOSING = frozenset(".!?,;:\u2026\"'\u201d\u2019\u00bb)]}")
DATASET_FIELDS = frozenset({"kind", "schema", "name", "version", "license"})
RELATION_FIELDS = frozenset({"kind", "relation", "templates", "scoring", "answers", "aliases", "source", "license"})
FACT_FIELDS = frozenset({"kind", "id", "relation", "subject", "answer", "aliases"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """Hold what the facts of one relation share.

    Attributes:
        name: Name of the relation.
        templates: Sentences with one `[X]` (subject) and one `[Y]` (answer) each.
        scoring: Index of the template that decides right or wrong; its answer comes last.
        answers: The closed answer space, sorted, at least two.
        aliases: Other accepted spellings by answer.
        source: Where the facts come from; empty where the file does not say.
        license: Licence of the facts; empty where the file does not say.
    """

    name: str
    templates: tuple[str, ...]
    scoring: int
    answers: tuple[str, ...]
    aliases: Mapping[str, tuple[str, ...]]
    source: str
    license: str

    def prompt(self, subject: str, template: int | None = None) -> tuple[str, str]:
        """Return the text around the answer.

        Args:
            subject: The text that fills `[X]`.
            template: Index of the template; the scoring template when None.

        Returns:
            The text before the answer without trailing space (a space goes between it and the answer), and the
            text after the answer as it stands ("." as a rule).
        """
        before, _, after = self.templates[self.scoring if template is None else template].partition(ANSWER)
        return before.replace(SUBJECT, subject).rstrip(" "), after.replace(SUBJECT, subject)

    def statement(self, subject: str, answer: str, template: int | None = None) -> str:
        """Return the whole sentence with a subject and an answer filled in."""
        before, _, after = self.templates[self.scoring if template is None else template].partition(ANSWER)
        return before.replace(SUBJECT, subject) + answer + after.replace(SUBJECT, subject)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Hold one fact: its id, relation, subject, canonical answer and other accepted spellings."""

    id: str
    relation: str
    subject: str
    answer: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FactSet:
    """Hold a data set: its name and version, the relations by name, and the facts in the order of the file."""

    name: str
    version: str
    relations: Mapping[str, Relation]
    facts: tuple[Fact, ...]

    def hashes(self) -> tuple[int, ...]:
        """Return `fact_hash` of each fact, in the order of `facts`."""
        return tuple(fact_hash(self.relations[fact.relation], fact) for fact in self.facts)

    def sample(self, limit: int, seed: int = 0) -> FactSet:
        """Return a data set of at most `limit` facts, sorted by id, stratified by relation.

        The sample depends on ids, relations and seed, not on the order of the file. Relations are represented in
        proportion to their size, each at least once where the limit allows. A smaller sample of the same seed lies
        inside a larger one. Answer spaces stay whole.

        Args:
            limit: Number of facts, 1 or more.
            seed: Any whole number.

        Raises:
            FactsError: Where the limit is below 1.
        """
        if limit < 1:
            fail(self.name, "limit", limit, "1 or more", "Ask for at least one fact")
        places = sampled([fact.id for fact in self.facts], [fact.relation for fact in self.facts], limit, seed)
        chosen = sorted((self.facts[place] for place in places), key=lambda fact: fact.id)
        return replace(self, facts=tuple(chosen))


def fact_hash(relation: Relation, fact: Fact) -> int:
    """Return a hash of all that decides how a fact is scored.

    Covers the scoring template, subject, answer, aliases and answer space; neither id nor order, so that a sample can
    be compared example by example with a baseline of the full set.

    Returns:
        The first 32 bits of a SHA-256, 0 to 2**32 - 1.
    """
    template = relation.templates[relation.scoring]
    return content_hash(template, fact.subject, fact.answer, sorted(fact.aliases), sorted(relation.answers))


def shipped_facts() -> FactSet:
    """Return kick-facts, the facts that the shipped models are probed with."""
    with as_file(files("pytest_kick") / "data" / "facts" / "kick-facts.jsonl") as path:
        return load_facts(path)


def load_facts(path: Path) -> FactSet:
    """Return the data set that a JSONL file holds.

    Raises:
        FactsError: Where the file cannot be read or breaks a rule of the format; one line with file, line and field.
    """
    lines = read_lines(path)
    if not lines or lines[0].values.get("kind") != "dataset":
        where, value = (lines[0].where, lines[0].values.get("kind")) if lines else (str(path), "an empty file")
        fail(where, "kind", value, '"dataset" in the first line', 'Begin with {"kind": "dataset", "schema": 1, ...}')
    _check_schema(lines[0])
    grouped: dict[str, list[Line]] = {"relation": [], "fact": []}
    for line in lines[1:]:
        kind = line.text("kind")
        if kind not in grouped:
            line.fail("kind", kind, '"relation" or "fact" (and one "dataset", first)', "Correct the kind")
        grouped[kind].append(line)
    if not grouped["fact"]:
        fail(str(path), "facts", 0, "at least one fact", 'Add a line {"kind": "fact", ...}')
    relations = _relations(grouped["relation"], grouped["fact"])
    return FactSet(
        name=lines[0].text("name"),
        version=lines[0].text("version"),
        relations=MappingProxyType(relations),
        facts=_facts(grouped["fact"], relations),
    )


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", unicodedata.normalize("NFC", text).casefold()).strip("-")


def _check_schema(head: Line) -> None:
    schema = head.integer("schema")
    if schema > SCHEMA:
        head.fail("schema", schema, f"at most {SCHEMA}", "The file is of a newer version: update pytest-kick")
    if schema < 1:
        head.fail("schema", schema, f"{SCHEMA}", f"Write {SCHEMA}")
    head.only(DATASET_FIELDS)


def _relations(lines: Sequence[Line], facts: Sequence[Line]) -> dict[str, Relation]:
    given: dict[str, set[str]] = {line.text("relation"): set() for line in lines}
    for line in facts:
        name = line.text("relation")
        if name not in given:
            line.fail("relation", name, f"one of {', '.join(sorted(given)) or 'no relations'}", "Add its relation line")
        given[name].add(line.text("answer"))
    relations: dict[str, Relation] = {}
    for line in lines:
        line.only(RELATION_FIELDS)
        name = line.text("relation")
        if name in relations:
            line.fail("relation", name, "each relation once", "Merge the two lines")
        relations[name] = _relation(line, given[name])
    return relations


def _relation(line: Line, given: set[str]) -> Relation:
    templates = line.texts("templates")
    if not templates:
        line.fail("templates", line.values.get("templates"), "at least one template", "Add one with its answer last")
    for template in templates:
        for slot in (SUBJECT, ANSWER):
            if template.count(slot) != 1:
                line.fail("templates", template, f"{slot} exactly once", "Correct the template")
    answers = line.texts("answers") or tuple(sorted(given))
    if len(answers) < 2:  # noqa: PLR2004 - a choice needs two
        line.fail("answers", list(answers), "an answer space of at least 2", "Add facts or list the answers")
    return Relation(
        name=line.text("relation"),
        templates=templates,
        scoring=_scoring(line, templates),
        answers=tuple(sorted(answers)),
        aliases=MappingProxyType(_aliases(line, frozenset(answers))),
        source=line.text("source", ""),
        license=line.text("license", ""),
    )


def _is_answer_last(template: str) -> bool:
    before, _, after = template.partition(ANSWER)
    return before.endswith(" ") and set(after) <= CLOSING


def _scoring(line: Line, templates: tuple[str, ...]) -> int:
    last = [index for index, template in enumerate(templates) if _is_answer_last(template)]
    if not last:
        rule = "a template with a space before [Y] and only closing punctuation after it"
        line.fail("templates", list(templates), rule, 'Add one, such as "The capital of [X] is [Y]."')
    scoring = line.integer("scoring", last[0])
    if scoring not in last:
        line.fail("scoring", scoring, f"the index of an answer-last template ({last})", "Correct the index")
    return scoring


def _aliases(line: Line, answers: frozenset[str]) -> dict[str, tuple[str, ...]]:
    value = line.values.get("aliases", {})
    if not isinstance(value, dict):
        line.fail("aliases", value, "an object of answer: [aliases]", 'Write it as {"answer": ["alias"]}')
    for answer in value:
        if answer not in answers:
            line.fail("aliases", answer, "answers of the relation's answer space as keys", "Remove or correct it")
    return {answer: _not_answers(line, line.as_texts("aliases", names), answers) for answer, names in value.items()}


def _not_answers(line: Line, aliases: tuple[str, ...], answers: frozenset[str]) -> tuple[str, ...]:
    for alias in aliases:
        if alias in answers:
            line.fail("aliases", alias, "an alias that is no answer of the relation", "Remove the alias")
    return aliases


def _facts(lines: Sequence[Line], relations: Mapping[str, Relation]) -> tuple[Fact, ...]:
    facts: dict[str, Fact] = {}
    answers: dict[tuple[str, str], str] = {}
    for line in lines:
        fact = _fact(line, relations[line.text("relation")])
        if fact.id in facts and facts[fact.id].subject != fact.subject:
            line.fail("id", fact.id, "an id of its own", 'Give the line another "id"')
        known = answers.get((fact.relation, fact.subject))
        if known not in {None, fact.answer}:
            line.fail("subject", fact.subject, f'one answer per subject, not also "{known}"', "Drop the ambiguous subject")
        if known is not None or fact.id in facts:
            line.fail("subject", fact.subject, "each subject once in a relation and each id once", "Remove or correct the line")
        answers[fact.relation, fact.subject] = fact.answer
        facts[fact.id] = fact
    return tuple(facts.values())


def _fact(line: Line, relation: Relation) -> Fact:
    line.only(FACT_FIELDS)
    name, subject, answer = relation.name, line.text("subject"), line.text("answer")
    if answer not in relation.answers:
        line.fail("answer", answer, f'an answer of the answer space of "{name}"', 'Add it to the relation\'s "answers"')
    own = _not_answers(line, line.texts("aliases"), frozenset(relation.answers))
    aliases = tuple(dict.fromkeys((*relation.aliases.get(answer, ()), *own)))
    return Fact(id=line.text("id", f"{name}/{_slug(subject)}"), relation=name, subject=subject, answer=answer, aliases=aliases)
