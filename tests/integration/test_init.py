from __future__ import annotations

from typing import TYPE_CHECKING

from workspace import few_facts

from pytest_kick import cli

if TYPE_CHECKING:
    import pytest
    from workspace import Workspace


def test_the_written_suite_runs(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """`kick init` writes a suite whose own comment says how to record it; it is green then. Here on 120 facts, to be quick."""
    assert cli.main(["init", "gate"]) == 0
    assert capsys.readouterr().out.split() == ["wrote", "gate/kick.toml", "wrote", "gate/test_kick.py"]
    suite = workspace.path / "gate" / "kick.toml"
    text = suite.read_text(encoding="utf-8")
    assert "pytest gate/ --kick-update" in text
    suite.write_text(text.replace('probes = ["facts"]\n', 'probes = ["facts"]\nfacts = "own.jsonl"\n'), encoding="utf-8")
    (workspace.path / "gate" / "own.jsonl").write_text(few_facts(), encoding="utf-8")
    assert workspace.run("--kick-update", at="gate/").parseoutcomes()["passed"] == 12
    assert workspace.run(at="gate/").parseoutcomes() == {"passed": 12}
    assert cli.main(["init", "gate"]) == 2
    assert "there already" in capsys.readouterr().err
