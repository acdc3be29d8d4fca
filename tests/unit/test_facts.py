"""Facts files: what loads, what is refused and how the refusal reads."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.errors import FactsError
from pytest_kick.facts import FactSet, fact_hash, load_facts, shipped_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    Lines = list[dict[str, Any]]

TEMPLATES = ["The capital of [X] is [Y].", "[Y] is the capital of [X]."]


def minimum() -> Lines:
    """Return the least that a user must write."""
    return [
        {"kind": "dataset", "schema": 1, "name": "mine", "version": "1"},
        {"kind": "relation", "relation": "capital", "templates": list(TEMPLATES)},
        {"kind": "fact", "relation": "capital", "subject": "France", "answer": "Paris"},
        {"kind": "fact", "relation": "capital", "subject": "Costa Rica", "answer": "San José"},
    ]


def write(path: Path, lines: Lines) -> Path:
    """Write lines as JSONL."""
    target = path / "mine.jsonl"
    target.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return target


@pytest.fixture(scope="module")
def shipped() -> FactSet:
    """Return kick-facts."""
    return shipped_facts()


def test_minimum_file_loads_with_defaults(tmp_path: Path) -> None:
    """One dataset line, one relation line and facts are enough; the rest has defaults."""
    loaded = load_facts(write(tmp_path, minimum()))
    relation = loaded.relations["capital"]
    assert (loaded.name, loaded.version) == ("mine", "1")
    assert relation.answers == ("Paris", "San José")
    assert relation.scoring == 0
    assert [fact.id for fact in loaded.facts] == ["capital/france", "capital/costa-rica"]
    assert all(fact.aliases == () for fact in loaded.facts)


def test_default_scoring_template_is_the_first_answer_last_one(tmp_path: Path) -> None:
    """Without `scoring` the first template with its answer last decides."""
    lines = minimum()
    lines[1]["templates"] = TEMPLATES[::-1]
    assert load_facts(write(tmp_path, lines)).relations["capital"].scoring == 1


def test_aliases_of_relation_and_fact_are_joined(tmp_path: Path) -> None:
    """A fact accepts the aliases of its answer and its own, each once."""
    lines = minimum()
    lines[1]["aliases"] = {"Paris": ["Paname"]}
    lines[2]["aliases"] = ["Lutetia", "Paname"]
    assert load_facts(write(tmp_path, lines)).facts[0].aliases == ("Paname", "Lutetia")


def test_prompt_and_statement(tmp_path: Path) -> None:
    """A prompt is the text around the answer, a statement the whole sentence, also for odd subjects."""
    relation = load_facts(write(tmp_path, minimum())).relations["capital"]
    assert relation.prompt("France") == ("The capital of France is", ".")
    assert relation.prompt("France", 1) == ("", " is the capital of France.")
    assert relation.statement("France", "Paris") == "The capital of France is Paris."
    assert relation.statement("[Y]", "[X]", 1) == "[X] is the capital of [Y]."


def at(line: int, **fields: object) -> Callable[[Lines], None]:
    """Return a change that sets fields of a line; None removes one."""

    def change(lines: Lines) -> None:
        for field, value in fields.items():
            lines[line].pop(field, None)
            if value is not None:
                lines[line][field] = value

    return change


def added(**fields: object) -> Callable[[Lines], None]:
    """Return a change that appends a line."""
    return lambda lines: lines.append(dict(fields))


def without_facts(lines: Lines) -> None:
    """Remove all facts."""
    del lines[2:]


def without_head(lines: Lines) -> None:
    """Remove the dataset line."""
    del lines[0]


FRANCE = {"kind": "fact", "relation": "capital", "subject": "France"}
BROKEN = [
    (without_head, r":1: kind: got \"relation\", expected \"dataset\" in the first line"),
    (at(0, schema=2), r":1: schema: got 2, expected at most 1\. The file is of a newer version: update pytest-kick"),
    (at(0, schema=0), r":1: schema: got 0, expected 1"),
    (at(0, schema="1"), r":1: schema: got \"1\", expected a whole number"),
    (at(0, schema=True), r":1: schema: got true, expected a whole number"),
    (at(0, schema=None), r":1: schema: got nothing, expected this field\. Add it"),
    (at(0, name=None), r":1: name: got nothing"),
    (at(0, version=""), r":1: version: got \"\", expected a text that is not empty"),
    (at(1, kind="relatoin"), r":2: kind: got \"relatoin\", expected \"relation\" or \"fact\""),
    (at(1, kind=None), r":2: kind: got nothing"),
    (at(1, relation=None), r":2: relation: got nothing"),
    (at(1, templates=[]), r":2: templates: got \[\], expected at least one template"),
    (at(1, templates="The [X] is [Y]."), r":2: templates: got .*, expected a list of texts"),
    (at(1, templates=["The capital is [Y]."]), r":2: templates: got .*, expected \[X\] exactly once"),
    (at(1, templates=["The capital of [X] is."]), r":2: templates: got .*, expected \[Y\] exactly once"),
    (at(1, templates=["[X] [X] is [Y]."]), r":2: templates: got .*, expected \[X\] exactly once"),
    (at(1, templates=TEMPLATES[1:]), r":2: templates: got .*, expected a template with a space before \[Y\] and only closing"),
    (at(1, templates=["The city of [Y] governs [X]."]), r":2: templates: got .* only closing punctuation after it"),
    (at(1, templates=["For [X] it is [Y] now."]), r":2: templates: got .* only closing punctuation after it"),
    (at(1, templates=["Dial +[Y] for [X]", "[X]: +[Y]"]), r":2: templates: got .* a space before \[Y\]"),
    (at(1, templates=[TEMPLATES[0], TEMPLATES[0]]), r":2: templates: got .*, expected each text once"),
    (at(1, scoring=1), r":2: scoring: got 1, expected the index of an answer-last template \(\[0\]\)"),
    (at(1, scoring=7), r":2: scoring: got 7, expected the index"),
    (at(1, scoring=-1), r":2: scoring: got -1, expected the index"),
    (at(1, scoring=0.5), r":2: scoring: got 0\.5, expected a whole number"),
    (at(1, answers=["Paris"]), r":2: answers: got \[\"Paris\"\], expected an answer space of at least 2"),
    (at(1, answers=["Paris", "Rome"]), r":4: answer: got .*San.*, expected an answer of the answer space of \"capital\""),
    (at(1, answers=["Paris", ""]), r":2: answers: got .*, expected a list of texts, none empty"),
    (at(1, aliases=["Paname"]), r":2: aliases: got .*, expected an object"),
    (at(1, aliases={"Rome": ["Roma"]}), r":2: aliases: got \"Rome\", expected answers of the relation's answer space"),
    (at(1, aliases={"Paris": "Paname"}), r":2: aliases: got \"Paname\", expected a list of texts"),
    (at(1, aliases={"Paris": ["San José"]}), r":2: aliases: got .*, expected an alias that is no answer"),
    (at(1, template=["x"]), r':2: template: got .*Did you mean "templates"\? Rename it'),
    (at(1, colour="red"), r":2: colour: got \"red\", expected one of the fields .*\. Remove it"),
    (at(2, relation="captial"), r":3: relation: got \"captial\", expected one of capital\. Add its relation line"),
    (at(2, subject=None), r":3: subject: got nothing"),
    (at(2, subject=" France"), r":3: subject: got \" France\", expected .* without spaces around it"),
    (at(2, subject="Fra\nnce"), r":3: subject: got .*, expected .* on one line"),
    (at(2, subject=3), r":3: subject: got 3, expected a text"),
    (at(2, answer=None), r":3: answer: got nothing"),
    (at(2, answer=""), r":3: answer: got \"\", expected a text that is not empty"),
    (at(2, aliases=["San José"]), r":3: aliases: got .*, expected an alias that is no answer"),
    (added(**FRANCE, answer="San José"), r":5: subject: got \"France\", expected one answer per subject, not also \"Paris\""),
    (added(**FRANCE, answer="Paris"), r":5: subject: got \"France\", expected each subject once in a relation"),
    (added(**FRANCE, answer="Paris", id="other"), r":5: subject: got \"France\", expected each subject once in a relation"),
    (added(**(FRANCE | {"subject": "france"}), answer="Paris"), r":5: id: got \"capital/france\", expected an id of its own"),
    (lambda lines: lines.append(lines[1]), r":5: relation: got \"capital\", expected each relation once"),
    (lambda lines: lines.append(lines[0]), r":5: kind: got \"dataset\", expected"),
    (without_facts, r"mine\.jsonl: facts: got 0, expected at least one fact"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[str(index) for index in range(len(BROKEN))])
def test_broken_file_is_refused_in_one_line(tmp_path: Path, change: Callable[[Lines], None], message: str) -> None:
    """Each broken rule is one line with file, line, field, value, rule and what to do."""
    lines = minimum()
    change(lines)
    with pytest.raises(FactsError) as caught:
        load_facts(write(tmp_path, lines))
    text = str(caught.value)
    assert re.search(message, text.replace("\\u00e9", "é"))
    assert "\n" not in text
    assert text.startswith(str(tmp_path))
    assert text.endswith(".")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r'mine\.jsonl: kind: got "an empty file"'),
        (b"\n\n", r"an empty file"),
        (b'{"kind": "dataset", "schema": 1, "na', r":1: line: got .*, expected a whole JSON object on one line"),
        (b"[1]\n", r":1: line: got \[1\], expected a JSON object"),
        (b'{"kind": "dataset", "kind": "fact"}', r":1: kind: got \"fact\", expected each field once"),
        (b'{"kind": "dataset"}\n\xff\xfe', r":2: encoding: got byte 0xff, expected UTF-8 text"),
        (b"\x89PNG\r\n", r":1: encoding: got byte 0x89"),
        (b'{"kind":\n\0}', r":2: encoding: got byte 0x00"),
        (b"[" * 100_000, r":1: line: got .*, expected a whole JSON object"),
    ],
)
def test_unreadable_content_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """Empty, truncated, deeply nested, binary and wrongly shaped files are one-line errors."""
    path = tmp_path / "mine.jsonl"
    path.write_bytes(content)
    with pytest.raises(FactsError, match=message) as caught:
        load_facts(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    """A path that cannot be read is an error that names it."""
    with pytest.raises(FactsError, match=r"none\.jsonl: file: got No such file.*Check the path"):
        load_facts(tmp_path / "none.jsonl")
    with pytest.raises(FactsError, match=r"file: got Is a directory"):
        load_facts(tmp_path)


def test_every_truncation_of_the_smallest_file_is_refused(tmp_path: Path) -> None:
    """Cut anywhere, a file never loads as if it were whole."""
    path = write(tmp_path, minimum())
    content = path.read_bytes()
    for end in range(len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(FactsError):
            load_facts(path)


def test_hash_is_the_documented_digest_and_covers_what_decides(tmp_path: Path) -> None:
    """The hash follows template, subject, answer, aliases and space; not id, order, source or other templates."""
    whole = load_facts(write(tmp_path, minimum()))
    parts = [TEMPLATES[0], "France", "Paris", [], ["Paris", "San José"]]
    assert whole.hashes()[0] == int(hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8], 16)
    cases: list[tuple[int, dict[str, Any], bool]] = [
        (1, {"templates": ["The main city of [X] is [Y]."]}, False),
        (1, {"answers": ["Paris", "San José", "Rome"]}, False),
        (1, {"aliases": {"Paris": ["Paname"]}}, False),
        (2, {"subject": "the French Republic"}, False),
        (2, {"answer": "San José"}, False),
        (1, {"source": "an atlas", "templates": TEMPLATES[:1]}, True),
        (2, {"id": "one"}, True),
    ]
    for line, change, same in cases:
        lines = minimum()
        lines[1]["answers"] = ["San José", "Paris"]
        lines[line] |= change
        other = load_facts(write(tmp_path, lines))
        assert (other.hashes()[0] == whole.hashes()[0]) is same, change


def test_shipped_facts_keep_what_the_data_set_promises(shipped: FactSet) -> None:
    """2,000 to 2,800 facts, 18 relations, three paraphrases, 5 to 200 answers, 80% one-word answers, all documented."""
    assert 2_000 <= len(shipped.facts) <= 2_800
    assert len(shipped.relations) >= 18
    for relation in shipped.relations.values():
        assert len(relation.templates) >= 3, relation.name
        assert 5 <= len(relation.answers) <= 200, relation.name
        assert relation.source, relation.name
        assert relation.license, relation.name
    assert {fact.relation for fact in shipped.facts} == set(shipped.relations)
    assert sum(fact.answer.isalpha() for fact in shipped.facts) >= 0.8 * len(shipped.facts)
    assert len(set(shipped.hashes())) == len(shipped.facts)


def test_shipped_answers_do_not_show_in_their_subjects(shipped: FactSet) -> None:
    """No answer of four letters or more is a part of its subject, or the reverse."""
    for fact in shipped.facts:
        word = fact.subject.casefold().rpartition(" ")[2]
        assert fact.answer.casefold() not in fact.subject.casefold() or len(fact.answer) <= 3, fact
        assert word not in fact.answer.casefold() or len(word) <= 3, fact


def test_never_probed_shares_no_subject_with_the_probed(shipped: FactSet) -> None:
    """At least 450 statements are never probed, about subjects that no probe asks about, in known relations."""
    held = load_facts(Path(str(files("pytest_kick"))) / "data" / "facts" / "never-probed.jsonl")
    assert len(held.facts) >= 450
    assert not {fact.subject for fact in held.facts} & {fact.subject for fact in shipped.facts}
    stated = {shipped.relations[fact.relation].statement(fact.subject, fact.answer) for fact in shipped.facts}
    assert not stated & {held.relations[fact.relation].statement(fact.subject, fact.answer) for fact in held.facts}


@pytest.mark.parametrize(
    ("relation", "subject", "answer"),
    [
        ("capital", "France", "Paris"),
        ("capital_of", "Tokyo", "Japan"),
        ("element_symbol", "gold", "Au"),
        ("state_capital", "Texas", "Austin"),
        ("official_language", "Brazil", "Portuguese"),
        ("continent", "Kenya", "Africa"),
    ],
)
def test_shipped_facts_are_true(shipped: FactSet, relation: str, subject: str, answer: str) -> None:
    """Well-known facts stand as everybody knows them."""
    assert [fact.answer for fact in shipped.facts if (fact.relation, fact.subject) == (relation, subject)] == [answer]


def test_hash_of_a_fact_does_not_depend_on_the_sample(shipped: FactSet) -> None:
    """A sample's hashes are those of the full set, so that both can be compared fact by fact."""
    full = dict(zip((fact.id for fact in shipped.facts), shipped.hashes(), strict=True))
    for fact in shipped.sample(50, 3).facts:
        assert full[fact.id] == fact_hash(shipped.relations[fact.relation], fact)
