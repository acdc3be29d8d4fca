"""LAMA, BEAR and ParaRel: what is read, what is dropped, and what is refused with file, line and field."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets.bear import load_bear
from pytest_kick.data_sets.lama import common_vocabulary, load_lama, load_own
from pytest_kick.data_sets.pararel import load_pararel
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

RELATION = {"relation": "P1", "template": "[X] is in [Y] .", "type": "N-1"}
FACT = {"uuid": "u", "sub_label": "Rome", "obj_label": "Italy"}
SENTENCE = {"id": "s", "sub_label": "Squad", "obj_label": "gold", "masked_sentences": ["the [MASK] one"]}
BEAR = {"P1": {"templates": ["[X] is in [Y].", "[Y] holds [X]."], "answer_space_labels": ["Italy", "Fiji"]}}
PLACE = {"sub_id": "Q1", "sub_label": "Rome", "obj_label": "Italy"}


def write(path: Path, rows: Iterable[Any]) -> Path:
    """Write a JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def trex(folder: Path, relations: Iterable[Any] = (RELATION,), facts: Iterable[Any] = (FACT,)) -> DataSource:
    """Return T-REx of one relation."""
    write(folder / "lama_trex" / "relations.jsonl", relations)
    write(folder / "lama_trex" / "TREx" / "P1.jsonl", facts)
    return DataSource(directory=folder)


def bear(folder: Path, table: Any = BEAR, facts: Iterable[Any] = (PLACE,)) -> DataSource:
    """Return BEAR of one relation."""
    write(folder / "bear" / "BEAR" / "P1.jsonl", facts)
    (folder / "bear" / "BEAR" / "metadata_relations.json").write_text(json.dumps(table), encoding="utf-8")
    return DataSource(directory=folder)


def pararel(folder: Path, patterns: Iterable[str] = ("[Y] holds [X].", "[X] is in [Y] .")) -> DataSource:
    """Return ParaRel of one relation."""
    write(folder / "pararel" / "patterns" / "P1.jsonl", [{"pattern": pattern} for pattern in patterns])
    write(folder / "pararel" / "trex_lms_vocab" / "P1.jsonl", [FACT, FACT, {**FACT, "uuid": "v", "obj_label": "Fiji"}])
    return DataSource(directory=folder)


def test_trex_asks_each_pair_once_and_skips_relations_without_facts(tmp_path: Path) -> None:
    """One fact per subject and object, as LAMA does; a relation whose file is not there is left out; types are kept."""
    source = trex(tmp_path, [RELATION, {"relation": "P2", "template": "[X] of [Y]", "type": "1-1"}], [FACT, {**FACT, "uuid": "v"}])
    found = load_lama(source, "trex")
    assert [(fact.id, fact.sentence) for fact in found.facts] == [("P1/u", "Rome is in [MASK] .")]
    assert found.types == {"P1": "N-1", "P2": "1-1"}
    assert found.dropped == {"asked already": 1}


@pytest.mark.parametrize(("judgments", "kept"), [(["yes", "no"], True), (["no", "no", "yes"], False), (["skip"], False), ([], True)])
def test_google_re_drops_facts_that_more_raters_deny(tmp_path: Path, judgments: list[str], *, kept: bool) -> None:
    """Whatever is no yes counts against a fact; as many of both keep it."""
    fact = {**FACT, "judgments": [{"judgment": judgment} for judgment in judgments], "masked_sentences": ["Rome [MASK]"]}
    for name in ("place_of_birth", "date_of_birth", "place_of_death"):
        write(tmp_path / "lama_google_re" / f"{name}_test.jsonl", [fact, {**FACT, "uuid": "w", "sub_label": "Bonn"}])
    found = load_lama(DataSource(directory=tmp_path), "google_re")
    assert len(found.facts) == 3 + 3 * kept
    assert found.facts[-1].sentence == "Bonn died in [MASK] ."


def test_sentences_are_asked_as_they_stand(tmp_path: Path) -> None:
    """SQuAD's sentences are one relation; where each sentence counts once, one without a mask is left out."""
    write(tmp_path / "lama_squad" / "test.jsonl", [SENTENCE, SENTENCE, {**SENTENCE, "masked_sentences": ["no blank"]}])
    source = DataSource(directory=tmp_path)
    found = load_lama(source, "squad")
    assert [fact.id for fact in found.facts] == ["squad/s", "squad/s#2"]
    once = load_lama(source, "squad", sentences=True)
    assert [fact.sentence for fact in once.facts] == ["the [MASK] one"]
    assert once.dropped == {"asked already": 1, "no mask": 1}


def test_rows_of_the_hub_are_read_like_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory the hub's rows are asked by the template they carry."""
    row = {**FACT, "predicate_id": "P1", "template": "[X] is in [Y] .", "type": "N-1", "masked_sentence": "Rome lies in [MASK]."}
    monkeypatch.setattr(DataSource, "rows", lambda *_: iter([row]))
    assert [fact.sentence for fact in load_lama(DataSource(), "trex").facts] == ["Rome is in [MASK] ."]
    assert [fact.sentence for fact in load_lama(DataSource(), "trex", sentences=True).facts] == ["Rome lies in [MASK]."]


@pytest.mark.parametrize(
    ("relations", "facts", "message"),
    [
        ([RELATION], [FACT, {**FACT, "obj_label": ""}], r"P1\.jsonl:2: obj_label: got \"\", expected a text\."),
        ([RELATION], [{"obj_label": "Italy"}], r"P1\.jsonl:1: sub_label: got nothing, expected a text\."),
        ([{"relation": "P1"}], [FACT], r"relations\.jsonl:1: template: got nothing, expected a text\."),
        (
            [{**RELATION, "template": "[X] is"}],
            [FACT],
            r"relations\.jsonl:1: template: got \"\[X\] is\", expected one \[X\] and one \[Y\]\.",
        ),
        ([{**RELATION, "type": "2-1"}], [FACT], r"relations\.jsonl:1: type: got \"2-1\", expected one of 1-1, N-1, N-M\."),
        ([{**RELATION, "relation": "P9"}], [FACT], r"--kick-data: .*: got no lama_trex/TREx/P19\.jsonl, expected it there\."),
        ([RELATION], [{**FACT, "judgments": "maybe"}], r"P1\.jsonl:1: judgments: got \"maybe\", expected a list of objects"),
    ],
)
def test_a_malformed_file_of_lama_is_refused(tmp_path: Path, relations: list[Any], facts: list[Any], message: str) -> None:
    """The error names file, line and field."""
    with pytest.raises(DataError, match=message):
        load_lama(trex(tmp_path, relations, facts), "trex")


def test_own_facts_need_a_template_or_a_sentence(tmp_path: Path) -> None:
    """Facts of one's own carry their template, or a sentence with a mask."""
    found = load_own(write(tmp_path / "own.jsonl", [{**FACT, "template": "[X] in [Y]"}, SENTENCE]))
    assert [(fact.relation, fact.sentence) for fact in found.facts] == [("own", "Rome in [MASK]"), ("own", "the [MASK] one")]
    with pytest.raises(DataError, match=r"own\.jsonl:1: masked_sentences: got nothing, expected a sentence with \[MASK\], or a template\."):
        load_own(write(tmp_path / "own.jsonl", [FACT]))
    with pytest.raises(DataError, match=r"none\.jsonl: file: got .*, expected a file that can be read\."):
        load_own(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"own\.jsonl: facts: got none, expected at least one\."):
        load_own(write(tmp_path / "own.jsonl", []))


def test_the_common_vocabulary_is_a_word_a_line(tmp_path: Path) -> None:
    """Words stand once each; an empty file is refused."""
    path = tmp_path / "lama_vocab" / "common_vocab_cased.txt"
    path.parent.mkdir()
    path.write_text("Rome\n\n gold\nRome\n", encoding="utf-8")
    assert common_vocabulary(DataSource(directory=tmp_path)) == ("Rome", "gold")
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"common_vocab_cased\.txt: file: got no word, expected one a line\."):
        common_vocabulary(DataSource(directory=tmp_path))


def test_bear_is_read_as_facts_with_a_closed_answer_space(tmp_path: Path) -> None:
    """Templates keep their order, answers are sorted, ids are relation and subject."""
    found = load_bear(bear(tmp_path))
    assert [fact.id for fact in found.facts] == ["P1/Q1"]
    assert found.relations["P1"].templates == ("[X] is in [Y].", "[Y] holds [X].")
    assert found.relations["P1"].answers == ("Fiji", "Italy")


@pytest.mark.parametrize(
    ("table", "facts", "message"),
    [
        (BEAR, [{**PLACE, "obj_label": "Chile"}], r"P1\.jsonl:1: obj_label: got \"Chile\", expected an answer of P1 in .*\."),
        (BEAR, [PLACE, PLACE], r"P1\.jsonl:2: sub_id: got 'P1/Q1' a second time, expected each subject once\."),
        (BEAR, [{"sub_id": "Q1", "obj_label": "Fiji"}], r"P1\.jsonl:1: sub_label: got nothing, expected a text\."),
        ([], [PLACE], r"metadata_relations\.json: file: got list, expected a JSON object of relations\."),
        ({"P1": {**BEAR["P1"], "templates": ["[X]"]}}, [PLACE], r"P1\.templates: got \"\[X\]\", expected one \[X\] and one \[Y\]\."),
        (
            {"P1": {"templates": ["[X] [Y]"]}},
            [PLACE],
            r"P1\.answer_space_labels: got null, expected a list of at least 2 different texts\.",
        ),
    ],
)
def test_a_malformed_file_of_bear_is_refused(tmp_path: Path, table: Any, facts: list[Any], message: str) -> None:
    """The error names file, line or relation, and field."""
    with pytest.raises(DataError, match=message):
        load_bear(bear(tmp_path, table, facts))


def test_bear_needs_its_directory(tmp_path: Path) -> None:
    """Without a directory, or without its files there, one line says what to do."""
    with pytest.raises(DataError, match=r"^--kick-data: directory: got none, expected one with bear/BEAR/.*\.$"):
        load_bear(DataSource())
    with pytest.raises(DataError, match=r"^--kick-data: .*: got no bear/BEAR/metadata_relations\.json, expected it there\. .*\.$"):
        load_bear(DataSource(directory=tmp_path))


def test_pararel_scores_by_a_pattern_that_all_families_can_be_asked(tmp_path: Path) -> None:
    """The first pattern whose answer comes last decides; each pair of subject and object is asked once."""
    found = load_pararel(pararel(tmp_path))
    assert found.relations["P1"].scoring == 1
    assert [fact.id for fact in found.facts] == ["P1/u", "P1/v"]


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["[X] is"], r"P1\.jsonl:1: pattern: got \"\[X\] is\", expected one \[X\] and one \[Y\]\."),
        (["[X] is in [Y]."], r"pararel/patterns: got no relation with two patterns and two answers, expected one\."),
    ],
)
def test_malformed_pararel_is_refused(tmp_path: Path, patterns: list[str], message: str) -> None:
    """The error names file, line and field; one pattern is no paraphrase."""
    with pytest.raises(DataError, match=message):
        load_pararel(pararel(tmp_path, patterns))


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("lama_trex/relations.jsonl", lambda source: load_lama(source, "trex")),
        ("lama_trex/TREx/P1.jsonl", lambda source: load_lama(source, "trex")),
        ("lama_google_re/date_of_birth_test.jsonl", lambda source: load_lama(source, "google_re")),
        ("lama_squad/test.jsonl", lambda source: load_lama(source, "squad")),
        ("lama_conceptnet_subset/test.jsonl", lambda source: load_lama(source, "conceptnet")),
        ("bear/BEAR/P2.jsonl", load_bear),
        ("pararel/patterns/P2.jsonl", load_pararel),
        ("pararel/trex_lms_vocab/P2.jsonl", load_pararel),
    ],
)
@pytest.mark.parametrize("content", ["", "\n \n"])
def test_an_empty_file_is_named(name: str, load: Any, content: str, tmp_path: Path) -> None:
    """One relation's file without a line, beside others that have theirs, is an error and not a data set of one relation less."""
    trex(tmp_path, [RELATION, {**RELATION, "relation": "P2"}])
    write(tmp_path / "lama_trex" / "TREx" / "P2.jsonl", [FACT])
    for relation in ("place_of_birth", "date_of_birth", "place_of_death"):
        write(tmp_path / "lama_google_re" / f"{relation}_test.jsonl", [FACT])
    for folder in ("lama_squad", "lama_conceptnet_subset"):
        write(tmp_path / folder / "test.jsonl", [SENTENCE])
    bear(tmp_path, {**BEAR, "P2": BEAR["P1"]})
    write(tmp_path / "bear" / "BEAR" / "P2.jsonl", [PLACE])
    pararel(tmp_path)
    for folder in ("patterns", "trex_lms_vocab"):
        rows = (tmp_path / "pararel" / folder / "P1.jsonl").read_text(encoding="utf-8")
        (tmp_path / "pararel" / folder / "P2.jsonl").write_text(rows, encoding="utf-8")
    source = DataSource(directory=tmp_path)
    load(source)  # whole, it can be read
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load(source)
    assert str(caught.value) == f"{tmp_path / name}: file: got no line, expected at least one. Take it anew from its source."
