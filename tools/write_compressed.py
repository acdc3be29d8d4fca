"""Write a model as a directory that the package compressed-tensors saved, its matrices rounded to nearest."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme, apply_quantization_config
from compressed_tensors.quantization.utils import calculate_qparams

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

_PER_GROUP = {"strategy": "group"}
_GROUPS = (128, 64, 32, 16)
_PER_TOKEN = {"num_bits": 8, "strategy": "token", "dynamic": True}
SCHEMES: dict[str, dict[str, Any]] = {
    "w4a16": {"weights": {"num_bits": 4, **_PER_GROUP}},
    "w4a16_asym": {"weights": {"num_bits": 4, "symmetric": False, **_PER_GROUP}},
    "w3a16": {"weights": {"num_bits": 3, **_PER_GROUP}},
    "w8a16": {"weights": {"num_bits": 8, "strategy": "channel"}},
    "w8a8": {"weights": {"num_bits": 8, "strategy": "channel"}, "input_activations": _PER_TOKEN},
    "fp8": {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}, "input_activations": {**_PER_TOKEN, "type": "float"}},
}
"""Names as deployed -> how weights, and inputs, are rounded; groups are the largest of `_GROUPS` that cuts every width."""


@torch.no_grad()
def write_compressed(model: LoadedModel, directory: Path, scheme: str) -> None:
    """Write a model, its final vocabulary layer left as it is.

    Args:
        model: dense, of any architecture with linear layers.
        directory: receives weights, configuration and tokenizer.
        scheme: a key of `SCHEMES`.
    """
    module: Any = copy.deepcopy(model.module)
    head = module.get_output_embeddings()
    names = [name for name, child in module.named_modules() if child is head]
    widths = [child.in_features for child in module.modules() if isinstance(child, torch.nn.Linear) and child is not head]
    size = next(size for size in _GROUPS if all(width % size == 0 for width in widths))
    sized = {key: {**args, **({"group_size": size} if args["strategy"] == "group" else {})} for key, args in SCHEMES[scheme].items()}
    group = QuantizationScheme(targets=["Linear"], **{key: QuantizationArgs(**args) for key, args in sized.items()})
    apply_quantization_config(module, QuantizationConfig(config_groups={"group_0": group}, ignore=names))
    for child in module.modules():
        args = getattr(getattr(child, "quantization_scheme", None), "weights", None)
        if args is not None:
            weight = child.weight.unflatten(1, (-1, args.group_size)) if args.group_size else child.weight
            low, high = (end.reshape(child.weight_scale.shape) for end in weight.aminmax(dim=-1))
            scale, zero = calculate_qparams(low, high, args)
            child.weight_scale.copy_(scale)
            if hasattr(child, "weight_zero_point"):
                child.weight_zero_point.copy_(zero)
    compressor = ModelCompressor.from_pretrained_model(module)
    compressor.compress_model(module)
    module.save_pretrained(directory)
    compressor.update_config(str(directory))
    model.tokenizer.save_pretrained(directory)
