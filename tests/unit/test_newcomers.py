from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from made_settings import settings_with
from suite_files import read

import pytest_kick
from pytest_kick.newcomers import recordable, with_newcomers
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kick.spec import Case
    from pytest_kick.suite import Suite

ONE = """
schema = 1
models = ["tiny-decoder", "tiny-encoder"]
dense = false

[[compressions]]
method = "gptq"
bits = 3
source = "statements"
count = 9
propagate = "dense"
group = 32
"""
TWO = """
schema = 1
models = ["tiny-decoder", "tiny-encoder-decoder"]
dtype = "float32"
first_look = 50

[[budgets]]
bits = 4
drop = 0.1

[[budgets]]
method = "*"
retention = 0.8

[[compressions]]
method = "rtn"
bits = 4

[[compressions]]
method = ["rtn"]
scope = "ffn"
bits = 4
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test registers."""
    restore = METHODS.snapshot()
    yield
    restore()


@pytest.fixture
def suites(tmp_path: Path) -> list[Suite]:
    """Return two suites that share a model; the second has its dense cell."""
    return [read(tmp_path, ONE, "one"), read(tmp_path, TWO, "two")]


def register(**options: Any) -> None:
    """Register the method `mine`."""
    pytest_kick.method("mine", **options)(lambda weight, level, *, group=0: (weight, level, group))


def added(suites: list[Suite], **options: Any) -> list[Case]:
    """Return the cells that options bring."""
    found = with_newcomers(settings_with(**options), suites)
    assert [(suite.name, suite.path) for suite in found] == [(suite.name, suite.path) for suite in suites]
    before = {case.id for suite in suites for case in suite.cases}
    cases = [case for suite in found for case in suite.cases]
    assert before <= {case.id for case in cases}
    return [case for case in cases if case.id not in before]


def test_nothing_comes_unasked(suites: list[Suite]) -> None:
    """A registered method runs where `--kick-method` names it, and a built-in one that no suite names does not come by that."""
    register()
    assert added(suites) == []
    assert added(suites, method=("rtn", "wanda", "nobody")) == []
    assert added(suites, method=("m?ne",)) == added(suites, method=("mine",)) != []


def test_cells_are_those_of_a_suite_with_the_dense_cell(suites: list[Suite]) -> None:
    """Each model once: in the suite that has its dense cell, else in the first; with that suite's settings and matching budgets."""
    register(levels=(3, 4))
    found = {case.id: case for case in added(suites, method=("mine",))}
    assert list(found) == [
        "one--tiny-encoder--mine--overall--b3",
        "one--tiny-encoder--mine--overall--b4",
        "two--tiny-decoder--mine--overall--b3--float32",
        "two--tiny-decoder--mine--overall--b4--float32",
        "two--tiny-encoder-decoder--mine--overall--b3--float32",
        "two--tiny-encoder-decoder--mine--overall--b4--float32",
    ]
    assert all(case.unlisted for case in found.values())
    four, other = found["two--tiny-decoder--mine--overall--b4--float32"], found["one--tiny-encoder--mine--overall--b4"]
    assert {(budget.kind, budget.limit) for budget in four.budgets} == {("drop", 0.1), ("retention", 0.8)}
    assert (four.first_look, four.probes, four.dtype) == (50, ("facts",), "float32")
    assert (other.budgets, other.first_look, other.dtype) == ((), 0, "")


def test_only_suites_of_the_run_count(suites: list[Suite]) -> None:
    """A suite that is not run neither lends its settings nor names the method; families leave models out."""
    register(levels=(3,), families=("decoder",))
    assert [case.id for case in added(suites, method=("mine",), suite=("one",))] == ["one--tiny-decoder--mine--overall--b3"]
    assert [case.id for case in added(suites, method=("mine",))] == ["two--tiny-decoder--mine--overall--b3--float32"]


def test_the_dtype_that_it_runs_in(tmp_path: Path) -> None:
    """A newcomer has the dtype of its suite, in its id too; one that runs in float32 alone has that."""
    text = TWO.replace("float32", "bfloat16")
    for float32_only, dtype in ((False, "bfloat16"), (True, "float32")):
        register(levels=(4,), float32_only=float32_only)
        (suite,) = with_newcomers(settings_with(method=("mine",)), [read(tmp_path, text, "two")])
        assert {case.dtype for case in suite.cases if case.unlisted} == {dtype}


def test_a_method_that_a_suite_names_gets_no_more(tmp_path: Path, suites: list[Suite]) -> None:
    """Wherever a suite of the run names it, on whichever model; a suite that is left out does not count."""
    register()
    more = read(tmp_path, 'schema = 1\nmodels = ["tiny-encoder"]\n[[compressions]]\nmethod = "mine"\nbits = 5\n', "more")
    assert added([*suites, more], method=("mine",)) == []
    assert added([*suites, more], method=("mine",), suite=("two",)) != []


def test_a_calibrated_one_sees_the_data_of_the_others(suites: list[Suite]) -> None:
    """Its sequences are those of the first calibrated cell of its model; no other parameter is taken over."""
    pytest_kick.method("mine", levels=(3,))(lambda weight, level, *, inputs=None: (weight, level, inputs))
    ids = [case.cell for case in added(suites, method=("mine",))]
    data = "--source-statements--count-9--propagate-dense"
    assert ids == [f"mine--overall--b3{data}", f"mine--overall--b3{data}", "mine--overall--b3"]


def test_what_may_be_recorded(suites: list[Suite]) -> None:
    """Stored runs of registered methods belong to somebody wherever their model stands, whatever was asked for."""
    assert recordable(suites) == []
    register(levels=(3,))
    assert {(case.suite, case.model.name) for case in recordable(suites)} == {
        ("one", "tiny-decoder"),
        ("one", "tiny-encoder"),
        ("two", "tiny-decoder"),
        ("two", "tiny-encoder-decoder"),
    }
