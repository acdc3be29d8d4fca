from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
from workspace import CELLS, COMPRESSIONS, last_line, scores

from pytest_kick import runner
from pytest_kick.models import cache, device

if TYPE_CHECKING:
    from workspace import Workspace


def cells(document: dict[str, Any]) -> list[str]:
    """Return the cells of a run, without suite and model."""
    return [cell["id"].partition("decoder--")[2] for cell in document["cells"]]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--kick-level", "0.1"), ("dense", "l1_global--attention--s0.1", "l1_global--overall--s0.1")),
        (("--kick-level", "s0.6", "--kick-method", "l1_*"), ("dense", "l1_global--attention--s0.6", "l1_global--overall--s0.6")),
        (("--kick-model", "tiny-*"), CELLS),
        (("--kick-suite", "m?ni"), CELLS),
    ],
    ids=str,
)
def test_filters(workspace: Workspace, args: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Filters take globs and leave the cells they name, the dense one with them."""
    assert tuple(cells(workspace.document(*args))) == expected


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--kick-model", "tiny-decodr"), "--kick-model: model: got 'tiny-decodr', *Did you mean 'tiny-decoder'?*"),
        (("--kick-method", "l1_globl"), "--kick-method: method: got 'l1_globl', *Did you mean 'l1_global'?*"),
        (("--kick-level", "0.7"), "--kick-level: level: got '0.7', *"),
        (("--kick-suite", "max"), "--kick-suite: suite: got 'max', *"),
        (("--kick-dtype", "float16"), "--kick-dtype: value: got 'float16', expected one of *"),
        (("--kick-confidence", "95"), "--kick-confidence: value: got 95.0, expected a fraction in *"),
        (("--kick-missing", "skp"), "--kick-missing: value: got 'skp', *Did you mean 'skip'?*"),
        (("--kick-limit", "-1"), "--kick-limit: value: got -1, expected 0 or more.*"),
        (("--kick-device", "gpu"), "--kick-device: value: got 'gpu', expected one of *"),
        (("--kick-device", "mps:7"), "--kick-device: device: got 'mps:7', expected one of those that torch * finds here: cpu*"),
        (("--kick-device", "mps:7", "-n2"), "--kick-device: device: got 'mps:7', expected one of those that torch * finds here: cpu*"),
        (("-o", "kick_inconclusive=maybe"), "ini kick_inconclusive: value: got 'maybe', expected one of *"),
        (("-o", "kick_limit=x"), "ini kick_limit: value: got what pytest cannot read (*'x'), expected a whole number. Correct it."),
        (("-o", "kick_hub=x"), "ini kick_hub: value: got what pytest cannot read (*'x'), expected true or false. Correct it."),
        (("-o", "kick_suites=suits"), "ini kick_suites: directory: got 'suits', *, expected a directory of suites. Correct it."),
        (("--kick-json", "suites"), "--kick-json: path: got a directory, expected a file in a place to write to: *"),
        (("--kick-plan", "--kick-json", "pytest.ini/run.json"), "--kick-json: path: got pytest.ini, which is no directory, *"),
    ],
    ids=str,
)
def test_wrong_values_end_the_run_in_one_line(workspace: Workspace, args: tuple[str, ...], says: str) -> None:
    """A wrong option or ini value is one line and exit code 4, before anything is collected."""
    result = workspace.run(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.errlines if line.strip()]
    assert len(errors) == 1
    result.stderr.fnmatch_lines([f"ERROR: {says}"])


def test_a_device_is_looked_for_when_cells_are_measured_only(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting and planning for a device that another machine has is fine, and imports no torch for it."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(device, "check_device", refuse)
    for option in ("--collect-only", "--kick-plan"):
        assert workspace.run("--kick-device", "cuda:7", "--kick-dtype", "float32", option).ret == 0


def test_a_sample_is_judged_against_the_same_facts(workspace: Workspace) -> None:
    """`--kick-limit` measures a sample and holds it against the same ids of the full baseline; another seed takes others."""
    document = workspace.document("--kick-limit", "60")
    for cell in document["cells"]:
        assert cell["outcome"] == "pass"
        assert cell["measurement"]["scores"][0]["n"] == 60
        assert cell["verdict"]["regressions"][0]["word"] == "UNCHANGED"
    other = workspace.document("--kick-limit", "60", "--kick-seed", "1")
    lost = [[record["lost"] for cell in run["cells"] for record in cell["verdict"]["retentions"]] for run in (document, other)]
    assert lost[0] != lost[1]


def test_batch_size_and_threads_do_not_matter(workspace: Workspace) -> None:
    """In float32 another batch size or another number of threads changes no answer, and is only noted."""
    plain = scores(workspace.document("-k", "overall--s0.6"))
    for args in (("--kick-batch-size", "3"), ("--kick-threads", "2")):
        assert scores(workspace.document("-k", "overall--s0.6", *args)) == plain


def test_dtypes_have_baselines_of_their_own(workspace: Workspace) -> None:
    """bfloat16 is not held against float32: its own stored run is missing; recorded, it is green beside the other."""
    result = workspace.run("-k", "dense", "--kick-dtype", "bfloat16")
    result.stdout.fnmatch_lines(["baselines/tiny-decoder--few/bfloat16/dense.json: baseline: got none (missing): *"])
    workspace.run("-k", "dense", "--kick-dtype", "bfloat16", "--kick-update").assert_outcomes(passed=1)
    workspace.run("-k", "dense", "--kick-dtype", "bfloat16").assert_outcomes(passed=1)
    workspace.run("-k", "dense").assert_outcomes(passed=1)


def test_ini_twins(workspace: Workspace) -> None:
    """Options may stand in the ini file; the command line wins."""
    lines = [
        "kick_dtype = float32",
        "kick_level = 0.1",
        "kick_confidence = 0.9",
        "kick_limit = 60",
        "kick_json = ini.json",
        "kick_threads = 1",
    ]
    (workspace.path / "pytest.ini").write_text("\n".join(["[pytest]", *lines, ""]), encoding="utf-8")
    assert workspace.run("--kick-limit", "50").ret == 0
    document = workspace.read("ini.json")
    assert len(document["cells"]) == 3
    assert {cell["measurement"]["scores"][0]["n"] for cell in document["cells"]} == {50}
    assert document["options"]["confidence"] == 0.9


def test_plan_loads_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--kick-plan` shows the cells, what their budgets can detect and the time, and runs nothing."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a plan must not load a model")

    monkeypatch.setattr(runner.Runner, "__init__", refuse)
    monkeypatch.setattr(cache.ModelCache, "get", refuse)
    result = workspace.run("--kick-plan")
    assert result.ret == 0
    result.stdout.re_match_lines(
        [
            r"mini--tiny-decoder--dense: no budget",
            r"mini--tiny-decoder--l1_global--attention--s0\.1: retention:p1 0\.9 \(detects a loss of 0\.\d{3} at n=120\)",
            r"kick: 5 cells, about 0\.\d min of work on the machine that recorded them, 0 never recorded",
        ]
    )
    shutil.rmtree(workspace.path / "baselines")
    result = workspace.run("--kick-plan", "--kick-level", "0.1")
    result.stdout.fnmatch_lines(
        ["*retention:p1 0.9 (no dense baseline yet)", "kick: 3 cells, time unknown: nothing recorded yet, 3 never recorded"]
    )


def test_a_shadowed_budget_is_told(workspace: Workspace) -> None:
    """A budget that judges no cell, since more specific ones hold, is one line in the header and one in the plan."""
    workspace.suite("[[budgets]]\nretention = 0.5\n\n[[budgets]]\nsparsity = [0.1, 0.6]\nretention = 0.4\n")
    says = "suites/mini.toml: budgets[[]0]: retention:p1 0.5 judges no cell: more specific budgets hold wherever it matches"
    workspace.run("-k", "dense").stdout.fnmatch_lines([f"kick: {says}"])
    workspace.run("--kick-plan").stdout.fnmatch_lines([f"note: {says}"])


def test_offline(workspace: Workspace) -> None:
    """A hub model that is in no cache is an error of the cell in one line under `--kick-offline`, and no network is tried."""
    model = '{ name = "hubbed", family = "decoder", source = "hub:no-such-org/no-such-model" }'
    workspace.suite("", old='models = ["tiny-decoder"]', new=f"models = [{model}]\nhub = true")
    assert workspace.run().ret != 0  # not run by default: nothing would be tested
    result = workspace.run("--kick-hub", "--kick-offline", "--kick-missing", "warn", "-k", "dense")
    result.assert_outcomes(errors=1)
    start = next(i for i, line in enumerate(result.outlines) if "ERROR at setup" in line)
    assert "no-such-org/no-such-model" in result.outlines[start + 1]
    assert result.outlines[start + 2].startswith("====")


def test_suites_left_out_are_told(workspace: Workspace) -> None:
    """What does not run by default is named in the header with the option that runs it; `--kick-suite` alone runs it alone."""
    more = 'schema = 1\ndefault = false\nfacts = "few.jsonl"\nmodels = ["tiny-decoder"]\n' + COMPRESSIONS
    (workspace.path / "suites" / "more.toml").write_text(more, encoding="utf-8")
    result = workspace.run("-k", "dense")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["kick: not run by default: more (5 cells: --kick-suite more)"])
    workspace.run("-k", "dense", "--kick-suite", "more").stdout.fnmatch_lines(["*1 passed*"])


def test_a_cell_in_two_suites_is_measured_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two suites that share cells judge them twice, each with its own budget, and measure them once."""
    more = 'schema = 1\nfacts = "few.jsonl"\nmodels = ["tiny-decoder"]\n' + COMPRESSIONS + "[[budgets]]\nretention = 0.95\nsparsity = 0.6\n"
    (workspace.path / "suites" / "more.toml").write_text(more, encoding="utf-8")
    ran = []
    real = runner.Runner.run_case

    def counting(self: runner.Runner, case: Any, dtype: str, **more: Any) -> Any:
        ran.append(case.cell)
        return real(self, case, dtype, **more)

    monkeypatch.setattr(runner.Runner, "run_case", counting)
    document = workspace.document()
    assert sorted(ran) == sorted(CELLS)
    assert len(document["cells"]) == 10
    words = {cell["id"]: cell["outcome"] for cell in document["cells"]}
    assert words["mini--tiny-decoder--l1_global--overall--s0.6"] == "pass"
    assert words["more--tiny-decoder--l1_global--overall--s0.6"] == "fail"


def test_shuffled_order(workspace: Workspace) -> None:
    """Whatever shuffles the tests, cells run model by model, the dense one first, and the run record is the same."""
    plain = workspace.document("-k", "overall or dense")
    shuffled = workspace.pytester.runpytest_inprocess("suites", "-v", "-p", "randomly", "--kick-json", "two.json", "-k", "overall or dense")
    ran = [line for line in shuffled.outlines if "PASSED" in line]
    assert "dense" in ran[0]
    assert scores(workspace.read("two.json")) == scores(plain)


OTHERS = """\
import pytest


def test_before():
    pass


@pytest.mark.kick(suite="mini")
def test_marked(kick_case, kick_run):
    kick_run(kick_case)


def test_after():
    pass
"""


def test_ordinary_tests_keep_their_places(workspace: Workspace) -> None:
    """Cells are sorted among themselves; tests around them run where they stand."""
    (workspace.path / "suites" / "test_cells.py").write_text(OTHERS, encoding="utf-8")
    result = workspace.run("-v", "-k", "dense or before or after")
    names = [line.split("::")[1].split()[0].split("[")[0] for line in result.outlines if "PASSED" in line]
    assert names == ["test_before", "test_marked", "test_after"]


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ('suite="mni"', "*suite: got 'mni', *Did you mean 'mini'?*"),
        ('"mini"', "*kick: got ('mini',), expected suite=NAME. Correct it."),
        ('suites="mini"', "*kick: got {'suites': 'mini'}, expected suite=NAME. Correct it."),
    ],
)
def test_wrong_markers(workspace: Workspace, marker: str, says: str) -> None:
    """A marker that names no suite, or with other arguments, is an error of collection in one line."""
    text = OTHERS.replace('suite="mini"', marker)
    (workspace.path / "suites" / "test_cells.py").write_text(text, encoding="utf-8")
    result = workspace.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([says])
    result.stdout.no_fnmatch_line("*Traceback*")


OWN = '''\
"""A test of one's own."""

import pytest


@pytest.mark.kick(suite="mini")
def test_small_only(kick_case, kick_run):
    if not kick_case.is_dense and kick_case.compression.steps[0].level > 0.5:
        pytest.skip("too large")
    kick_run(kick_case)
'''


def test_a_test_of_ones_own(workspace: Workspace) -> None:
    """A user's test may look at the cell first; what it skips is counted as skipped."""
    (workspace.path / "suites" / "test_cells.py").write_text(OWN, encoding="utf-8")
    result = workspace.run()
    result.assert_outcomes(passed=3, skipped=2)
    assert last_line(result) == "kick: 5 cells, 3 pass, 0 fail, 0 inconclusive, 0 error, 2 skipped"
