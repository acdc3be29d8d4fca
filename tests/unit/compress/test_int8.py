"""Dynamic int8: the numerics on the master, the packed kernels, and chains with pruning."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor

from pytest_kick.compress import Targets, compress_, finish_, int8, lifecycle, quantize
from pytest_kick.errors import CompressionError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

Load = Callable[[str], LoadedModel]
Logits = Callable[[LoadedModel], torch.Tensor]


def spec(*steps: tuple[str, str, float]) -> CompressionSpec:
    """Make a compression of (method, scope, level) steps."""
    return CompressionSpec(steps=tuple(CompressionStep(method=m, scope=s, level=level) for m, s, level in steps))


def awkward() -> torch.Tensor:
    """Return a matrix whose rows have their extreme at either end, are constant, or zero."""
    weight = torch.randn((8, 48), generator=torch.Generator().manual_seed(0)) * 0.1
    weight[0, 3], weight[1, 3], weight[2], weight[3], weight[4] = 0.7, -0.7, 0.0, 0.5, -0.5
    return weight


def test_grid_against_numpy() -> None:
    """Codes and steps follow the definition, derived in NumPy: absmax over 127.5, rounded half to even, clipped."""
    weight = awkward()
    want = np.maximum(np.abs(weight.numpy()).max(axis=1, keepdims=True) / np.float32(127.5), np.finfo(np.float32).eps)
    scale = quantize.row_scale(weight)
    assert np.array_equal(scale.numpy(), want)
    codes = np.clip(np.round(weight.numpy() * (np.float32(1) / want)), -128, 127)
    assert np.array_equal(quantize.to_grid(weight, scale).numpy(), codes)
    assert codes.min() == -128


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_compute_what_torchao_computes(loaded: Load, dtype: torch.dtype) -> None:
    """A packed layer equals the layer that torchao's own quantize_ makes of the dense float32 weight, bit for bit."""
    if not int8.kernel_is_exact():
        pytest.skip("torchao's own product saturates here")
    model = loaded("bert")
    case = spec(("dynamic_int8", "ffn", 8))
    compress_(model, case)
    model.cast_(dtype)
    finish_(model, case)
    ours = model.module.bert.encoder.layer[1].intermediate.dense
    theirs = nn.Linear(32, 48).requires_grad_(requires_grad=False)
    theirs.weight.copy_(model.dense("bert.encoder.layer.1.intermediate.dense.weight"))
    theirs.bias.copy_(model.dense("bert.encoder.layer.1.intermediate.dense.bias"))
    quantize_(theirs, Int8DynamicActivationInt8WeightConfig())
    assert torch.equal(ours.weight.qdata, theirs.weight.qdata)
    assert torch.equal(ours.weight.scale, theirs.weight.scale)
    theirs.bias.data = theirs.bias.data.to(dtype)
    x = torch.randn((3, 5, 32), generator=torch.Generator().manual_seed(1)).to(dtype)
    assert ours(x).dtype == dtype
    assert torch.equal(ours(x), theirs(x))


@pytest.mark.parametrize("kind", ["llama", "bert", "albert", "t5", "gpt2", "neox", "mixtral"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("exact", [True, False])
def test_every_architecture_runs_packed(
    loaded: Load, logits: Logits, monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype, *, exact: bool
) -> None:
    """All matrices are int8 tensors, which hold the master's values; outputs move a little; fresh_ brings the dense ones back."""
    if exact and not int8.kernel_is_exact():
        pytest.skip("torchao's own product saturates here")
    monkeypatch.setattr(int8, "kernel_is_exact", lambda _="cpu": exact)
    model = loaded(kind)
    model.cast_(dtype)
    dense = logits(model)
    model.fresh_()
    case = spec(("dynamic_int8", "overall", 8))
    (step,) = compress_(model, case).steps
    assert 0.9 < step.n_changed / step.n_weights <= 1
    parameters = {m.parameter for m in select(model.module, model.family, "overall")}
    master = {name: model.module.get_parameter(name).detach().clone() for name in parameters}
    model.cast_(dtype)
    finish_(model, case)
    packed = {name: p.data for name, p in model.module.named_parameters() if isinstance(p.data, Int8Tensor)}
    assert packed.keys() == parameters
    for name, tensor in packed.items():
        values = tensor.qdata.float() * tensor.scale
        assert torch.equal(values.t() if values.shape != master[name].shape or kind == "gpt2" else values, master[name])
        assert tensor.dtype == dtype
    now = logits(model)
    assert 1e-4 < float((now - dense).norm() / dense.norm()) < 0.2
    model.fresh_()
    model.cast_(dtype)
    assert torch.equal(logits(model), dense)


def test_the_exact_product_equals_the_kernel(loaded: Load, logits: Logits, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor's product is right, the float32 detour gives the same bits."""
    if not int8.kernel_is_exact():
        pytest.skip("torchao's own product saturates here")
    outputs = []
    for exact in (True, False):
        monkeypatch.setattr(int8, "kernel_is_exact", lambda _="cpu", e=exact: e)
        for kind, dtype in (("bert", torch.float32), ("bert", torch.bfloat16), ("mixtral", torch.bfloat16)):
            model, case = loaded(kind), spec(("dynamic_int8", "overall", 8))
            compress_(model, case)
            model.cast_(dtype)
            finish_(model, case)
            outputs.append(logits(model))
    assert all(torch.equal(a, b) for a, b in zip(outputs[:3], outputs[3:], strict=True))


def test_exact_product_of_the_largest_numbers() -> None:
    """Sums longer than float32 can count are cut."""
    left = torch.full((2, 2999), -128, dtype=torch.int8)
    left[1] = 127
    right = torch.full((3, 2999), -128, dtype=torch.int8)
    right[1, ::2], right[2] = 127, 127
    want = left.numpy().astype(np.int64) @ right.numpy().astype(np.int64).T
    assert np.array_equal(int8.exact_product(left, right).numpy(), want)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mixtral"])
def test_prune_then_int8(loaded: Load, logits: Logits, kind: str) -> None:
    """Zeros stay zeros in the codes."""
    model = loaded(kind)
    case = spec(("l1_global", "ffn", 0.4), ("dynamic_int8", "ffn", 8))
    prune, int_8 = compress_(model, case).steps
    assert int_8.n_zeros >= int_8.n_zeros_before == prune.n_zeros
    assert int_8.bits_per_weight < 0.6 * 8 + 1 + 2
    model.cast_(torch.bfloat16)
    finish_(model, case)
    codes = [p.data.qdata for p in model.module.parameters() if isinstance(p.data, Int8Tensor)]
    assert sum(int((c == 0).sum()) for c in codes) == int_8.n_zeros
    assert bool(torch.isfinite(logits(model)).all())


@pytest.mark.parametrize("method", ["l1_global", "random_unstructured", "ln_structured"])
def test_int8_then_prune(loaded: Load, method: str) -> None:
    """Survivors keep the codes they had, also where the largest weight of a row was pruned."""
    model = loaded("llama")
    alone = spec(("dynamic_int8", "ffn", 8))
    compress_(model, alone)
    before = {m.parameter: model.module.get_parameter(m.parameter).detach().clone() for m in select(model.module, "decoder", "ffn")}
    model.fresh_()
    case = spec(("dynamic_int8", "ffn", 8), (method, "ffn", 0.6))
    _, pruned = compress_(model, case).steps
    assert pruned.n_zeros > 0.55 * pruned.n_weights
    model.cast_(torch.float32)
    finish_(model, case)
    for name, grid in before.items():
        tensor: Any = model.module.get_parameter(name).data
        values = tensor.qdata.float() * tensor.scale
        assert torch.equal(values[values != 0], grid[values != 0])


def test_int8_twice_keeps_the_first_grid(loaded: Load) -> None:
    """A matrix on its grid is left there, and the report says so."""
    model = loaded("llama")
    first, second = compress_(model, spec(("dynamic_int8", "attention", 8), ("dynamic_int8", "overall", 8))).steps
    assert second.notes[0] == "8 of 14 matrices lay on this grid before"
    assert 0 < second.n_changed <= second.n_weights - first.n_weights


def test_a_part_of_a_fused_weight_cannot_be_packed(loaded: Load) -> None:
    """Queries alone of GPT-2's fused projection share their activations with keys and values."""
    with pytest.raises(CompressionError, match=r"got a part of it \(1 of 3 matrices\)"):
        compress_(loaded("gpt2"), spec(("dynamic_int8", "transformer.h.0.attn.c_attn.q", 8)))


def test_what_is_no_linear_layer_cannot_be_packed(loaded: Load) -> None:
    """Norms have no int8 kernel."""
    with pytest.raises(CompressionError, match="got a LlamaRMSNorm, expected a linear layer"):
        compress_(loaded("llama"), spec(("dynamic_int8", "model.norm.weight", 8)))


def test_widths_it_does_not_have(loaded: Load) -> None:
    """Four bits are refused."""
    with pytest.raises(CompressionError, match="got 4 bits, expected one of 8"):
        compress_(loaded("llama"), spec(("dynamic_int8", "ffn", 4)))


def coarse(targets: Targets, step: CompressionStep) -> None:
    """Round to half as many steps as asked."""
    del step
    for item in targets.items:
        scale = quantize.row_scale(item.weight)
        targets.grids[item.matrix.name] = scale
        item.weight.copy_(quantize.to_grid(item.weight, 2 * scale).float() * 2 * scale)


def sixteenth(targets: Targets, step: CompressionStep) -> None:
    """Record the grid it rounds to, one of 4 bits."""
    del step
    for item in targets.items:
        targets.grids[item.matrix.name] = scale = 16 * quantize.row_scale(item.weight)
        item.weight.copy_(quantize.to_grid(item.weight, scale).float() * scale)


def forgets_one(targets: Targets, step: CompressionStep) -> None:
    """Quantize all but the first."""
    quantize.dynamic_int8(Targets(items=targets.items[1:], n_body=0, n_attention=0, grids=targets.grids), step)


def only_claims(targets: Targets, step: CompressionStep) -> None:
    """Record grids and change nothing."""
    del step
    targets.grids.update({item.matrix.name: quantize.row_scale(item.weight) for item in targets.items})


def infinite(targets: Targets, step: CompressionStep) -> None:
    """Overflow in one matrix."""
    quantize.dynamic_int8(targets, step)
    targets.items[2].weight[1, 1] = torch.inf


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (coarse, "gate_proj.* and 3 more: got weights off their int8 grid"),
        (sixteenth, "gate_proj.* and 3 more: got a grid wider than its weights, so fewer than 8 bits"),
        (forgets_one, r"model\.layers\.0\.mlp\.gate_proj: got no grid recorded"),
        (only_claims, "got weights off their int8 grid"),
        (infinite, r"model\.layers\.0\.mlp\.down_proj: got NaN or infinite"),
    ],
)
def test_bad_quantizers_are_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch, method: Any, text: str) -> None:
    """Off the grid, too coarse, left out, or broken: an error that names the modules."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=text):
        compress_(loaded("llama"), spec(("dynamic_int8", "ffn", 8)))


@pytest.mark.parametrize("kind", ["llama", "bert", "t5"])
def test_quantize_dynamic_is_torchs_own(loaded: Load, logits: Logits, kind: str) -> None:
    """The outputs equal those of torch's quantize_dynamic on the dense model, its head left out; the master holds its values."""
    import copy  # noqa: PLC0415
    import warnings  # noqa: PLC0415

    model = loaded(kind)
    names = [m.module for m in select(model.module, model.family, "overall")]
    reference = copy.deepcopy(model.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = torch.ao.quantization.default_dynamic_qconfig
        torch.ao.quantization.quantize_dynamic(reference, dict.fromkeys(names, config), dtype=torch.qint8, inplace=True)
    case = spec(("quantize_dynamic", "overall", 8))
    (step,) = compress_(model, case).steps
    assert step.bits_per_weight == pytest.approx(8, abs=0.1)
    model.cast_(torch.float32)
    finish_(model, case)
    ours = logits(model)
    dense, model.module = model.module, reference
    try:
        theirs = logits(model)
    finally:
        model.module = dense
    assert torch.equal(ours, theirs)
    model.fresh_()
    assert not [m for m in model.module.modules() if hasattr(m, "qconfig")]
    assert type(model.module.get_submodule(names[0])) is nn.Linear


def test_quantize_dynamic_is_the_end_of_a_chain(loaded: Load) -> None:
    """After pruning it keeps the zeros; nothing can follow it; other dtypes and Conv1D are refused."""
    model = loaded("llama")
    prune, packed = compress_(model, spec(("l1_global", "ffn", 0.4), ("quantize_dynamic", "ffn", 8))).steps
    assert packed.n_zeros >= prune.n_zeros
    model.fresh_()
    with pytest.raises(CompressionError, match="Put it last"):
        compress_(model, spec(("quantize_dynamic", "ffn", 8), ("l1_global", "ffn", 0.4)))
    model.fresh_()
    case = spec(("quantize_dynamic", "ffn", 8))
    compress_(model, case)
    model.cast_(torch.bfloat16)
    with pytest.raises(CompressionError, match=r"expected torch\.float32"):
        finish_(model, case)
    with pytest.raises(CompressionError, match=r"would leave it out without a word"):
        compress_(loaded("gpt2"), spec(("quantize_dynamic", "ffn", 8)))


def test_study_a_quantizes_the_vocabulary_layer_too(loaded: Load) -> None:
    """Its int8 overall holds the head; its pruning overall does not."""
    model = loaded("bert")
    int_8 = compress_(model, spec(("quantize_dynamic", "a_compat_overall", 8))).steps[0]
    model.fresh_()
    prune = compress_(model, spec(("l1_global", "a_compat_overall", 0.1))).steps[0]
    assert int_8.n_weights - prune.n_weights == 97 * 32
    assert int_8.notes[0] == "head untied from the input embedding"


@pytest.mark.parametrize("method", ["dynamic_int8", "quantize_dynamic"])
def test_packed_weights_do_not_reach_the_hash_of_the_architecture(loaded: Load, method: str) -> None:
    """A worker whose first cell packs weights knows the dense model by the same hashes as one that began with the dense cell."""
    model = loaded("llama")
    again = LoadedModel(name="again", family="decoder", module=copy.deepcopy(model.module), tokenizer=model.tokenizer)
    case = spec((method, "ffn", 8))
    compress_(again, case)
    again.cast_(torch.float32)
    finish_(again, case)
    assert (again.architecture_hash, again.weights_hash) == (model.architecture_hash, model.weights_hash)


@pytest.mark.parametrize("method", ["dynamic_int8", "quantize_dynamic"])
@pytest.mark.parametrize("shares", ["weight", "layer", "block"])
def test_a_weight_that_two_layers_share_is_never_half_packed(loaded: Load, method: str, shares: str) -> None:
    """Where a second layer would go on in floats with the same weight, that is an error that names it; a shared block is packed whole."""
    module = copy.deepcopy(loaded("llama").module)
    first, second = module.model.layers
    if shares == "block":
        second.mlp = first.mlp
    elif shares == "layer":
        second.mlp.up_proj = first.mlp.up_proj
    else:
        second.mlp.up_proj.weight = first.mlp.up_proj.weight
    model = LoadedModel(name="shared", family="decoder", module=module, tokenizer=loaded("llama").tokenizer)
    case = spec((method, "ffn", 8))
    compress_(model, case)
    model.cast_(torch.float32)
    if shares == "block":
        finish_(model, case)
    else:
        with pytest.raises(CompressionError, match=r"layers\.1\.mlp\.up_proj\.weight: got 1 modules that share a weight with"):
            finish_(model, case)
    model.fresh_()
