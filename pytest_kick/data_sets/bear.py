"""BEAR: facts of 60 relations with closed answer spaces and three templates each, answers balanced. CC BY-SA 4.0.

Source: Wiland et al. 2024, BEAR: A Unified Framework for Evaluating Relational Knowledge in Causal and Masked Language Models,
arXiv 2404.04113.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pytest_kick.data_sets.source import DataSource, text_of
from pytest_kick.errors import DataError
from pytest_kick.facts import ANSWER, SUBJECT, Fact, FactSet, Relation

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = "bear/BEAR"
SPACES = f"{FOLDER}/metadata_relations.json"


def load_bear(source: DataSource) -> FactSet:
    """Return the facts of BEAR, templates in their own order, each answer space sorted.

    Args:
        source: a directory with `bear/BEAR/metadata_relations.json` and `bear/BEAR/RELATION.jsonl`, as in its repository.

    Raises:
        DataError: a file or a field is missing, or an answer lies outside of its space.
    """
    if source.directory is None:
        msg = f"--kick-data: directory: got none, expected one with {SPACES}. Clone github.com/lm-pub-quiz/BEAR into it as `bear`."
        raise DataError(msg)
    path = source.file(SPACES)
    relations = {name: _relation(path, name, values) for name, values in _table(path).items()}
    facts = [fact for name, relation in relations.items() for fact in _facts(source, name, relation)]
    return FactSet(name="bear", version="1", relations=MappingProxyType(relations), facts=tuple(facts))


def _table(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        msg = f"{path}: file: got {type(error).__name__}, expected a JSON object in UTF-8. Take it anew from its source."
        raise DataError(msg) from error
    if not isinstance(table, dict) or not table:
        msg = f"{path}: file: got {type(table).__name__}, expected a JSON object of relations. Take it anew from its source."
        raise DataError(msg)
    return table


def _relation(path: Path, name: str, values: object) -> Relation:
    fields = values if isinstance(values, dict) else {}
    found = {}
    for field, least in (("templates", 1), ("answer_space_labels", 2)):
        texts = fields.get(field)
        if not isinstance(texts, list) or len(set(map(str, texts))) < least or not all(isinstance(text, str) and text for text in texts):
            got = json.dumps(texts, default=str)[:60]
            msg = f"{path}: {name}.{field}: got {got}, expected a list of at least {least} different texts. Correct the file."
            raise DataError(msg)
        found[field] = tuple(text.strip() for text in texts)
    for template in found["templates"]:
        if template.count(SUBJECT) != 1 or template.count(ANSWER) != 1:
            got = json.dumps(template)[:60]
            msg = f"{path}: {name}.templates: got {got}, expected one {SUBJECT} and one {ANSWER}. Correct the file."
            raise DataError(msg)
    return Relation(
        name=name,
        templates=found["templates"],
        scoring=0,
        answers=tuple(sorted(set(found["answer_space_labels"]))),
        aliases=MappingProxyType({}),
        source="BEAR",
        license="CC BY-SA 4.0",
    )


def _facts(source: DataSource, name: str, relation: Relation) -> list[Fact]:
    facts: dict[str, Fact] = {}
    for line in source.lines(f"{FOLDER}/{name}.jsonl"):
        answer, subject = text_of(line, "obj_label").strip(), text_of(line, "sub_label").strip()
        if answer not in relation.answers:
            msg = f"{line.where}: obj_label: got {json.dumps(answer)[:60]}, expected an answer of {name} in {SPACES}. Correct the file."
            raise DataError(msg)
        fact = Fact(id=f"{name}/{text_of(line, 'sub_id')}", relation=name, subject=subject, answer=answer)
        if fact.id in facts:
            msg = f"{line.where}: sub_id: got {fact.id!r} a second time, expected each subject once. Remove the line."
            raise DataError(msg)
        facts[fact.id] = fact
    return list(facts.values())
