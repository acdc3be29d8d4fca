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


def test_baselines_have_one_place(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory of nothing, recorded from inside the suite's directory and run from above it: one place, found from both."""
    new = workspace.path / "fresh"
    new.mkdir()
    (workspace.path / "pytest.ini").unlink()
    monkeypatch.chdir(new)
    assert cli.main(["init", "gate"]) == 0
    suite = new / "gate" / "kick.toml"
    text = suite.read_text(encoding="utf-8").partition("# Lists and ranges")[0]
    suite.write_text(text.replace('probes = ["facts"]\n', 'probes = ["facts"]\nfacts = "own.jsonl"\n'), encoding="utf-8")
    (new / "gate" / "own.jsonl").write_text(few_facts(), encoding="utf-8")
    monkeypatch.chdir(new / "gate")
    assert workspace.run("--kick-update", at="test_kick.py").parseoutcomes() == {"passed": 1}
    assert [path.name for path in new.rglob("baselines")] == ["baselines"]
    assert (new / "baselines").is_dir()
    for at in (str(new), "."):
        assert workspace.run(at=at).parseoutcomes() == {"passed": 1}
