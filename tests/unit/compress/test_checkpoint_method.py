"""The method checkpoint on whole models: what it takes and reports, how inputs are rounded, and that the dense model comes back."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pytest_kick.catalog import catalog
from pytest_kick.compress import compress_, finish_
from pytest_kick.compress.checkpoint import Rounding
from pytest_kick.compress.weight_only import rtn
from pytest_kick.errors import CompressionError, ModelError
from pytest_kick.models.load import load
from pytest_kick.models.source import resolve
from pytest_kick.models.unpack import Activations
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel

NORM, DOWN, QUERY = "model.norm.weight", "model.layers.0.mlp.down_proj.weight", "model.layers.0.self_attn.q_proj.weight"
NORM_OF_ENCODER, BIAS_OF_ENCODER = (f"bert.encoder.layer.0.output.{key}" for key in ("LayerNorm.weight", "dense.bias"))
EMBEDDING = "model.embed_tokens.weight"


@functools.cache
def loaded(name: str) -> LoadedModel:
    """Load a shipped model once."""
    return load(catalog()[name], source(name))


def source(name: str) -> Path:
    """Return the directory of a shipped model."""
    return resolve(catalog()[name], Path("unused"))


def fresh(name: str) -> LoadedModel:
    """Return a shipped model, dense."""
    model = loaded(name)
    model.fresh_()
    return model


def spec(path: Path, *more: CompressionStep, scope: str = "overall") -> CompressionSpec:
    """Make a compression that begins with a checkpoint."""
    params = (("name", "x"), ("path", str(path)))
    return CompressionSpec(steps=(CompressionStep(method="checkpoint", scope=scope, level=0, params=params), *more))


def tuned(path: Path, **config: Any) -> dict[str, torch.Tensor]:
    """Write a fine-tuned tiny decoder: every parameter a little larger, the first norm left; return its weights."""
    shutil.copytree(source("tiny-decoder"), path)
    values = {name: (v * 1.25 if "input_layernorm" not in name else v).clone() for name, v in load_file(path / "model.safetensors").items()}
    save_file(values, path / "model.safetensors", {"format": "pt"})
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | config), encoding="utf-8")
    return values


def test_everything_is_taken(tmp_path: Path) -> None:
    """With the scope overall matrices, embeddings and norms are the checkpoint's, bit for bit; fresh_ brings the dense ones back."""
    values, model = tuned(tmp_path / "t"), fresh("tiny-decoder")
    dense = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    (report,) = compress_(model, spec(tmp_path / "t")).steps
    assert all(p.equal(values[name]) for name, p in model.module.named_parameters())
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    assert report.notes == ("4 of 6 parameters besides the matrices of the scope differ from dense",)
    assert (report.n_changed, report.bits_per_weight, report.achieved) == (report.n_weights, 32, 32)
    model.cast_(torch.bfloat16)
    finish_(model, spec(tmp_path / "t"))
    assert model.module.get_parameter(NORM).equal(values[NORM].bfloat16())
    model.fresh_()
    assert all(p.equal(dense[name]) for name, p in model.module.named_parameters())


def test_a_scope_takes_its_matrices_alone(tmp_path: Path) -> None:
    """What part of a checkpoint costs what it costs: attention here, nothing else."""
    values, model = tuned(tmp_path / "t"), fresh("tiny-decoder")
    (report,) = compress_(model, spec(tmp_path / "t", scope="attention")).steps
    taken = {name for name, p in model.module.named_parameters() if p.equal(values[name]) and not p.equal(model.dense(name))}
    assert taken == {name for name in values if "self_attn" in name}
    assert report.notes == ()


def test_an_untied_head(tmp_path: Path) -> None:
    """A head of its own is untied for the cell, whatever the scope; the embedding stays what the checkpoint has."""
    values, model = tuned(tmp_path / "t", tie_word_embeddings=False), fresh("tiny-decoder")
    save_file({**values, "lm_head.weight": values[EMBEDDING] + 1}, tmp_path / "t" / "model.safetensors", {"format": "pt"})
    (report,) = compress_(model, spec(tmp_path / "t")).steps
    assert model.module.lm_head.weight.equal(values[EMBEDDING] + 1)
    assert model.module.get_parameter(EMBEDDING).equal(values[EMBEDDING])
    assert "head untied from the input embedding" in report.notes
    model.fresh_()
    assert model.module.lm_head.weight is model.module.model.embed_tokens.weight
    compress_(model, spec(tmp_path / "t", scope="head"))
    assert model.module.lm_head.weight.equal(values[EMBEDDING] + 1)
    assert model.module.get_parameter(EMBEDDING).equal(model.dense(EMBEDDING))


def test_the_dense_model_itself() -> None:
    """A checkpoint that equals dense is no error: the notes say so."""
    (report,) = compress_(fresh("tiny-decoder"), spec(source("tiny-decoder"))).steps
    assert (report.n_changed, report.notes) == (0, ("all 14 matrices bit-identical to dense",))


def test_steps_after_it(tmp_path: Path) -> None:
    """A fine-tuned model can be compressed here: rounding sees its weights, and bits are counted by the later format."""
    values, model = tuned(tmp_path / "t"), fresh("tiny-decoder")
    after = CompressionStep(method="rtn", scope="ffn", level=4, params=(("group", 32),))
    first, second = compress_(model, spec(tmp_path / "t", after)).steps
    off = (model.module.get_parameter(DOWN) - values[DOWN]).reshape(-1, 32).abs() / values[DOWN].reshape(-1, 32).abs().amax(1, keepdim=True)
    assert 0 < float(off.max()) <= 1 / 15 * 1.001
    assert model.module.get_parameter(QUERY).equal(values[QUERY])
    assert (first.bits_per_weight, second.bits_per_weight) == (32, 4.5)


@pytest.mark.parametrize("name", [NORM_OF_ENCODER, BIAS_OF_ENCODER])
def test_what_a_later_step_may_not_touch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and biases that a checkpoint brought are guarded against the steps after it, as the dense ones are."""
    model = fresh("tiny-encoder")

    def careless(targets: Any, step: Any) -> None:
        rtn(targets, step)
        model.module.get_parameter(name).data[0] += 1

    monkeypatch.setattr("pytest_kick.compress.weight_only.rtn", careless)
    after = CompressionStep(method="rtn", scope="ffn", level=4, params=())
    with pytest.raises(CompressionError, match=rf"^rtn--ffn--b4: {re.escape(name.removesuffix('.weight'))}: got a change outside"):
        compress_(model, spec(source("tiny-encoder"), after))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    """One line that names the cell, and the dense model is whole."""
    model = fresh("tiny-decoder")
    with pytest.raises(ModelError, match=r"^checkpoint--overall--x: path: got .*, expected a model directory or a \.gguf file\."):
        compress_(model, spec(tmp_path / "nothing"))
    model.fresh_()


@pytest.mark.parametrize("name", ["tiny-decoder", "tiny-encoder", "tiny-encoder-decoder"])
def test_saved_by_compressed_tensors(name: str, tmp_path: Path) -> None:
    """Every family: 4 bits per group and 8 bits per row as the package writes them; values as it reads them, by transformers' loader."""
    pytest.importorskip("compressed_tensors")
    from transformers import CompressedTensorsConfig  # noqa: PLC0415 - after the check

    from pytest_kick.models.quiet import quiet  # noqa: PLC0415 - likewise
    from tools.write_compressed import write_compressed  # noqa: PLC0415 - likewise

    for scheme, bits in (("w4a16_asym", 4), ("w8a8", 8)):
        model = fresh(name)
        with quiet():
            write_compressed(model, tmp_path / scheme, scheme)
            config = CompressedTensorsConfig(dequantize=True)
            theirs = type(model.module).from_pretrained(tmp_path / scheme, dtype=torch.float32, quantization_config=config)
        (report,) = compress_(model, spec(tmp_path / scheme)).steps
        own = dict(model.module.named_parameters())
        assert all(own[key].equal(p) for key, p in theirs.named_parameters() if key in own)
        assert report.achieved == bits
        assert bits < report.bits_per_weight < bits + 2.3
        assert report.n_changed > 0.99 * report.n_weights
        model.cast_(torch.float32)
        finish_(model, spec(tmp_path / scheme))
        hooked = sum(len(child._forward_pre_hooks) for child in model.module.modules())
        assert hooked == (report.n_matrices if scheme == "w8a8" else 0)
        assert any("rounded to 8 bits" in note for note in report.notes) == (scheme == "w8a8")


def rounded(how: Activations, x: np.ndarray) -> np.ndarray:
    """Round by the code under test."""
    return Rounding(how).rounded(torch.tensor(x, dtype=torch.float32)).numpy()


X = np.random.default_rng(4).normal(0, 2, (2, 5, 16)).astype(np.float32)


def test_rounding_by_numpy() -> None:
    """int8 per token, around zero or not, and with a fixed step."""
    step = np.abs(X).max(-1, keepdims=True) / 127.5
    assert np.allclose(rounded(Activations(kind="int"), X), np.clip(np.round(X / step), -128, 127) * step, atol=1e-6)
    low, high = np.minimum(X.min(-1, keepdims=True), 0), np.maximum(X.max(-1, keepdims=True), 0)
    step = (high - low) / 255
    zero = np.round(-128 - low / step)
    want = (np.clip(np.round(X / step + zero), -128, 127) - zero) * step
    assert np.allclose(rounded(Activations(kind="int", symmetric=False), X), want, atol=1e-5)
    fixed = rounded(Activations(kind="int", scale=0.03, zero=5.0), X)
    assert np.allclose(fixed, (np.clip(np.round(X / 0.03 + 5), -128, 127) - 5) * 0.03, atol=1e-5)
    assert not rounded(Activations(kind="int"), np.zeros((1, 4), np.float32)).any()


def test_rounding_to_float8() -> None:
    """Three bits of mantissa, the largest of a token at 448."""
    found, top = rounded(Activations(kind="float"), X), np.abs(X).max(-1, keepdims=True)
    assert (np.abs(found - X) <= np.maximum(np.abs(X) / 16, top / 448 * 2**-10) * 1.001).all()
    mantissa, _ = np.frexp(found / top * 448)
    normal = np.abs(X) > top / 448 * 2**-6
    assert np.allclose(mantissa[normal] * 16, np.round(mantissa[normal] * 16), atol=1e-4)
    assert len(np.unique(found)) > 30


def test_outliers_are_exact() -> None:
    """Columns with an outlier anywhere are kept; the others are rounded to 127 steps of the largest of their row."""
    x = X.copy()
    x[1, 2, 7] = 50
    found = rounded(Activations(kind="llm_int8", threshold=6.0), x)
    column = (np.abs(x) >= 6).reshape(-1, 16).any(0)
    assert np.array_equal(found[..., column], x[..., column])
    step = np.abs(np.where(column, 0, x)).max(-1, keepdims=True) / 127
    assert np.allclose(found[..., ~column], (np.round(x / step) * step)[..., ~column], atol=1e-6)


@pytest.mark.parametrize(("kind", "symmetric"), [("int", True), ("int", False), ("float", True)])
def test_rounding_as_the_package_does(kind: str, symmetric: bool) -> None:
    """Inputs come out as compressed-tensors' own forward pass rounds them."""
    pytest.importorskip("compressed_tensors")
    from compressed_tensors.quantization import QuantizationArgs  # noqa: PLC0415 - after the check
    from compressed_tensors.quantization.lifecycle.forward import fake_quantize  # noqa: PLC0415 - likewise
    from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp  # noqa: PLC0415 - likewise

    args = QuantizationArgs(num_bits=8, type=kind, symmetric=symmetric, strategy="token", dynamic=True)
    x = torch.tensor(X)
    scale, zero = compute_dynamic_scales_and_zp(x, args, torch.nn.Linear(16, 1))
    theirs = fake_quantize(x, scale, zero, args)
    own = Rounding(Activations(kind=kind, symmetric=symmetric)).rounded(x)
    assert torch.allclose(own, theirs, atol=1e-5)


def test_a_hook_keeps_the_dtype() -> None:
    """The module sees what it saw, of the same dtype, and its other inputs as they were."""
    inputs = (torch.tensor(X).bfloat16(), "other")
    first, second = Rounding(Activations(kind="int"))(torch.nn.Identity(), inputs)
    assert (first.dtype, second) == (torch.bfloat16, "other")
    assert 0 < float((first - inputs[0]).float().abs().max()) < 0.06
