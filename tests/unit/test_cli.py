from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_kick import __version__, cli
from pytest_kick.catalog import catalog
from pytest_kick.registry import METHODS, PROBES

SHIPPED = Path(__file__).parents[2] / "suites"


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command."""
    code = cli.main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_lists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each list has a line for each thing, which begins with its name, and ends with 0."""
    monkeypatch.delenv("COLUMNS", raising=False)
    listed = {"models": list(catalog()), "methods": [info.name for info in METHODS], "probes": [info.name for info in PROBES]}
    for what, names in listed.items():
        code, out, err = run(capsys, "list", what)
        assert (code, err) == (0, "")
        assert [line.split()[0].partition(":")[0] for line in out.splitlines()] == names
        assert all(line == line.rstrip() for line in out.splitlines())


def test_methods_of_a_file_are_listed(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--plugin FILE` lists what the file registers too; a file that is not there is one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").write_text("import pytest_kick\npytest_kick.method('mine')(lambda weight, bits: weight)\n", encoding="utf-8")
    restore = METHODS.snapshot()
    _, out, _ = run(capsys, "list", "methods", "--plugin", "my.py")
    restore()
    assert [line for line in out.splitlines() if line.startswith("mine ") and line.endswith(" registered in my.py")]
    code, _, err = run(capsys, "list", "methods", "--plugin", "yours.py")
    assert code == 2
    assert err.startswith("kick: --plugin: plugins[0]: got ")


def test_lists_are_wrapped_to_a_known_width(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, or where COLUMNS says so, no line is longer, and nothing is cut; a pipe has one line for each thing."""
    monkeypatch.delenv("COLUMNS", raising=False)
    _, whole, _ = run(capsys, "list", "methods")
    monkeypatch.setenv("COLUMNS", "80")
    _, wrapped, _ = run(capsys, "list", "methods")
    assert max(map(len, wrapped.splitlines())) <= 80 < max(map(len, whole.splitlines()))
    assert wrapped.split() == whole.split()
    assert "group=64, symmetric=true, act_order=false" in whole


def test_an_error_names_the_command_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What begins with the command is not said to come from `kick` once more."""
    for code in (0, 2):
        found, _, err = run(capsys, "init", str(tmp_path / "suites"))
        assert found == code
    assert err.startswith("kick init: ")


def test_suites_are_listed_with_how_they_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line says how many cells a suite has and what runs it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    code, out, _ = run(capsys, "list", "suites", "--suites", str(SHIPPED))
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert " default " in rows["tiny"]
    assert " --kick-suite smollm2_full " in rows["smollm2_full"]
    assert " --kick-hub " in rows["cost_of_compression"]


def test_a_suite_of_the_hub_needs_its_option(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite of the hub is not shown as a default one, whatever its `default`; no suites are no lines."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert run(capsys, "list", "suites", "--suites", str(tmp_path)) == (0, "", "")
    (tmp_path / "a.toml").write_text('schema = 1\nhub = true\nmodels = ["bert-base-uncased"]\n', encoding="utf-8")
    assert run(capsys, "list", "suites", "--suites", str(tmp_path)) == (0, "a  1 cells  --kick-hub\n", "")


def test_what_cannot_be_done_is_two(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A mistake is one line on the error stream and exit code 2."""
    (tmp_path / "a.toml").write_text("schema = 2\n", encoding="utf-8")
    (tmp_path / "kick.toml").touch()
    for argv, message in [
        (("list", "suites", "--suites", str(tmp_path / "none")), "kick: --suites: directory: got "),
        (("list", "suites", "--suites", str(tmp_path)), "a.toml: schema: got 2, expected 1."),
        (("fetch", "smolm2-135m"), "kick fetch: model: got 'smolm2-135m', expected a known model. Did you mean 'smollm2-135m'?"),
        (("init", str(tmp_path)), "kick.toml: got a file that is there already, expected none."),
    ]:
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, "")
        assert message in err
        assert err.startswith(("kick: ", "kick fetch: ", "kick init: "))
        assert err.count("\n") == 1


@pytest.mark.parametrize("argv", [[], ["lst"], ["list"], ["list", "model"], ["fetch"], ["init"]])
def test_wrong_usage_is_two(argv: list[str]) -> None:
    """A wrong command line ends with 2 too."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(argv)


def test_a_model_of_a_suite_is_fetched(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`kick fetch` knows the models that suites bring, and shows their terms before anything else."""
    model = f'{{ name = "mine", family = "decoder", source = "path:{tmp_path}", terms = "Be nice." }}'
    (tmp_path / "a.toml").write_text(f"schema = 1\nmodels = [{model}]\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "fetch", "mine", "--suites", str(tmp_path)) == (0, f"{tmp_path}\n", "model 'mine': Be nice.\n")
    assert run(capsys, "fetch", "mine")[0] == 2


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    """A closed pipe, as `head` leaves one, ends the list without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "pytest_kick.cli", "list", "probes"]
        found = subprocess.run(command, check=False, stdout=pipe, stderr=subprocess.PIPE, cwd=tmp_path)
    assert found.stderr == b""


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the package and ends with 0."""
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"pytest-kick {__version__}\n"


def test_init_writes_and_says_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`kick init` names what it wrote; the file that fixes the root is written once."""
    ini = tmp_path / "pytest.ini"
    for directory, more in (("gate", [f"wrote {ini}"]), ("other", [])):
        code, out, _ = run(capsys, "init", str(tmp_path / directory))
        assert code == 0
        assert out.splitlines() == [*(f"wrote {tmp_path / directory / name}" for name in ("kick.toml", "test_kick.py")), *more]


def test_interrupted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is one line and exit code 2."""

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(cli._COMMANDS, "list", interrupt)
    assert run(capsys, "list", "models") == (2, "", "kick: interrupted\n")
