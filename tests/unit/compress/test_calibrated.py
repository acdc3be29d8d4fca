"""Calibrated methods on the shipped models: what they achieve, what they are shown, and what the check refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_zoo import shipped

from pytest_kick.calibration import make_batches, run_dense
from pytest_kick.compress import Calibrator, calibrated, compress_, inputs
from pytest_kick.compress.inputs import calibration_of
from pytest_kick.compress.solvers import Moments, factorize, solution
from pytest_kick.errors import CompressionError
from pytest_kick.facts import shipped_facts
from pytest_kick.models.scopes import find_matrices
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.compress.targets import Targets
    from pytest_kick.models.loaded import LoadedModel

# In the decoder of a T5, all that does not see the encoder's states.
FIRST_BLOCK = re.compile(
    r"(?:bert\.encoder\.layer|encoder\.block|model\.layers)\.0\.|decoder\.block\.0\.layer\.(?:0\.|1\.EncDecAttention\.q$)"
)
WANDA = calibrated.wanda
DATA = (("source", "statements"), ("count", 48), ("length", 32))


@pytest.fixture
def decoder(cache: Path) -> LoadedModel:
    """Return a decoder, dense."""
    found = shipped("tiny-decoder", cache)
    found.fresh_()
    return found


def step(method: str, level: float, scope: str = "overall", **params: Any) -> CompressionStep:
    """Return a step on a little data."""
    return CompressionStep(method=method, scope=scope, level=level, params=(*params.items(), *DATA))


def compress(model: LoadedModel, cache: Path, *steps: CompressionStep) -> Any:
    """Compress and return the report."""
    return compress_(model, CompressionSpec(steps=steps), Calibrator(cache=cache, facts=(shipped_facts(),)))


def weights(model: LoadedModel, scope: tuple[str, ...] = ("attention", "ffn")) -> dict[str, torch.Tensor]:
    """Return name -> `(out, in)` as it is now."""
    matrices = [m for m in find_matrices(model.module) if m.role in scope]
    return {m.name: m.read(model.module.get_parameter(m.parameter).detach()).clone() for m in matrices}


def hessians(model: LoadedModel, cache: Path) -> dict[str, torch.Tensor]:
    """Return name -> Hessian of the dense model's inputs, float64, by a pass of its own."""
    model.fresh_()
    matrices = tuple(m for m in find_matrices(model.module) if m.role in {"attention", "ffn"})
    data = Calibrator(cache=cache).data(model, calibration_of(step("wanda", 0.5)))
    moments: dict[str, Moments] = {}

    def add(key: str, x: torch.Tensor) -> None:
        moments.setdefault(key, Moments(x.shape[-1], dtype=torch.float64)).add(x)

    keys = run_dense(model.module, make_batches(data.samples), matrices, add)
    return {name: moments[key].hessian for name, key in keys.items()}


def error(model: LoadedModel, dense: dict[str, torch.Tensor], seen: dict[str, torch.Tensor]) -> float:
    """Return the error of all layers' outputs, on the dense model's inputs."""
    now = weights(model)
    return sum(solution.output_error(dense[name], now[name], hessian) for name, hessian in seen.items())


def test_methods_order_as_the_papers_have_it(model: LoadedModel, cache: Path) -> None:
    """On the outputs for the inputs they saw SparseGPT loses less than what changes no survivor, GPTQ less than rounding."""
    dense, seen = weights(model), hessians(model, cache)
    losses = {}
    for name, made in {
        "l1_per_matrix": CompressionStep(method="l1_per_matrix", scope="overall", level=0.5),
        "wanda": step("wanda", 0.5, propagate="dense"),
        "sparsegpt": step("sparsegpt", 0.5, propagate="dense"),
        "rtn": CompressionStep(method="rtn", scope="overall", level=3),
        "gptq": step("gptq", 3, propagate="dense"),
        "in act-order": step("gptq", 3, act_order=True, propagate="dense"),
    }.items():
        model.fresh_()
        compress(model, cache, made)
        losses[name] = error(model, dense, seen)
    assert losses["sparsegpt"] < min(losses["wanda"], losses["l1_per_matrix"])
    assert max(losses["gptq"], losses["in act-order"]) < losses["rtn"]


@pytest.mark.parametrize(("method", "level"), [("wanda", 0.5), ("sparsegpt", 0.5), ("gptq", 3)])
def test_later_blocks_see_what_compressed_ones_give(model: LoadedModel, cache: Path, method: str, level: float) -> None:
    """Both kinds of propagation give the first block the same inputs, and all others different ones."""
    found = {}
    for propagate in ("compressed", "dense"):
        model.fresh_()
        compress(model, cache, step(method, level, propagate=propagate))
        found[propagate] = weights(model)
    equal = {name: torch.equal(value, found["dense"][name]) for name, value in found["compressed"].items()}
    first = {name: same for name, same in equal.items() if FIRST_BLOCK.match(name)}
    assert all(first.values())
    assert len(first) >= 6
    assert not any(same for name, same in equal.items() if name not in first)


def test_wanda_by_hand(decoder: LoadedModel, cache: Path) -> None:
    """With dense inputs each row keeps the weights of largest |w| * norm, the norms taken here by NumPy from another pass."""
    dense, seen = weights(decoder), hessians(decoder, cache)
    decoder.fresh_()
    compress(decoder, cache, step("wanda", 0.6, propagate="dense"))
    for name, now in weights(decoder).items():
        norms = np.sqrt(np.diagonal(seen[name].numpy()))
        scores = np.abs(dense[name].double().numpy()) * norms
        asked = int(0.6 * scores.shape[1])
        kept = np.sort(scores, axis=1)[:, asked:].sum()
        mine = now.numpy() != 0
        assert (mine.sum(1) == scores.shape[1] - asked).all()
        np.testing.assert_allclose((scores * mine).sum(), kept, rtol=1e-6)  # ties aside, the same weights


@pytest.mark.parametrize("method", ["l1_per_matrix", "wanda", "sparsegpt"])
def test_patterns_hold_along_the_inputs(model: LoadedModel, cache: Path, method: str) -> None:
    """2 of each 4 inputs of each row are kept, in every matrix of the scope."""
    made = step(method, 0.5, pattern="2of4")
    made = CompressionStep(method=method, scope="overall", level=0.5, params=made.params[:1]) if method == "l1_per_matrix" else made
    report = compress(model, cache, made)
    for now in weights(model).values():
        groups = now[:, : now.shape[1] // 4 * 4].reshape(len(now), -1, 4)
        assert ((groups != 0).sum(2) == 2).all()
    assert report.steps[0].achieved == pytest.approx(0.5, abs=0.01)


def test_pruned_weights_stay_zero_under_gptq(decoder: LoadedModel, cache: Path) -> None:
    """A chain of SparseGPT and GPTQ is sparse, and its values lie on few levels."""
    report = compress(decoder, cache, step("sparsegpt", 0.5, pattern="2of4"), step("gptq", 4))
    now = weights(decoder)
    assert all((value == 0).float().mean() >= 0.5 for value in now.values())
    assert [made.calibration for made in report.steps] == [report.steps[0].calibration] * 2
    assert report.steps[1].bits_per_weight < 4


def test_the_data_are_told_apart(decoder: LoadedModel, cache: Path) -> None:
    """Another seed is another hash; the same data have the same, whatever the method."""
    first = compress(decoder, cache, step("wanda", 0.5)).steps[0].calibration
    decoder.fresh_()
    same = compress(decoder, cache, step("sparsegpt", 0.5)).steps[0].calibration
    decoder.fresh_()
    other = CompressionStep(method="wanda", scope="overall", level=0.5, params=(*DATA, ("seed", 1)))
    assert len(first) > 8
    assert same == first != compress(decoder, cache, other).steps[0].calibration


def test_a_step_that_comes_twice_sees_each_time_what_stands(decoder: LoadedModel, cache: Path) -> None:
    """With dense passes on disk, the second one is of the model as the first two steps left it."""
    again = step("gptq", 8, scope="attention", propagate="dense")
    between = CompressionStep(method="l1_global", scope="ffn", level=0.5)
    compress(decoder, cache, again, between, step("sparsegpt", 0.5, scope="attention", propagate="dense"), again)
    twice = weights(decoder)
    decoder.fresh_()
    apart = cache / "apart"
    compress(decoder, apart, again, between, step("sparsegpt", 0.5, scope="attention", propagate="dense"), again)
    assert all(torch.equal(value, twice[name]) for name, value in weights(decoder).items())
    assert len(list((apart / "calibration").glob("*/"))) == 3


@pytest.mark.parametrize(("method", "level"), [("sparsegpt", 0.5), ("gptq", 3)])
def test_the_damping_asked_for_is_the_one_used(
    decoder: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch, method: str, level: float
) -> None:
    """Every Hessian of a step is factored with the step's damping, 0.01 where none is named, and the weights hang on it."""
    used: list[float] = []

    def noting(hessian: torch.Tensor, *, damping: float, act_order: bool = False) -> Any:
        used.append(damping)
        return factorize(hessian, damping=damping, act_order=act_order)

    monkeypatch.setattr(inputs, "factorize", noting)
    found = []
    for params, damping in (({}, 0.01), ({"damping": 0.5}, 0.5)):
        decoder.fresh_()
        compress(decoder, cache, step(method, level, **params))
        assert set(used) == {damping}
        used.clear()
        found.append(weights(decoder))
    assert not any(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_without_a_calibrator(decoder: LoadedModel) -> None:
    """A calibrated method says what it lacks."""
    with pytest.raises(CompressionError, match=r"calibration: got no calibrator, expected one .*\.$"):
        compress_(decoder, CompressionSpec(steps=(step("wanda", 0.5),)))


def transposed(targets: Targets, made: CompressionStep, inputs: object) -> None:
    """Keep 2 of each 4 outputs."""
    del made, inputs
    for item in targets.items:
        columns = item.weight.T.contiguous()
        groups = columns[:, : columns.shape[1] // 4 * 4].reshape(len(columns), -1, 4)
        groups[:, :, :2] = 0
        item.weight.copy_(columns.T)


def per_matrix(targets: Targets, made: CompressionStep, inputs: object) -> None:
    """Compare over the whole matrix, not per row."""
    del inputs
    for item in targets.items:
        flat = item.weight.view(-1)
        flat[flat.abs().argsort()[: int(made.level * flat.numel())]] = 0


def compensating(targets: Targets, made: CompressionStep, inputs: Any) -> None:
    """Change what is kept."""
    WANDA(targets, made, inputs)
    for item in targets.items:
        item.weight.mul_(1.01)


@pytest.mark.parametrize(
    ("method", "broken", "params", "says"),
    [
        ("wanda", transposed, {"pattern": "2of4"}, "expected 2 of each 4 kept along the inputs, exactly"),
        ("sparsegpt", transposed, {"pattern": "2of4"}, "expected 2 of each 4 kept along the inputs, exactly"),
        ("wanda", per_matrix, {}, "expected the share 0.5, exactly"),
        ("wanda", compensating, {}, "got survivors whose values changed"),
    ],
)
def test_broken_pruners_are_refused(
    decoder: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch, method: str, broken: Any, params: Any, says: str
) -> None:
    """A pattern along the wrong dimension, rows of unequal count, and changed survivors are errors of the cell."""
    monkeypatch.setattr(calibrated, method, broken)
    with pytest.raises(CompressionError, match=says):
        compress(decoder, cache, step(method, 0.5, **params))


def test_grids_lie_in_one_piece_of_memory(decoder: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps and zero points of a gptq step share one allocation, overlap nowhere, and round the weights onto themselves."""
    real = calibrated.gptq
    kept: list[Targets] = []

    def keep(targets: Targets, step: CompressionStep, inputs: Any) -> None:
        real(targets, step, inputs)
        kept.append(targets)

    monkeypatch.setattr(calibrated, "gptq", keep)
    compress(decoder, cache, step("gptq", 4, group=24, symmetric=False, propagate="dense"))
    grids: list[Any] = [kept[0].formats[item.matrix.name] for item in kept[0].items]
    parts = [tensor for grid in grids for tensor in (grid.scale, grid.zero)]
    assert len({tensor.untyped_storage().data_ptr() for tensor in parts}) == 1
    assert parts[0].untyped_storage().nbytes() == 4 * sum(tensor.numel() for tensor in parts)
    assert len({tensor.data_ptr() for tensor in parts}) == len(parts)
    assert all(grid.holds(item.weight) for grid, item in zip(grids, kept[0].items, strict=True))


def test_a_broken_gptq_is_refused(decoder: LoadedModel, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights off the grid that was recorded are an error."""
    real = calibrated.gptq

    def broken(targets: Targets, made: CompressionStep, inputs: Any) -> None:
        real(targets, made, inputs)
        targets.items[1].weight[0, 0] += 1e-3

    monkeypatch.setattr(calibrated, "gptq", broken)
    with pytest.raises(CompressionError, match="got weights off their grid"):
        compress(decoder, cache, step("gptq", 4))
