"""The page of faults names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [line for line in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8").splitlines() if "`tests/" in line]


@pytest.mark.parametrize("row", ROWS)
def test_a_fault_has_its_test(row: str) -> None:
    """The last column is a test in a file of the project."""
    found = re.fullmatch(r"\|[^|]+\|[^|]+\| `(tests/[\w/]+\.py)::(test_\w+)` \|", row)
    assert found is not None
    assert f"\ndef {found[2]}(" in (ROOT / found[1]).read_text(encoding="utf-8")


def test_all_rows_are_read() -> None:
    """None is left out for its form."""
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    assert len(ROWS) == sum(line.startswith("| ") and not line.startswith("| seen") for line in text.splitlines())
