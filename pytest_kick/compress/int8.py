"""Pack weights that lie on int8 grids into torchao's int8 tensors with dynamic int8 activations, for the forward pass."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torchao.kernel import int_scaled_matmul
from torchao.quantization.granularity import PerRow
from torchao.quantization.quantize_.workflows.int8.int8_tensor import Int8Tensor, QuantizeTensorToInt8Kwargs
from transformers.pytorch_utils import Conv1D

from pytest_kick.compress.quantize import to_grid
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.models.scopes import Matrix

# A sum of so many products of two int8 numbers stays below 2**24, where float32 counts every integer.
_EXACT_TERMS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Hold the int8 codes of one parameter, until the model is cast.

    Attributes:
        module: name of the module whose parameter it is.
        key: name of the parameter there.
        codes: `(out, in)` int8, or `(experts, out, in)`.
        scale: `(..., out, 1)` float32.
    """

    module: str
    key: str
    codes: torch.Tensor
    scale: torch.Tensor


def pack(module: nn.Module, matrices: Iterable[Matrix], grids: Mapping[str, torch.Tensor]) -> tuple[Packed, ...]:
    """Turn every parameter whose matrices have a grid into int8 codes.

    Args:
        module: the model, its float32 master on the grids.
        matrices: all matrices of the model.
        grids: name of a matrix -> step of its grid, `(out, 1)` float32.

    Raises:
        CompressionError: a parameter of which only a part has a grid, a module without an int8 kernel, or codes that do not
            stand for the master's values.
    """
    owners: dict[str, list[Matrix]] = {}
    for matrix in matrices:
        owners.setdefault(matrix.parameter, []).append(matrix)
    chosen = [held for held in owners.values() if any(m.name in grids for m in held)]
    return tuple(_pack_one(module.get_submodule(held[0].module), held, grids) for held in chosen)


def _pack_one(layer: nn.Module, held: list[Matrix], grids: Mapping[str, torch.Tensor]) -> Packed:
    missing = [m.name for m in held if m.name not in grids]
    if missing:
        msg = (
            f"dynamic_int8: {held[0].parameter}: got a part of it ({len(held) - len(missing)} of {len(held)} matrices), expected all:"
            f" its activations are quantized once. Name {missing[0]} too."
        )
        raise CompressionError(msg)
    module, _, key = held[0].parameter.rpartition(".")
    weight = getattr(layer, key)
    if not (isinstance(layer, (nn.Linear, Conv1D)) or (weight.ndim == 3 and held[0].part)):  # noqa: PLR2004 - experts, rows, columns
        msg = f"dynamic_int8: {module}: got a {type(layer).__name__}, expected a linear layer. Leave it out of the scope."
        raise CompressionError(msg)
    scale = torch.empty_like(weight)
    for m in held:
        m.write_(scale, grids[m.name])
    if held[0].transposed:
        weight, scale = weight.t(), scale.t()
    scale = scale[..., :1].contiguous()
    codes = to_grid(weight, scale).contiguous()
    if not torch.equal(codes.float().mul_(scale), weight):
        msg = f"dynamic_int8: {module}: got weights off their int8 grid, expected packing to lose nothing. Report this as a bug."
        raise CompressionError(msg)
    return Packed(module=module, key=key, codes=codes, scale=scale)


def swap_(model: LoadedModel, packed: Iterable[Packed]) -> None:
    """Put packed weights into a model that was cast; `model.fresh_()` takes them out again.

    Linear and Conv1D layers are replaced by linear layers with an int8 weight and the layer's own bias; experts get an int8
    parameter and transformers' plain loop over experts.
    """
    kind = Int8Tensor if kernel_is_exact(model.device.type) else _ExactInt8Tensor
    for weight in packed:
        layer = model.module.get_submodule(weight.module)
        parameter = nn.Parameter(_tensor(kind, weight, getattr(layer, weight.key)), requires_grad=False)
        if isinstance(layer, (nn.Linear, Conv1D)):
            linear = nn.Linear(parameter.shape[1], parameter.shape[0], bias=layer.bias is not None, device="meta")
            linear.weight = parameter
            if layer.bias is not None:
                linear.bias = layer.bias
            model.replace_module(weight.module, linear)
        else:
            setattr(layer, weight.key, parameter)
            _loop_over_experts(model, layer)


def swapped(model: LoadedModel) -> set[str]:
    """Return the names of the parameters that are int8 tensors now."""
    return {name for name, p in model.module.named_parameters() if isinstance(p.data, Int8Tensor)}


def _tensor(kind: type[Int8Tensor], weight: Packed, cast: torch.Tensor) -> Any:  # noqa: ANN401 - torchao ships no types
    return kind(
        weight.codes.to(cast.device),
        weight.scale.to(cast.device),
        [*[1] * (weight.codes.ndim - 1), weight.codes.shape[-1]],
        cast.dtype,
        zero_point=torch.zeros_like(weight.scale, dtype=torch.int8, device=cast.device),
        act_quant_kwargs=QuantizeTensorToInt8Kwargs(granularity=PerRow()),
    )


class _Undo:
    """Stand in for the handle of a hook: what `fresh_` removes."""

    def __init__(self, config: Any) -> None:  # noqa: ANN401 - transformers sets the attribute at run time
        self._config = config
        self._before = config._experts_implementation  # noqa: SLF001 - transformers has no public name
        config._experts_implementation = "eager"  # noqa: SLF001

    def remove(self) -> None:
        self._config._experts_implementation = self._before  # noqa: SLF001


def _loop_over_experts(model: LoadedModel, layer: nn.Module) -> None:
    # The grouped kernels that transformers prefers do not take int8 tensors.
    config: Any = layer.config
    if config._experts_implementation != "eager":  # noqa: SLF001
        model.add_hook(_Undo(config))  # type: ignore[arg-type]  # it has remove(), which is all that is asked


@functools.cache
def kernel_is_exact(device: str = "cpu") -> bool:
    """Try whether the int8 product of this processor is right for the largest numbers.

    Without VNNI instructions (or with `ONEDNN_MAX_CPU_ISA` set below them) oneDNN adds pairs of products in 16 bits, which
    saturate: torchao's output is then wrong by more than its own size.
    """
    left = torch.full((17, 96), -128, dtype=torch.int8, device=device)
    left[1::2] = 127
    right = torch.full((96, 32), 127, dtype=torch.int8, device=device)
    right[:, 1::2] = -128
    got = int_scaled_matmul(left, right, torch.ones((17, 1), device=device))
    return torch.equal(got.double().cpu(), left.double().cpu() @ right.double().cpu())


def exact_product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return the integer product of two int8 matrices by float32 products short enough to be exact.

    Args:
        left: `(m, k)` int8.
        right: `(n, k)` int8.

    Returns:
        `(m, n)` int32.
    """
    total = torch.zeros((left.shape[0], right.shape[0]), dtype=torch.int32, device=left.device)
    for start in range(0, left.shape[1], _EXACT_TERMS):
        part = slice(start, start + _EXACT_TERMS)
        total += functional.linear(left[:, part].float(), right[:, part].float()).to(torch.int32)
    return total


class _ExactInt8Tensor(Int8Tensor):  # type: ignore[misc]  # torchao ships no types
    """Torchao's int8 tensor where the processor's int8 product saturates: the same numbers by way of float32."""


@_ExactInt8Tensor.implements(torch.ops.aten.linear.default)  # type: ignore[untyped-decorator]
@_ExactInt8Tensor.implements_torch_function(functional.linear)  # type: ignore[untyped-decorator]
def _linear(func: object, types: object, args: tuple[Any, ...], kwargs: object) -> torch.Tensor:
    # As torchao.quantization.Int8Tensor computes it, operation for operation, but for the product.
    del func, types, kwargs
    x, weight, bias = args[0], args[1], args[2] if len(args) > 2 else None  # noqa: PLR2004 - the bias is the third
    quantized = Int8Tensor.from_hp(x, granularity=PerRow())
    rows = quantized.qdata.reshape(-1, x.shape[-1])
    product = exact_product(rows, weight.qdata).float() * quantized.scale.reshape(-1, 1)
    y = (product.to(x.dtype) * weight.scale.flatten()).reshape(*x.shape[:-1], weight.shape[0])
    if bias is not None:
        y += bias
    output: torch.Tensor = y.to(x.dtype)
    return output


@_ExactInt8Tensor.implements(torch.ops.aten.select.int)  # type: ignore[untyped-decorator]
def _select(func: object, types: object, args: tuple[Any, ...], kwargs: object) -> _ExactInt8Tensor:
    # One expert of a 3-D weight; aliasing is of no use here, since nobody writes to it.
    del func, types, kwargs
    weight, _, index = args
    return _ExactInt8Tensor(
        weight.qdata[index],
        weight.scale[index],
        weight.block_size[1:],
        weight.dtype,
        zero_point=weight.zero_point[index],
        act_quant_kwargs=weight.act_quant_kwargs,
    )
