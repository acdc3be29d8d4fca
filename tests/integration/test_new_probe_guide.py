"""The guide to a new probe does what it says: its files are written and its commands run, in the order of the page."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from test_new_method_guide import HEAD, blocks
from workspace import BASE, few_facts, last_line

from pytest_kick.infos import MeanKind
from pytest_kick.probing import Example, Kind
from pytest_kick.scaffold import write_suite

GUIDE = Path(__file__).parents[2] / "docs" / "new-probe.md"


@pytest.fixture
def directory(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory with the suite that `kick init` writes, and fewer facts."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(pytester.path)
    write_suite(Path("suites"))
    (pytester.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\n", encoding="utf-8")
    Path("suites/few.jsonl").write_text(few_facts(), encoding="utf-8")
    return pytester.path


@pytest.mark.usefixtures("recorded", "directory")  # what torch imports once has been imported then
def test_the_guide(pytester: pytest.Pytester) -> None:
    """Every file of the page is written, every pytest command ends with 0, and says the last line that the page says.

    Suites ask fewer facts, which changes no count of cells.
    """
    said, expected = "", []
    for path, language, content in blocks(GUIDE.read_text(encoding="utf-8")):
        if path:
            Path(path).write_text(content.replace(HEAD, f'{HEAD}facts = "few.jsonl"\n', 1), encoding="utf-8")
        for line in content.splitlines() if language == "bash" else ():
            command, *arguments = line.split()
            assert command == "pytest"
            result = pytester.runpytest_inprocess(*arguments, *BASE)
            assert result.ret == pytest.ExitCode.OK, line
            said = last_line(result)
        if language == "text" and content.startswith("kick: "):
            assert said == content.strip()
            expected.append(said)
    assert len(expected) == 3


def test_other_blocks_are_right() -> None:
    """The probe of the beginning has ten lines at most, and the entry point stands in the group that is looked up."""
    text = GUIDE.read_text(encoding="utf-8")
    first = next(content for path, _, content in blocks(text) if path == "suites/spoken.py")
    assert len(first.splitlines()) <= 10
    package = tomllib.loads(next(content for _, language, content in blocks(text.replace("\n  ", "\n")) if "entry-points" in content))
    assert package["project"]["entry-points"]["pytest_kick.probes"] == {"spoken": "my_package.probes:spoken"}


def test_the_tables_name_what_there_is() -> None:
    """Every field of an example, every argument of the decorator, and every kind of mean stands in the page."""
    text = GUIDE.read_text(encoding="utf-8")
    words = set(re.findall(r"`(\w+)", text))
    assert set(Example.__dataclass_fields__) <= words
    assert {*get_args(MeanKind), *get_args(Kind)} <= words
    assert {"name", "metric", "outcomes", "means", "examples", "closed", "families", "choices", "version"} <= words


def test_the_questions_are_valid_json() -> None:
    """Each line of the questions parses alone."""
    lines = next(content for path, _, content in blocks(GUIDE.read_text(encoding="utf-8")) if path == "suites/capitals.jsonl")
    assert [json.loads(line)["answer"] for line in lines.splitlines()][:2] == ["Paris", "Rome"]
