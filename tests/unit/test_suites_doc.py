from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_kick.budget import _MATCH, KINDS
from pytest_kick.spec import DTYPES
from pytest_kick.suite import _SUITE_KEYS, read_suite

TEXT = (Path(__file__).parents[2] / "docs" / "suites.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
N_CELLS = [7, 3, 28, 6, 10]


@pytest.mark.parametrize("i", range(len(N_CELLS)))
def test_examples_read(tmp_path: Path, i: int) -> None:
    """Every example of the page is a suite, of as many cells as it should have."""
    path = tmp_path / "example.toml"
    path.write_text(EXAMPLES[i], encoding="utf-8")
    assert len(read_suite(path).cases) == N_CELLS[i]


def test_no_example_is_left_out() -> None:
    """An example added to the page must be added here."""
    assert len(EXAMPLES) == len(N_CELLS)


def test_every_key_is_described() -> None:
    """The page has a row for each key of a suite, and names each key of a budget and each dtype."""
    for key in _SUITE_KEYS:
        assert f"| `{key}` |" in TEXT
    for key in (*KINDS, *_MATCH, *DTYPES):
        assert f"`{key}`" in TEXT


def test_the_budgets_of_the_example(tmp_path: Path) -> None:
    """The example on specificity gives each cell the limits that the page says."""
    path = tmp_path / "example.toml"
    path.write_text(EXAMPLES[-1], encoding="utf-8")
    limits = {case.id: {budget.kind: budget.limit for budget in case.budgets} for case in read_suite(path).cases}
    assert limits["example--tiny-decoder--l1_global--ffn--s0.1"] == {"retention": 0.9, "drop": 0.3}
    assert limits["example--tiny-decoder--l1_global--ffn--s0.2"] == {"retention": 0.7, "drop": 0.3}
    assert limits["example--tiny-encoder--l1_global--ffn--s0.2"] == {"retention": 0.5, "drop": 0.3}
    assert limits["example--tiny-encoder--dense"] == {}
