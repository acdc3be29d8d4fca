"""A suite that calibrates on a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from workspace import Workspace

SUITE = """\
schema = 1
facts = "few.jsonl"
models = ["tiny-decoder"]
dense = false

[[compressions]]
method = "wanda"
sparsity = 0.5
source = "SOURCE"
count = 16
length = 16
"""


def problem(workspace: Workspace, source: str, *args: str) -> str:
    """Run the suite with a source and return what its cell reports, the opening of every error checked."""
    (workspace.path / "suites" / "mini.toml").write_text(SUITE.replace("SOURCE", source), encoding="utf-8")
    (cell,) = workspace.document("--kick-update", *args)["cells"]
    assert cell["outcome"] == "error"
    found = str(cell["error"])
    assert "\n" not in found
    return found


def texts(folder: Path) -> None:
    """Write texts, too short and long enough, plain and as JSONL."""
    (folder / "empty.txt").touch()
    (folder / "short.txt").write_text("one two three " * 10, encoding="utf-8")
    (folder / "long.txt").write_text("".join(f"Sentence {i} says nothing that anyone asks. " for i in range(200)), encoding="utf-8")
    (folder / "long.jsonl").write_text("".join(f'{{"text": "Line {i} says nothing that anyone asks."}}\n' for i in range(200)))


def test_what_is_wrong_with_a_file_is_an_error_of_its_cell(workspace: Workspace) -> None:
    """Missing, empty, too short, binary, not reachable offline: one line each, when the cell runs."""
    texts(workspace.path / "suites")
    (workspace.path / "suites" / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "got No such file or directory for" in problem(workspace, "path:missing.txt")
    assert "which holds no text; expected some" in problem(workspace, "path:empty.txt")
    assert "windows of 15 tokens; expected at most as many" in problem(workspace, "path:short.txt")
    assert "got UnicodeDecodeError for" in problem(workspace, "path:binary.txt")
    assert "got 'datasets:org/set' offline, expected one that needs no network" in problem(workspace, "datasets:org/set", "--kick-offline")


def test_the_run_follows_the_content_of_the_file_not_its_place(workspace: Workspace) -> None:
    """A recorded cell stays fresh when its file moves, and is STALE when the text changes."""
    folder = workspace.path / "suites"
    texts(folder)

    def state(source: str, *args: str) -> Any:
        (folder / "mini.toml").write_text(SUITE.replace("SOURCE", source), encoding="utf-8")
        (cell,) = workspace.document(*args)["cells"]
        return cell["id"], cell["outcome"], "calibration" in str(cell["error"])

    name = "mini--tiny-decoder--wanda--overall--s0.5--source-long--count-16--length-16"
    assert state("path:long.txt", "--kick-update") == (name, "pass", False)
    (folder / "elsewhere").mkdir()
    (folder / "long.txt").rename(folder / "elsewhere" / "long.txt")
    assert state("path:elsewhere/long.txt") == (name, "pass", False)
    assert state("path:long.jsonl") == (name, "fail", True)
