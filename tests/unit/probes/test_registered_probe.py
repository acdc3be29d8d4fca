"""Registered probes at work: what they are given, what they may return, and what they cannot spoil."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from plain_scorer import decoder, encoder, facts, span_model

import pytest_kick
from pytest_kick.errors import DataError, ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.registered import registered_probe
from pytest_kick.registry import PROBES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kick.result import ProbeScore


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what a test registers, and take the made-up facts for the shipped ones."""
    monkeypatch.setattr("pytest_kick.probes.context.shipped_facts", facts)
    restore = PROBES.snapshot()
    yield
    restore()


def run(
    code: Any, *, name: str = "mine", make: Any = decoder, limit: int | None = None, seed: int = 0, params: Any = (), **options: Any
) -> ProbeScore:
    """Register code, make its probe and run it on a random model."""
    pytest_kick.probe(name, **options)(code)
    probe = registered_probe(ProbeContext(spec=ProbeSpec(name=name, params=params)))
    return probe.run(make(), limit=limit, seed=seed, batch_size=5)


@pytest.mark.parametrize("make", [decoder, span_model, encoder])
def test_right_or_wrong_is_an_outcome(make: Any) -> None:
    """Bools, in a list or an array, are kept per example with the ids and relations of the facts; nothing known scores 0."""
    wraps: list[Any] = [list, np.asarray, torch.tensor]

    def of_cities(_: Any, examples: Any) -> Any:
        return wraps[0]([e.group == "city" for e in examples])

    while wraps:
        score = run(of_cities, make=make)
        assert score.metrics == {"right": 0.5}
        assert list(score.examples.ids) == [fact.id for fact in facts().facts]
        assert (score.examples.outcome("right") == (score.examples.groups == "city")).all()
        assert (score.floors, score.trivial, score.version) == ({"right": 0.0}, {}, 1)
        del wraps[0]


def test_a_fact_is_given_as_it_is_asked() -> None:
    """The prompt is the scoring template before the answer; the options are the relation's, gold among them."""
    seen: list[Any] = []
    run(lambda _, examples: [bool(seen.append(e)) for e in examples])  # type: ignore[func-returns-value]
    first, asked = seen[0], facts().facts[0]
    assert (first.id, first.group, first.subject, first.answer, first.aliases) == ("city/0", "city", "ka", "kalo", ("ren zi", "tutu"))
    assert (first.prompt, first.after) == (f"the city of {asked.subject} is", ".")
    assert first.options[first.gold] == first.answer
    assert len(first.options) == 12


def test_a_closed_choice_has_the_floors_of_facts() -> None:
    """Chance, and the commonest answer of each relation, are its trivial baselines; the better one is its floor."""
    score = run(lambda _, examples: [False] * len(examples), closed=True)
    assert score.trivial == pytest.approx({"chance": (1 / 12 + 1 / 3) / 2, "majority": (1 / 12 + 4 / 12) / 2})
    assert score.floors == {"right": max(score.trivial.values())}


def test_numbers_are_means_of_the_declared_kind() -> None:
    """A loss has the nats of a uniform guess for its floor, a score 0."""
    score = run(lambda _, examples: [2.5] * len(examples), metric="nats", means={"nats": "loss"})
    assert score.metrics["nats"] == 2.5
    assert score.floors["nats"] == pytest.approx(math.log(35))
    assert run(lambda _, examples: [1] * len(examples), metric="good", means={"good": "score"}).floors == {"good": 0.0}


def test_a_dict_has_several_arrays() -> None:
    """Outcomes, means, answers and other numbers stand beside each other by name."""

    def several(model: Any, examples: Any) -> Any:
        n = len(examples)
        return {
            "right": np.ones(n, bool),
            "lead": torch.full((n,), 0.5, dtype=torch.bfloat16, device=model.device),
            "predicted": [e.gold for e in examples],
            "margin": np.full(n, 0.25),
        }

    score = run(several, means={"lead": "score"})
    assert score.metrics == {"right": 1.0, "lead": 0.5}
    kinds = {name: values.dtype.kind for name, values in score.examples.arrays.items()}
    assert kinds == {"right": "b", "lead": "f", "predicted": "i", "margin": "f"}


def test_none_leaves_an_example_out() -> None:
    """What this model cannot be asked is counted, and neither right nor wrong."""
    score = run(lambda _, examples: [None if e.group == "city" else True for e in examples], closed=True)
    assert (score.n, score.excluded, score.metrics["right"]) == (12, {"left out by the probe": 12}, 1.0)
    assert score.trivial["chance"] == pytest.approx(1 / 3)
    with pytest.raises(ProbeError, match=r"^probe mine: examples: got none that can be asked"):
        run(lambda _, examples: [None for _ in examples])


def test_a_limit_asks_a_sample() -> None:
    """The code sees the sample only: the same for a seed, from each relation."""
    first, again, other = (run(lambda _, examples: [True] * len(examples), limit=6, seed=seed) for seed in (0, 0, 1))
    assert first.n == 6
    assert list(first.examples.groups).count("city") == 3
    assert list(first.examples.ids) == list(again.examples.ids) != list(other.examples.ids)


def test_parameters_and_the_batch_size_are_given() -> None:
    """What the suite says reaches the function, what the run says too; a class is made once with the former."""
    seen: list[Any] = []

    def code(_: Any, examples: Any, *, most: int = 3, batch_size: int | None = None) -> Any:
        seen.append((most, batch_size))
        return [True] * len(examples)

    class Code:
        def __init__(self, *, most: int = 3) -> None:
            self.most = most
            seen.append("made")

        def __call__(self, _: Any, examples: Any) -> Any:
            seen.append(self.most)
            return [True] * len(examples)

    assert run(code, params=(("most", 7),)).settings["param_most"] == 7
    pytest_kick.probe("other")(Code)
    probe = registered_probe(ProbeContext(spec=ProbeSpec(name="other", params=(("most", 8),))))
    model = decoder()
    probe.run(model)
    probe.run(model)
    assert seen == [(7, 5), "made", 8, 8]


def test_questions_of_a_file_are_examples(tmp_path: Path) -> None:
    """Their options are their own, and so is their majority."""
    path = tmp_path / "mine.jsonl"
    lines = [{"question": f"q{i}?", "options": ["a", "b"], "answer": int(i == 0)} for i in range(4)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    pytest_kick.probe("mine", examples="questions", closed=True)(lambda _, examples: [e.answer == "a" for e in examples])
    spec = ProbeSpec(name="mine", params=(("file", "mine"),), outside=(("file", f"path:{path}"),))
    score = registered_probe(ProbeContext(spec=spec)).run(decoder())
    assert (score.metrics["right"], score.trivial) == (0.75, {"chance": 0.5, "majority": 0.75})
    pytest_kick.probe("facts_of")(lambda _, examples: [True for _ in examples])
    spec = ProbeSpec(name="facts_of", params=(("file", "set"),), outside=(("file", "datasets:some/set"),))
    with pytest.raises(DataError, match=r"^probe facts_of--file-set: file: got 'datasets:some/set', expected path:FILE with facts"):
        registered_probe(ProbeContext(spec=spec))


def test_a_change_of_the_code_is_a_change_of_the_score() -> None:
    """The settings hold a digest of the code, blind to comments; the version is the decorator's."""

    def one(_: Any, examples: Any) -> Any:
        return [True] * len(examples)

    def two(_: Any, examples: Any) -> Any:
        return [False] * len(examples)

    first, again = run(one, version=2), run(one, version=2)
    other = run(two, name="other")
    assert first.version == 2
    assert first.settings["code"] == again.settings["code"] != other.settings["code"]


def raising(_: Any, examples: Any) -> Any:
    """Raise in a line of this file."""
    return [example.nothing for example in examples]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (raising, r"got AttributeError \(.*nothing.*\) at test_registered_probe\.py:\d+, expected it to run"),
        (lambda _, examples: [True] * (len(examples) - 1), r"right: got shape \(23,\) returned, expected 24 values, one for each example"),
        (lambda _, examples: [0.7] * len(examples), r"right: got values like .*0\.7.* returned, expected bools, or `means`"),
        (lambda _, examples: [1] * len(examples), r"right: got values like .*1.* returned, expected bools"),
        (lambda _, examples: ["yes"] * len(examples), r"right: got values like .*yes.* returned, expected bools"),
        (lambda _, examples: {"wrong": [True] * len(examples)}, r"right: got none among wrong returned, expected an array of this name"),
        (lambda _, __: None, r"right: got NoneType returned, expected 24 values"),
        (lambda _, examples: {"right": [True] * len(examples), "size": [math.nan] * len(examples)}, r"size: got NaN or an infinite number"),
        (lambda _, examples: {"right": [[True], [True, False]] * (len(examples) // 2)}, r"right: got lists of several lengths returned"),
    ],
)
def test_whatever_else_comes_back_is_one_line(code: Any, message: str) -> None:
    """Each names the probe and the array, and of errors the file and its line."""
    with pytest.raises(ProbeError, match=f"^probe mine: {message}") as caught:
        run(code)
    assert "\n" not in str(caught.value)


def test_a_class_that_cannot_be_made_is_one_line() -> None:
    """It names the line as well."""

    class Broken:
        def __init__(self) -> None:
            raise KeyError("nothing")

        def __call__(self, model: Any, examples: Any) -> Any:
            return model, examples

    with pytest.raises(ProbeError, match=r"^probe mine: got KeyError \('nothing'\) at test_registered_probe\.py:\d+"):
        run(Broken)


@pytest.mark.parametrize("write", [lambda p: p.mul_(2), lambda p: p.data.mul_(2)], ids=["in place", "through data"])
def test_a_probe_that_changes_the_model_is_refused(write: Any) -> None:
    """The next probe of the cell would measure another model."""

    def meddling(model: Any, examples: Any) -> Any:
        write(next(p for p in model.module.parameters() if p.ndim == 2))
        return [True] * len(examples)

    with pytest.raises(ProbeError, match=r"^probe mine: model: got parameters changed in place returned, expected the model as it was"):
        run(meddling)


def test_random_numbers_are_alike_and_leave_no_trace() -> None:
    """Each call starts at the same seeds, and what runs afterwards draws as if there had been none; gradients are off."""
    drawn = []

    def drawing(model: Any, examples: Any) -> Any:
        assert not torch.is_grad_enabled()
        drawn.append((random.random(), float(torch.rand(())), float(np.random.rand())))  # noqa: NPY002, S311 - what others draw from
        torch.set_default_dtype(torch.float64)
        return [model is not None] * len(examples)

    random.seed(3)
    torch.manual_seed(3)
    expected = (random.random(), float(torch.rand(())))  # noqa: S311 - no secret
    model = decoder()
    random.seed(3)
    pytest_kick.probe("mine")(drawing)
    probe = registered_probe(ProbeContext(spec=ProbeSpec(name="mine")))
    torch.manual_seed(3)
    probe.run(model)
    probe.run(model)
    assert (random.random(), float(torch.rand(()))) == expected  # noqa: S311 - no secret
    assert drawn[0] == drawn[1]
    assert torch.get_default_dtype() == torch.float32
