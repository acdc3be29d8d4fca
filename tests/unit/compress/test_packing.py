"""Packed kernels give what the simulation gives, on every family and within the rounding of the format; and what they refuse."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pytest_kick.compress import compress_, finish_, packing
from pytest_kick.compress.kernels import Kernel, KernelLayer
from pytest_kick.errors import CompressionError
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.spec import CompressionSpec, CompressionStep

Load = Callable[[str], LoadedModel]
Run = Callable[[LoadedModel], torch.Tensor]
needs_bnb = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="pip install 'pytest-kick[bnb]'")

# How far logits may be apart, of their norm, in float32: float32 itself; bfloat16, in which bitsandbytes' kernel computes where the
# processor can; float16, through which it takes weights and inputs, so that some codes are the ones beside.
CASES = [
    ("rtn", 4, {"group": 16}, 1e-5),
    ("rtn", 3, {"group": 0, "symmetric": False}, 1e-5),
    ("rtn", 8, {"group": 8}, 1e-5),
    ("cast", 8, {"format": "fp8_e4m3"}, 1e-5),
    ("cast", 8, {"format": "fp8_e5m2"}, 1e-5),
    pytest.param("nf4", 4, {"block": 32}, 8e-2, marks=needs_bnb),
    pytest.param("nf4", 4, {"format": "fp4", "block": 32, "double_quant": True}, 8e-2, marks=needs_bnb),
    pytest.param("llm_int8", 8, {"columns": "batch", "threshold": 2.0}, 8e-2, marks=needs_bnb),
]


def scope_of(kind: str, method: str) -> str:
    """Return matrices that a kernel takes: no part of a parameter, and for bitsandbytes rows of whole blocks."""
    if method == "nf4":
        return {"gpt2": "*.c_fc", "neox": "*.dense_h_to_4h"}.get(kind, "attention")
    return "ffn" if kind in {"gpt2", "neox"} else "overall"


def spec(method: str, level: float, scope: str = "overall", **params: Any) -> CompressionSpec:
    """Make a compression of one step."""
    return CompressionSpec(steps=(CompressionStep(method=method, scope=scope, level=level, params=tuple(params.items())),))


def run(model: LoadedModel, case: CompressionSpec, logits: Run, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, Any]:
    """Return the logits of a compressed model, and the report."""
    model.fresh_()
    report = compress_(model, case)
    model.cast_(dtype)
    finish_(model, case)
    return logits(model), report


@pytest.mark.parametrize("kind", ["llama", "bert", "t5", "gpt2"])
@pytest.mark.parametrize(("method", "level", "params", "room"), CASES)
def test_packed_as_simulated(loaded: Load, logits: Run, kind: str, method: str, level: int, params: dict[str, Any], room: float) -> None:
    """Logits agree nearer than they are to the dense ones, the report is the same, and fresh_ brings the dense layers back."""
    model, scope = loaded(kind), scope_of(kind, method)
    dense = logits(model)
    simulated, report = run(model, spec(method, level, scope, **params), logits)
    layers = {name for name, child in model.module.named_modules() if isinstance(child, KernelLayer)}
    assert not layers
    packed, same = run(model, spec(method, level, scope, **params, execution="packed"), logits)
    layers = {name for name, child in model.module.named_modules() if isinstance(child, KernelLayer)}
    assert len(layers) >= 2
    size = float(simulated.norm())
    assert float((packed - simulated).norm()) < room * size
    assert float((packed - simulated).norm()) < float((dense - simulated).norm())
    assert (same.steps[0].bits_per_weight, same.steps[0].achieved) == (report.steps[0].bits_per_weight, report.steps[0].achieved)
    model.fresh_()
    assert logits(model).equal(dense)


@needs_bnb
@pytest.mark.parametrize("kind", ["llama", "bert", "t5"])
@pytest.mark.parametrize("params", [{"block": 32}, {"format": "fp4", "block": 32, "double_quant": True}])
def test_the_general_kernel_of_blocks(
    loaded: Load, logits: Run, monkeypatch: pytest.MonkeyPatch, kind: str, params: dict[str, Any]
) -> None:
    """Where the kernel for bfloat16 is not taken, bitsandbytes' layers give the simulated logits in float32."""
    monkeypatch.setattr(packing, "_ROWS", 2**30)
    model = loaded(kind)
    simulated, _ = run(model, spec("nf4", 4, "attention", **params), logits)
    packed, _ = run(model, spec("nf4", 4, "attention", **params, execution="packed"), logits)
    assert float((packed - simulated).norm()) < 1e-5 * float(simulated.norm())
    model.fresh_()


@pytest.mark.parametrize(("method", "level", "params", "room"), CASES)
@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_packed_in_bfloat16(loaded: Load, logits: Run, kind: str, method: str, level: int, params: dict[str, Any], room: float) -> None:
    """In bfloat16 they agree within its rounding, of weights and of what layers hand on."""
    model, scope = loaded(kind), scope_of(kind, method)
    simulated, _ = run(model, spec(method, level, scope, **params), logits, torch.bfloat16)
    packed, _ = run(model, spec(method, level, scope, **params, execution="packed"), logits, torch.bfloat16)
    assert float((packed - simulated).norm()) < (room + 8e-2) * float(simulated.norm())
    model.fresh_()


@pytest.mark.parametrize(
    ("kind", "case", "message"),
    [
        ("llama", spec("rtn", 4, group=20, execution="packed"), "got groups that do not divide the inputs, expected whole groups"),
        ("llama", spec("rtn", 4, group="tensor", execution="packed"), "got groups that do not divide the inputs"),
        ("llama", spec("cast", 16, execution="packed"), "got a format of 16 bits, expected one of 8"),
        ("mixtral", spec("rtn", 4, "ffn", group=16, execution="packed"), "got no linear layer of its own, expected one for a packed"),
        ("gpt2", spec("rtn", 4, "*.c_attn.*", group=16, execution="packed"), "got no linear layer of its own"),
        pytest.param("llama", spec("nf4", 4, "ffn", execution="packed"), "got blocks that do not divide the inputs", marks=needs_bnb),
        pytest.param("llama", spec("llm_int8", 8, execution="packed"), "got columns = 'token', expected 'batch'", marks=needs_bnb),
    ],
)
def test_what_no_kernel_takes(loaded: Load, kind: str, case: CompressionSpec, message: str) -> None:
    """One line that names the matrices, and says what to do."""
    with pytest.raises(CompressionError, match=message):
        compress_(loaded(kind), case)


def test_nothing_after_packing(loaded: Load) -> None:
    """A chain ends with the step that packs."""
    steps = (*spec("rtn", 4, execution="packed", group=16).steps, *spec("l1_global", 0.5).steps)
    with pytest.raises(CompressionError, match="got a step after weights were packed, expected the one that packs to be the last"):
        compress_(loaded("llama"), CompressionSpec(steps=steps))


def test_other_values_are_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that holds other weights than the simulation is no kernel for it."""
    right = packing._torchao

    def wrong(weight: torch.Tensor, config: Any) -> Kernel:
        return right(weight * 1.01, config)

    monkeypatch.setattr(packing, "_torchao", wrong)
    with pytest.raises(CompressionError, match=r"got packed weights that are 0\.\d+ from the simulated ones, expected the same values"):
        compress_(loaded("llama"), spec("rtn", 4, group=16, execution="packed"))
