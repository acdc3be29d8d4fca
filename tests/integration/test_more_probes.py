"""A suite that gains a probe: the stored runs lack it, one option records it alone, and means are judged beside outcomes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workspace import CELLS, last_line

from pytest_kick.infos import MeanInfo, ProbeInfo
from pytest_kick.registry import PROBES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workspace import Workspace

PLUGIN = """
import numpy as np
from pytest_kick.identity import content_hash
from pytest_kick.probes.assemble import assembled


class Norms:
    version = 1

    def __init__(self, context):
        self.spec = context.spec

    def run(self, model, *, limit=None, seed=0, batch_size=None, progress=None):
        import torch
        named = [(name, p.detach().float()) for name, p in model.module.named_parameters() if p.ndim == 2][:20]
        nats = np.asarray([float(p.square().mean().sqrt()) for _, p in named])
        return assembled(self.spec, version=1, ids=[name for name, _ in named], groups=["all"] * len(named),
                         hashes=[content_hash(name) for name, _ in named], arrays={"nats": -nats}, floors={"nats": 100.0})
"""
INFO = ProbeInfo(
    name="norms",
    target="norms_probe:Norms",
    summary="size of the weights, as a loss",
    metric="nats",
    means=(MeanInfo(name="nats", kind="loss"),),
    params=(("power", 2),),
)
TWO = ('models = ["tiny-decoder"]', 'models = ["tiny-decoder"]\nprobes = ["facts", "norms"]')
RATIO = '\n[[budgets]]\nprobe = "norms"\nratio = 1.5\n'


@pytest.fixture(autouse=True)
def norms(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Register the probe `norms`."""
    (workspace.path / "norms_probe.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workspace.path))
    restore = PROBES.snapshot()
    PROBES.register(INFO)
    yield
    restore()


def test_it_is_missing_until_it_is_recorded_alone(workspace: Workspace) -> None:
    """Every cell says which probe it lacks; `--kick-update-new-only` asks that one alone, and what stood stays as it was."""
    before = {cell: workspace.read(str(workspace.baseline(cell)))["probes"]["facts"] for cell in CELLS}
    workspace.suite(RATIO, *TWO)
    result = workspace.run()
    result.assert_outcomes(failed=len(CELLS))
    result.stdout.fnmatch_lines(["*dense.json: baseline: got none of norms (missing), expected the stored run of each probe*"])
    document = workspace.document("--kick-update-new-only")
    assert {tuple(score["probe"] for score in cell["measurement"]["scores"]) for cell in document["cells"]} == {("norms",)}
    after = {cell: workspace.read(str(workspace.baseline(cell)))["probes"] for cell in CELLS}
    assert {cell: probes["facts"] for cell, probes in after.items()} == before
    assert all(probes.keys() == {"facts", "norms"} for probes in after.values())
    green = workspace.run()
    green.assert_outcomes(passed=len(CELLS))
    assert " 5 pass" in last_line(green)


def test_a_mean_is_judged_beside_the_facts(workspace: Workspace) -> None:
    """A budget on a ratio turns cells red; the table has a row for each probe, the failure names the ratio and its limit."""
    workspace.suite(RATIO.replace("1.5", "1.0001"), *TWO)
    workspace.run("--kick-update-new-only")
    result = workspace.run("-k", "overall--s0.6 or dense")
    result.assert_outcomes(passed=1, failed=1)
    assert any(line.split()[:4] == ["l1_global", "overall", "s0.6", "norms"] for line in result.outlines)
    result.stdout.fnmatch_lines(["*ratio*nats: dense -*, 90% interval *", "*budget: at most, times dense, 1.000: FORGOT*"])
    result.stdout.fnmatch_lines(["*of * examples worse, * better"])
    assert any("FORGOT" in line for line in result.outlines)


def test_suites_may_ask_different_probes_of_one_cell(workspace: Workspace) -> None:
    """Two suites over the same cells, one with a probe more: each cell's probes are asked once, and both are judged."""
    workspace.suite(RATIO, *TWO, name="more")
    workspace.run("--kick-update-new-only")
    result = workspace.run("-v")
    result.assert_outcomes(passed=2 * len(CELLS))


def test_a_parameter_makes_another_probe(workspace: Workspace) -> None:
    """A probe with a parameter has its own id, in stored runs and budgets."""
    workspace.suite("", 'models = ["tiny-decoder"]', 'models = ["tiny-decoder"]\nprobes = [{probe = "norms", power = 3}]')
    document = workspace.document("--kick-update-new-only")
    assert {score["probe"] for cell in document["cells"] for score in cell["measurement"]["scores"]} == {"norms--power-3"}
    workspace.run().assert_outcomes(passed=len(CELLS))
