from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from pytest_kick.errors import UsageError
from pytest_kick.scaffold import write_suite
from pytest_kick.suite import read_suites


def test_what_is_written_is_a_suite(tmp_path: Path) -> None:
    """The suite reads, has budgets that judge, and says how to run it; the module asks for its cells."""
    directory = tmp_path / "new" / "gate"
    files = write_suite(directory)
    assert [path.name for path in files] == ["kick.toml", "test_kick.py"]
    (suite,) = read_suites(directory)
    assert suite.default
    assert len(suite.cases) == 12
    assert sum(bool(case.budgets) for case in suite.cases) == 4
    assert f"pytest {directory.as_posix()}/ --kick-update" in files[0].read_text(encoding="utf-8")
    (test,) = (node for node in ast.parse(files[1].read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef))
    assert [argument.arg for argument in test.args.args] == ["kick_case", "kick_run"]


@pytest.mark.parametrize("name", ["kick.toml", "test_kick.py"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    """Where one of the two files stands, nothing is written, and the message names it."""
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(
        UsageError, match=rf"^kick init: .*{name}: got a file that is there already, expected none\. Choose another directory\.$"
    ):
        write_suite(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


def test_links_are_not_written_through(tmp_path: Path) -> None:
    """A link is a file that is there, even one that leads nowhere."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kick.toml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="a file that is there already"):
        write_suite(tmp_path / "d")
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """A directory that is a file, or lies below one, is one line."""
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match=r"^kick init: .*: got .*, expected a writable directory\. Choose another\.$"):
            write_suite(directory)


def test_a_disk_that_fills_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second file cannot be written, the first does not stay behind."""
    true_open = Path.open

    def full(self: Path, mode: str = "r", encoding: str | None = None) -> object:
        if self.name == "test_kick.py":
            raise OSError(28, os.strerror(28))
        return true_open(self, mode, encoding=encoding)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UsageError, match="got No space left on device, expected a writable directory"):
        write_suite(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody else makes between the check and the writing is not overwritten, and ours is taken back."""
    (tmp_path / "test_kick.py").write_text("theirs", encoding="utf-8")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(UsageError, match="got File exists, expected a writable directory"):
        write_suite(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_kick.py"]
    assert (tmp_path / "test_kick.py").read_text(encoding="utf-8") == "theirs"
