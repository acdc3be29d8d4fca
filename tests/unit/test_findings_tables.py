"""The page of findings is filled by a command: its tables between two marks, an answer for every claim."""

from __future__ import annotations

import pytest
from test_claims import SCOPES, Model, falling

from pytest_kick.claims import decide
from pytest_kick.claims.finding import STATEMENTS
from tools.findings_tables import MARKS, PAGE, overview, put, text_of


def test_every_claim_has_a_row() -> None:
    """The overview has a column for each model and a row for each claim; arms that differ are counted, no finding is a dash."""
    cells = [c for name in ("one", "two") for c in Model(400, name=name).grid({s: falling(0.4 if s == "ffn" else 0.8) for s in SCOPES})]
    rows = overview(decide(cells)).splitlines()
    assert rows[0] == "| claim | one | two |"
    assert len(rows) == 2 + len(STATEMENTS)
    assert rows[3] == f"| C2: {STATEMENTS['C2']} | holds 2, does not hold 1 | holds 2, does not hold 1 |"
    assert rows[5].endswith(" | - | - |")
    assert text_of(decide(cells)).count("## C2: ") == 1


def test_tables_go_between_the_marks() -> None:
    """What stands there is replaced, twice gives the same, what stands around it stays; without a mark nothing is written."""
    page = f"head\n{MARKS[0]}old\n{MARKS[1]}tail\n"
    written = put(page, "new")
    assert written == f"head\n{MARKS[0]}\nnew\n\n{MARKS[1]}tail\n"
    assert put(written, "new") == written
    with pytest.raises(SystemExit, match="without its two marks"):
        put("head\n", "new")
    assert put(PAGE.read_text(encoding="utf-8"), "new").count("new") >= 1
