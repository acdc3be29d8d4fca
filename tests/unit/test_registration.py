from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import pytest_kick
from pytest_kick.errors import UsageError
from pytest_kick.infos import CALIBRATION
from pytest_kick.registration import load_plugin, load_plugins
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test registers."""
    restore = METHODS.snapshot()
    yield
    restore()


def test_the_export_imports_no_torch() -> None:
    """The package exports the decorator without importing it, and decorating imports neither torch nor pytest."""
    code = (
        "import sys, pytest_kick\nassert 'pytest_kick.registration' not in sys.modules\n"
        "pytest_kick.method('mine')(lambda weight, bits: weight)\nassert not {'torch', 'pytest'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    with pytest.raises(AttributeError, match="has no attribute 'metod'"):
        _ = pytest_kick.metod


def test_a_function_becomes_a_method() -> None:
    """Its keyword parameters with defaults are those of suites, its docstring's first line is the summary, its levels are usual ones."""

    @pytest_kick.method("mine", level="bits")
    def mine(weight: Any, bits: int, *, group: int = 64, clip: str = "mse", fine: bool = False) -> Any:
        """Round with a clip.

        More.
        """
        del bits, group, clip, fine
        return weight

    info = METHODS.get("mine", "here")
    assert info.params == (("group", 64), ("clip", "mse"), ("fine", False))
    assert (info.level, info.bits, info.levels) == ("bits", (2, 3, 4, 5, 6, 7, 8), (2, 3, 4, 8))
    assert info.summary == "Round with a clip"
    assert not info.calibrated
    assert info.code is mine
    assert mine(3, 4) == 3


def test_asking_for_inputs_makes_it_calibrated() -> None:
    """A method that takes `inputs` has the parameters of calibration, at their end."""
    pytest_kick.method("mine", level="sparsity", levels=(0.5,))(lambda weight, level, *, inputs=None, a=1: (weight, level, inputs, a))
    info = METHODS.get("mine", "here")
    assert info.calibrated
    assert info.params == (("a", 1), *CALIBRATION)
    assert (info.bits, info.levels, info.check) == ((), (0.5,), "")


def test_a_class_becomes_a_method() -> None:
    """Its parameters are those it is made with, and it is calibrated where its call takes inputs."""

    @pytest_kick.method("mine", level="rank", families=("decoder",), float32_only=True)
    class Mine:
        def __init__(self, level: int, *, scale: float = 1.0) -> None:
            self.level, self.scale = level, scale

        def __call__(self, target: Any, *, inputs: Any = None) -> Any:
            del inputs
            return target.weight

    info = METHODS.get("mine", "here")
    assert info.code is Mine
    assert info.params == (("scale", 1.0), *CALIBRATION)
    assert (info.families, info.float32_only, info.levels) == (("decoder",), True, (8, 32))
    assert info.summary == "registered in test_registration.py"


class NoCall:
    """Stand for a class that cannot be called with a matrix."""

    def __init__(self, level: int) -> None:
        """Take the level."""


def few(weight: Any) -> Any:
    """Take too little."""
    return weight


async def later(weight: Any, bits: int) -> Any:
    """Give back what is none yet."""
    return weight, bits


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({}, few, r"signature: got \(weight\), expected \(weight, level, \.\.\.\) first"),
        ({}, lambda weight, bits, *, x: (weight, bits, x), "x: got none as its default, expected a text, a finite number, True or False"),
        ({}, lambda weight, bits, *, x=float("nan"): (weight, bits, x), "x: got nan as its default, expected a text, a finite number"),
        ({}, lambda weight, bits, *, x=None: (weight, bits, x), "x: got None as its default"),
        ({}, lambda weight, bits, *, scope="a": (weight, bits, scope), "scope: got a parameter of this name, which suites use"),
        ({}, lambda weight, bits, *, inputs=None, seed=1: (weight, bits, inputs, seed), "seed: got a parameter of this name"),
        ({}, 3, "code: got 3, expected a plain function or a class"),
        ({}, later, "code: got <function later .*>, expected a plain function or a class"),
        ({"levels": 4}, few, "levels: got 4, expected a list or a tuple"),
        ({"families": "decoder"}, few, "families: got 'decoder', expected a list or a tuple"),
        ({}, NoCall, "class: got NoCall without __call__, expected one that is called with each matrix"),
        ({"level": "bit"}, few, "level: got 'bit', expected one of sparsity, bits, rank, count, sigma. Did you mean 'bits'?"),
        ({"levels": (0,)}, few, "levels: got 0, expected whole numbers from 1 to 16"),
        ({"levels": (4.5,)}, few, "levels: got 4.5, expected whole numbers"),
        ({"level": "sparsity", "levels": (50,)}, few, r"levels: got 50, expected fractions in \(0, 1\)"),
        ({"level": "count", "levels": ("1",)}, few, "levels: got '1', expected whole numbers from 1"),
        ({"families": ("decoders",)}, few, "families: got 'decoders', expected some of .* Did you mean 'decoder'?"),
        ({"choices": {"a": (1,)}}, lambda weight, bits: (weight, bits), r"choices: got \[1\] for 'a', expected values of a parameter"),
    ],
)
def test_what_cannot_be_registered(options: dict[str, Any], code: Any, message: str) -> None:
    """Whatever suites could not hold is refused where it is decorated, in one line, and nothing is registered."""
    with pytest.raises(UsageError, match=f"^method 'mine': {message.rstrip('?')}") as caught:
        pytest_kick.method("mine", **options)(code)
    assert "\n" not in str(caught.value)
    assert "mine" not in {info.name for info in METHODS.known()}


def test_the_decorator_takes_a_name() -> None:
    """Without parentheses nothing would be registered, and `dense` is the name of the cell without a method: both are refused."""
    with pytest.raises(UsageError, match=r"^method: name: got 'few', expected a text that names no cell, as in @pytest_kick.method"):
        pytest_kick.method(few)  # type: ignore[type-var]
    with pytest.raises(UsageError, match=r"^method: name: got 'dense', expected a text that names no cell"):
        pytest_kick.method("dense")


@pytest.mark.parametrize("name", ["rtn", "other"])
def test_a_name_is_taken_once(name: str, tmp_path: Path) -> None:
    """A built-in name, or that of a method of another file, is refused; a file that is imported again registers its own again."""
    path = tmp_path / "other.py"
    path.write_text("import pytest_kick\n\n@pytest_kick.method('other')\ndef other(weight, bits):\n    return weight\n", encoding="utf-8")
    load_plugin("here", path)
    with pytest.raises(UsageError, match=rf"^method '{name}': name: got that of (a built-in one|one of .*other\.py), expected"):
        pytest_kick.method(name)(lambda weight, bits: (weight, bits))
    METHODS.plugins.clear()
    first = METHODS.get("other", "here").code
    load_plugin("here", path)
    assert METHODS.get("other", "here").code is not first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = 1 / 0\n", r"got ZeroDivisionError \(division by zero\) in p\.py line 2, expected a file that imports"),
        ("x = (\n", r"got SyntaxError \(.*\) in p\.py line 1, expected"),
        ("import nowhere_at_all\n", r"got ModuleNotFoundError \(No module named 'nowhere_at_all'\) in p\.py line 1, expected"),
        ("\n\nraise SystemExit(3)\n", r"got SystemExit \(3\) in p\.py line 3, expected"),
        (
            "import pytest_kick\npytest_kick.method('a b')(lambda w, b: w)\n",
            r"got UsageError \(method 'a b': name: .*\) in p\.py line 2, expected",
        ),
    ],
)
def test_a_file_that_does_not_import_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """What a file raises when it is imported is told with its line, and it can be imported once it is right."""
    path = tmp_path / "p.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"^a\.toml: plugins\[0\]: {said}") as caught:
        load_plugins("a.toml", tmp_path, ["p.py"])
    assert "\n" not in str(caught.value)
    path.write_text("", encoding="utf-8")
    load_plugins("a.toml", tmp_path, ["p.py"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.py", "got '.*gone.py', expected a Python file at this path"),
        (3, "got 3, expected the name of a Python"),
        ("a.txt", "got 'a.t"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: object, said: str) -> None:
    """A file that is not there, or no Python file, is one line."""
    with pytest.raises(UsageError, match=rf"^a\.toml: plugins\[0\]: {said}"):
        load_plugins("a.toml", tmp_path, [name])


def test_a_file_is_imported_once(tmp_path: Path) -> None:
    """Two suites that name a file share it; what a snapshot brings back forgets the file."""
    path = tmp_path / "p.py"
    path.write_text(f"with open({str(path.with_suffix('.log'))!r}, 'a') as file:\n    file.write('x')\n", encoding="utf-8")
    restore = METHODS.snapshot()
    load_plugin("a", path)
    load_plugin("b", path)
    assert path.with_suffix(".log").read_text(encoding="utf-8") == "x"
    restore()
    load_plugin("a", path)
    assert path.with_suffix(".log").read_text(encoding="utf-8") == "xx"
