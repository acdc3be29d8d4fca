"""The methods nf4 and hqq on whole models: every family and scope, against NumPy, and what their checks refuse."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from pytest_kick.compress import Targets, compress_, library, library_import
from pytest_kick.compress.library_formats import Affine, Blocks
from pytest_kick.errors import CompressionError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.scopes import select
from pytest_kick.spec import CompressionSpec, CompressionStep

Load = Callable[[str], LoadedModel]
KINDS = ("llama", "bert", "t5", "gpt2", "mixtral")
needs_bnb = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="pip install 'pytest-kick[bnb]'")
needs_hqq = pytest.mark.skipif(importlib.util.find_spec("hqq") is None, reason="pip install 'pytest-kick[hqq]'")

# QLoRA, section 3 and appendix E: quantiles of a normal distribution, eight above zero, seven below, and zero, over the largest.
_ABOVE, _BELOW = (stats.norm.ppf(np.linspace(0.9677083, 0.5, n)[:-1]) for n in (9, 8))
NF4 = sorted([*-_BELOW / _ABOVE.max(), 0.0, *_ABOVE / _ABOVE.max()])
# Signed, two bits of exponent and one of mantissa, over the largest; the smallest as bitsandbytes has it.
FP4 = sorted({sign * value for sign in (-1, 1) for value in (0, 1 / 192, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1)})


def step(method: str, level: float, scope: str = "overall", **params: Any) -> CompressionStep:
    """Make one step."""
    return CompressionStep(method=method, scope=scope, level=level, params=tuple(params.items()))


def spec(*steps: CompressionStep) -> CompressionSpec:
    """Make a compression."""
    return CompressionSpec(steps=steps)


def matrices(model: LoadedModel, scope: str) -> dict[str, np.ndarray]:
    """Copy the matrices of a scope, `(out, in)`."""
    chosen = select(model.module, model.family, scope)
    return {m.name: m.read(model.module.get_parameter(m.parameter).detach()).numpy().copy() for m in chosen}


@needs_bnb
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["ffn", "overall", "head"])
@pytest.mark.parametrize(("name", "numbers"), [("nf4", NF4), ("fp4", FP4)])
def test_blocks_by_numpy(loaded: Load, kind: str, scope: str, name: str, numbers: list[float]) -> None:
    """Every weight is the nearest number of the format times the largest of its block; fresh_ undoes all."""
    model = loaded(kind)
    dense = matrices(model, scope)
    (report,) = compress_(model, spec(step("nf4", 4, scope, format=name, block=128))).steps
    table, blocks = np.asarray(numbers), 0
    for label, values in matrices(model, scope).items():
        old, new = dense[label].reshape(-1), values.reshape(-1)
        for start in range(0, old.size, 128):
            part = old[start : start + 128]
            top = np.abs(part).max()
            want = table[np.abs(part[:, None] / top - table).argmin(axis=1)] * top
            assert np.allclose(new[start : start + 128], want, atol=1e-4 * top, rtol=0)
            blocks += 1
    assert (report.asked, report.achieved) == (4, 4)
    assert report.bits_per_weight == pytest.approx(4 + blocks * 32 / report.n_weights)
    model.fresh_()
    assert all(np.array_equal(values, dense[label]) for label, values in matrices(model, scope).items())


@needs_bnb
@pytest.mark.parametrize(("params", "want"), [({}, 4.5), ({"block": 128}, 4.25), ({"double_quant": True}, 4 + 8 / 64 + 2 * 32 / 1024)])
def test_bits_of_blocks(loaded: Load, params: dict[str, Any], want: float) -> None:
    """Codes and a float32 per block; with double quantization 8 bits per block, and a float32 per 256 of them and for their mean."""
    model = loaded("llama")
    (report,) = compress_(model, spec(step("nf4", 4, "*.o_proj", **params))).steps  # 32 x 32
    assert report.bits_per_weight == want


@needs_bnb
@pytest.mark.parametrize("block", [32, 64, 1024])
def test_double_quantization_moves_scales_little(loaded: Load, block: int) -> None:
    """The codes stay, and each block's scale moves by at most a hundredth of how far scales are apart."""
    model = loaded("llama")
    compress_(model, spec(step("nf4", 4, "ffn", block=block)))
    single = matrices(model, "ffn")
    model.fresh_()
    compress_(model, spec(step("nf4", 4, "ffn", block=block, double_quant=True)))
    for label, values in matrices(model, "ffn").items():
        assert np.array_equal(values == 0, single[label] == 0)
        kept = single[label] != 0
        ratio = values[kept] / single[label][kept]
        assert np.abs(ratio - 1).max() < 0.02
        assert (ratio != 1).any() or block == 1024


@needs_bnb
def test_pruned_weights_stay_pruned_in_blocks(loaded: Load) -> None:
    """Zero is one of the 16 numbers, in blocks of zeros too; the same blocks found again change nothing, which a chain refuses."""
    model = loaded("llama")
    pruned, rounded = compress_(model, spec(step("ln_structured", 0.5, "ffn"), step("nf4", 4, "ffn"))).steps
    assert rounded.n_zeros >= pruned.n_zeros > 0
    for twice in (spec(step("nf4", 4), step("nf4", 4)), spec(step("nf4", 4, double_quant=True), step("nf4", 4, double_quant=True))):
        model.fresh_()
        with pytest.raises(CompressionError, match=r"got no weight changed by step 2 of 2"):
            compress_(model, twice)


@needs_hqq
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["overall", "head"])
@pytest.mark.parametrize(("bits", "axis"), [(1, 1), (2, 0), (3, 1), (4, 0), (8, 1)])
def test_grids_by_numpy(loaded: Load, kind: str, scope: str, bits: int, axis: int) -> None:
    """Each group has 2**bits evenly spaced values at most and each weight the nearest; its error as HQQ weighs it is below rounding's."""
    model = loaded(kind)
    group = 97 if scope == "head" else 32  # a vocabulary of 97
    dense = matrices(model, scope)
    (report,) = compress_(model, spec(step("hqq", bits, scope, group=group, axis=axis))).steps
    groups, losses = 0, np.zeros(2)
    for label, values in matrices(model, scope).items():
        shape = (-1, group) if axis else (group, -1)
        old, new = (m.reshape(shape) if axis else m.reshape(shape).T for m in (dense[label], values))
        groups += old.shape[0]
        for row, found in zip(old, new, strict=True):
            levels = np.unique(found)
            assert levels.size <= 2**bits
            if bits < 8 and levels.size > 1:
                gaps = np.diff(levels)
                assert np.allclose(gaps / gaps.min(), np.round(gaps / gaps.min()), atol=0.05)
            assert np.allclose(np.abs(row - found), np.abs(row[:, None] - levels).min(axis=1), atol=1e-6)
            low, scale = row.min(), (row.max() - row.min()) / (2**bits - 1)
            plain = np.round((row - low) / scale) * scale + low
            losses += [np.abs(row - found).sum(), np.abs(row - plain).sum()]
    assert losses[0] < losses[1] * (1.01 if bits == 8 else 1)
    spare = report.n_weights * 0.2 if bits == 3 else 0
    assert report.bits_per_weight == pytest.approx(bits + (groups * 32 + spare) / report.n_weights, abs=1e-3)
    assert report.achieved == bits
    model.fresh_()
    assert all(np.array_equal(values, dense[label]) for label, values in matrices(model, scope).items())


@needs_hqq
def test_without_groups(loaded: Load) -> None:
    """Group 0 is a grid per row, or per column along axis 0; codes of 3 bits are packed by ten into 32 bits as with groups."""
    for bits, stored in ((4, 4), (3, 3.2)):
        for axis, lines in ((1, 32), (0, 32)):
            model = loaded("llama")
            (report,) = compress_(model, spec(step("hqq", bits, "*.o_proj", group=0, axis=axis))).steps
            assert report.bits_per_weight == pytest.approx(stored + lines * 32 / 1024, abs=1e-3)  # 0.2 bits of 1,024 weights, rounded


@needs_hqq
def test_a_group_that_does_not_divide_is_refused(loaded: Load) -> None:
    """In one line that names the matrices."""
    model = loaded("llama")
    expected = r"^hqq--re.*--b4--group-100: model\.layers\.0\.self_attn\.o_proj, .* no multiple of 100, expected whole groups\."
    with pytest.raises(CompressionError, match=expected):
        compress_(model, spec(step("hqq", 4, "*.o_proj", group=100)))


@needs_bnb
@needs_hqq
@pytest.mark.parametrize("method", ["nf4", "hqq"])
def test_not_after_dynamic_int8(loaded: Load, method: str) -> None:
    """Dynamic int8 packs the grid that it found."""
    with pytest.raises(CompressionError, match=rf"expected no rounding after it\. Put {method} before dynamic_int8"):
        compress_(loaded("llama"), spec(step("dynamic_int8", 8), step(method, 4)))


def _keep_first(targets: Targets, _: CompressionStep) -> None:
    targets.formats.pop(targets.items[0].matrix.name)


def _other_table(targets: Targets, _: CompressionStep) -> None:
    targets.items[0].weight.mul_(1 + 1e-3 * torch.arange(targets.items[0].weight.shape[1]))


def _not_the_nearest(targets: Targets, _: CompressionStep) -> None:
    weight = targets.items[0].weight
    weight.copy_(weight.flip(1))


def _too_small(targets: Targets, _: CompressionStep) -> None:
    targets.items[0].weight.mul_(0.9)


def _more_bits(targets: Targets, made: CompressionStep) -> None:
    item = targets.items[0]
    group, axis = int(made.param("group")), int(made.param("axis"))
    codes, meta = library_import.hqq_quantizer().quantize(item.weight, nbits=5, group_size=group, axis=axis, device="cpu", bitpack=False)
    item.weight.copy_(library_import.hqq_quantizer().dequantize(codes, {**meta, "compute_dtype": torch.float32}))
    found = targets.formats[item.matrix.name]
    assert isinstance(found, Affine)
    targets.formats[item.matrix.name] = replace(found, bits=4, scale=meta["scale"].clone(), zero=meta["zero"].clone())


@pytest.mark.parametrize(
    ("method", "fault", "found"),
    [
        pytest.param("nf4", _keep_first, "got no such format recorded", marks=needs_bnb),
        pytest.param("nf4", _other_table, "got (weights off their grid|blocks of another scale)", marks=needs_bnb),
        pytest.param("nf4", _not_the_nearest, "got (blocks of another scale|weights moved to a value that is not)", marks=needs_bnb),
        pytest.param("nf4", _too_small, "got blocks of another scale", marks=needs_bnb),
        pytest.param("hqq", _keep_first, "got no such format recorded", marks=needs_hqq),
        pytest.param("hqq", _other_table, "got (weights off their grid|more values in a group)", marks=needs_hqq),
        pytest.param("hqq", _not_the_nearest, "got weights moved to a value that is not the nearest", marks=needs_hqq),
        pytest.param("hqq", _too_small, "got weights off their grid", marks=needs_hqq),
        pytest.param("hqq", _more_bits, "got (more values in a group|weights off their grid)", marks=needs_hqq),
    ],
)
def test_the_check_refuses(loaded: Load, monkeypatch: pytest.MonkeyPatch, method: str, fault: Any, found: str) -> None:
    """Whatever a method does wrong is an error that names the matrix."""
    right = getattr(library, method)

    def wrong(targets: Targets, made: CompressionStep) -> None:
        right(targets, made)
        fault(targets, made)

    monkeypatch.setattr(library, method, wrong)
    with pytest.raises(CompressionError, match=rf": model\.layers\.0\.self_attn\.\w_proj: {found}"):
        compress_(loaded("llama"), spec(step(method, 4, "*self_attn*")))


@needs_bnb
def test_formats_know_their_own(loaded: Load) -> None:
    """A matrix is in its format bit for bit until a weight is moved."""
    model = loaded("llama")
    found: dict[str, Any] = {}

    def keep(targets: Targets, made: CompressionStep) -> None:
        library.nf4(targets, made)
        found.update({item.matrix.name: (targets.formats[item.matrix.name], item.weight.clone()) for item in targets.items})

    with pytest.MonkeyPatch.context() as patch:
        right = library.nf4
        patch.setattr(library, "nf4", lambda targets, made: (patch.setattr(library, "nf4", right), keep(targets, made)))
        compress_(model, spec(step("nf4", 4, "ffn")))
    for form, weight in found.values():
        assert isinstance(form, Blocks)
        assert form.holds(weight)
        assert not form.holds(weight * 1.01)
