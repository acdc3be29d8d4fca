"""AWQ: the search against NumPy and torchao, whole models of each family, and what the check refuses."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_zoo import shipped
from torchao.prototype.awq.core import AWQObserver
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

from pytest_kick.calibration import make_batches, run_dense
from pytest_kick.compress import Calibrator, Targets, awq, compress_
from pytest_kick.compress.formats import Grid
from pytest_kick.compress.inputs import Inputs, calibration_of
from pytest_kick.compress.library_formats import Scaled
from pytest_kick.compress.rounding import PER_CHANNEL
from pytest_kick.compress.solvers import Moments, output_error
from pytest_kick.compress.solvers.awq import search, shrink
from pytest_kick.errors import CompressionError
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

DATA = (("source", "statements"), ("count", 12), ("length", 32))
METHOD = awq.awq


def inputs(n: int, n_in: int, seed: int = 0) -> torch.Tensor:
    """Return inputs of which a few columns are large."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_in, generator=generator) * (5 * torch.rand(n_in, generator=generator).pow(4) + 0.1)


def rounding(bits: int, group: int, *, symmetric: bool = True) -> Callable[[torch.Tensor], Callable[[torch.Tensor], torch.Tensor]]:
    """Return what finds grids."""

    def fit(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        grid = Grid.of(weight, bits=bits, group=group, symmetric=symmetric)

        def round_to(other: torch.Tensor) -> torch.Tensor:
            values = other.clone()
            grid.round_(values)
            return values

        return round_to

    return fit


def moments(x: torch.Tensor) -> Moments:
    """Return the moments of some inputs."""
    found = Moments(x.shape[1], magnitudes=True)
    found.add(x)
    return found


def by_numpy(weight: np.ndarray, x: np.ndarray, bits: int, group: int) -> tuple[np.ndarray, list[float]]:
    """Search as the paper says, on the inputs themselves."""
    mean, losses, factors = np.abs(x).mean(axis=0), [], []
    for ratio in np.arange(20) / 20:
        factor = np.maximum(mean**ratio, 1e-4)
        factor /= np.sqrt(factor.max() * factor.min())
        scaled = weight * factor
        for start in range(0, weight.shape[1], group):
            part = scaled[:, start : start + group]
            step = np.abs(part).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 0.5)
            part[:] = np.clip(np.round(part / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
        losses.append(float((((scaled / factor - weight) @ x.T) ** 2).sum()))
        factors.append(factor)
    return factors[int(np.argmin(losses))], losses


@pytest.mark.parametrize(("bits", "group", "seed"), [(2, 16, 0), (3, 16, 1), (4, 10, 2), (4, 48, 3)])
def test_the_search_by_numpy(bits: int, group: int, seed: int) -> None:
    """The factors are those whose rounding errs least on the inputs, of twenty powers of their mean magnitudes."""
    x = inputs(100, 48, seed)
    weight = torch.randn(20, 48, generator=torch.Generator().manual_seed(seed + 9))
    seen = moments(x)
    got = search(weight, seen.means, seen.hessian, rounding(bits, group))
    want, losses = by_numpy(weight.double().numpy(), x.double().numpy(), bits, group)
    assert np.allclose(got, want, rtol=1e-4)
    assert min(losses) < losses[0]


@pytest.mark.parametrize("bits", [4, 8])
def test_the_search_as_torchao(bits: int) -> None:
    """On the same weights and inputs torchao's observer finds the same factors."""
    x = inputs(200, 128)
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(1))
    base = IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(64)) if bits == 4 else Int8WeightOnlyConfig()
    observer = AWQObserver(weight, None, base)
    observer(x[None], None)
    seen = moments(x)
    got = search(weight, seen.means, seen.hessian, rounding(bits, 64 if bits == 4 else PER_CHANNEL))
    assert torch.allclose(got, observer.calculate_qparams(), rtol=1e-5)


def test_dead_inputs_and_wrong_ones() -> None:
    """Inputs that are always zero have the smallest factor, above zero; moments of another matrix are refused."""
    x = inputs(50, 24)
    x[:, 3] = 0
    seen = moments(x)
    weight = torch.randn(8, 24, generator=torch.Generator().manual_seed(2))
    got = search(weight, seen.means, seen.hessian, rounding(3, 8))
    assert got.isfinite().all()
    assert 0 < got[3] <= got.min()
    with pytest.raises(
        CompressionError, match=r"^calibration: inputs: got means and Hessian of shapes \(24,\) and \(24, 24\), expected 25"
    ):
        search(torch.randn(8, 25), seen.means, seen.hessian, rounding(3, 8))


def test_clipping_by_numpy() -> None:
    """Each group is clipped where its own part of the output errs least."""
    x = inputs(60, 20)
    weight = torch.randn(6, 20, generator=torch.Generator().manual_seed(3)).pow(3)
    parts = (weight[:, :16].unflatten(1, (2, 8)), weight[:, 16:].unsqueeze(1))

    def round_to(part: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        step = part.abs().amax(dim=-1, keepdim=True) * share / 3.5
        return (part / step).round().clamp(-4, 3) * step

    found = shrink(parts, moments(x).hessian, round_to)
    columns = x.double().numpy()
    for (a, b), got in zip([(0, 8), (8, 16), (16, 20)], [found[0][:, 0], found[0][:, 1], found[1][:, 0]], strict=True):
        losses = []
        for share in 1 - 0.05 * np.arange(10):
            part = weight[:, a:b].double().numpy()
            step = np.abs(part).max(axis=1, keepdims=True) * share / 3.5
            losses.append((((np.clip(np.round(part / step), -4, 3) * step - part) @ columns[:, a:b].T) ** 2).sum(axis=1))
        assert np.allclose(got[:, 0], 1 - 0.05 * np.argmin(losses, axis=0), atol=1e-6)
        assert (np.argmin(losses, axis=0) > 0).any()


def step(level: float, scope: str = "overall", **params: Any) -> CompressionStep:
    """Make a step on a little data."""
    return CompressionStep(method="awq", scope=scope, level=level, params=(*params.items(), *DATA))


def compress(model: LoadedModel, cache: Path, *steps: CompressionStep) -> Any:
    """Compress the dense model and return the report."""
    model.fresh_()
    return compress_(model, CompressionSpec(steps=steps), Calibrator(cache=cache))


def weights(model: LoadedModel, scope: str = "overall") -> dict[str, torch.Tensor]:
    """Return name -> `(out, in)` as it is now."""
    chosen = select(model.module, model.family, scope, bits=True)
    return {m.name: m.read(model.module.get_parameter(m.parameter).detach()).clone() for m in chosen}


def hessians(model: LoadedModel, cache: Path) -> dict[str, torch.Tensor]:
    """Return name -> Hessian of the dense model's inputs, by a pass of its own."""
    chosen = select(model.module, model.family, "overall", bits=True)
    found: dict[str, Moments] = {}

    def add(key: str, x: torch.Tensor) -> None:
        found.setdefault(key, Moments(x.shape[-1], dtype=torch.float64)).add(x)

    data = Calibrator(cache=cache).data(model, calibration_of(step(4)))
    keys = run_dense(model.module, make_batches(data.samples), chosen, add)
    return {name: found[key].hessian for name, key in keys.items()}


@pytest.mark.parametrize(("bits", "symmetric"), [(2, True), (3, False)])
def test_every_layer_errs_less_than_rounding(model: LoadedModel, cache: Path, bits: int, symmetric: bool) -> None:
    """On the inputs of the dense model no layer's output errs more than with rtn, and many less; with clipping fewer still in all."""
    dense, seen = weights(model), hessians(model, cache)
    rtn = CompressionStep(method="rtn", scope="overall", level=bits, params=(("group", 48), ("symmetric", symmetric)))
    losses = {}
    for name, made in {
        "rtn": rtn,
        "awq": step(bits, group=48, symmetric=symmetric),
        "clipped": step(bits, group=48, symmetric=symmetric, clip=True),
    }.items():
        compress(model, cache, made)
        now = weights(model)
        losses[name] = np.asarray([output_error(dense[label], now[label], seen[label]) for label in dense])
    assert (losses["awq"] <= losses["rtn"] * 1.0001).all()
    assert losses["awq"].sum() < 0.995 * losses["rtn"].sum()
    assert losses["clipped"].sum() < losses["awq"].sum() * 1.05
    model.fresh_()
    assert all(weights(model)[label].equal(values) for label, values in dense.items())


def test_bits_and_report(model: LoadedModel, cache: Path) -> None:
    """Factors cost 16 bits for each input of each matrix; with the dense model's inputs one pass serves all."""
    (report,) = compress(model, cache, step(4, group=0)).steps
    shapes = [value.shape for value in weights(model).values()]
    side = 16 * sum(rows + columns for rows, columns in shapes)
    assert report.bits_per_weight == pytest.approx(4 + side / report.n_weights)
    assert (report.asked, report.achieved) == (4, 4)
    assert report.calibration


def test_zeros_stay(model: LoadedModel, cache: Path) -> None:
    """Pruned weights are zero after it, and a chain in which nothing would change is refused as ever."""
    pruned, rounded = compress(model, cache, CompressionStep(method="l1_per_matrix", scope="overall", level=0.5), step(4)).steps
    assert rounded.n_zeros >= pruned.n_zeros == rounded.n_zeros_before


def test_compressed_inputs(model: LoadedModel, cache: Path) -> None:
    """With `propagate = "compressed"` later blocks see what compressed ones give, and find other values."""
    compress(model, cache, step(3))
    dense = weights(model)
    compress(model, cache, step(3, propagate="compressed"))
    assert any(not dense[name].equal(value) for name, value in weights(model).items())


def _shift(form: Scaled) -> Scaled:
    return dataclasses.replace(form, factor=form.factor * (1 + 0.01 * torch.arange(form.factor.numel())))


def _negative(form: Scaled) -> Scaled:
    return dataclasses.replace(form, factor=-form.factor)


def _finer(form: Scaled) -> Scaled:
    return dataclasses.replace(form, grid=dataclasses.replace(form.grid, scale=form.grid.scale / 2))


def _broken(form: Scaled) -> Scaled:
    return dataclasses.replace(form, grid=dataclasses.replace(form.grid, scale=form.grid.scale * 0))


def _other_group(form: Scaled) -> Scaled:
    return dataclasses.replace(form, grid=dataclasses.replace(form.grid, group=16))


def _plain(form: Scaled) -> Any:
    return form.grid


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (_shift, "got weights (off their grid|moved to a value that is not the nearest)"),
        (_negative, "got factors that are none"),
        (_finer, "got weights (off their grid|moved to a value)"),
        (_broken, "got steps or zero points that are none"),
        (_other_group, "got no such format recorded"),
        (_plain, "got no such format recorded"),
    ],
)
def test_the_check_refuses_records(cache: Path, monkeypatch: pytest.MonkeyPatch, record: Any, found: str) -> None:
    """A record that the weights do not bear out is an error that names the matrix."""

    def wrong(targets: Targets, made: CompressionStep, given: Inputs) -> None:
        METHOD(targets, made, given)
        name = targets.items[0].matrix.name
        form = targets.formats[name]
        assert isinstance(form, Scaled)
        targets.formats[name] = record(form)

    monkeypatch.setattr(awq, "awq", wrong)
    with pytest.raises(CompressionError, match=rf": model\.layers\.0\.self_attn\.q_proj: {found}"):
        compress(shipped("tiny-decoder", cache), cache, step(4, "attention"))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda weight: weight.mul_(1.003), "got weights off their grid"),
        (lambda weight: weight.neg_(), "got weights (off their grid|moved to a value)"),
        (lambda weight: weight[0].zero_(), "got weights moved to a value"),
    ],
)
def test_the_check_refuses_weights(cache: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, found: str) -> None:
    """So are weights off their grid, or not the nearest on it."""

    def wrong(targets: Targets, made: CompressionStep, given: Inputs) -> None:
        METHOD(targets, made, given)
        spoil(targets.items[0].weight)

    monkeypatch.setattr(awq, "awq", wrong)
    with pytest.raises(CompressionError, match=rf": model\.layers\.0\.self_attn\.q_proj: {found}"):
        compress(shipped("tiny-decoder", cache), cache, step(4, "attention"))


def test_the_check_refuses_wide_grids(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grid of twice the step has all weights on it and uses half its codes: that is one bit less than asked."""
    monkeypatch.setattr(awq, "Grid", WideGrid)
    with pytest.raises(CompressionError, match=r": got a grid wider than its weights, so fewer bits"):
        compress(shipped("tiny-decoder", cache), cache, step(4, "attention"))


class WideGrid:
    """Find grids of twice the step."""

    @staticmethod
    def of(weight: torch.Tensor, **params: Any) -> Grid:
        """Return one."""
        found = Grid.of(weight, **params)
        return dataclasses.replace(found, scale=found.scale * 2)
