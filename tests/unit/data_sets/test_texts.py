"""Where the texts come from whose likelihood is measured."""

from __future__ import annotations

from importlib.resources import files
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.data_sets import source
from pytest_kick.data_sets.source import DataSource
from pytest_kick.data_sets.texts import read_passages
from pytest_kick.errors import DataError
from pytest_kick.facts import shipped_facts

if TYPE_CHECKING:
    from pathlib import Path


def hub(monkeypatch: pytest.MonkeyPatch, rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Put a stand-in for the hub in place; return a list that collects what was asked for."""
    asked: list[tuple[Any, ...]] = []

    def load(dataset: str, config: str | None, *, split: str) -> list[dict[str, Any]]:
        asked.append((dataset, config, split))
        return rows

    monkeypatch.setattr(source, "import_module", lambda _name: SimpleNamespace(load_dataset=load))
    return asked


def text_of(name: str, data: DataSource, most: int = 0) -> str:
    """Return a text that is one passage."""
    (passage,) = read_passages(name, data, most)
    return passage.text


def test_the_shipped_text_shares_no_paragraph_with_the_calibration_text() -> None:
    """What a calibrated method may have seen is not what it is judged on, whatever windows it drew."""
    seen = (files("pytest_kick") / "data" / "texts" / "calibration.txt").read_text(encoding="utf-8")
    paragraphs = [line for line in text_of("shipped", DataSource()).split("\n") if line]
    assert len(paragraphs) > 150
    assert not [line for line in paragraphs if line in seen and len(line.split()) > 4]


def test_statements_are_those_that_no_probe_asks() -> None:
    """Each is a passage of its own, grouped by its relation; none is a fact of kick-facts."""
    passages = read_passages("statements", DataSource())
    asked = {fact.id for fact in shipped_facts().facts}
    assert len(passages) == len({passage.id for passage in passages}) >= 400
    assert all(passage.text.endswith(".") for passage in passages)
    assert not {passage.id for passage in passages} & asked
    assert all(passage.id.startswith(f"{passage.group}/") for passage in passages)


def test_wikitext_is_read_from_the_directory(tmp_path: Path) -> None:
    """The file is taken as it stands."""
    (tmp_path / "wikitext-2").mkdir()
    (tmp_path / "wikitext-2" / "test.txt").write_text(" \n = Title = \n \n Text . \n", encoding="utf-8")
    assert text_of("wikitext-2", DataSource(directory=tmp_path)) == " \n = Title = \n \n Text . \n"


def test_wikitext_is_read_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory it is the raw test part, its lines joined as published perplexities have it."""
    asked = hub(monkeypatch, [{"text": ""}, {"text": " = Title = \n"}, {"text": " Text .\n"}])
    assert text_of("wikitext-2", DataSource()) == "\n\n = Title = \n\n\n Text .\n"
    assert asked == [("Salesforce/wikitext", "wikitext-2-raw-v1", "test")]


def test_a_file_is_text_or_jsonl(tmp_path: Path) -> None:
    """A byte order mark is no text; documents of a JSONL file have a blank line between them."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone two")
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "id": 3}\n', encoding="utf-8")
    assert text_of(f"path:{tmp_path / 'a.txt'}", DataSource()) == "one two"
    assert text_of(f"path:{tmp_path / 'a.jsonl'}", DataSource()) == "one\n\ntwo"


def test_a_data_set_is_read_as_far_as_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configuration and part are named in the reference; empty documents are left out."""
    asked = hub(monkeypatch, [{"text": "one "}, {"text": " "}, {"text": "two"}, {"text": "three"}])
    assert text_of("datasets:some/set#en@validation", DataSource(), 6) == "one\n\ntwo"
    assert text_of("datasets:some/set", DataSource()) == "one\n\ntwo\n\nthree"
    assert asked == [("some/set", "en", "validation"), ("some/set", None, "train")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("wikitext-2", None, "got no wikitext-2/test.txt"),
        ("path:{}/none.txt", None, "none.txt: text: got No such file or directory"),
        ("path:{}/a.txt", b"\xff\xfe\x00", "a.txt: text: got UnicodeDecodeError"),
        ("path:{}/a.txt", b" \n", "got no text"),
        ("path:{}/a.jsonl", b'{"text": "one"}\n{"txt": "two"}\n', "a.jsonl:2: text: got nothing"),
        ("path:{}/a.jsonl", b'{"text": 3}\n', "a.jsonl:1: text: got 3"),
        ("shiped", None, "text: name: got 'shiped'"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    """The line names the file, where there is one the line and the field, and what to do."""
    if content is not None:
        (tmp_path / name.rpartition("/")[2]).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_passages(name.format(tmp_path), DataSource(directory=tmp_path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_data_set_without_the_field_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one asked for offline."""
    hub(monkeypatch, [{"content": "one"}])
    with pytest.raises(DataError, match="datasets:some/set: text: got NoneType"):
        read_passages("datasets:some/set", DataSource())
    with pytest.raises(DataError, match="network: got --kick-offline"):
        read_passages("datasets:some/set", DataSource(offline=True))
