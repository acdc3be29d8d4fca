from __future__ import annotations

from importlib import metadata
from typing import Any

import pytest

from pytest_kick import registry
from pytest_kick.errors import UsageError
from pytest_kick.infos import LEVELS, MethodInfo, ProbeInfo
from pytest_kick.registry import METHODS, PROBES, Registry, did_you_mean, load_target

MINE = MethodInfo(name="mine", level="bits", target="json:dumps", summary="a method of somebody's own", bits=(4,))


class Point:
    """Stand in for an entry point."""

    name = "theirs"
    value = "their.package:INFO"

    def __init__(self, loaded: Any) -> None:
        """Hold what it resolves to."""
        self.loaded = loaded

    def load(self) -> Any:
        """Return the object, or raise it."""
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def with_points(monkeypatch: pytest.MonkeyPatch, *loaded: Any) -> Registry[MethodInfo]:
    """Return a registry whose group has these entry points."""
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point(one) for one in loaded] if group == "g" else [])
    return Registry("method", "g", (MethodInfo(name="known", level="sparsity", target="json:loads", summary="s"),))


def test_near_misses_are_suggested() -> None:
    """An unknown name gets the nearest known one, or the list where none is near."""
    assert did_you_mean("l1_globl", ["l1_global", "head"]) == "Did you mean 'l1_global'?"
    assert did_you_mean("zzz", ["b", "a"]) == "Known: a, b."
    assert did_you_mean("zzz", []) == "Known: none."


@pytest.mark.parametrize(("name", "shown"), [("l1_globl", "'l1_globl'"), (3, "3"), (["l1_global"], r"\['l1_global'\]"), (None, "None")])
def test_an_unknown_method_is_one_line(name: object, shown: str) -> None:
    """Whatever a suite gives as a name that is not one of a method is told with the place and a hint."""
    with pytest.raises(UsageError, match=rf"^a.toml: x: method: got {shown}, expected a known method. (Did you mean|Known:) .*$"):
        METHODS.get(name, "a.toml: x")


def test_all_methods_of_study_a_are_there() -> None:
    """The methods of study A have a level, a summary of one line, and defaults among their choices."""
    assert {info.name for info in METHODS} >= {
        "l1_global",
        "l1_per_matrix",
        "random_unstructured",
        "ln_structured",
        "random_structured",
        "dynamic_int8",
        "quantize_dynamic",
    }
    for info in METHODS:
        assert info.summary
        assert "\n" not in info.summary
        assert info.level in LEVELS
        assert info.level == "bits" or not info.bits
        for key, values in info.choices:
            assert dict(info.params)[key] in (*values, "")
    for probe in PROBES:
        assert probe.summary
        assert "\n" not in probe.summary
        assert probe.open_metrics or probe.metric in probe.metrics or probe.mean(probe.metric)
        assert not probe.variant or probe.variant in dict(probe.params)
        assert {name for name, _ in (*probe.choices, *probe.least, *probe.words)} <= dict(probe.params).keys()


def test_other_packages_add_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point is found on the first miss and listed beside the built-in ones; built-in names need no look-up."""
    methods = with_points(monkeypatch, MINE)
    assert methods.get("known", "here").name == "known"
    assert methods.get("mine", "here") is MINE
    assert [info.name for info in methods] == ["known", "mine"]


@pytest.mark.parametrize(
    ("loaded", "got"),
    [
        (ImportError("No module\nnamed 'x'"), "ImportError: No module named 'x'"),
        (print, "<built-in function print>"),
        (ProbeInfo(name="p", target="a:b", summary="s", metric="m", metrics=("m",)), "ProbeInfo(name='p'"),
    ],
)
def test_a_broken_entry_point_is_named(monkeypatch: pytest.MonkeyPatch, loaded: Any, got: str) -> None:
    """A package whose entry point does not load, or is something else, is one line that names it, not its traceback."""
    methods = with_points(monkeypatch, loaded)
    with pytest.raises(UsageError) as caught:
        list(methods)
    assert str(caught.value).startswith(f"entry point 'theirs' of g (their.package:INFO): method: got {got}")
    assert "expected a MethodInfo" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_are_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registering the same entry again is fine; another of the same name is refused."""
    methods = with_points(monkeypatch)
    methods.register(MINE)
    methods.register(MINE)
    other = MethodInfo(name="mine", level="bits", target="json:load", summary="another", bits=(4,))
    with pytest.raises(UsageError, match=r"^method 'mine': name: got a second method of this name, expected unique names\. Rename one\.$"):
        methods.register(other)


@pytest.mark.parametrize("name", ["a/b", "a--b", "a+b", "", ".hidden", "with space"])
def test_a_name_must_fit_an_id(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A method whose name would break ids or leave the baselines' directory is refused."""
    methods = with_points(monkeypatch)
    with pytest.raises(UsageError, match="expected letters, digits"):
        methods.register(MethodInfo(name=name, level="bits", target="json:load", summary="s", bits=(4,)))


def test_targets_are_imported_when_needed() -> None:
    """`module:attribute` is imported on demand."""
    import json  # noqa: PLC0415 - to compare with

    assert load_target("json:dumps") is json.dumps
    assert registry.load_target(MINE.target) is json.dumps


def test_what_a_run_brought_is_gone_from_every_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry taken out after a snapshot was restored stays out: the table is the same one."""
    methods = with_points(monkeypatch)
    held = methods._known
    held["mine"] = MINE
    restore = methods.snapshot()
    held["theirs"] = MINE
    restore()
    assert set(held) == {"known", "mine"}
    del held["mine"]
    assert [info.name for info in methods.known()] == ["known"]
