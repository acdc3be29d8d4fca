"""Noise on weights: its size, its stream, what the check refuses."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_zoo import ZOO, fresh

from pytest_kick.compress import Targets, compress_, lifecycle, noise
from pytest_kick.errors import CompressionError
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.result import StepReport


def run(model: LoadedModel, sigma: float, scope: str = "overall", **params: Any) -> StepReport:
    """Compress and return the report."""
    step = CompressionStep(method="weight_noise", scope=scope, level=sigma, params=tuple(params.items()))
    return compress_(model, CompressionSpec(steps=(step,))).steps[0]


def added(model: LoadedModel, scope: str = "overall") -> dict[str, np.ndarray]:
    """Return what was added to each matrix, in root mean squares of it."""
    found = {}
    for m in select(model.module, model.family, scope):
        old = m.read(model.dense(m.parameter)).numpy().astype(np.float64)
        new = m.read(model.module.get_parameter(m.parameter).detach()).numpy()
        found[m.name] = (new - old) / np.sqrt((old**2).mean())
    return found


@pytest.mark.parametrize("name", ZOO)
def test_every_matrix_gets_its_own(name: str) -> None:
    """Parts of fused parameters and experts too; biases stay; the report says how much, and 32 bits."""
    model = fresh(name)
    report = run(model, 0.1)
    found = added(model)
    for values in found.values():
        assert np.sqrt((values**2).mean()) == pytest.approx(0.1, rel=6 / np.sqrt(2 * values.size))
    flat = np.concatenate([values.ravel() for values in found.values()])
    assert report.achieved == pytest.approx(np.sqrt((flat**2).mean()), rel=1e-4)
    assert (report.bits_per_weight, report.n_changed, report.n_zeros) == (32, report.n_weights, 0)
    inside = {m.parameter for m in select(model.module, model.family, "overall")}
    assert all(p.detach().equal(model.dense(key)) for key, p in model.module.named_parameters() if key not in inside)
    same = [values for values in found.values() if values.shape == (32, 32)][:2]
    assert len(same) < 2 or abs(np.corrcoef(same[0].ravel(), same[1].ravel())[0, 1]) < 0.2


def test_it_is_gaussian_and_hangs_on_the_seed() -> None:
    """Its quantiles are those of the normal distribution; a seed gives the same again, another one something else; sigma scales it."""
    sample = noise.gaussian(0, "a", 100_000)
    quantiles = np.quantile(sample, [0.00135, 0.15866, 0.5, 0.84134, 0.99865])
    np.testing.assert_allclose(quantiles, [-3, -1, 0, 1, 3], atol=0.1)
    model, found = fresh("LlamaForCausalLM"), []
    for sigma, seed in ((0.1, 0), (0.1, 0), (0.1, 1), (0.2, 0)):
        run(model, sigma, scope="ffn", seed=seed)
        found.append(added(model, "ffn")["model.layers.0.mlp.up_proj"])
        model.fresh_()
    assert np.array_equal(found[0], found[1])
    assert abs(np.corrcoef(found[0].ravel(), found[2].ravel())[0, 1]) < 0.1
    np.testing.assert_allclose(found[3], 2 * found[0], atol=1e-5)


def test_the_stream_is_the_frozen_one() -> None:
    """Marsaglia's polar method on the raw bits of PCG64, done by hand: no version of NumPy may give other numbers."""
    raw = iter(np.random.PCG64([7, zlib.crc32(b"m.weight")]).random_raw(40))
    wanted: list[float] = []
    while len(wanted) < 8:
        x, y = (2 * ((int(next(raw)) >> 11) / 2**53) - 1 for _ in range(2))
        if 0 < x * x + y * y < 1:
            scale = np.sqrt(-2 * np.log(x * x + y * y) / (x * x + y * y))
            wanted += [scale * y, scale * x]
    np.testing.assert_allclose(noise.gaussian(7, "m.weight", 8), wanted, rtol=1e-12)


def leave_one_out(targets: Targets, step: CompressionStep) -> None:
    """Forget the last matrix."""
    noise.weight_noise(Targets(items=targets.items[:-1], n_body=0, n_attention=0), step)


def too_much(targets: Targets, step: CompressionStep) -> None:
    """Add a quarter more."""
    noise.weight_noise(targets, CompressionStep(method=step.method, scope=step.scope, level=1.25 * step.level))


def one_sided(targets: Targets, step: CompressionStep) -> None:
    """Add the same to all."""
    for item in targets.items:
        item.weight.add_(step.level * item.weight.square().mean().sqrt())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (leave_one_out, r"layers\.2\.mlp\.down_proj: got no weight changed, expected noise on every matrix"),
        (too_much, "got noise of another size, expected 0.1 of the matrix's root mean square"),
        (one_sided, "got noise of another size, expected 0.1 .* of mean 0"),
    ],
)
def test_bad_noise_is_refused(monkeypatch: pytest.MonkeyPatch, method: Any, message: str) -> None:
    """A matrix left out, or noise of another size or mean, is an error."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=message):
        run(fresh("LlamaForCausalLM"), 0.1)


def test_noise_that_cannot_be() -> None:
    """Too little to change a float32, too much for one, or after int8 activations: an error each."""
    with pytest.raises(CompressionError, match="got no weight changed"):
        run(fresh("LlamaForCausalLM"), 1e-12)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(CompressionError, match="got NaN or infinite weights"):
        run(fresh("LlamaForCausalLM"), 1e39)
    steps = [CompressionStep(method=method, scope="ffn", level=level) for method, level in (("dynamic_int8", 8), ("weight_noise", 0.1))]
    with pytest.raises(CompressionError, match=r"^weight_noise--ffn--sd0\.1: chain: got .* on the int8 grid"):
        compress_(fresh("LlamaForCausalLM"), CompressionSpec(steps=tuple(steps)))
