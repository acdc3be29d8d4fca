from __future__ import annotations

from typing import TYPE_CHECKING

from workspace import CELLS, MODULE, SUITE, last_line

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Workspace


def second(workspace: Workspace, name: str = "two") -> Path:
    """Write another directory of suites, with a facts file of another name, and let the ini name both."""
    more = workspace.path / "more"
    more.mkdir()
    (more / "own.jsonl").write_bytes((workspace.path / "suites" / "few.jsonl").read_bytes())
    (more / f"{name}.toml").write_text(SUITE.replace("few.jsonl", "own.jsonl"), encoding="utf-8")
    (more / "test_more.py").write_text(MODULE, encoding="utf-8")
    (workspace.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\nkick_suites = suites more\n", encoding="utf-8")
    return more


def test_each_directory_runs_its_own_suites(workspace: Workspace) -> None:
    """A test module runs the suites beside it; each has baselines of its own; a run of one does not read the other."""
    second(workspace)
    assert last_line(workspace.run("--kick-update", "-k", "dense", at="suites more")).endswith("1 recorded, 1 kept")
    both = workspace.run("-k", "dense", at="suites more")
    both.assert_outcomes(passed=2)
    both.stdout.fnmatch_lines(["kick: *, suites mini, two; *"])
    workspace.run("-k", "dense", at="more").stdout.fnmatch_lines(["kick: *, suites two; *"])
    assert {path.name for path in (workspace.path / "baselines").iterdir()} == {"tiny-decoder--few", "tiny-decoder--own"}


def test_suites_of_one_name_do_not_go_together(workspace: Workspace) -> None:
    """Ids go by name: two suites called alike in one run are one line and exit code 4, and nothing runs."""
    second(workspace, "mini")
    result = workspace.run(at="suites more")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: *mini.toml: name: got 'mini', which is another one in *, expected unique names. Rename one."])


def test_a_filter_may_match_in_one_directory_only(workspace: Workspace) -> None:
    """A suite named by `--kick-suite` runs alone, and the other directory's module is skipped, not an error."""
    second(workspace)
    workspace.run("--kick-update", "-k", "dense", at="more").assert_outcomes(passed=1)
    result = workspace.run("--kick-suite", "two", "-k", "dense", at="suites more")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 1


def test_a_plan_lists_what_would_run(workspace: Workspace) -> None:
    """A directory inside another one of suites has a plan of its own, and what `-k` leaves out is not in it."""
    (workspace.path / "suites" / "deep").mkdir()
    second(workspace)
    (workspace.path / "more").rename(workspace.path / "suites" / "deep" / "more")
    (workspace.path / "pytest.ini").write_text("[pytest]\nkick_dtype = float32\n", encoding="utf-8")

    def planned(*args: str, at: str = "suites/deep/more") -> list[str]:
        return [line.partition(":")[0] for line in workspace.run("--kick-plan", *args, at=at).outlines if "--tiny-decoder--" in line]

    assert set(planned()) == {f"two--tiny-decoder--{cell}" for cell in CELLS}
    assert planned("-k", "dense") == ["two--tiny-decoder--dense"]
    assert {name.partition("--")[0] for name in planned(at="suites")} == {"mini", "two"}


def test_from_below_the_root(workspace: Workspace) -> None:
    """The baselines are those of the root, wherever pytest is called from."""
    workspace.pytester.chdir()
    result = workspace.run("-k", "dense", "--rootdir", str(workspace.path), at=str(workspace.path / "suites"))
    result.assert_outcomes(passed=1)
