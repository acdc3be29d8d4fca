"""FreebaseQA, the reading data sets and documents, from made-up files in the layout of the published ones, and from a made-up hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets.documents import load_documents
from pytest_kick.data_sets.freebaseqa import load_freebaseqa
from pytest_kick.data_sets.reading import load_reading
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = 'Who lives in Kalo? | renzi \n"What is ""Mi""?" | a river\n\nWhat is 1 | 2? | three\nWho lives in Kalo? | tulo \n'
TRIVIA = {
    "question": "Who rules Kalo?",
    "question_id": "tc_1",
    "answer": {"value": "Renzi", "aliases": ["Renzi", "The Renzi"], "normalized_aliases": ["renzi"]},
    "entity_pages": {"wiki_context": ["Kalo is ruled by Renzi.", "Another page."]},
    "search_results": {"search_context": ["A page of the web."]},
}
SQUAD = {"id": "s1", "question": "Who rules?", "context": "Renzi rules.", "answers": {"text": ["Renzi", "Renzi"], "answer_start": [0, 0]}}


class Hub(DataSource):
    """Give rows by data set, and note what was asked for."""

    given: dict[tuple[str, str, str], list[dict[str, Any]]] = {}  # noqa: RUF012 - set by tests

    def rows(self, dataset: str, config: str = "", split: str = "test") -> Iterator[dict[str, Any]]:
        """Iterate over made-up rows."""
        yield from self.given[dataset, config, split]


def written(folder: Path, name: str, content: str) -> DataSource:
    """Write a file of a directory of data and return the source."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, "utf-8")
    return DataSource(directory=folder)


def lines(*rows: object) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_freebaseqa_is_read_line_by_line(tmp_path: Path) -> None:
    """The last bar divides, a spreadsheet's quotes are undone, and a question that is asked twice has the answers of both lines."""
    found = load_freebaseqa(written(tmp_path, "freebaseqa/FreebaseQA-eval.txt", TEXT))
    assert [(each.id, each.question, each.answers) for each in found] == [
        ("eval-1", "Who lives in Kalo?", ("renzi", "tulo")),
        ("eval-2", 'What is "Mi"?', ("a river",)),
        ("eval-4", "What is 1 | 2?", ("three",)),
    ]


def test_freebaseqa_takes_version_one_from_a_file_and_from_the_hub(tmp_path: Path) -> None:
    """JSON is taken before the text file; names of answers are collected from all parses, however deep the hub nests them."""
    parses = [
        {"Answers": [{"AnswersMid": "m.1", "AnswersName": ["renzi", "tulo"]}]},
        {"Answers": [{"AnswersMid": "m.2", "AnswersName": ["mi"]}]},
    ]
    row = {"Question-ID": "q-1", "RawQuestion": "Who?", "Parses": parses}
    written(tmp_path, "freebaseqa/FreebaseQA-dev.txt", TEXT)
    source = written(tmp_path, "freebaseqa/FreebaseQA-dev.json", json.dumps({"Dataset": "FreebaseQA-dev", "Questions": [row]}))
    nested = {"Answers": [{"AnswersMid": ["m.1"], "AnswersName": [["renzi", "tulo"]]}, {"AnswersMid": ["m.2"], "AnswersName": [["mi"]]}]}
    Hub.given = {("KelvinJiang/freebase_qa", "", "validation"): [row | {"Parses": nested}]}
    for found in (load_freebaseqa(source, "dev"), load_freebaseqa(Hub(), "dev")):
        assert [(each.id, each.question, each.answers) for each in found] == [("q-1", "Who?", ("renzi", "tulo", "mi"))]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("Who? | a\nno bar here\n", "FreebaseQA-eval.txt:2: question: got nothing"),
        ("Who? | \n", "FreebaseQA-eval.txt:1: answer: got nothing"),
        ("\n", "questions: got none"),
    ],
)
def test_a_broken_line_of_freebaseqa_is_named(content: str, expected: str, tmp_path: Path) -> None:
    """File, line and field stand in one line."""
    with pytest.raises(DataError) as error:
        load_freebaseqa(written(tmp_path, "freebaseqa/FreebaseQA-eval.txt", content))
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[]", "Questions: got TypeError"),
        ("{", "Questions: got JSONDecodeError"),
        ('{"Questions": [{"Question-ID": "a"}]}', "Questions[0]: RawQuestion: got nothing"),
        ('{"Questions": [{"Question-ID": "a", "RawQuestion": "b", "Parses": []}]}', "Questions[0]: AnswersName: got nothing"),
        ('{"Questions": [7]}', "Questions[0]: Question-ID: got nothing"),
    ],
)
def test_a_broken_json_of_freebaseqa_is_named(content: str, expected: str, tmp_path: Path) -> None:
    """So does a file that is no FreebaseQA."""
    with pytest.raises(DataError) as error:
        load_freebaseqa(written(tmp_path, "freebaseqa/FreebaseQA-eval.json", content))
    assert expected in str(error.value)


@pytest.mark.parametrize(("split", "file"), [("eval", "eval.txt"), ("dev", "dev.txt"), ("train", "train.json")])
def test_a_directory_without_the_file_names_it(split: str, file: str, tmp_path: Path) -> None:
    """What is missing is said with its path: a file that was published, and the training split never was as text."""
    with pytest.raises(DataError) as error:
        load_freebaseqa(DataSource(directory=tmp_path), split)
    assert f"got no freebaseqa/FreebaseQA-{file}, expected it there." in str(error.value)


def test_each_reading_data_set_is_read_from_the_directory(tmp_path: Path) -> None:
    """SQuAD with one answer or a list, NQ-open without ids or contexts, TriviaQA's two rows of one question as one."""
    host = {"id": "s2", "question": "Who rules?", "context": "Tulo rules.", "answer": "Tulo", "answer_span": [0, 4]}
    written(tmp_path, "squad_open_book/squad_sample.jsonl", lines(SQUAD, host))
    written(tmp_path, "nq_open/NQ-open.dev.jsonl", lines({"question": "who", "answer": ["a", "b"]}, {"question": "what", "answer": ["c"]}))
    bare = {**TRIVIA, "answer": {"value": "King Renzi", "aliases": []}, "entity_pages": {}, "search_results": {}}
    source = written(tmp_path, "triviaqa/validation.jsonl", lines(bare, TRIVIA))
    squad, nq, trivia = (load_reading(name, source) for name in ("squad", "nq_open", "triviaqa"))
    assert [(each.id, each.answers, each.context) for each in squad] == [
        ("s1", ("Renzi",), "Renzi rules."),
        ("s2", ("Tulo",), "Tulo rules."),
    ]
    assert [(each.id, each.answers, each.context) for each in nq] == [("line-1", ("a", "b"), ""), ("line-2", ("c",), "")]
    (only,) = trivia
    assert only.answers == ("King Renzi", "Renzi", "The Renzi", "renzi")
    assert only.context == "Kalo is ruled by Renzi.\n\nA page of the web."


def test_the_hub_and_files_of_ones_own_are_read_alike(tmp_path: Path) -> None:
    """Known ids of the hub, any data set of it, and JSON lines give the same questions."""
    path = tmp_path / "own.jsonl"
    path.write_text(lines({"id": 7, "question": "Who?", "answers": ["Renzi"], "context": "Renzi."}), "utf-8")
    pages = {"entity_pages": [{"wiki_context": "W."}], "search_results": [{"search_context": "S."}, {"search_context": "T."}]}
    Hub.given = {
        ("mandarjoshi/trivia_qa", "rc", "validation"): [TRIVIA | pages],
        ("rajpurkar/squad", "", "validation"): [SQUAD],
        ("a/b", "c", "train"): [SQUAD],
    }
    assert [each.id for each in load_reading(f"path:{path}", DataSource())] == ["7"]
    assert load_reading("triviaqa", Hub())[0].context == "W.\n\nS."
    assert load_reading("squad", Hub()) == load_reading("datasets:a/b#c@train", Hub())


@pytest.mark.parametrize("field", ["question", "answer"])
def test_a_missing_field_of_a_reading_data_set_is_named(field: str, tmp_path: Path) -> None:
    """File, line and field stand in the message."""
    row = {"question": "who", "answer": ["a"]}
    source = written(tmp_path, "nq_open/NQ-open.dev.jsonl", lines(row, {**row, field: []}))
    with pytest.raises(DataError, match=rf"NQ-open\.dev\.jsonl:2: {field}: got \[\], expected a text"):
        load_reading("nq_open", source)


def test_documents_are_read_from_files_and_from_the_hub(tmp_path: Path) -> None:
    """One's own fields and CNN/DailyMail's name the same things; documents without an id are named by their line."""
    path = tmp_path / "own.jsonl"
    path.write_text(lines({"document": " Long. ", "summary": "Short."}), "utf-8")
    row = {"id": "x", "article": "Long.", "highlights": "Short."}
    source = written(tmp_path, "cnn_dailymail/test.jsonl", lines(row))
    Hub.given = {("abisee/cnn_dailymail", "3.0.0", "test"): [row], ("a/b", "", "test"): [row]}
    found = [
        load_documents(name, data)[0]
        for name, data in ((f"path:{path}", source), ("cnn_dailymail", source), ("cnn_dailymail", Hub()), ("datasets:a/b", Hub()))
    ]
    assert [each.id for each in found] == ["line-1", "x", "x", "x"]
    assert {(each.text, each.summary) for each in found} == {("Long.", "Short.")}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"document": "a", "summary": "b"}, {"document": "a"}], ":2: summary: got nothing"),
        ([{"summary": "b"}], ":1: document: got nothing"),
        ([{"id": 1, "document": "a", "summary": "b"}] * 2, ":2: id: got '1' a second time"),
        ([{"id": "", "document": "a", "summary": "b"}], ':1: id: got "", expected a text or a number. Correct it, or leave'),
        ([{"id": ["x"], "document": "a", "summary": "b"}], ':1: id: got ["x"], expected a text or a number.'),
        ([["a"]], ':1: line: got ["a"], expected a JSON object. Write it as {"document": "...", "summary": "..."}.'),
        ([], "documents: got none"),
    ],
)
def test_what_is_wrong_with_documents_is_named(rows: list[Any], expected: str, tmp_path: Path) -> None:
    """File, line and field stand in the message."""
    path = tmp_path / "own.jsonl"
    path.write_text(lines(*rows), "utf-8")
    with pytest.raises(DataError) as error:
        load_documents(f"path:{path}", DataSource())
    assert expected in str(error.value)


def test_two_questions_of_one_id_are_refused(tmp_path: Path) -> None:
    """In FreebaseQA's JSON an id names one question."""
    parses = [{"Answers": [{"AnswersName": ["a"]}]}]
    rows = [{"Question-ID": "q", "RawQuestion": text, "Parses": parses} for text in ("Who?", "What?")]
    with pytest.raises(DataError, match="id: got 'q' for 2 questions"):
        load_freebaseqa(written(tmp_path, "freebaseqa/FreebaseQA-eval.json", json.dumps({"Questions": rows})))


PARIS = {"id": "1", "question": "Capital of France?", "answers": ["Paris"]}
OWN_FAULTS: list[tuple[Any, str]] = [
    (
        {"id": "1", "question": "Capital of Italy?", "answers": ["Rome"]},
        "id: got '1' a second time with another question, expected an id of",
    ),
    ({"id": 1, "question": "Capital of Italy?", "answers": ["Rome"]}, "id: got '1' a second time with another question"),
    (PARIS | {"id": ""}, 'id: got "", expected a text or a number. Correct it, or leave'),
    (PARIS | {"id": " "}, 'id: got " ", expected a text or a number.'),
    (PARIS | {"id": True}, "id: got true, expected a text or a number."),
    (PARIS | {"answers": ["x", 1969]}, 'answers: got ["x", 1969], expected a text or a list of texts.'),
    (PARIS | {"answers": [1969]}, "answers: got [1969], expected a text or a list of texts."),
    (PARIS | {"answers": 1969}, "answers: got 1969, expected a text or a list of texts."),
    (PARIS | {"answers": ["x", None]}, 'answers: got ["x", null], expected a text or a list of texts.'),
    (PARIS | {"answers": [" "]}, 'answers: got [" "], expected a text or a list of texts.'),
    (PARIS | {"answers": None}, "answers: got nothing, expected a text or a list of texts."),
    (PARIS | {"answer": "Rome"}, 'answer: got "Rome", expected either answer or answers. Put all into answers.'),
    (PARIS | {"question": 7}, "question: got 7, expected a text."),
    (PARIS | {"context": ["x"]}, 'context: got ["x"], expected a text. Correct it.'),
    (
        PARIS | {"contexts": "x"},
        """contexts: got "x", expected one of the fields id, question, answers, context. Did you mean 'context'?.""",
    ),
    ([1], 'line: got [1], expected a JSON object. Write it as {"question": "...", "answers": ["..."]}.'),
]


@pytest.mark.parametrize(("row", "expected"), OWN_FAULTS)
def test_what_is_wrong_with_questions_of_ones_own_is_named(row: object, expected: str, tmp_path: Path) -> None:
    """Nothing is dropped or mixed up in silence: file, line and field stand in one line."""
    path = tmp_path / "own.jsonl"
    path.write_text(lines(PARIS, row), "utf-8")
    with pytest.raises(DataError) as error:
        load_reading(f"path:{path}", DataSource())
    assert str(error.value).startswith(f"{path}:2: {expected}")
    assert "\n" not in str(error.value)


def test_one_question_of_ones_own_may_have_several_lines(tmp_path: Path) -> None:
    """The same id and question join their answers; lines without an id stay apart, be they asked in the same words."""
    path = tmp_path / "own.jsonl"
    bare = {"question": "Which?", "answers": ["a"]}
    path.write_text(lines(PARIS, PARIS | {"answers": ["Lutetia"], "context": "C."}, bare, bare), "utf-8")
    found = load_reading(f"path:{path}", DataSource())
    assert [(each.id, each.answers, each.context) for each in found] == [
        ("1", ("Paris", "Lutetia"), "C."),
        ("line-3", ("a",), ""),
        ("line-4", ("a",), ""),
    ]


@pytest.mark.parametrize("row", [TRIVIA, SQUAD, {"question": "who", "answer": ["a", "b"]}])
def test_a_file_of_ones_own_may_have_a_published_layout(row: dict[str, Any], tmp_path: Path) -> None:
    """What the hub gives and what a file holds are the same questions."""
    path = tmp_path / "own.jsonl"
    path.write_text(lines(row), "utf-8")
    Hub.given = {("a/b", "", "validation"): [row]}
    assert load_reading(f"path:{path}", DataSource()) == load_reading("datasets:a/b", Hub())


def test_one_id_of_two_questions_is_refused_from_the_hub_too() -> None:
    """Data sets of the hub name the row."""
    Hub.given = {("a/b", "", "validation"): [SQUAD, SQUAD | {"question": "Who else?"}]}
    with pytest.raises(DataError, match=r"^datasets:a/b: row 1: id: got 's1' a second time with another question"):
        load_reading("datasets:a/b", Hub())
