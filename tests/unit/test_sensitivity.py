"""A recipe made from a sweep: the cheapest levels at equal size, and made on one half of the facts."""

from __future__ import annotations

import itertools
import tomllib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pytest_kick.baseline import BaselineStore
from pytest_kick.claims.recipes import looked_at
from pytest_kick.examples import Examples
from pytest_kick.grid import expand
from pytest_kick.result import CompressionReport, Measurement, ProbeScore, StepReport, Timing
from tools.sensitivity import STEP, Part, choose, entry, main, sweep

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """\
schema = 1
models = ["tiny-decoder"]

[[compressions]]
method = "l1_per_matrix"
scope = ["*.layers.0.*", "*.layers.1.*", "overall", "*norm.weight"]
sparsity = [0.5, 0.9]
"""


def part(scope: str, n_weights: int, costs: dict[float, float]) -> Part:
    """Make a part."""
    return Part(scope=scope, n_weights=n_weights, costs=costs)


@pytest.mark.parametrize("level", [0.2, 0.5, 0.6, 0.75])
@pytest.mark.parametrize("seed", range(3))
def test_the_recipe_is_the_cheapest_of_its_size(level: float, seed: int) -> None:
    """No other choice of levels that removes as many weights costs less, found by trying all."""
    rng = np.random.default_rng(seed)
    sizes = (400, 800, 400)
    parts = [part(str(i), n, dict(zip((0.3, 0.6, 0.9), np.sort(rng.random(3)), strict=True))) for i, n in enumerate(sizes)]
    grid = [round(i * STEP, 2) for i in range(1, 19)]

    def size(levels: tuple[float, ...]) -> float:
        return sum(n * one for n, one in zip(sizes, levels, strict=True))

    def cost(levels: tuple[float, ...]) -> float:
        return sum(float(p.cost(np.asarray([one]))[0]) for p, one in zip(parts, levels, strict=True))

    chosen = tuple(choose(parts, level))
    assert size(chosen) == pytest.approx(level * sum(sizes))
    best = min(cost(levels) for levels in itertools.product(grid, repeat=3) if abs(size(levels) - level * sum(sizes)) < 1e-6)
    assert cost(chosen) == pytest.approx(best)


def test_sizes_that_no_steps_reach_are_met_from_below() -> None:
    """Odd numbers of weights get as near as steps of 0.05 come, to well under one percent."""
    parts = [part("a", 331, {0.5: 0.1, 0.9: 0.9}), part("b", 1013, {0.5: 0.02, 0.9: 0.2}), part("c", 607, {0.5: 0.3, 0.9: 1.0})]
    levels = choose(parts, 0.6)
    removed = sum(p.n_weights * level for p, level in zip(parts, levels, strict=True)) / 1951
    assert 0.594 < removed < 0.606
    assert levels[1] > levels[2]


def test_the_entry_is_one_of_a_suite() -> None:
    """What is printed reads as a chain over the parts and a cell of one level, and says what it removes."""
    parts = [part("*.layers.0.*", 100, {0.9: 0.5}), part("*.layers.1.*", 300, {0.9: 0.1})]
    text = entry("tiny-decoder", "l1_per_matrix", parts, [0.3, 0.7], 0.6)
    chain, even = (expand("here", {k: v for k, v in table.items() if k != "models"}) for table in tomllib.loads(text)["compressions"])
    assert [(step.scope, step.level) for step in chain[0].steps] == [("*.layers.0.*", 0.3), ("*.layers.1.*", 0.7)]
    assert even[0].id == "l1_per_matrix--overall--s0.6"
    assert "# 0.600 of the weights; sum of costs 0.244, at one level 0.400" in text


def store(root: Path, cell: str, right: np.ndarray, ids: np.ndarray, scope: str = "") -> None:
    """Write a stored run."""
    n = len(ids)
    examples = Examples(ids=ids, groups=np.full(n, "g"), hashes=np.arange(n, dtype=np.uint32), arrays={"p1": right})
    score = ProbeScore(probe="facts", version=1, metric="p1", metrics={}, floors={"p1": 0.0}, trivial={}, n=n, examples=examples)
    rest = {"n_matrices": 1, "n_zeros_before": 0, "n_zeros": 1, "n_changed": 1, "asked": 0.5, "achieved": 0.5, "bits_per_weight": 16.0}
    steps = (StepReport(method="l1_per_matrix", scope=scope, n_weights=100, **rest),) if scope else ()
    measurement = Measurement(
        cell=cell,
        dtype="bfloat16",
        scores=(score,),
        compression=CompressionReport(steps=steps, n_body=200, n_total=300),
        timing=Timing(seconds={}),
        fingerprint={"blocking": {}, "noted": {}},
    )
    BaselineStore(root).write(measurement, model="tiny-decoder")


def test_a_sweep_looks_at_one_half_of_the_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is lost on the other half counts for nothing; whole scopes, norms and levels without a stored run are left out."""
    suite = tmp_path / "s.toml"
    suite.write_text(SUITE, encoding="utf-8")
    ids = np.asarray([f"q{i:03d}" for i in range(200)])
    half = looked_at(ids)
    root = tmp_path / "baselines"
    store(root, "dense", np.ones(200, np.bool_), ids)
    cells = {(step.scope, step.level): spec.id for spec in expand("s", tomllib.loads(SUITE)["compressions"][0]) for step in spec.steps}
    store(root, cells["*.layers.0.*", 0.5], half, ids, "*.layers.0.*")
    store(root, cells["*.layers.1.*", 0.5], ~half, ids, "*.layers.1.*")
    for scope in ("overall", "*norm.weight"):
        store(root, cells[scope, 0.5], half, ids, scope)
    parts = sweep(root, suite, "tiny-decoder", "l1_per_matrix", "bfloat16")
    assert {p.scope: p.costs for p in parts} == {"*.layers.0.*": {0.5: 0.0}, "*.layers.1.*": {0.5: 1.0}}
    assert main(["tiny-decoder", "--level", "0.3", "--suite", str(suite), "--baselines", str(root)]) == 0
    assert 'scope = "*.layers.0.*", sparsity = 0.5' in capsys.readouterr().out
    for bad in ("0.5", "0"):
        with pytest.raises(SystemExit):
            main(["tiny-decoder", "--level", bad, "--suite", str(suite), "--baselines", str(root)])
        assert "expected one between 0 and 0.5, the highest of the sweep" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["tiny-encoder", "--level", "0.3", "--suite", str(suite), "--baselines", str(root)])
    assert "got 0 parts of tiny-encoder with stored runs, expected two or more" in capsys.readouterr().err
