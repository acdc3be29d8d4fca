from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_settings import ROOT, settings_with

from pytest_kick import config as config_module
from pytest_kick.config import Settings, cache_directory, read_settings
from pytest_kick.errors import UsageError
from pytest_kick.options import OPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ("pytester",)


@pytest.fixture
def read(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return what reads options and an ini file as pytest would."""
    for name in ("OMP_NUM_THREADS", "KICK_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(config_module, "has_fast_bfloat16", lambda: False)
    monkeypatch.setattr(config_module, "default_threads", lambda n_workers: 16 // n_workers)

    def parse(*args: str, ini: str = "") -> Settings:
        if ini:
            pytester.makeini("[pytest]\n" + ini)
        return read_settings(pytester.parseconfig(*args), "run-1")

    return parse


# option, as given on the command line, as given in ini, what each becomes
EXAMPLES: dict[str, tuple[str, str, Any, Any]] = {
    "suite": ("tiny", "a b", ("tiny",), ("a", "b")),
    "model": ("tiny-*", "m", ("tiny-*",), ("m",)),
    "method": ("l1_*", "m", ("l1_*",), ("m",)),
    "level": ("0.2", "0.1 b8", ("0.2",), ("0.1", "b8")),
    "noise": ("2", "3", 2, 3),
    "missing": ("skip", "warn", "skip", "warn"),
    "inconclusive": ("warn", "xfail", "warn", "xfail"),
    "limit": ("5", "6", 5, 6),
    "seed": ("5", "6", 5, 6),
    "confidence": ("0.9", "0.99", 0.9, 0.99),
    "dtype": ("bfloat16", "float32", "bfloat16", "float32"),
    "device": ("cuda:1", "cuda", "cuda:1", "cuda"),
    "threads": ("3", "4", 3, 4),
    "batch-size": ("8", "9", 8, 9),
    "cache": ("c1", "c2", Path("c1"), Path("c2")),
    "baselines": ("b1", "b2", Path("b1"), Path("b2")),
    "data": (".", ".", Path(), Path()),
    "judge": ("http://a/v1 m", "http://b/v1 n", ("http://a/v1", "m"), ("http://b/v1", "n")),
    "judge-repeats": ("3", "4", 3, 4),
    "json": ("j1", "j2", Path("j1"), Path("j2")),
}
FLAGS = [option.name for option in OPTIONS if option.default is False]


def test_every_option_has_an_example() -> None:
    """An option added later must be added to the tests below."""
    assert set(EXAMPLES) | set(FLAGS) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_line_wins_over_ini_over_the_default(read: Callable[..., Settings], pytester: pytest.Pytester, name: str) -> None:
    """Every option has an ini twin, which holds where the command line says nothing."""
    given, ini, on_line, in_ini = EXAMPLES[name]
    field = name.replace("-", "_")
    on_line, in_ini = (pytester.path / value if isinstance(value, Path) else value for value in (on_line, in_ini))
    line = (f"--kick-{name}", *given.split()) if name == "judge" else (f"--kick-{name}={given}",)
    line, ini = ((*line, "--kick-update"), f"{ini}\nkick_update = true") if name == "noise" else (line, ini)
    line = (*line, "--kick-judge", "http://a/v1", "m") if name == "judge-repeats" else line
    default = getattr(read(), field)
    assert default not in (on_line, in_ini) or name == "dtype"
    assert getattr(read(*line), field) == on_line
    assert getattr(read(ini=f"kick_{field} = {ini}"), field) == in_ini
    assert getattr(read(*line, ini=f"kick_{field} = {ini}"), field) == on_line


@pytest.mark.parametrize("name", FLAGS)
def test_flags_and_their_ini_twins(read: Callable[..., Settings], name: str) -> None:
    """A flag is off, and on by option or by ini."""
    field = name.replace("-", "_")
    assert getattr(read(), field) is False
    assert getattr(read(f"--kick-{name}"), field) is True
    assert getattr(read(ini=f"kick_{field} = true"), field) is True
    assert getattr(read(ini=f"kick_{field} = false"), field) is False


def test_native_toml_takes_numbers_and_lists(pytester: pytest.Pytester) -> None:
    """In pytest's own TOML table numbers are numbers and lists are lists."""
    text = '[tool.pytest]\nkick_limit = 5\nkick_confidence = 0.9\nkick_model = ["a", "b"]\nkick_hub = true\nkick_suites = ["s"]\n'
    pytester.makepyprojecttoml(text)
    pytester.mkdir("s")
    settings = read_settings(pytester.parseconfig(), "run-1")
    assert (settings.limit, settings.confidence, settings.model, settings.hub) == (5, 0.9, ("a", "b"), True)
    assert settings.suites == ("s",)


def test_repeated_options_add_up(read: Callable[..., Settings]) -> None:
    """An option that may repeat keeps all its values."""
    assert read("--kick-model=a", "--kick-model=b").model == ("a", "b")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--kick-limit=-1"], r"--kick-limit: value: got -1, expected 0 or more\. Correct it\."),
        (["--kick-seed=-1"], r"--kick-seed: value: got -1, expected 0 or more"),
        (["--kick-threads=-1"], r"--kick-threads: value: got -1, expected 0 or more"),
        (["--kick-batch-size=-8"], r"--kick-batch-size: value: got -8, expected 0 or more"),
        (["--kick-limit=many"], r"--kick-limit: value: got 'many', expected a whole number\. Correct it\."),
        (["--kick-limit=1.5"], r"--kick-limit: value: got '1\.5', expected a whole number"),
        (["--kick-data=no/such"], r"--kick-data: directory: got .*no/such, which is none, expected one laid out as docs/data\.md says\."),
        (
            ["--kick-confidence=95"],
            r"--kick-confidence: value: got 95\.0, expected a fraction in \(0\.5, 1\)\. Write a fraction, such as 0\.95\.",
        ),
        (["--kick-confidence=1"], r"--kick-confidence: value: got 1\.0, .*Write a fraction"),
        (["--kick-confidence=0.5"], r"--kick-confidence: value: got 0\.5, .* Correct it\."),
        (["--kick-confidence=nan"], r"--kick-confidence: value: got nan, .* Correct it\."),
        (["--kick-confidence=inf"], r"--kick-confidence: value: got inf, "),
        (["--kick-confidence=95%"], r"--kick-confidence: value: got '95%', expected a number\."),
        (["--kick-missing=fial"], r"--kick-missing: value: got 'fial', expected one of fail, skip, warn\. Did you mean 'fail'\?"),
        (["--kick-inconclusive=pass"], r"--kick-inconclusive: value: got 'pass', expected one of fail, warn, xfail\."),
        (["--kick-dtype=float16"], r"--kick-dtype: value: got 'float16', expected one of .*\. Did you mean 'bfloat16'\?"),
        (["--kick-device=cud"], r"--kick-device: value: got 'cud', expected one of cpu, cuda, mps, xpu, .* Did you mean 'cuda'\?"),
        (["--kick-device=cuda:"], r"--kick-device: value: got 'cuda:'"),
        (["--kick-device=cuda:x"], r"--kick-device: value: got 'cuda:x'"),
        (["--kick-judge-repeats=3"], r"--kick-judge-repeats: value: got 3 without a judge, expected --kick-judge\. Give both or none\."),
        (["--kick-judge-repeats=0", "--kick-judge", "http://a/v1", "m"], r"--kick-judge-repeats: value: got 0, expected 1 or more"),
        (["--kick-noise=2"], r"--kick-noise: value: got a run that records no dense model again, expected --kick-update, "),
        (["--kick-noise=2", "--kick-update-new-only"], r"--kick-noise: value: got a run that records no dense model again"),
        (["--kick-noise=7", "--kick-update"], r"--kick-noise: value: got 7, expected at most 6 repetitions\. "),
        (["--kick-noise=-1", "--kick-update"], r"--kick-noise: value: got -1, expected 0 or more"),
        (["--kick-update", "--kick-limit=5"], r"--kick-update: value: got it with --kick-limit, expected all examples\. Record without"),
        (["--kick-update-new-only", "--kick-limit=5"], r"--kick-update: value: got it with --kick-limit"),
        (["--kick-update", "--kick-update-new-only"], r"--kick-update: value: got it with --kick-update-new-only, expected one of them\."),
    ],
)
def test_wrong_values(read: Callable[..., Settings], args: list[str], message: str) -> None:
    """A value outside its range, and options that exclude each other, are one line."""
    with pytest.raises(UsageError, match=f"^{message}") as caught:
        read(*args)
    assert "\n" not in str(caught.value)


def test_wrong_ini_values_name_the_ini(read: Callable[..., Settings]) -> None:
    """A wrong word or number in the ini file is told by the ini key."""
    with pytest.raises(UsageError, match=r"^ini kick_missing: value: got 'fial', .* Did you mean 'fail'\?$"):
        read(ini="kick_missing = fial")
    with pytest.raises(UsageError, match=r"^ini kick_limit: value: got what pytest cannot read \(.*'many'.*\), expected a whole number\."):
        read(ini="kick_limit = many")


def test_directories_of_suites_are_there(read: Callable[..., Settings], pytester: pytest.Pytester) -> None:
    """A directory that the ini names and that is none is one line that names the option; the default one need not be there."""
    assert read().suites == ("suites",)
    pytester.mkdir("a")
    assert read(ini="kick_suites = a").suites == ("a",)
    with pytest.raises(UsageError, match=r"^ini kick_suites: directory: got 'b', .*expected a directory of suites\. Correct it\.$"):
        read(ini="kick_suites = a b")


def test_where_the_run_record_goes_is_looked_at_first(read: Callable[..., Settings], pytester: pytest.Pytester) -> None:
    """A directory, and a place below a file, are refused before anything runs; a place that can be made is not made yet."""
    (pytester.path / "file").touch()
    assert read("--kick-json=new/deep/run.json").json == pytester.path / "new/deep/run.json"
    assert not (pytester.path / "new").exists()
    assert read("--kick-json=file").json == pytester.path / "file"
    for name, got in ((".", "a directory"), ("file/run.json", "file, which is no directory"), ("file/deep/run.json", "file, which")):
        with pytest.raises(UsageError, match=f"^--kick-json: path: got {got}"):
            read(f"--kick-json={name}")


def test_what_depends_on_the_machine(read: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads follow the workers, the dtype follows the processor and the device; a value given is kept."""
    assert read().threads == 16
    four = ("--tx=3*popen", "--tx=popen", "--dist=load")  # what `-n 4` stands for
    assert read(*four).threads == 4
    assert read(*four).n_workers == 4
    assert read("--tx=3*popen").n_workers == 1
    assert read("-n0").n_workers == 1
    assert read(*four, "--kick-threads=2").threads == 2
    assert read().dtype == "float32"
    assert read("--kick-device=cuda:0").dtype == "bfloat16"
    assert read("--kick-device=cpu:0").dtype == "float32"
    monkeypatch.setattr(config_module, "has_fast_bfloat16", lambda: True)
    assert read().dtype == "bfloat16"


def test_where_models_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The option, else the environment, else `.kick/cache` under the root."""
    monkeypatch.delenv("KICK_CACHE", raising=False)
    assert cache_directory("", tmp_path) == tmp_path / ".kick" / "cache"
    monkeypatch.setenv("KICK_CACHE", "/elsewhere")
    assert cache_directory("", tmp_path) == Path("/elsewhere")
    assert cache_directory("mine", tmp_path) == tmp_path / "mine"


def test_settings_cross_to_workers_unchanged() -> None:
    """Every field comes back from JSON as it was, type and all; none is left at its default here."""
    changed: dict[str, Any] = {}
    for field in fields(Settings):
        value = getattr(settings_with(), field.name)
        if isinstance(value, bool):
            changed[field.name] = not value
        elif isinstance(value, tuple):
            changed[field.name] = ("one", "two")
        elif isinstance(value, Path) or field.name in {"json", "data"}:
            changed[field.name] = Path("/elsewhere") / field.name
        else:
            changed[field.name] = {int: 7, float: 0.75, str: "word"}[type(value)]
    for settings in (settings_with(**changed), settings_with()):
        back = Settings.from_json(json.loads(json.dumps(settings.to_json())))
        assert back == settings
        assert [type(getattr(back, field.name)) for field in fields(back)] == [
            type(getattr(settings, field.name)) for field in fields(back)
        ]


def test_updating_and_scratch() -> None:
    """Either update option records; scratch lies under the root."""
    assert not settings_with().updating
    assert settings_with(update=True).updating
    assert settings_with(update_new_only=True).updating
    assert settings_with().scratch == ROOT / ".kick"


def test_help_shows_every_option(pytester: pytest.Pytester) -> None:
    """`pytest --help` lists every option in one group, and its choices."""
    result = pytester.runpytest("--help")
    text = "\n".join(result.outlines)
    for option in OPTIONS:
        assert f"--kick-{option.name}" in text
        assert option.dest in text
    result.stdout.fnmatch_lines(["*--kick-missing={fail,skip,warn}*"])
