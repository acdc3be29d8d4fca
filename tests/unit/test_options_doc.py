from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_kick.options import DEVICES, OPTIONS, Option

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "options.md").read_text(encoding="utf-8")
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| `--kick-([a-z-]+)` \| (.*?) \| (.*?) \| (.*) \|$", TEXT, flags=re.MULTILINE)}


def test_the_table_is_complete() -> None:
    """The table of options lists every option, in the order of `--help`, and none that is gone."""
    assert list(ROWS) == [option.name for option in OPTIONS]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_row_says_what_is_so(option: Option) -> None:
    """Choices stand there in full, in order; the default is the one in force; what repeats and what is a flag is called so."""
    values, default, _ = ROWS[option.name]
    if option.choices:
        assert values == ", ".join(f"`{choice}`" for choice in option.choices)
        assert default == f"`{option.default}`"
    elif option.default is False:
        assert (values, default) == ("flag", "off")
    elif option.values > 1:
        assert values == "URL and model"
    elif isinstance(option.default, tuple):
        assert "repeatable" in values
    elif option.default != "":
        assert default.strip("`").partition(":")[0] == str(option.default)
    if option.name == "device":
        assert values.startswith(", ".join(f"`{device}`" for device in DEVICES))


@pytest.mark.parametrize("word", ["pass", "fail", "inconclusive", "error", "skipped", "unjudged"])
def test_words_of_the_last_line(word: str) -> None:
    """Each word that the last line may count is explained."""
    assert re.search(rf"^\| `{word}` \| ", TEXT, flags=re.MULTILINE)


@pytest.mark.parametrize("word", ["MISSING", "STALE", "UNJUDGED", "SKIPPED", "ERROR"])
def test_words_of_the_table(word: str) -> None:
    """Each word that the table shows instead of numbers is explained."""
    assert re.search(rf"^\| {word} \| ", (DOCS / "verdicts.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
