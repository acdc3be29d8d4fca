"""What the matrices of a model form together: attention heads, neurons of the feed-forward layers, and blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_kick.calibration.order import block_of
from pytest_kick.errors import CompressionError
from pytest_kick.models.matrices import find_matrices, model_type

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from pytest_kick.compress.targets import Targets
    from pytest_kick.models.matrices import Matrix
    from pytest_kick.spec import CompressionStep

_ATTENTION = re.compile(r"^.*\.(attention|attn|self_attn|encoder_attn|SelfAttention|EncDecAttention)(?=\.)")
_QKV = {
    "query": frozenset({"q", "q_proj", "q_lin", "query"}),
    "key": frozenset({"k", "k_proj", "k_lin", "key"}),
    "value": frozenset({"v", "v_proj", "v_lin", "value"}),
    "output": frozenset({"o", "o_proj", "out_proj", "out_lin", "dense", "Wo", "c_proj"}),
}
_UP = re.compile(r"(^|\.)(intermediate\.dense|wi|wi_[01]|gate_proj|up_proj|gate|up|input|fc1|lin1|ffn|c_fc|dense_h_to_4h)$")
_DOWN = re.compile(r"(^|\.)(output\.dense|wo|Wo|down_proj|fc2|lin2|ffn_output|c_proj|dense_4h_to_h)$")
_BODY = frozenset({"attention", "ffn", "other", "unknown"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hold matrices that are cut into units together: the heads of one attention, the neurons of one feed-forward layer.

    Unit i is the i-th of `n` equal runs of output rows in each of `rows`, and of input columns in each of `columns`.

    Attributes:
        name: of the attention or the feed-forward layer.
        n: number of units.
        rows: matrices whose outputs belong to units: queries, keys and values; up and gate.
        columns: matrices whose inputs do: the output projection; down.
    """

    name: str
    n: int
    rows: tuple[Matrix, ...]
    columns: tuple[Matrix, ...]

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Return all of them."""
        return (*self.rows, *self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hold one block of a model, of those that run one after the other.

    Attributes:
        name: of its module.
        matrices: all of them but routers.
    """

    name: str
    matrices: tuple[Matrix, ...]

    @property
    def stack(self) -> str:
        """Return the name of what holds it and its like: encoder and decoder are two."""
        return self.name.rpartition(".")[0]


Part = TypeVar("Part", Group, Block)


def heads_in(targets: Targets, step: CompressionStep) -> tuple[Group, ...]:
    """Return the attention heads of a scope; where queries share keys and values, a unit is a key-value head and all its queries.

    Raises:
        CompressionError: the scope has no attention, or parts of one, or this model's heads are not known.
    """
    by_name: dict[str, dict[str, Matrix]] = {}
    for matrix in _matrices(targets, "attention"):
        found = _ATTENTION.match(matrix.name)
        part = next((part for part, names in _QKV.items() if matrix.name.rpartition(".")[2] in names), "")
        parts = by_name.setdefault(found.group(0) if found else matrix.name, {})
        parts[matrix.name if part in parts else part] = matrix
    groups = []
    for name, parts in by_name.items():
        n = _n_units(targets.module, name, parts) if parts.keys() == _QKV.keys() else 0
        if not n:
            _unknown(targets, step, "heads", parts.values())
        groups.append(Group(name=name, n=n, rows=tuple(parts[part] for part in ("query", "key", "value")), columns=(parts["output"],)))
    return _whole(targets, step, tuple(groups), "attention")


def neurons_in(targets: Targets, step: CompressionStep) -> tuple[Group, ...]:
    """Return the neurons of the feed-forward layers of a scope; each expert is a layer.

    Raises:
        CompressionError: the scope has no feed-forward layer, or parts of one, or this model's are not known.
    """
    by_name: dict[str, list[Matrix]] = {}
    for matrix in _matrices(targets, "ffn"):
        by_name.setdefault(_ffn_of(matrix), []).append(matrix)
    groups = []
    for name, found in by_name.items():
        up = tuple(m for m in found if _UP.search(_without_expert(m)))
        down = tuple(m for m in found if m not in up and _DOWN.search(_without_expert(m)))
        shapes = {m.shape for m in up} | {(m.shape[1], m.shape[0]) for m in down}
        if not up or len(down) != 1 or len(up) + 1 != len(found) or len(shapes) != 1:
            _unknown(targets, step, "neurons", found)
        groups.append(Group(name=name, n=up[0].shape[0], rows=up, columns=down))
    return _whole(targets, step, tuple(groups), "ffn")


def blocks_in(targets: Targets, step: CompressionStep) -> tuple[Block, ...]:
    """Return the blocks of a scope, in the order of the model.

    Raises:
        CompressionError: the scope has no block, or parts of one.
    """
    by_name: dict[str, list[Matrix]] = {}
    for matrix in _matrices(targets, *_BODY):
        if name := block_of(matrix.module):
            by_name.setdefault(name, []).append(matrix)
    return _whole(targets, step, tuple(Block(name=name, matrices=tuple(found)) for name, found in by_name.items()), "overall")


def _matrices(targets: Targets, *roles: str) -> tuple[Matrix, ...]:
    assert targets.module is not None, "steps are run with the model at hand"
    return tuple(matrix for matrix in find_matrices(targets.module) if matrix.role in roles)


def _n_units(module: nn.Module | None, name: str, parts: dict[str, Matrix]) -> int:
    """Return the number of key-value heads of an attention, 0 where its shapes do not fit those that the configuration says."""
    config: Any = getattr(module, "config", None)
    own = getattr(config, "decoder_attention_heads", None) if "decoder" in name.split(".") else None  # BART has two counts
    queries = int(own or getattr(config, "num_attention_heads", None) or 1)
    n = int((None if own else getattr(config, "num_key_value_heads", None)) or queries)
    width, rest = divmod(parts["query"].shape[0], queries)
    fits = not rest and not queries % n and parts["output"].shape[1] == parts["query"].shape[0]
    return n if fits and {parts[part].shape[0] for part in ("key", "value")} == {n * width} else 0


def _ffn_of(matrix: Matrix) -> str:
    """Return the name of the feed-forward layer: its block, or what counts inside it, and its expert."""
    inside = re.match(r"^(.*\.\d+)(\.|$)", matrix.module)
    expert = re.search(r"\.\d+(?=\.|$)", matrix.name[len(matrix.module) :])
    return (inside.group(1) if inside else matrix.module) + (f".experts{expert.group(0)}" if expert else "")


def _without_expert(matrix: Matrix) -> str:
    return ".".join(part for part in matrix.name.split(".") if not part.isdecimal())


def _whole(targets: Targets, step: CompressionStep, parts: tuple[Part, ...], scope: str) -> tuple[Part, ...]:
    """Keep those whose matrices are all in the scope; refuse one of which only some are."""
    inside = {item.matrix.name for item in targets.items}
    chosen = tuple(part for part in parts if any(matrix.name in inside for matrix in part.matrices))
    for part in chosen:
        missing = [matrix.name for matrix in part.matrices if matrix.name not in inside]
        if missing:
            msg = (
                f"{step.id}: scope: got {len(part.matrices) - len(missing)} of the {len(part.matrices)} matrices of {part.name},"
                f" expected all, {missing[0]} too. Choose the scope {scope!r}, or patterns that hold the whole of it."
            )
            raise CompressionError(msg)
    if not chosen:
        known = ", ".join(part.name for part in parts[:3]) or f"none known in this {model_type(_module(targets))!r}"
        msg = (
            f"{step.id}: scope: got nothing in {step.scope!r} that {step.method} is about, expected at least one of this model's"
            f" ({known}). Choose the scope {scope!r}, or another method."
        )
        raise CompressionError(msg)
    return chosen


def _unknown(targets: Targets, step: CompressionStep, what: str, found: Iterable[Matrix]) -> None:
    shown = ", ".join(f"{m.name} {m.shape[0]}x{m.shape[1]}" for m in found)
    msg = (
        f"{step.id}: {what}: got {shown} in this {model_type(_module(targets))!r}, expected matrices whose {what} are known."
        " Choose another method."
    )
    raise CompressionError(msg)


def _module(targets: Targets) -> nn.Module:
    assert targets.module is not None
    return targets.module
