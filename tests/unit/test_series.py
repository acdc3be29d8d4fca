"""Checkpoints in suites: a path, a list of them, the steps of a run; what stands in ids; and what is wrong, in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from suite_files import HEAD, read, write

from pytest_kick.baseline.fingerprint import build_fingerprint
from pytest_kick.errors import SuiteError
from pytest_kick.selection import level_names, without_effect
from pytest_kick.suite import read_suite
from pytest_kick.together import check_together

PAGE = (Path(__file__).parents[2] / "docs" / "checkpoints.md").read_text(encoding="utf-8")
ENTRY = '[[compressions]]\nmethod = "checkpoint"\n'


def cells(directory: Path, entry: str) -> dict[str, str]:
    """Return id -> path of the compressed cells of one entry."""
    found = {}
    for case in read(directory, HEAD + ENTRY + entry).cases[1:]:
        found[case.cell] = str(case.compression.steps[0].param("path"))
    return found


def fails(directory: Path, entry: str) -> str:
    """Return the one line that an entry is refused with."""
    with pytest.raises(SuiteError) as caught:
        read(directory, HEAD + entry)
    message = str(caught.value)
    assert "\n" not in message
    assert re.match(r"suites/a\.toml: compressions\[0\](\.chain\[\d\])?: \w+: got .*, expected .*\.$", message), message
    return message


def test_a_path_is_relative_to_the_suite(tmp_path: Path) -> None:
    """The id has the name of the file or directory, or the one given; the path is absolute, and need not be there."""
    root = tmp_path.resolve()
    assert cells(tmp_path, 'path = "../c/m-q4_0.gguf"') == {"checkpoint--overall--m-q4_0": str(root / "c" / "m-q4_0.gguf")}
    assert cells(tmp_path, 'path = "out"\nname = "w4"') == {"checkpoint--overall--w4": str(root / "suites" / "out")}
    assert cells(tmp_path, 'path = ["/abs/a", "b"]\nscope = ["ffn", "head"]') == {
        "checkpoint--ffn--a": "/abs/a",
        "checkpoint--head--a": "/abs/a",
        "checkpoint--ffn--b": str(root / "suites" / "b"),
        "checkpoint--head--b": str(root / "suites" / "b"),
    }


def test_steps_go_by_number(tmp_path: Path) -> None:
    """Each numbered directory is a cell, 5 before 10 before 100; what does not match is left; brackets in a path are no pattern."""
    for name in ("checkpoint-100", "checkpoint-5", "checkpoint-10", "best", "other-7"):
        (tmp_path / "suites" / "run[1]" / name).mkdir(parents=True)
    assert list(cells(tmp_path, 'steps = "run[1]/checkpoint-*"\nname = "r"')) == [f"checkpoint--overall--r-{n}" for n in (5, 10, 100)]
    (tmp_path / "suites" / "tune").mkdir()
    for number in ("0020", "3"):
        (tmp_path / "suites" / "tune" / f"s{number}-q8.gguf").touch()
    found = cells(tmp_path, 'steps = "tune/s*-q8.gguf"')
    assert [(cell, Path(path).name) for cell, path in found.items()] == [
        ("checkpoint--overall--tune-3", "s3-q8.gguf"),
        ("checkpoint--overall--tune-20", "s0020-q8.gguf"),
    ]


def test_what_has_no_number_is_left_out_and_told(tmp_path: Path) -> None:
    """It makes no cell, in a chain neither, and a line names it with its entry; without any number the pattern is a cell that fails."""
    run = tmp_path / "suites" / "run"
    for name in ("step-5", "step-final", "step-5-ema", "step-", "step-\u0665"):
        (run / name).mkdir(parents=True)
    steps = 'method = "checkpoint", steps = "run/step-*"'
    text = HEAD + ENTRY + 'path = "run/step-final"\n' + f'[[compressions]]\nchain = [{{ {steps} }}, {{ method = "rtn", bits = 4 }}]\n'
    suite = read(tmp_path, text)
    assert [case.cell for case in suite.cases[1:]] == ["checkpoint--overall--step-final", "checkpoint--overall--run-5+rtn--overall--b4"]
    left = "run/step-, run/step-5-ema, run/step-final, run/step-\u0665"
    assert without_effect([suite]) == [f"suites/a.toml: compressions[1]: steps: {left} left out: no whole number in place of '*'"]
    (run / "step-5").rmdir()
    assert list(cells(tmp_path, 'steps = "run/step-*"')) == ["checkpoint--overall--run-none"]
    (suite,) = [read(tmp_path, HEAD + ENTRY + 'path = "run/step-final"\n')]
    assert without_effect([suite]) == []


def test_a_pattern_without_steps_is_a_cell(tmp_path: Path) -> None:
    """It is listed and planned, and fails when it runs: a run that vanished must not be green."""
    (cell,) = cells(tmp_path, 'steps = "run/checkpoint-*"').items()
    assert cell == ("checkpoint--overall--run-none", str(tmp_path.resolve() / "suites" / "run" / "checkpoint-*"))


def test_first_in_a_chain(tmp_path: Path) -> None:
    """Other methods may follow a checkpoint; each path makes a chain."""
    text = HEAD + '[[compressions]]\nchain = [{ method = "checkpoint", path = ["a", "b"] }, { method = "rtn", bits = [4, 8] }]'
    assert [case.cell for case in read(tmp_path, text).cases[1:]] == [
        f"checkpoint--overall--{name}+rtn--overall--b{bits}" for name in "ab" for bits in (4, 8)
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("", "path: got none, expected either `path` or `steps`"),
        ('path = "a"\nsteps = "b-*"', "path: got ['path', 'steps'], expected either"),
        ("path = 3", "path: got 3, expected a model directory or a .gguf file"),
        ('path = ""', "path: got '', expected"),
        ("path = []", "path: got [], expected"),
        ('path = ["a", 3]', "path: got ['a', 3], expected"),
        ('path = ["a", "b"]\nname = "c"', "name: got 'c' for 2 paths, expected none"),
        ('path = "a b"', "name: got 'a b' from the path"),
        ('path = "a"\nname = "a--b"', "name: got 'a--b', expected"),
        ('path = "a"\nname = ""', "name: got '', expected"),
        ('steps = "run"', "steps: got 'run', expected a path with one '*'"),
        ('steps = "run-*/x-*"', "steps: got 'run-*/x-*', expected a path with one '*'"),
        ('steps = ["a-*"]', "steps: got ['a-*'], expected a path with one '*'"),
        ('path = "a"\nbits = 4', "checkpoint: got ['bits', 'method', 'name', 'path'], expected no level"),
        ('path = "a"\nseed = 4', "checkpoint: got 'seed', expected a known key"),
    ],
)
def test_wrong_entries(tmp_path: Path, entry: str, message: str) -> None:
    """Each mistake is one line that says where, what was found, what was expected and what to do."""
    assert message in fails(tmp_path, ENTRY + entry)


def test_wrong_steps(tmp_path: Path) -> None:
    """Two steps of one number are one line that names them."""
    run = tmp_path / "suites" / "run"
    for name in ("checkpoint-5", "checkpoint-05"):
        (run / name).mkdir(parents=True)
    message = fails(tmp_path, ENTRY + 'steps = "run/checkpoint-*"')
    assert "steps: got 'run/checkpoint-05' and 'run/checkpoint-5', expected each number once" in message


def test_not_after_another_step(tmp_path: Path) -> None:
    """What stands before a checkpoint in a chain would be lost."""
    chain = '[[compressions]]\nchain = [{ method = "rtn", bits = 4 }, { method = "checkpoint", path = "a" }]'
    assert "chain: got a step before checkpoint, expected it first" in fails(tmp_path, chain)


def test_one_name_is_one_checkpoint(tmp_path: Path) -> None:
    """Two suites that mean different files by one id would share a stored run: refused; the same file twice is fine."""
    suites = [read_suite(write(tmp_path, HEAD + ENTRY + f'name = "x"\npath = "{path}"', name)) for name, path in (("a", "p"), ("b", "q"))]
    with pytest.raises(SuiteError, match=r"compressions: got 'tiny-decoder--checkpoint--overall--x', which is another one in"):
        check_together(suites)
    check_together([suites[0], read_suite(write(tmp_path, HEAD + ENTRY + 'name = "x"\npath = "p"', "c"))])


def test_the_fingerprint_has_no_path(tmp_path: Path) -> None:
    """It holds the hash of what was read, which a move leaves as it is."""
    case = read(tmp_path, HEAD + ENTRY + 'path = "a"').cases[1]
    found = build_fingerprint(
        weights="w", architecture="a", tokenizer="t", compression=case.compression, checkpoints=["h"], scores=[], noted={}
    )
    assert found["blocking"]["compression"] == [{"method": "checkpoint", "scope": "overall", "level": 0, "params": {"name": "a"}}]
    assert found["blocking"]["checkpoint"] == ["h"]


def test_the_level_is_the_name(tmp_path: Path) -> None:
    """`--kick-level` takes it."""
    (step,) = read(tmp_path, HEAD + ENTRY + 'path = "q4_0"').cases[1].compression.steps
    assert "q4_0" in level_names(step)


@pytest.mark.parametrize(("number", "n_cells"), [(0, 3), (1, 2)])
def test_examples_read(tmp_path: Path, number: int, n_cells: int) -> None:
    """Every example of the page is a suite, also before what it names is there: the budget of a series holds for its absence."""
    examples = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(examples) == 2
    assert [len(case.budgets) for case in read(tmp_path, examples[number]).cases] == [0] + [1] * (n_cells - 1)
