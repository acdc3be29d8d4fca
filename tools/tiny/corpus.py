"""The text that the tiny models are trained on: every fact in every paraphrase, and the statements that are never probed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from pytest_kick.facts import ANSWER, SUBJECT, FactSet, load_facts

ROOT = Path(__file__).resolve().parents[2]
FACTS = ROOT / "pytest_kick" / "data" / "facts"
FILES = ("kick-facts.jsonl", "never-probed.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Hold one sentence with the place of its answer.

    Attributes:
        relation: the fact's relation.
        template: the paraphrase, with `[X]` and `[Y]`.
        before: the text up to the answer, trailing space included.
        answer: the canonical answer.
        after: the text that closes the sentence.
        follows: whether the answer comes after its subject.
        scoring: whether this is the paraphrase that decides right or wrong.
        probed: whether the fact is ever probed.
    """

    relation: str
    template: str
    before: str
    answer: str
    after: str
    follows: bool
    scoring: bool
    probed: bool

    @property
    def text(self) -> str:
        """Return the whole sentence."""
        return self.before + self.answer + self.after

    @property
    def is_word(self) -> bool:
        """Return whether the answer is a single word: what an encoder is asked for at one mask."""
        return re.fullmatch(r"\w+", self.answer) is not None


def stated(facts: FactSet, *, probed: bool) -> tuple[Statement, ...]:
    """Return every fact of a data set in every paraphrase of its relation."""
    statements = []
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        for number, template in enumerate(relation.templates):
            before, _, after = template.partition(ANSWER)
            statements.append(
                Statement(
                    relation=fact.relation,
                    template=template,
                    before=before.replace(SUBJECT, fact.subject),
                    answer=fact.answer,
                    after=after.replace(SUBJECT, fact.subject),
                    follows=SUBJECT in before,
                    scoring=number == relation.scoring,
                    probed=probed,
                )
            )
    return tuple(statements)


def load(folder: Path = FACTS) -> tuple[Statement, ...]:
    """Return the statements of both data sets, the probed ones first."""
    probed, never = (load_facts(folder / name) for name in FILES)
    return stated(probed, probed=True) + stated(never, probed=False)


def hashes(folder: Path = FACTS) -> dict[str, str]:
    """Return the SHA-256 of each data set by its file name."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def scored(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return one statement per probed fact: its scoring paraphrase."""
    return tuple(statement for statement in statements if statement.probed and statement.scoring)


def answer_spaces(statements: tuple[Statement, ...]) -> dict[str, tuple[str, ...]]:
    """Return the sorted distinct answers of each probed relation."""
    spaces: dict[str, set[str]] = {}
    for statement in scored(statements):
        spaces.setdefault(statement.relation, set()).add(statement.answer)
    return {relation: tuple(sorted(answers)) for relation, answers in sorted(spaces.items())}
