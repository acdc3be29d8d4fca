"""Probes by decorator: what becomes of a function or a class, and what cannot."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

import pytest_kick
from pytest_kick.asking import read_probes
from pytest_kick.catalog import find_model
from pytest_kick.errors import UsageError
from pytest_kick.infos import FAMILIES, MeanInfo, ProbeInfo
from pytest_kick.registration import load_plugin
from pytest_kick.registry import METHODS, PROBES, Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test registers."""
    restore = PROBES.snapshot(), METHODS.snapshot()
    yield
    for each in restore:
        each()


def test_the_export_imports_no_torch() -> None:
    """The package exports the decorator without importing it, and decorating imports neither torch nor pytest."""
    code = (
        "import sys, pytest_kick\nassert 'pytest_kick.probing' not in sys.modules\n"
        "pytest_kick.probe('mine')(lambda model, examples: [])\nassert not {'torch', 'pytest'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_function_becomes_a_probe() -> None:
    """Its keyword parameters with defaults are those of suites, behind `file`; its docstring's first line is the summary."""

    @pytest_kick.probe("mine", families=["decoder"], choices={"mode": ("fast", "exact")})
    def mine(model: Any, examples: Any, *, mode: str = "fast", most: int = 3, batch_size: int | None = None) -> Any:
        """Look at it.

        More.
        """
        del model, mode, most, batch_size
        return [True for _ in examples]

    info = PROBES.get("mine", "here")
    assert info.params == (("file", ""), ("mode", "fast"), ("most", 3))
    assert (info.metric, info.metrics, info.means, info.families) == ("right", ("right",), (), ("decoder",))
    assert (info.summary, info.refers, info.variant) == ("Look at it", ("file",), "")
    assert info.choices == (("mode", ("fast", "exact")),)
    assert info.code is mine
    assert mine(None, [1, 2]) == [True, True]
    assert mine.kick_declared.given == ("batch_size",)


def test_metrics_are_outcomes_or_means() -> None:
    """The metric is right or wrong unless `means` names it; both kinds may stand beside it."""
    pytest_kick.probe("mine", metric="nats", outcomes=("first",), means={"nats": "loss", "lead": "score"})(
        lambda model, examples: (model, examples)
    )
    info = PROBES.get("mine", "here")
    assert (info.metric, info.metrics) == ("nats", ("first",))
    assert info.means == (MeanInfo(name="nats", kind="loss"), MeanInfo(name="lead", kind="score"))
    assert info.families == FAMILIES


def test_a_class_becomes_a_probe() -> None:
    """Its parameters are those it is made with; questions need their file, which is the variant."""

    @pytest_kick.probe("mine", examples="questions")
    class Mine:
        def __init__(self, *, most: int = 3) -> None:
            self.most = most

        def __call__(self, model: Any, examples: Any, *, batch_size: int | None = None) -> Any:
            return [(model, batch_size, self.most) for _ in examples]

    info = PROBES.get("mine", "here")
    assert (info.params, info.variant) == ((("file", ""), ("most", 3)), "file")
    assert Mine.kick_declared.given == ("batch_size",)  # type: ignore[attr-defined]


class NoCall:
    """Stand for a class that cannot be called with a model."""


def few(model: Any) -> Any:
    """Take too little."""
    return model


async def later(model: Any, examples: Any) -> Any:
    """Give back what is none yet."""
    return model, examples


def fine(model: Any, examples: Any) -> Any:
    """Take what is due."""
    return model, examples


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({}, few, r"signature: got \(model\), expected \(model, examples, \.\.\.\) first"),
        ({}, lambda model, examples, *, x: (model, examples, x), "x: got none as its default, expected a text, a finite number"),
        ({}, lambda model, examples, *, x=None: (model, examples, x), "x: got None as its default"),
        ({}, lambda model, examples, *, file="a": (model, examples, file), "file: got a parameter of this name, which suites use"),
        ({}, lambda model, examples, *, models="a": (model, examples, models), "models: got a parameter of this name"),
        ({}, 3, "code: got 3, expected a plain function or a class"),
        ({}, later, "code: got <function later .*>, expected a plain function or a class"),
        ({}, NoCall, "class: got NoCall without __call__, expected one that is called with a model"),
        ({"families": "decoder"}, fine, "families: got 'decoder', expected a list or a tuple"),
        ({"families": ("decoders",)}, fine, "families: got 'decoders', expected some of .* Did you mean 'decoder'?"),
        ({"metric": "p 1"}, fine, "metric: got 'p 1', expected a word of letters"),
        ({"metric": "predicted"}, fine, "metric: got 'predicted', expected a word .* that names no other array"),
        ({"means": {"nats": "los"}}, fine, "means.nats: got 'los', expected one of score, loss, distance. Did you mean 'loss'?"),
        ({"examples": "fact"}, fine, "examples: got 'fact', expected one of facts, questions. Did you mean 'facts'?"),
        ({"version": 0}, fine, "version: got 0, expected a whole number from 1"),
        ({"choices": {"a": (1,)}}, fine, r"choices: got \[1\] for 'a', expected values of a parameter"),
    ],
)
def test_what_cannot_be_registered(options: dict[str, Any], code: Any, message: str) -> None:
    """Whatever suites could not hold is refused where it is decorated, in one line, and nothing is registered."""
    with pytest.raises(UsageError, match=f"^probe 'mine': {message.rstrip('?')}") as caught:
        pytest_kick.probe("mine", **options)(code)
    assert "\n" not in str(caught.value)
    assert "mine" not in {info.name for info in PROBES.known()}


def test_the_decorator_takes_a_name() -> None:
    """Without parentheses nothing would be registered; a name that no id can hold is refused."""
    with pytest.raises(UsageError, match=r"^probe: name: got 'fine', expected a text, as in @pytest_kick\.probe"):
        pytest_kick.probe(fine)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^probe 'my-probe': name: got 'my-probe', expected letters, digits"):
        pytest_kick.probe("my-probe")(fine)


@pytest.mark.parametrize("name", ["facts", "other"])
def test_a_name_is_taken_once(name: str, tmp_path: Path) -> None:
    """A built-in name, or that of a probe of another file, is refused; a file that is imported again registers its own again."""
    path = tmp_path / "other.py"
    path.write_text("import pytest_kick\n\n@pytest_kick.probe('other')\ndef other(model, examples):\n    return []\n", encoding="utf-8")
    load_plugin("here", path)
    with pytest.raises(UsageError, match=rf"^probe '{name}': name: got that of (a built-in one|one of .*other\.py), expected"):
        pytest_kick.probe(name)(fine)
    METHODS.plugins.clear()
    load_plugin("here", path)


def test_a_suite_names_it_with_its_parameters(tmp_path: Path) -> None:
    """Parameters stand in the id where they differ, files by their stem; families are checked before anything runs."""
    pytest_kick.probe("mine", families=["decoder"])(lambda model, examples, *, most=3: (model, examples, most))
    model = find_model("tiny-decoder", "here")
    entries = ["mine", {"probe": "mine", "most": 4, "file": "path:my_facts.jsonl"}]
    plain, other = read_probes("here", entries, tmp_path, [model])
    assert (plain.spec.id, other.spec.id) == ("mine", "mine--file-my_facts--most-4")
    assert other.spec.named("file") == f"path:{tmp_path / 'my_facts.jsonl'}"
    with pytest.raises(UsageError, match="expected a model of family decoder"):
        read_probes("here", ["mine"], tmp_path, [find_model("tiny-encoder", "here")])


def test_an_entry_point_resolves_to_what_was_decorated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package's probe is known by its group, without a suite naming a file."""
    point = metadata.EntryPoint("theirs", "test_probing:theirs", "pytest_kick.probes")
    decorated = pytest_kick.probe("theirs")(fine)
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: decorated)
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: [point] if group == "pytest_kick.probes" else [])
    table: Registry[ProbeInfo] = Registry("probe", "pytest_kick.probes", ())
    assert table.get("theirs", "here").code is fine
