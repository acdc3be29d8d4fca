"""The methods llm_int8 and smoothquant: weights and inputs against NumPy and against bitsandbytes and torchao, and what is refused."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_zoo import shipped
from torch import nn
from torchao.prototype.smoothquant import SmoothQuantConfig
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

from pytest_kick.calibration import make_batches, run_dense
from pytest_kick.compress import Calibrator, Targets, activations, compress_, finish_, library_import
from pytest_kick.compress.activations import RoundBelow, RoundSmoothed
from pytest_kick.compress.inputs import Inputs, calibration_of
from pytest_kick.compress.targets import Target
from pytest_kick.errors import CompressionError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.matrices import Matrix
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pathlib import Path

Load = Callable[[str], LoadedModel]
Run = Callable[[LoadedModel], torch.Tensor]
KINDS = ("llama", "bert", "albert", "t5", "gpt2", "neox")
DATA = (("source", "statements"), ("count", 24), ("length", 32))


def step(method: str, scope: str = "overall", **params: Any) -> CompressionStep:
    """Make one step."""
    return CompressionStep(method=method, scope=scope, level=8, params=tuple(params.items()))


def smooth(scope: str = "overall", **params: Any) -> CompressionStep:
    """Make a step of smoothquant on a little data."""
    return CompressionStep(method="smoothquant", scope=scope, level=8, params=(*params.items(), *DATA))


def spec(*steps: CompressionStep) -> CompressionSpec:
    """Make a compression."""
    return CompressionSpec(steps=steps)


def matrices(model: LoadedModel, scope: str = "overall") -> dict[str, np.ndarray]:
    """Copy the matrices of a scope, `(out, in)`."""
    chosen = select(model.module, model.family, scope)
    return {m.name: m.read(model.module.get_parameter(m.parameter).detach()).numpy().copy() for m in chosen}


def rounded(x: np.ndarray, threshold: float, *, batch: bool) -> np.ndarray:
    """Round tokens `(tokens, in)` as the paper says, token by token."""
    found = x.copy()
    columns = (np.abs(x) >= threshold).any(axis=0)
    for token, out in zip(x, found, strict=True):
        plain = np.abs(token) < threshold
        size = np.abs(token[plain]).max() / 127
        chosen = ~columns if batch else plain
        out[chosen] = np.round(token[chosen] / size) * size
    return found


def tokens(n: int, n_in: int, seed: int = 0) -> torch.Tensor:
    """Return tokens with a few outliers in some columns."""
    x = torch.randn(n, n_in, generator=torch.Generator().manual_seed(seed))
    x[::2, 3] = 9.0
    x[1, n_in - 1] = -7.5
    return x


@pytest.mark.parametrize("batch", [False, True])
def test_inputs_by_numpy(batch: bool) -> None:
    """Outliers stay bit for bit, each other number goes to the nearest of its token's grid, whatever the shape."""
    x = tokens(6, 20)
    hook = RoundBelow(threshold=6.0, batch=batch)
    got = hook(nn.Identity(), (x.view(2, 3, 20), "more"))
    assert got[1] == "more"
    assert got[0].shape == (2, 3, 20)
    assert np.allclose(got[0].reshape(6, 20), rounded(x.numpy(), 6.0, batch=batch), atol=1e-6)
    assert got[0].reshape(6, 20)[::2, 3].eq(9.0).all()
    assert hook.rounded(x.bfloat16()).dtype == torch.bfloat16
    assert hook.rounded(torch.zeros(2, 20)).eq(0).all()


def test_tokens_do_not_depend_on_each_other() -> None:
    """Token by token what else is in a batch changes nothing; by columns of the batch it does."""
    x = tokens(6, 20)
    for batch in (False, True):
        hook = RoundBelow(threshold=6.0, batch=batch)
        alone = torch.cat([hook.rounded(row[None]) for row in x])
        assert alone.equal(hook.rounded(x)) is not batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["attention", "overall", "head"])
def test_int8_of_every_family(loaded: Load, logits: Run, kind: str, scope: str) -> None:
    """Weights are the nearest of 255 per row, layers see rounded inputs, logits are near the dense ones, and fresh_ undoes all."""
    model = loaded(kind)
    dense, before = matrices(model, scope), logits(model)
    case = spec(step("llm_int8", scope))
    (report,) = compress_(model, case).steps
    for name, new in matrices(model, scope).items():
        size = np.abs(dense[name]).max(axis=1, keepdims=True) / 127
        assert np.allclose(new, np.round(dense[name] / size) * size, atol=1e-6)
    rows = sum(m.shape[0] for m in dense.values())
    assert report.bits_per_weight == pytest.approx(8 + rows * 32 / report.n_weights)
    weights_only = logits(model)
    model.cast_(torch.float32)
    finish_(model, case)
    after = logits(model)
    assert not after.equal(weights_only)
    assert float((after - before).norm() / before.norm()) < 0.3
    model.fresh_()
    assert logits(model).equal(before)
    assert all(np.array_equal(values, dense[name]) for name, values in matrices(model, scope).items())


def test_a_layer_by_numpy(loaded: Load) -> None:
    """What a compressed layer gives is the product of the rounded weights and the rounded inputs."""
    model = loaded("gpt2")  # whose layers are stored transposed, queries, keys and values as one
    name = "transformer.h.0.attn.c_attn"
    case = spec(step("llm_int8", "attention", threshold=3.0))
    compress_(model, case)
    model.cast_(torch.float32)
    finish_(model, case)
    layer = model.module.get_submodule(name)
    x = tokens(5, 32)
    weight = layer.weight.detach().numpy().astype(np.float64)
    want = rounded(x.double().numpy(), 3.0, batch=False) @ weight + layer.bias.detach().numpy()
    assert np.allclose(layer(x).detach(), want, atol=1e-4)
    model.fresh_()


def one_layer(layer: nn.Linear, made: CompressionStep) -> tuple[torch.Tensor, Any]:
    """Compress one layer, and return its weights and the hook on its inputs."""
    rows, columns = layer.weight.shape
    matrix = Matrix(name="one", module="one", parameter="one.weight", role="ffn", shape=(rows, columns))
    item = Target(matrix=matrix, weight=layer.weight.detach().clone(), layer=layer)
    targets = Targets(items=(item,), n_body=item.weight.numel(), n_attention=0)
    activations.llm_int8(targets, made)
    return item.weight, targets.hooks["one"]


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="pip install 'pytest-kick[bnb]'")
@pytest.mark.parametrize("threshold", [6.0, 2.0, 0.0])
def test_as_bitsandbytes(threshold: float) -> None:
    """Its layer gives the same: of a whole batch by columns of the batch, of one token in either case, within its float16."""
    library_import.bitsandbytes()
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(1)
    layer = nn.Linear(48, 32, bias=False)
    layer.weight = nn.Parameter(layer.weight.detach().half().float(), requires_grad=False)  # it takes weights through float16
    theirs = bnb.nn.Linear8bitLt(48, 32, bias=False, has_fp16_weights=False, threshold=threshold)
    theirs.weight = bnb.nn.Int8Params(layer.weight.detach().clone(), requires_grad=False, has_fp16_weights=False)
    theirs = theirs.to("cpu").eval()  # in training it would not round inputs
    x = tokens(7, 48).half().float()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that inputs are cast to float16
        together, alone = theirs(x), torch.cat([theirs(row[None]) for row in x])
    room = 2e-3 * float(together.abs().max())
    dense = nn.functional.linear(x, layer.weight)
    assert float((together - dense).abs().max()) > 2 * room
    for columns in ("batch", "token"):
        weight, hook = one_layer(layer, step("llm_int8", threshold=threshold, columns=columns))
        got = nn.functional.linear(hook(layer, (x,))[0], weight)
        each = torch.cat([nn.functional.linear(hook(layer, (row[None],))[0], weight) for row in x])
        assert float((each - alone).abs().max()) < room
        assert float((got - together).abs().max()) < room or columns == "token"


def read(model: LoadedModel, cache: Path) -> dict[str, torch.Tensor]:
    """Return name of a matrix -> all that it reads in the dense model, `(tokens, in)`, by a pass of its own."""
    chosen = select(model.module, model.family, "overall", bits=True)
    data = Calibrator(cache=cache).data(model, calibration_of(smooth()))
    seen: dict[str, list[torch.Tensor]] = {}
    keys = run_dense(model.module, make_batches(data.samples), chosen, lambda key, x: seen.setdefault(key, []).append(x.clone()))
    return {name: torch.cat(seen[key]) for name, key in keys.items()}


@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_as_torchao(model: LoadedModel, cache: Path, alpha: float) -> None:
    """On the same calibration each layer has torchao's factors, and gives what its int8 kernel gives, with the inputs it saw."""
    seen = read(model, cache)
    layers = {m.name: m for m in select(model.module, model.family, "overall", bits=True)}
    theirs = {}
    for name, matrix in layers.items():
        dense = model.module.get_submodule(matrix.module)
        box = nn.Sequential(nn.Linear(matrix.shape[1], matrix.shape[0], bias=False))
        box[0].weight = nn.Parameter(dense.weight.detach().clone(), requires_grad=False)
        base = Int8DynamicActivationInt8WeightConfig()
        quantize_(box, SmoothQuantConfig(base, step="prepare", alpha=alpha))
        box(seen[name][None])
        quantize_(box, SmoothQuantConfig(base, step="convert", alpha=alpha), filter_fn=lambda child, _: hasattr(child, "obs"))
        theirs[name] = box(seen[name][None, :64])[0]
    case = spec(smooth(alpha=alpha))
    compress_(model, case, Calibrator(cache=cache))
    model.cast_(torch.float32)
    finish_(model, case)
    for name, matrix in layers.items():
        layer = model.module.get_submodule(matrix.module)
        bias = 0 if layer.bias is None else layer.bias
        got = layer(seen[name][:64]) - bias
        error = float((got - theirs[name]).norm() / theirs[name].norm())
        assert error < 2e-3, name  # a code apart where a number lies between two, of an error of 1e-2 by rounding
    model.fresh_()


def test_smoothing_by_numpy(model: LoadedModel, cache: Path) -> None:
    """Factors are max|x|**a / max|w|**(1 - a), weights lie on the int8 grids of their rows times them; what they cost is counted."""
    seen, dense = read(model, cache), matrices(model)
    (report,) = compress_(model, spec(smooth()), Calibrator(cache=cache)).steps
    side = 0
    for name, new in matrices(model).items():
        factor = np.sqrt(np.abs(seen[name].numpy()).max(axis=0) / np.abs(dense[name]).max(axis=0))
        scaled, size = new * factor, np.abs(dense[name] * factor).max(axis=1, keepdims=True) / 127.5
        codes = scaled / size
        assert np.abs(codes - np.round(codes)).max() < 2e-3
        assert np.abs(scaled - dense[name] * factor).max() <= 0.502 * size.max()
        side += size.size * 32 + factor.size * 16
    assert report.bits_per_weight == pytest.approx(8 + side / report.n_weights)
    assert report.calibration
    model.fresh_()


def test_smoothing_loses_less_where_inputs_have_outliers() -> None:
    """With large inputs in one column, rounding after smoothing is nearer than rounding before it."""
    torch.manual_seed(0)
    x, weight = torch.randn(64, 32), torch.randn(16, 32)
    x[:, 5] *= 80
    factor = (x.abs().amax(dim=0) / weight.abs().amax(dim=0)).sqrt()
    want = x @ weight.T
    errors = []
    for by in (torch.ones(32), factor):
        rounded_inputs = RoundSmoothed(factor=by).rounded(x)
        errors.append(float((rounded_inputs @ weight.T - want).norm()))
    assert errors[1] < errors[0] / 3


def refused(model: LoadedModel, cache: Path, *steps: CompressionStep) -> str:
    """Return why a compression is refused."""
    model.fresh_()
    with pytest.raises(CompressionError) as caught:
        compress_(model, spec(*steps), Calibrator(cache=cache))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_inputs_are_rounded_once(loaded: Load, cache: Path) -> None:
    """A second step that rounds inputs is refused, whichever comes first; a layer is rounded as a whole; experts are no layers."""
    model = shipped("tiny-decoder", cache)
    once = "got inputs that an earlier step rounds, expected one rounding. Leave one of the two steps out."
    assert once in refused(model, cache, step("llm_int8"), step("dynamic_int8"))
    assert once in refused(model, cache, step("llm_int8"), step("quantize_dynamic"))
    assert once in refused(model, cache, step("llm_int8"), step("llm_int8", threshold=3.0))
    assert once in refused(model, cache, smooth(), step("llm_int8"))
    assert "expected no rounding after it" in refused(model, cache, step("dynamic_int8"), step("llm_int8"))
    assert "got a part of a layer" in refused(loaded("gpt2"), cache, step("llm_int8", "*.c_attn.q"))
    assert "got a module that is no linear layer" in refused(loaded("mixtral"), cache, step("llm_int8", "ffn"))


def _bent(targets: Targets) -> None:
    targets.items[0].weight.mul_(1 + 1e-2 * torch.rand(targets.items[0].weight.shape[1]))


def _forgotten(targets: Targets) -> None:
    targets.hooks.pop(targets.items[0].matrix.module)


def _unrecorded(targets: Targets) -> None:
    targets.formats.pop(targets.items[0].matrix.name)


def _idle(targets: Targets) -> None:
    targets.hooks[targets.items[0].matrix.module] = lambda _, inputs: inputs


def _other(targets: Targets) -> None:
    hook = RoundBelow(threshold=1e-3, batch=False)
    targets.hooks[targets.items[0].matrix.module] = hook


@pytest.mark.parametrize("method", ["llm_int8", "smoothquant"])
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (_bent, "got weights off the int8 grid of their row"),
        (_forgotten, "got no hook on the inputs"),
        (_unrecorded, "got no int8 rows recorded"),
        (_idle, "got inputs that are not rounded as asked"),
        (_other, "got inputs that are not rounded as asked"),
    ],
)
def test_the_check_refuses(cache: Path, monkeypatch: pytest.MonkeyPatch, method: str, fault: Any, found: str) -> None:
    """Whatever a method does wrong is an error that names the matrix."""
    right = getattr(activations, method)

    def wrong(targets: Targets, made: CompressionStep, *inputs: Inputs) -> None:
        right(targets, made, *inputs)
        fault(targets)

    monkeypatch.setattr(activations, method, wrong)
    made = smooth("attention") if method == "smoothquant" else step(method, "attention")
    assert f"model.layers.0.self_attn.q_proj: {found}" in refused(shipped("tiny-decoder", cache), cache, made)
