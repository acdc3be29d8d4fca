from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workspace import CELLS, SUITE, last_line

if TYPE_CHECKING:
    from workspace import Workspace


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("schema = 1", "schema = ", "suites/mini.toml: file: got *, expected a TOML file in UTF-8.*"),
        ("schema = 1", "schema = 2", "suites/mini.toml: schema: got 2, expected 1.*"),
        ("tiny-decoder", "tiny-decodr", "suites/mini.toml: models?0?: got 'tiny-decodr', *Did you mean 'tiny-decoder'?*"),
        ("l1_global", "l1_globl", "suites/mini.toml: compressions?0?: *'l1_globl'*Did you mean 'l1_global'?*"),
        ('"overall"', '"overal"', "suites/mini.toml: compressions?0?: scope: got 'overal', *Did you mean 'overall'?*"),
        ("0.6", "60", "suites/mini.toml: compressions?0?: sparsity: got 60, expected a fraction in *not a percentage.*"),
        ("few.jsonl", "fw.jsonl", "suites/mini.toml: facts: got 'fw.jsonl', expected a facts file beside the suite.*"),
        ("[0.1, 0.6]", "[]", "suites/mini.toml: compressions?0?: sparsity: got ??, expected at least one value.*"),
        ("[0.1, 0.6]", "[0.1, 0.1]", "suites/mini.toml: compressions: got 'mini--tiny-decoder--*s0.1', expected each cell once.*"),
    ],
)
def test_a_wrong_suite_ends_the_run_in_one_line(workspace: Workspace, old: str, new: str, says: str) -> None:
    """A suite that is malformed or names what does not exist is one line and exit code 4; stored runs stay as they are."""
    before = workspace.baselines()
    workspace.suite("", old=old, new=new)
    result = workspace.run("--kick-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert len([line for line in result.errlines if line.strip()]) == 1
    result.stderr.fnmatch_lines([f"ERROR: {says}"])
    assert workspace.baselines() == before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "suites/few.jsonl:*"),
        ('{"kind": "fact", "relation": "nope", "subject": "a", "answer": "b"}', "suites/few.jsonl:*nope*"),
        ('{"kind": "fact", "relation": "month", "subject": "januar", "answer": 3}', "suites/few.jsonl:*"),
    ],
)
def test_a_wrong_facts_file_is_an_error_of_each_cell(workspace: Workspace, line: str, says: str) -> None:
    """A facts file that breaks a rule is refused as a whole, in one line that names file and line."""
    path = workspace.path / "suites" / "few.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    result = workspace.run()
    result.assert_outcomes(errors=len(CELLS))
    result.stdout.fnmatch_lines([f"*{says}"])
    assert last_line(result).endswith("0 pass, 0 fail, 0 inconclusive, 5 error")


def test_a_scratch_that_cannot_be_written(workspace: Workspace) -> None:
    """Where `.kick` cannot be made each cell is an error in one line."""
    (workspace.path / ".kick").write_text("in the way", encoding="utf-8")
    result = workspace.run("-k", "dense")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*.kick: scratch: got *, expected a writable directory*"])


def test_a_suite_found_late(workspace: Workspace) -> None:
    """A directory that the ini does not name is read when its test module is collected; a wrong suite there is one line too."""
    (workspace.path / "gates").mkdir()
    for path in (workspace.path / "suites").iterdir():
        if path.is_file():
            path.rename(workspace.path / "gates" / path.name)
    workspace.run("-k", "dense", at="gates").assert_outcomes(passed=1)
    (workspace.path / "gates" / "mini.toml").write_text(SUITE.replace("l1_global", "l1"), encoding="utf-8")
    result = workspace.run(at="gates")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["gates/mini.toml: compressions?0?: *'l1'*"])
    result.stdout.no_fnmatch_line("*Traceback*")
