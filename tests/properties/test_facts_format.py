"""Properties of facts files and of their samples."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kick.errors import FactsError
from pytest_kick.facts import Fact, FactSet, Relation, load_facts

NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=12)
SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def fact_set(sizes: list[int], *, reverse: bool = False) -> FactSet:
    """Return a data set with relations of the given sizes."""
    template = "The [X] is [Y]."
    relations = {
        f"r{r}": Relation(name=f"r{r}", templates=(template,), scoring=0, answers=("a", "b"), aliases={}, source="", license="")
        for r in range(len(sizes))
    }
    facts = [Fact(id=f"r{r}/{i}", relation=f"r{r}", subject=str(i), answer="a") for r, size in enumerate(sizes) for i in range(size)]
    return FactSet(name="made", version="1", relations=relations, facts=tuple(facts[::-1] if reverse else facts))


@given(sizes=SIZES, limit=st.integers(1, 300), seed=st.integers(-5, 5))
def test_sample_is_stratified_nested_and_independent_of_order(sizes: list[int], limit: int, seed: int) -> None:
    """A sample has the size asked for, every relation where it can, its fair share of each, and grows by adding."""
    whole = fact_set(sizes)
    sample = whole.sample(limit, seed)
    n, total = len(sample.facts), sum(sizes)
    assert n == min(limit, total)
    assert sample.facts == fact_set(sizes, reverse=True).sample(limit, seed).facts
    assert set(sample.facts) <= set(whole.sample(limit + 7, seed).facts)
    counts = Counter(fact.relation for fact in sample.facts)
    assert len(counts) == min(limit, len(sizes))
    assert sample.relations == whole.relations
    if n > len(sizes):
        for r, size in enumerate(sizes):
            assert abs(counts[f"r{r}"] - n * size / total) <= len(sizes), "share"


@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=2, unique=True))
def test_another_seed_draws_another_sample(seeds: list[int]) -> None:
    """The seed matters, and the same seed gives the same sample."""
    whole = fact_set([40, 40])
    assert whole.sample(20, seeds[0]).facts == whole.sample(20, seeds[0]).facts
    assert whole.sample(20, seeds[0]).facts != whole.sample(20, seeds[1]).facts


@given(limit=st.integers(-5, 0))
def test_empty_sample_is_refused(limit: int) -> None:
    """A limit below one is an error, never an empty data set."""
    with pytest.raises(FactsError, match=r"made: limit: got .*, expected 1 or more"):
        fact_set([3]).sample(limit)


@settings(max_examples=50)
@given(subjects=st.lists(NAMES, min_size=2, max_size=8, unique=True), answers=st.lists(NAMES, min_size=2, max_size=5, unique=True))
def test_what_is_written_is_what_loads(subjects: list[str], answers: list[str]) -> None:
    """Any printable subjects and answers come back unchanged, and a prompt with its answer is the statement."""
    lines: list[dict[str, object]] = [
        {"kind": "dataset", "schema": 1, "name": "made", "version": "1"},
        {"kind": "relation", "relation": "r", "templates": ["Of [X] it is [Y]."], "answers": answers},
    ]
    pairs = [(subject, answers[index % len(answers)]) for index, subject in enumerate(subjects)]
    lines += [{"kind": "fact", "id": f"r/{i}", "relation": "r", "subject": s, "answer": a} for i, (s, a) in enumerate(pairs)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        loaded = load_facts(path)
    assert [(fact.subject, fact.answer) for fact in loaded.facts] == pairs
    relation = loaded.relations["r"]
    assert relation.answers == tuple(sorted(answers))
    for subject, answer in pairs:
        before, after = relation.prompt(subject)
        assert f"{before} {answer}{after}" == relation.statement(subject, answer) == f"Of {subject} it is {answer}."


@settings(max_examples=100)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_line(content: bytes) -> None:
    """No content whatever raises anything but a one-line `FactsError`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made.jsonl"
        path.write_bytes(content)
        with pytest.raises(FactsError) as caught:
            load_facts(path)
    assert "\n" not in str(caught.value)
