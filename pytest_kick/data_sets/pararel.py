"""ParaRel: paraphrases of the relations of LAMA's T-REx. Patterns MIT; the facts are LAMA's, CC BY-NC 4.0.

Source: Elazar et al. 2021, Measuring and Improving Consistency in Pretrained Language Models, arXiv 2102.01017.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_kick.data_sets.source import DataSource, text_of
from pytest_kick.errors import DataError
from pytest_kick.facts import ANSWER, CLOSING, SUBJECT, Fact, FactSet, Relation

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.jsonl import Line

PATTERNS, FACTS = "pararel/patterns", "pararel/trex_lms_vocab"


def load_pararel(source: DataSource) -> FactSet:
    """Return the facts of the relations that have at least two patterns; an answer space holds the relation's objects.

    The scoring pattern is the first whose answer comes last, so that all families can be asked it.

    Args:
        source: a directory with `pararel/patterns/RELATION.jsonl` and `pararel/trex_lms_vocab/RELATION.jsonl`, as in its repository.

    Raises:
        DataError: a file or a field is missing.
    """
    relations, facts = {}, []
    for path in source.files(PATTERNS, "*.jsonl"):
        patterns = tuple(dict.fromkeys(_pattern(line) for line in source.lines(f"{PATTERNS}/{path.name}")))
        found = _facts(source, path.stem)
        answers = tuple(sorted({fact.answer for fact in found}))
        if len(patterns) > 1 and len(answers) > 1:
            relations[path.stem] = _relation(path, patterns, answers)
            facts += found
    if not facts:
        msg = f"{source.directory}: {PATTERNS}: got no relation with two patterns and two answers, expected one. Take it anew."
        raise DataError(msg)
    return FactSet(name="pararel", version="1", relations=MappingProxyType(relations), facts=tuple(facts))


def _pattern(line: Line) -> str:
    pattern = text_of(line, "pattern").strip()
    if pattern.count(SUBJECT) != 1 or pattern.count(ANSWER) != 1:
        msg = f"{line.where}: pattern: got {json.dumps(pattern)[:60]}, expected one {SUBJECT} and one {ANSWER}. Correct the file."
        raise DataError(msg)
    return pattern


def _relation(path: Path, patterns: tuple[str, ...], answers: tuple[str, ...]) -> Relation:
    last = [number for number, pattern in enumerate(patterns) if not set(pattern.partition(ANSWER)[2]) - CLOSING - {" "}]
    return Relation(
        name=path.stem,
        templates=patterns,
        scoring=last[0] if last else 0,
        answers=answers,
        aliases=MappingProxyType({}),
        source="ParaRel, LAMA T-REx",
        license="MIT; CC BY-NC 4.0",
    )


def _facts(source: DataSource, relation: str) -> list[Fact]:
    """Return a relation's facts, each pair of subject and object once."""
    facts: dict[tuple[str, str], Fact] = {}
    for line in source.lines(f"{FACTS}/{relation}.jsonl"):
        subject, answer = text_of(line, "sub_label").strip(), text_of(line, "obj_label").strip()
        facts.setdefault(
            (subject, answer), Fact(id=f"{relation}/{text_of(line, 'uuid')}", relation=relation, subject=subject, answer=answer)
        )
    return list(facts.values())
