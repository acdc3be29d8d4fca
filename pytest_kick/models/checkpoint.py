"""Read a checkpoint that was made elsewhere of a model at hand: compare tokenizer and configuration, then turn its weights into float32."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from pytest_kick.errors import KickError, ModelError
from pytest_kick.models import checks, gguf_header, hashing
from pytest_kick.models.gguf import no_bar
from pytest_kick.models.quiet import quiet
from pytest_kick.models.same_tokens import compare_tokenizer, compare_tokens
from pytest_kick.models.unpack import Activations, Unpacked, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

_BYTE = 8
_SHOWN = 3
_CLOSE = 1e-6  # GGUF files hold numbers as float32
_INCIDENTAL = frozenset(
    {
        *("architectures", "auto_map", "dtype", "torch_dtype", "quantization_config", "transformers_version", "use_cache"),
        *("tie_word_embeddings", "max_position_embeddings", "initializer_range", "initializer_factor", "pretraining_tp"),
        *("id2label", "label2id", "num_labels", "problem_type", "gradient_checkpointing", "chunk_size_feed_forward"),
        *("return_dict", "output_attentions", "output_hidden_states", "task_specific_params"),
    }
)
"""Keys of a configuration that do not change what a forward pass computes; ties and shapes show in the tensors."""
_INCIDENTAL_ENDS = ("_token_id", "dropout", "dropout_rate", "dropout_prob", "pdrop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Say what a checkpoint may be.

    Attributes:
        allow_pickle: accept pickled weights (torch unpickles tensors only).
        trust_remote_code: run the Python code that a directory brings along.
    """

    allow_pickle: bool = False
    trust_remote_code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Hold the weights of a checkpoint under the names of the dense model.

    Attributes:
        values: name of a parameter, tied ones under all their names -> float32 tensor of its shape; not to be written.
        untied: names of parameters that are tied in the dense model and differ here.
        widths: name of a parameter -> bits of one stored value.
        sizes: name of a parameter -> bits that it takes in the files, steps and the like included.
        activations: name of a module -> what is done to its inputs.
        notes: what a reader should know.
        hash: of all values, and of what is done to activations.
    """

    values: Mapping[str, torch.Tensor]
    untied: tuple[str, ...]
    widths: Mapping[str, int]
    sizes: Mapping[str, float]
    activations: Mapping[str, Activations]
    notes: tuple[str, ...]
    hash: str


def open_checkpoint(path: Path, model: LoadedModel, where: str, trust: Trust) -> Checkpoint:
    """Read a checkpoint of `model`, which must be dense.

    Args:
        path: a model directory, or a `.gguf` file.
        model: what it was made of.
        where: opens every error.
        trust: what it may be.

    Raises:
        ModelError: it is not there, is no checkpoint of this model, is damaged or not trusted, or is quantized in a way that is not
            read or cannot be carried on.
    """
    if "*" in str(path) and not path.exists():
        msg = f"{where}: steps: got nothing at {str(path)!r}, expected a whole number in place of '*'. Check the pattern in the suite."
        raise ModelError(msg)
    if not (path.is_dir() or (path.is_file() and path.suffix == ".gguf")):
        msg = f"{where}: path: got {str(path)!r}, expected a model directory or a .gguf file. Check the path in the suite."
        raise ModelError(msg)
    try:
        with quiet(), no_bar():
            found = _open_gguf(path, model, where) if path.is_file() else _open_directory(path, model, where, trust)
    except KickError:
        raise
    except Exception as error:  # of the parsers of a dozen formats, on whatever bytes
        said = f"got {checks.first_line(error)}, expected a readable checkpoint. Check {path.name}."
        msg = f"{where}: weights: {(path.is_file() and gguf_header.damage(path)) or said}"
        raise ModelError(msg) from error
    return found


def _open_directory(path: Path, model: LoadedModel, where: str, trust: Trust) -> Checkpoint:
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        msg = f"{where}: weights: got an adapter, expected whole weights. Merge it into its model and save that."
        raise ModelError(msg)
    written = checks.read_json(path / "config.json", where)
    if "auto_map" in written and not trust.trust_remote_code:
        msg = f"{where}: config: got auto_map, expected no code in the directory. Allow it by --kick-trust-remote-code."
        raise ModelError(msg)
    checks.check_weight_files(path, where, allow_pickle=trust.allow_pickle)
    notes = compare_tokenizer(path, model, where, trust_remote_code=trust.trust_remote_code)
    config = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=trust.trust_remote_code)
    _compare_config(config.to_dict(), model, where)
    quantized = dict(written.get("quantization_config") or written.get("compression_config") or {})
    files = Unpacked(tensors={} if not checks.has_safetensors(path) else _tensors(path, where))
    kind: Any = type(model.module)
    options: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True, "local_files_only": True}
    if not quantized or quantized.get("quant_method") == "torchao":
        module, info = kind.from_pretrained(path, use_safetensors=checks.has_safetensors(path), weights_only=True, **options)
        stored = _plain_sizes(files.tensors)
    else:
        unpacked = unpack(files.tensors, quantized, model.module, where)
        plain = copy.deepcopy(model.module.config)
        plain.tie_word_embeddings = config.tie_word_embeddings
        stored = _plain_sizes(unpacked.tensors)
        for name, size in unpacked.sizes.items():
            stored[f"{name}.weight"] = (unpacked.widths[name], size)
        module, info = kind.from_pretrained(None, config=plain, state_dict=unpacked.tensors, **options)
        files = unpacked
    checks.check_keys(info, where)
    return _checkpoint(module, model, where, stored=stored, activations=files.activations, notes=notes)


def _open_gguf(path: Path, model: LoadedModel, where: str) -> Checkpoint:
    header = gguf_header.read_header(path)
    notes = compare_tokens(header.tokens, model, where)
    options: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    config = AutoConfig.from_pretrained(path.parent, **options)
    _compare_config(config.to_dict(), model, where)
    kind: Any = type(model.module)
    options |= {"config": config, "dtype": torch.float32, "output_loading_info": True}  # parsing a header takes seconds: not once more
    module, info = kind.from_pretrained(path.parent, **options)
    checks.check_keys(info, where)
    return _checkpoint(module, model, where, stored=header.stored(model.module), notes=notes)


def _tensors(path: Path, where: str) -> dict[str, torch.Tensor]:
    """Return the tensors of all safetensors of a directory, memory-mapped."""
    found: dict[str, torch.Tensor] = {}
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as opened:
                found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
        except (SafetensorError, OSError) as error:
            msg = f"{where}: weights: got {checks.first_line(error)} in {file.name}, expected whole safetensors. Copy the file again."
            raise ModelError(msg) from error
    return found


def _plain_sizes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, float]]:
    """Return (bits of a value, bits of the whole) of each tensor; torchao writes a weight as `_weight_qdata`, `_weight_scale`, ...."""
    found: dict[str, tuple[int, float]] = {}
    for name, tensor in tensors.items():
        width, owner = tensor.element_size() * _BYTE, name.partition("._weight_")[0] + ".weight"
        found[name] = (width, tensor.numel() * width)
        if "._weight_" in name:
            known = found.get(owner, (width, 0.0))
            found[owner] = (width if name.endswith("_qdata") else known[0], known[1] + tensor.numel() * width)
    return found


def _compare_config(found: Mapping[str, Any], model: LoadedModel, where: str) -> None:
    """Refuse a configuration that says of the forward pass what the dense model's does not."""
    config: Any = model.module.config
    wanted = config.to_dict()
    other = sorted(key for key in found.keys() & wanted.keys() if _counts(key) and not _same(found[key], wanted[key]))
    if found.get("model_type") != wanted.get("model_type"):
        other = ["model_type"]
    if other:
        shown = ", ".join(f"{key} {found[key]!r} (dense: {wanted[key]!r})" for key in other[:_SHOWN])
        more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
        msg = f"{where}: config: got {shown}{more}, expected the architecture of {model.name}. Compare it with its own dense model."
        raise ModelError(msg)


def _counts(key: str) -> bool:
    return key not in _INCIDENTAL and not key.startswith("_") and not key.endswith(_INCIDENTAL_ENDS)


def _same(left: Any, right: Any) -> bool:  # noqa: ANN401 - JSON
    if isinstance(left, dict) and isinstance(right, dict):
        return all(_same(left.get(key), right.get(key)) for key in left.keys() | right.keys())
    if isinstance(left, float) and isinstance(right, int | float):
        return math.isclose(left, right, rel_tol=_CLOSE)
    return bool(left == right)


def _checkpoint(
    module: Any,  # noqa: ANN401 - a transformers model, whose tensors may be of a library's own kind
    model: LoadedModel,
    where: str,
    *,
    stored: Mapping[str, tuple[int, float]],
    activations: Mapping[str, Activations] | None = None,
    notes: tuple[str, ...] = (),
) -> Checkpoint:
    own = {name: _plain(p.detach(), f"{where}: {name}") for name, p in module.named_parameters(remove_duplicate=False)}
    checks.check_finite(own, where)
    values: dict[str, torch.Tensor] = {}
    first: dict[int, str] = {}
    untied = []
    for name, parameter in model.module.named_parameters(remove_duplicate=False):
        values[name] = own[name]
        tied = first.setdefault(id(parameter), name)
        untied += [name] if tied != name and not own[name].equal(own[tied]) else []
    names = sorted([*first.values(), *untied])
    rounding = json.dumps({name: asdict(each) for name, each in sorted((activations or {}).items())}, sort_keys=True)
    digest = hashing.tensors_hash(values[name] for name in names) + (rounding if activations else "")
    known = {name: stored[name] for name in values if name in stored}
    return Checkpoint(
        values=values,
        untied=tuple(untied),
        widths={name: width for name, (width, _) in known.items()},
        sizes={name: size for name, (_, size) in known.items()},
        activations=activations or {},
        notes=notes,
        hash=hashlib.blake2b(digest.encode(), digest_size=16).hexdigest(),
    )


def _plain(tensor: torch.Tensor, where: str) -> torch.Tensor:
    """Return a tensor of any library as a plain float32 one, and refuse one that rounds activations too."""
    if type(tensor) in {torch.Tensor, torch.nn.Parameter}:
        return tensor.float()
    if getattr(tensor, "act_quant_kwargs", None) is not None or not hasattr(tensor, "dequantize"):
        msg = f"{where}: got {type(tensor).__name__} with rounded activations, expected rounded weights alone. Use the method dynamic_int8."
        raise ModelError(msg)
    return tensor.dequantize().float()
