"""Turn the tensors of a checkpoint that was quantized elsewhere into float32 ones under the names of the dense model.

What a configuration declares beyond the weights, such as rounded activations, is either carried on or refused: never left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import ModelError
from pytest_kick.models import layouts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import nn

    Tensors = Mapping[str, torch.Tensor]

METHODS = ("compressed-tensors", "gptq", "awq", "bitsandbytes", "hqq", "torchao")
"""Values of `quant_method` that are read; `torchao` by transformers' own loader."""

_FORMATS = ("pack-quantized", "int-quantized", "naive-quantized", "float-quantized", "dense", "mixed-precision")
_BYTE = 8
_LLM_INT8_THRESHOLD = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Say how a module's inputs are rounded before it computes.

    Attributes:
        kind: `int` or `float`; `llm_int8` for rows in 8 bits beside exact columns of outliers.
        symmetric: whether zero is code 0.
        scale: fixed step, one number; None where each token has its own.
        zero: fixed zero point, one number.
        threshold: magnitude from which a column is an outlier.
    """

    kind: str
    symmetric: bool = True
    scale: float | None = None
    zero: float = 0.0
    threshold: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """Hold what a quantized checkpoint comes to.

    Attributes:
        tensors: name -> float tensor, packed ones as `NAME.weight` in float32.
        widths: name of a packed module -> bits of one of its codes.
        sizes: name of a packed module -> bits that its matrix takes in the files, steps and the like included.
        activations: name of a module -> what is done to its inputs.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    activations: dict[str, Activations] = field(default_factory=dict)


def unpack(tensors: Tensors, config: Mapping[str, Any], module: nn.Module, where: str) -> Unpacked:
    """Read every packed module.

    Args:
        tensors: all of the files.
        config: `quantization_config` of the checkpoint.
        module: the dense model, for the classes of its layers.
        where: opens every error.

    Raises:
        ModelError: a method or format that is not read, a declaration that cannot be followed, or tensors that do not fit it.
    """
    method = str(config.get("quant_method", ""))
    if method == "compressed-tensors":
        return _compressed_tensors(tensors, config, module, where)
    if method == "gptq":
        _refuse_if(bool(config.get("dynamic")), where, "`dynamic`, settings of single modules", "one setting for all")
        return _each(tensors, "qweight", lambda inside: layouts.gptq(inside, config), int(config["bits"]))
    if method == "awq":
        version = str(config.get("version", "gemm")).lower()
        _refuse_if(version != "gemm" or int(config.get("bits", 4)) != 4, where, f"AWQ of version {version!r}", "'gemm' with 4 bits")  # noqa: PLR2004
        return _each(tensors, "qweight", lambda inside: layouts.awq(inside, config), 4)
    if method == "bitsandbytes":
        return _bitsandbytes(tensors, config)
    if method == "hqq":
        found = _each(tensors, "W_q", layouts.hqq, 0)
        for name in found.widths:
            packed = any(int(tensors.get(f"{name}.{key}", 0)) for key in ("quant_scale", "quant_zero"))
            _refuse_if(packed, where, f"steps or zero points of {name} that are packed themselves", "plain ones")
            found.widths[name] = int(tensors[f"{name}.nbits"])
        return found
    msg = f"{where}: quantization: got {method!r}, expected one of {', '.join(METHODS)}, or plain weights. Save it dequantized."
    raise ModelError(msg)


def _refuse_if(wrong: bool, where: str, got: str, expected: str) -> None:
    if wrong:
        msg = f"{where}: quantization: got {got}, expected {expected}. Save it dequantized."
        raise ModelError(msg)


def _each(tensors: Tensors, key: str, read: Callable[[Tensors], torch.Tensor], width: int) -> Unpacked:
    """Read all modules that have a tensor `key`; what else there is comes back as it is."""
    found = Unpacked()
    inside: dict[str, dict[str, torch.Tensor]] = {name.removesuffix(f".{key}"): {} for name in tensors if name.endswith(f".{key}")}
    for name, tensor in tensors.items():
        parts = name.split(".")
        owner = next((o for i in range(1, len(parts)) if (o := ".".join(parts[:i])) in inside), "")
        within = name.removeprefix(f"{owner}.")
        if not owner or within == "bias":
            found.tensors[name] = tensor
        else:
            inside[owner][within] = tensor
    for name, own in inside.items():
        found.tensors[f"{name}.weight"] = read(own)
        found.widths[name] = width
        found.sizes[name] = sum(tensor.numel() * tensor.element_size() * _BYTE for tensor in own.values())
    return found


def _bitsandbytes(tensors: Tensors, config: Mapping[str, Any]) -> Unpacked:
    if not config.get("load_in_8bit"):
        return _each(tensors, "weight.absmax", layouts.bitsandbytes4, 4)
    found = _each(tensors, "SCB", layouts.bitsandbytes8, _BYTE)
    threshold = float(config.get("llm_int8_threshold", _LLM_INT8_THRESHOLD))
    found.activations.update(dict.fromkeys(found.widths, Activations(kind="llm_int8", threshold=threshold)))
    return found


def _compressed_tensors(tensors: Tensors, config: Mapping[str, Any], module: nn.Module, where: str) -> Unpacked:
    rotated, sparse = config.get("transform_config"), (config.get("sparsity_config") or {}).get("format", "dense")
    _refuse_if(bool(rotated), where, "a `transform_config`", "weights without rotations")
    _refuse_if(sparse != "dense", where, f"the sparse format {sparse!r}", "dense or quantized tensors")
    _refuse_if(bool(config.get("kv_cache_scheme")), where, "a `kv_cache_scheme`", "a cache in full precision")
    groups = list((config.get("config_groups") or {}).values())
    for group in groups:
        form = group.get("format") or config.get("format") or "dense"
        _refuse_if(form not in _FORMATS, where, f"the format {form!r}", f"one of {', '.join(_FORMATS)}")
        _refuse_if(bool(group.get("output_activations")), where, "`output_activations`", "rounded inputs at most")
    kinds = {name: type(child).__name__ for name, child in module.named_modules()}
    scale = "weight_scale"
    found = Unpacked()
    own = _each(tensors, scale, lambda inside: inside[scale], 0)  # the values follow, each by its group's scheme
    for name, tensor in own.tensors.items():
        if name.removesuffix(".weight") not in own.widths:
            found.tensors[name] = tensor
    for name in own.widths:
        inside = {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}
        group = _group_of(name, kinds.get(name, "Linear"), groups)
        if group is None or not group.get("weights"):
            msg = f"{where}: quantization: got {name} in no group of the configuration, expected one that targets it. Save it again."
            raise ModelError(msg)
        found.tensors[f"{name}.weight"] = layouts.compressed_tensors(inside, group["weights"])
        found.widths[name], found.sizes[name] = int(group["weights"]["num_bits"]), own.sizes[name]
        if group.get("input_activations"):
            found.activations[name] = _activations(group["input_activations"], inside, where)
    return found


def _group_of(name: str, kind: str, groups: list[Any]) -> Any:  # noqa: ANN401 - JSON
    """Return the group that targets a module: by its name before a pattern, and a pattern before its class."""
    ranked = []
    for group in groups:
        for target in map(str, group.get("targets", ())):
            pattern = target.startswith("re:") and re.match(target.removeprefix("re:"), name) is not None
            ranked += [(0 if target == name else 1 if pattern else 2, group)] if target in {name, kind} or pattern else []
    return min(ranked, key=lambda found: found[0])[1] if ranked else None


def _activations(scheme: Mapping[str, Any], tensors: Tensors, where: str) -> Activations:
    kind, dynamic, strategy = str(scheme.get("type", "int")), bool(scheme.get("dynamic")), str(scheme.get("strategy"))
    known = int(scheme.get("num_bits", 0)) == _BYTE and kind in {"int", "float"} and strategy == ("token" if dynamic else "tensor")
    got = f"activations of {scheme.get('num_bits')} bits per {strategy}"
    _refuse_if(not known, where, got, "8 bits per token, or per tensor with a fixed step")
    symmetric = bool(scheme.get("symmetric", True))
    if dynamic:
        return Activations(kind=kind, symmetric=symmetric)
    _refuse_if("input_scale" not in tensors, where, "activations of a fixed step without `input_scale`", "the step")
    zero = tensors.get("input_zero_point")
    return Activations(kind=kind, symmetric=symmetric, scale=float(tensors["input_scale"]), zero=0.0 if zero is None else float(zero))
