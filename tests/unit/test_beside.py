from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_measurements import make_examples, make_measurement, make_score
from made_settings import settings_with

import pytest_kick
from pytest_kick.baseline import BaselineStore
from pytest_kick.beside import compare
from pytest_kick.catalog import catalog
from pytest_kick.registration import UNCOUNTED
from pytest_kick.registry import METHODS
from pytest_kick.report import beside_lines
from pytest_kick.spec import Case, CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kick.beside import Comparison
    from pytest_kick.result import Measurement

RIGHT = np.arange(200) % 3 > 0


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    """Register the method `mine`, and forget it afterwards."""
    restore = METHODS.snapshot()
    pytest_kick.method("mine")(lambda weight, bits, *, group=64: (weight, bits, group))
    yield
    restore()


def measured(method: str, bits: float, effective: float, right: np.ndarray = RIGHT, note: str = "a note", **more: Any) -> Measurement:
    """Return the measurement of one step, with its effective bits."""
    params = tuple(more.pop("params", {}).items())
    step = CompressionStep(method=method, scope=more.pop("scope", "ffn"), level=bits, params=params)
    found = make_measurement(right, compression=CompressionSpec(steps=(step,)), **more)
    (report,) = found.compression.steps
    report = replace(report, method=method, bits_per_weight=effective, notes=(note,))
    return replace(found, compression=replace(found.compression, steps=(report,)))


def compared(root: Path, mine: Measurement, *stored: Measurement, **step: Any) -> dict[str, Comparison]:
    """Store runs and return peer -> how `mine`, as measured, compares."""
    store = BaselineStore(root)
    for run in stored:
        store.write(run, model="tiny-decoder", recorded="2026-11-22")
    asked: dict[str, Any] = {"method": "mine", "scope": "ffn", "level": 4, **step}
    spec = CompressionSpec(steps=(CompressionStep(**asked),))
    case = Case(suite="s", model=catalog()["tiny-decoder"], compression=spec, probes=("facts",))
    outcome = {"id": case.id, "measurement": mine.to_json(), "problem": ""}
    session: Any = SimpleNamespace(
        store=store,
        by_id={case.id: case},
        settings=settings_with(),
        finished=lambda: [outcome],
        near=lambda text: text.replace(str(root), ""),
    )
    return {comparison.peer: comparison for comparison in compare(session)}


def test_the_difference_is_paired(tmp_path: Path) -> None:
    """Lost, gained and the difference are a plain count over the facts of both, in whatever order; the interval holds it."""
    now = RIGHT.copy()
    now[:12] = ~now[:12]
    lost, gained = int((RIGHT & ~now).sum()), int((~RIGHT & now).sum())
    found = compared(tmp_path, measured("mine", 4, 4.25, now), measured("rtn", 4, 4.25))["rtn"]
    assert (found.lost, found.gained, found.n) == (lost, gained, 200)
    assert found.difference == pytest.approx(now.mean() - RIGHT.mean())
    assert (found.low or 0) < (found.difference or 0) < (found.high or 0)
    assert (found.against, found.recorded, found.equal_bits, found.problem) == ("rtn--ffn--b4", "2026-11-22", True, "")


def test_a_sample_is_compared_on_its_facts(tmp_path: Path) -> None:
    """Facts that only one of the two was asked, or that read otherwise, do not count."""
    found = compared(tmp_path, measured("mine", 4, 4.25, RIGHT[40:90], start=40), measured("rtn", 4, 4.25))["rtn"]
    assert (found.n, found.lost, found.gained) == (50, 0, 0)
    other = compared(tmp_path, measured("mine", 4, 4.25, RIGHT[:50], start=400), measured("rtn", 4, 4.25))["rtn"]
    assert other.problem == "stored run tiny-decoder/float32/rtn--ffn--b4 answered other facts"


def test_the_nearest_in_bits_then_in_parameters_is_taken(tmp_path: Path) -> None:
    """Equal effective bits go before all, then equal parameters of the same name; a chain or another scope is never taken."""
    runs = [
        measured("rtn", 4, 4.5, params={"group": 32}),
        measured("rtn", 4, 4.25),
        measured("rtn", 4, 4.23, params={"symmetric": False, "group": 128}),
        measured("rtn", 3, 3.25),
        measured("rtn", 4, 4.25, scope="attention"),
    ]
    assert compared(tmp_path, measured("mine", 4, 4.25), *runs)["rtn"].against == "rtn--ffn--b4"
    assert compared(tmp_path, measured("mine", 4, 4.5), params=(("group", 32),))["rtn"].against == "rtn--ffn--b4--group-32"
    unequal = compared(tmp_path, measured("mine", 4, 4.0, note=UNCOUNTED))["rtn"]
    assert (unequal.against_bits, unequal.equal_bits, unequal.uncounted) == (4.25, False, True)
    assert compared(tmp_path, measured("mine", 8, 8.25), level=8)["rtn"].problem == "no stored run of rtn within 0.5 bits of 8.25"


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    """Nothing stored, a run of another model, and a damaged file are one line each, and no comparison."""
    mine = measured("mine", 4, 4.25)
    assert compared(tmp_path, mine)["gptq"].problem == "no stored run of gptq within 0.5 bits of 4.25"
    found = compared(tmp_path, mine, measured("gptq", 4, 4.25, weights="c" * 64), measured("rtn", 4, 4.25))
    assert found["gptq"].problem == "stored run tiny-decoder/float32/gptq--ffn--b4 is of another weights"
    (tmp_path / "tiny-decoder" / "float32" / "rtn--ffn--b4.npz").write_bytes(b"")
    assert "rtn--ffn--b4.npz: sha256: got another" in compared(tmp_path, mine)["rtn"].problem


def test_the_probe_that_both_answered_is_compared(tmp_path: Path) -> None:
    """A probe that only the cell was asked, before the facts or after them, and one of numbers, do not stand in the way."""
    now = RIGHT.copy()
    now[:12] = ~now[:12]
    facts, other = make_score(make_examples(now)), make_score(make_examples(~RIGHT), probe="other", version=7)
    plain = compared(tmp_path, measured("mine", 4, 4.25, now), measured("rtn", 4, 4.25))["rtn"]
    for scores in ((facts, other), (other, facts)):
        found = compared(tmp_path, replace(measured("mine", 4, 4.25, now), scores=scores))["rtn"]
        assert (found.problem, found.probe, found.lost, found.gained) == ("", "facts", plain.lost, plain.gained)
    loss = make_score(make_examples(now), probe="perplexity", metric="margin")
    both = replace(measured("rtn", 4, 4.25), scores=(loss, make_score(make_examples(RIGHT))))
    assert compared(tmp_path, replace(measured("mine", 4, 4.25, now), scores=(loss, facts)), both)["rtn"].probe == "facts"
    alone = compared(tmp_path, replace(measured("mine", 4, 4.25, now), scores=(other,)))["rtn"]
    assert alone.problem == "stored run tiny-decoder/float32/rtn--ffn--b4 has no answers to the same probe"
    far = compared(tmp_path, replace(measured("mine", 8, 8.25, now), scores=(other,)))["rtn"]
    assert far.problem == "no stored run of rtn within 0.5 bits of 8.25"


def test_the_section(tmp_path: Path) -> None:
    """It shows bits, difference and flips in columns, marks what is not equal, and no line is wider than the terminal."""
    mine = measured("mine", 4, 4.0, ~RIGHT, note=UNCOUNTED)
    found = compared(tmp_path, mine, measured("rtn", 4, 4.25, params={"group": 32, "symmetric": False}))
    entries = [comparison.to_json() for comparison in found.values()]
    for width in (60, 80, 120):
        lines = beside_lines(entries, 0.95, width)
        assert max(map(len, lines)) <= width
    assert lines == [
        "",
        "beside stored runs: difference of accuracy on the same facts, 90% interval:",
        "    method   bits   stored run                       bits   difference            flips",
        "  tiny-decoder  float32  ffn  facts p1, n=200",
        "    mine b4  4.00+  rtn/group-32/symmetric-False b4  4.25*  -.330 [-.435, -.216]  -133+67",
        "    mine b4: no stored run of gptq within 0.5 bits of 4.00",
        "    +: scales and the like not counted, as the method returns no bits per weight",
        "    *: unequal bits",
    ]
    assert beside_lines([], 0.95) == []
