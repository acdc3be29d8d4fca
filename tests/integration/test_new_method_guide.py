"""The guide to a new method does what it says: its files are written and its commands run, in the order of the page."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from workspace import BASE, few_facts, last_line

from pytest_kick.scaffold import write_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

GUIDE = Path(__file__).parents[2] / "docs" / "new-method.md"
README = GUIDE.parents[1] / "README.md"
BLOCK = re.compile(r"^(?:`([\w./]+)`:\n\n)?```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEAD = "schema = 1\n"


def blocks(text: str) -> Iterator[tuple[str, str, str]]:
    """Return (file that it stands for, language, content) of each block of a page."""
    for found in BLOCK.finditer(text):
        yield found.group(1) or "", found.group(2), found.group(3)


@pytest.mark.usefixtures("recorded")  # what torch imports once has been imported then
def test_the_guide(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the page is written, every pytest command ends with 0, and says the last line that the page says.

    Suites ask fewer facts, which changes no count of cells.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(pytester.path)
    write_suite(Path("suites"))
    (pytester.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\n", encoding="utf-8")
    Path("suites/few.jsonl").write_text(few_facts(), encoding="utf-8")
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
    assert len(expected) == 4


def test_other_blocks_are_right() -> None:
    """The job of CI runs the gate, and the entry point stands in the group that is looked up."""
    found = [(language, content) for path, language, content in blocks(GUIDE.read_text(encoding="utf-8").replace("\n  ", "\n")) if not path]
    job = next(content for language, content in found if language == "yaml")
    assert "run: pytest suites/ -n 4" in job
    package = tomllib.loads(next(content for language, content in found if language == "toml" and "entry-points" in content))
    assert package["project"]["entry-points"]["pytest_kick.methods"] == {"my_quant": "my_package.quant:my_quant"}


def test_the_five_lines_of_the_readme_are_those_of_the_guide() -> None:
    """The README shows the method that the guide begins with."""
    first = next(content for path, _, content in blocks(GUIDE.read_text(encoding="utf-8")) if path == "suites/my_quant.py")
    assert first in README.read_text(encoding="utf-8")
    code = [line for line in first.splitlines() if line.strip() and not line.startswith("import")]
    assert len(code) <= 5
