"""The weight matrices of a model as records: what each is for, and where in which parameter it lies."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator  # noqa: TC003 - a dataclass module that other modules introspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_kick.errors import ScopeError
from pytest_kick.models.architectures import LAYOUTS, Fused, Layout

EMPTY = Layout(attention=(), ffn=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Cut one matrix out of a parameter: reshape it to `shape`, take `length` entries of axis `dim` from `start`."""

    shape: tuple[int, ...]
    dim: int
    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Name one weight matrix.

    Attributes:
        name: of the module, with the part's name behind it where a parameter holds several matrices.
        module: name of the module whose parameter it is.
        parameter: full name of the parameter.
        role: `attention`, `ffn`, `other`, `head`, `embedding`, `router`, `norm` or `unknown`.
        shape: `(out, in)`; `(1, n)` for a norm weight.
        transposed: whether the parameter holds it as `(in, out)` (Conv1D).
        part: where in the parameter it lies; None for all of it.
    """

    name: str
    module: str
    parameter: str
    role: str
    shape: tuple[int, int]
    transposed: bool = False
    part: Part | None = None

    @property
    def n(self) -> int:
        """Return the number of weights."""
        return self.shape[0] * self.shape[1]

    def read(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return this matrix `(out, in)`, contiguous, of a tensor shaped as the parameter; shares its memory where it can."""
        inside = self._inside(tensor)
        return (inside.t() if self.transposed else inside.reshape(self.shape)).contiguous()

    def write_(self, tensor: torch.Tensor, values: torch.Tensor) -> None:
        """Put `values`, broadcastable to `(out, in)`, where this matrix lies in `tensor`."""
        inside = self._inside(tensor)
        values = values.expand(self.shape)
        inside.copy_(values.t() if self.transposed else values.reshape(inside.shape))

    def _inside(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.part is None:
            return tensor
        return tensor.view(self.part.shape).narrow(self.part.dim, self.part.start, self.part.length)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Say whether a name matches one of the globs."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def layout_of(module: nn.Module) -> Layout | None:
    """Return the layout of a model's architecture, None where the table does not know it."""
    return LAYOUTS.get(model_type(module))


def model_type(module: nn.Module) -> str:
    """Return the name that transformers gives the architecture."""
    return str(getattr(getattr(module, "config", None), "model_type", type(module).__name__))


def find_matrices(module: nn.Module) -> tuple[Matrix, ...]:
    """Find all matrices of a model and norm weights, in the order of its modules, each once.

    Linear, Conv1D and expert parameters are cut into the matrices that they hold. Tables of embeddings are listed with their
    role; the final vocabulary layer is listed under its own name even where it is tied to the input embedding. What the table of
    architectures does not name has the role `unknown`.

    Args:
        module: a transformers model.
    """
    layout = layout_of(module) or EMPTY
    model: Any = module  # transformers' attributes, which nn.Module does not declare
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    config = getattr(model, "config", None)
    queries = int(getattr(config, "num_attention_heads", None) or 1)
    heads = (queries, int(getattr(config, "num_key_value_heads", None) or queries))
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    found: list[Matrix] = []
    seen: set[int] = set()
    for name, child in module.named_modules():
        for key, parameter in child.named_parameters(recurse=False):
            if child is not head and (id(parameter) in seen or (id(parameter) in tables and not isinstance(child, nn.Embedding))):
                continue
            if key.endswith("bias") or (key != "weight" and parameter.ndim < 2):  # noqa: PLR2004 - a matrix has two axes
                continue
            seen.add(id(parameter))
            full = f"{name}.{key}" if name else key
            found += _cut(heads, child, parameter, full, _role(child, head, parameter, full, layout), layout)
    return tuple(found)


def _role(child: nn.Module, head: nn.Module | None, parameter: torch.Tensor, full: str, layout: Layout) -> str:
    if child is head:
        return "head"
    if isinstance(child, nn.Embedding):
        return "embedding"
    if parameter.ndim == 1:
        return "norm"
    roles = {"attention": layout.attention, "ffn": layout.ffn, "other": layout.other}
    name = full.rpartition(".")[0] if isinstance(child, (nn.Linear, Conv1D)) else full
    for role, patterns in roles.items():
        if matches(name, patterns):
            return role
    return "router" if matches(full, layout.router) else "unknown"


def _cut(heads: tuple[int, int], child: nn.Module, parameter: torch.Tensor, full: str, role: str, layout: Layout) -> Iterator[Matrix]:
    name = full.removesuffix(".weight")
    module = full.rpartition(".")[0]
    transposed = isinstance(child, Conv1D)
    if parameter.ndim == 1:
        yield Matrix(name=name, module=module, parameter=full, role=role, shape=(1, parameter.numel()))
        return
    fused = next((f for f in layout.fused if fnmatch.fnmatchcase(name, f.pattern)), None)
    if fused is None:
        rows, columns = parameter.shape[0], parameter.numel() // parameter.shape[0]
        shape = (columns, rows) if transposed else (rows, columns)
        yield Matrix(name=name, module=module, parameter=full, role=role, shape=shape, transposed=transposed)
        return
    for label, shape, part in _parts(heads, tuple(parameter.shape), fused, transposed=transposed):
        yield Matrix(name=f"{name}.{label}", module=module, parameter=full, role=role, shape=shape, transposed=transposed, part=part)


def _parts(
    heads: tuple[int, int], shape: tuple[int, ...], fused: Fused, *, transposed: bool
) -> Iterator[tuple[str, tuple[int, int], Part]]:
    count = len(fused.parts)
    width = shape[-2] if transposed else shape[-1]
    rows = shape[-1] if transposed else shape[-2]
    if fused.how == "experts":
        view = (shape[0] * count, rows // count, width)
        for expert in range(shape[0]):
            for j, part in enumerate(fused.parts):
                label = f"{expert}.{part}" if part else f"{expert}"
                yield label, view[1:], Part(shape=view, dim=0, start=expert * count + j, length=1)
    elif fused.how == "heads":
        view4 = (heads[0], count, rows // heads[0] // count, width)
        for j, part in enumerate(fused.parts):
            yield part, (rows // count, width), Part(shape=view4, dim=1, start=j, length=1)
    else:
        start = 0
        for part, size in zip(fused.parts, _sizes(heads, rows, fused), strict=True):
            yield part, (size, width), Part(shape=shape, dim=1 if transposed else 0, start=start, length=size)
            start += size


def _sizes(heads: tuple[int, int], rows: int, fused: Fused) -> tuple[int, ...]:
    count = len(fused.parts)
    if fused.how == "rows":
        return (rows // count,) * count
    queries, groups = heads
    width = rows // (queries + 2 * groups)
    return queries * width, groups * width, groups * width


def body_size(matrices: tuple[Matrix, ...]) -> int:
    """Return the number of 2-D weights without embeddings and head."""
    return sum(m.n for m in matrices if m.role not in {"embedding", "head", "norm"})


def generic(names: list[str], most: int = 12) -> str:
    """List names with their layer numbers replaced by `*`, each once, at most `most` of them."""
    short = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in names))
    return ", ".join(short[:most]) + (f" and {len(short) - most} more" if len(short) > most else "")


def check_known(module: nn.Module, matrices: tuple[Matrix, ...], scope: str) -> None:
    """Refuse a named scope where the table does not account for every matrix of the model.

    Raises:
        ScopeError: the architecture, or a matrix of it, is not in the table; lists the matrices and says how to give patterns.
    """
    kind = model_type(module)
    linear = [m.name for m in matrices if m.role not in {"embedding", "norm", "router"}]
    if layout_of(module) is None:
        msg = (
            f"scope {scope!r}: architecture: got {kind!r} with the matrices {generic(linear, 40)}; expected one of"
            f" {', '.join(sorted(LAYOUTS))}. Give comma-separated module name patterns instead, such as {_example(linear)!r}."
        )
        raise ScopeError(msg)
    unknown = [m.name for m in matrices if m.role == "unknown"]
    if unknown:
        msg = (
            f"scope {scope!r}: matrices: got {generic(unknown)}, which the table of {kind!r} does not name; expected all named."
            f" Give comma-separated module name patterns instead, such as {_example(linear)!r}."
        )
        raise ScopeError(msg)


def _example(names: list[str]) -> str:
    return next((re.sub(r"^.*\.\d+\.", "*.", name) for name in names if re.search(r"\.\d+\.", name)), "*.q_proj,*.k_proj")
