"""The page on methods is complete: a row for each, with its levels and its parameters as they are by default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_kick.registry import METHODS, MethodInfo
from pytest_kick.suite import read_suite
from tools import methods_table

TEXT = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
ROWS = {name: (level, params) for name, level, params in re.findall(r"^\| `(\w+)` \| ([^|]*) \| ([^|]*) \|$", TEXT, flags=re.MULTILINE)}
BUILTIN = [info for info in METHODS if info.target.startswith("pytest_kick.")]


def toml(value: object) -> str:
    """Write a value as suites do."""
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def test_every_method_has_a_row() -> None:
    """The table names the built-in methods, each once, and no others."""
    assert sorted(ROWS) == sorted(info.name for info in BUILTIN)


@pytest.mark.parametrize("info", BUILTIN, ids=lambda info: info.name)
def test_a_row_is_right(info: MethodInfo) -> None:
    """It has the levels, every parameter with its default, and the other values of closed sets."""
    level, params = ROWS[info.name]
    assert level == (f"{', '.join(map(str, info.bits))} bits" if info.bits else " or ".join((info.level, *info.also)))
    shared = TEXT[TEXT.index("The calibration of") :] if "and the calibration" in params else ""
    for key, default in info.params:
        assert f"`{key} = {toml(default)}`" in params + shared
    if not shared:
        for _, values in info.choices:
            assert all(toml(value) in params for value in values)


def test_the_examples_read(tmp_path: Path) -> None:
    """Each example is a suite of as many cells as its lists make, one more per model for the dense one."""
    sizes = []
    for number, example in enumerate(re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)):
        path = tmp_path / f"example{number}.toml"
        path.write_text(example, encoding="utf-8")
        sizes.append(len(read_suite(path).cases))
    assert sizes == [1 + 2 * 3 * 2 + 2 + 1, 3 * (1 + 3 + 2 * 2), 1 + 2 + 3 + 2]


def test_the_figures_are_those_of_the_stored_runs() -> None:
    """The table of figures is what the command prints, to the letter."""
    assert methods_table.BEGIN + methods_table.table() + methods_table.END in TEXT
