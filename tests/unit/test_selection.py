from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from made_settings import settings_with
from suite_files import CELL, HEAD, read

from pytest_kick.errors import UsageError
from pytest_kick.selection import check_filters, left_out, level_names, select, takes, touched_directories, without_effect

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.suite import Suite

INT8 = '[[compressions]]\nmethod = "dynamic_int8"\n'
CHAIN = '[[compressions]]\nchain = [{ method = "l1_global", sparsity = 0.3 }, { method = "dynamic_int8" }]\n'


@pytest.fixture
def suites(tmp_path: Path) -> tuple[Suite, ...]:
    """Return a default suite, one to be named, and one of the hub."""
    encoder = HEAD.replace("decoder", "encoder")
    return (
        read(tmp_path, HEAD + CELL + INT8 + CHAIN, "main"),
        read(tmp_path, encoder + "default = false\n" + CELL, "named"),
        read(tmp_path, encoder + "hub = true\n" + CELL, "far"),
    )


def cells(suites: tuple[Suite, ...], **options: Any) -> list[str]:
    """Return what a run with these options takes, checked first."""
    settings = settings_with(**options)
    check_filters(settings, suites)
    return [case.id.replace("l1_global--overall", "l1").replace("dynamic_int8--overall", "q") for case in select(settings, suites)]


def test_models_on_request_run_where_they_are_named(tmp_path: Path) -> None:
    """A model on request has cells, which `--kick-model` takes; without it a run takes none of them, and none is counted."""
    suite = read(tmp_path, HEAD + 'on_request = ["gemma3-270m"]\n' + CELL, "main")
    assert {name.split("--")[1] for name in cells((suite,))} == {"tiny-decoder"}
    assert {name.split("--")[1] for name in cells((suite,), model=("gemma*",))} == {"gemma3-270m"}
    assert "main (2 cells" in left_out(settings_with(suite=()), [replace(suite, default=False)])


MAIN = ["main--tiny-decoder--dense", "main--tiny-decoder--l1--s0.2", "main--tiny-decoder--q--b8", "main--tiny-decoder--l1--s0.3+q--b8"]


def test_what_runs_by_default(suites: tuple[Suite, ...]) -> None:
    """Default suites run; one of the hub does not, whatever its `default` says, unless it is named or the hub is allowed."""
    assert cells(suites) == MAIN
    assert [takes(settings_with(), suite) for suite in suites] == [True, False, False]
    assert [takes(settings_with(hub=True), suite) for suite in suites] == [True, False, True]
    assert [takes(settings_with(suite=("far",)), suite) for suite in suites] == [False, False, True]
    assert [takes(settings_with(suite=("n*", "m*")), suite) for suite in suites] == [True, True, False]


def test_what_is_left_out_is_said(suites: tuple[Suite, ...]) -> None:
    """One line names the suites that are not run and the option for each; naming suites needs no such line."""
    assert left_out(settings_with(), suites) == "not run by default: named (2 cells: --kick-suite named), far (2 cells: --kick-hub)"
    assert left_out(settings_with(hub=True), suites) == "not run by default: named (2 cells: --kick-suite named)"
    assert left_out(settings_with(suite=("main",)), suites) == ""
    assert left_out(settings_with(), suites[:1]) == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": ("dynamic_int8",)}, [0, 2, 3]),
        ({"method": ("l1_*",)}, [0, 1, 3]),
        ({"method": ("dense",)}, [0]),
        ({"method": ("dense", "l1_*")}, [0, 1, 3]),
        ({"level": ("0.2",)}, [0, 1]),
        ({"level": ("s0.2",)}, [0, 1]),
        ({"level": ("8",)}, [0, 2, 3]),
        ({"level": ("b*",)}, [0, 2, 3]),
        ({"level": ("0.2", "0.3")}, [0, 1, 3]),
        ({"level": ("0.*",), "method": ("dynamic_int8",)}, [0, 3]),
        ({"model": ("tiny-*",)}, [0, 1, 2, 3]),
    ],
)
def test_filters(suites: tuple[Suite, ...], options: dict[str, Any], expected: list[int]) -> None:
    """Each filter is a glob, several of one kind add up, of different kinds all hold, and the dense cells stay."""
    assert cells(suites, **options) == [MAIN[i] for i in expected]


def test_spellings_of_levels(suites: tuple[Suite, ...]) -> None:
    """A level is named with and without its letter."""
    steps = [case.compression.steps[-1] for case in suites[0].cases if not case.is_dense]
    assert [level_names(step) for step in steps] == [("s0.2", "0.2"), ("b8", "8"), ("b8", "8")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suite": ("mian",)}, r"--kick-suite: suite: got 'mian', which matches nothing in the suites\. Did you mean 'main'\?"),
        ({"model": ("tiny-decodr",)}, r"--kick-model: model: got 'tiny-decodr', .* Did you mean 'tiny-decoder'\?"),
        ({"method": ("l1_globl",)}, r"--kick-method: method: got 'l1_globl', .* Did you mean 'l1_global'\?"),
        ({"level": ("0.20",)}, r"--kick-level: level: got '0\.20', .* Did you mean '0\.2'\?"),
        ({"level": ("0.2", "0.9")}, r"--kick-level: level: got '0\.9', "),
        ({"level": ("20",)}, r"--kick-level: level: got '20', "),
    ],
)
def test_a_filter_that_matches_nothing(suites: tuple[Suite, ...], options: dict[str, Any], message: str) -> None:
    """A filter that no suite answers is one line with the nearest name."""
    with pytest.raises(UsageError, match=f"^{message}"):
        cells(suites, **options)


def test_filters_that_leave_nothing_together(suites: tuple[Suite, ...]) -> None:
    """Filters that match one by one but select no cell together are refused: the run would pass."""
    given = "--kick-suite main --kick-model tiny-encoder"
    rule = rf"^suites: cells: got none that match {given} at once, expected at least one\. Loosen a filter\.$"
    with pytest.raises(UsageError, match=rule):
        cells(suites, suite=("main",), model=("tiny-encoder",))
    with pytest.raises(UsageError, match="got none that match --kick-model tiny-encoder at once"):
        cells(suites, model=("tiny-encoder",))
    assert len(cells(suites, model=("tiny-encoder",), suite=("named",))) == 2


def test_filters_that_leave_only_dense_cells(suites: tuple[Suite, ...]) -> None:
    """A method and a level that no cell has both of would leave the dense cells alone, which compress nothing: refused."""
    with pytest.raises(UsageError, match=r"^suites: cells: got only dense ones that match .* at once, expected a compressed one\."):
        cells(suites, method=("dynamic_int8",), level=("0.2",))
    assert cells(suites[:1], model=("tiny-decoder",)) == MAIN


def test_suites_that_never_run_by_default(suites: tuple[Suite, ...]) -> None:
    """Without a filter, suites that must be named are no mistake: a test module may name one by its mark."""
    assert cells(suites[1:]) == []


def test_suites_are_checked_against_each_other(suites: tuple[Suite, ...], tmp_path: Path) -> None:
    """Suites of several directories go by name too: two of one name are refused."""
    (tmp_path / "other").mkdir()
    twin = read(tmp_path / "other", HEAD, "main")
    with pytest.raises(UsageError, match="name: got 'main', which is another one in"):
        cells((*suites, twin))


def test_budgets_that_judge_nothing_are_named(tmp_path: Path) -> None:
    """A limit that more specific ones replace on every cell is named; one that holds somewhere, or of another kind, is not."""
    budgets = "[[budgets]]\nretention = 0.5\ndrop = 0.3\n\n[[budgets]]\nsparsity = 0.2\nretention = 0.9\n"
    suite = read(tmp_path, HEAD + CELL + budgets)
    says = "suites/a.toml: budgets[0]: retention:p1 0.5 judges no cell: more specific budgets hold wherever it matches"
    assert without_effect([suite]) == [says]
    assert without_effect([read(tmp_path, HEAD + CELL.replace("0.2", "[0.1, 0.2]") + budgets)]) == []
    assert without_effect([read(tmp_path, HEAD + CELL)]) == []


def test_only_touched_directories_are_read(tmp_path: Path) -> None:
    """Arguments that lie in a suite directory, or above it, touch it; others leave it unread."""
    for name in ("suites", "tests", "more"):
        (tmp_path / name).mkdir()
    settings = settings_with(rootdir=tmp_path, suites=("suites", "more", "missing"))

    def touched(*args: str) -> list[str]:
        return [path.name for path in touched_directories(settings, args, tmp_path)]

    assert touched("suites") == ["suites"]
    assert touched("suites/test_suites.py::test_cell[a--b]") == ["suites"]
    assert touched(str(tmp_path)) == ["suites", "more"]
    assert touched("tests") == []
    assert touched("tests", "more/") == ["more"]
