from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from pytest_kick.errors import UsageError
from pytest_kick.scaffold import fix_root, write_suite
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


@pytest.mark.parametrize(("directory", "inside"), [("gate", "gate"), ("a b/gate", "'a b/gate'"), (".", ".")])
def test_a_root_is_written(tmp_path: Path, directory: str, inside: str) -> None:
    """Where nothing fixes pytest's root, an ini in the current directory does, and names the directory of suites."""
    (tmp_path / directory).mkdir(parents=True, exist_ok=True)
    assert fix_root(tmp_path / directory, tmp_path) == "wrote pytest.ini"
    text = (tmp_path / "pytest.ini").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "[pytest]"
    assert text.endswith(f"kick_suites = {inside}\n")
    assert fix_root(tmp_path / directory, tmp_path) == ""


def test_a_suite_elsewhere_has_its_root_above_it(tmp_path: Path) -> None:
    """A directory outside the current one gets its ini beside it, not here."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there" / "gate").mkdir(parents=True)
    assert fix_root(tmp_path / "there" / "gate", tmp_path / "here") == f"wrote {tmp_path / 'there' / 'pytest.ini'}"
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "section"),
    [
        ("pyproject.toml", "[tool.pytest.ini_options]\n", '[tool.pytest.ini_options] with kick_suites = ["gate"]'),
        ("setup.cfg", "[tool:pytest]\n", "[tool:pytest] with kick_suites = gate"),
        ("tox.ini", "[pytest]\n", "[pytest] with kick_suites = gate"),
        ("pytest.ini", "", ""),
        ("pytest.toml", "", ""),
    ],
)
def test_a_file_of_the_users_is_left_alone(tmp_path: Path, name: str, text: str, section: str) -> None:
    """A file that fixes the root, here or above, is enough; one that could is named with what to add; neither is changed."""
    here = tmp_path / "below"
    (here / "gate").mkdir(parents=True)
    path = here / name
    if section:
        path.write_text("[other]\n", encoding="utf-8")
        assert fix_root(here / "gate", here) == f"add to {name}, so that baselines/ has one place: {section}"
        assert path.read_text(encoding="utf-8") == "[other]\n"
        path.unlink()
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert fix_root(here / "gate", here) == ""
    assert [entry.name for entry in here.iterdir()] == ["gate"]


def test_a_root_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A link that leads nowhere is not written through: one line."""
    (tmp_path / "pytest.ini").symlink_to(tmp_path / "elsewhere" / "pytest.ini")
    with pytest.raises(
        UsageError, match=r"^kick init: .*pytest\.ini: got .*, expected a writable directory\. Write a pytest\.ini by hand\.$"
    ):
        fix_root(tmp_path / "gate", tmp_path)
