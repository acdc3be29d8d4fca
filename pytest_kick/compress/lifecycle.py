"""Compress a loaded model: choose the weights, run the method, check what it did, and pack what the forward pass needs packed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import nn

from pytest_kick.compress import int8
from pytest_kick.compress.check import STRUCTURED, Checked, Count, check_chain, check_level, check_step
from pytest_kick.compress.drop import skip_
from pytest_kick.compress.effective_bits import Mask, effective_bits, width
from pytest_kick.compress.kernels import swap_kernels_
from pytest_kick.compress.outside import Outside
from pytest_kick.compress.supplies import Supply, supplies
from pytest_kick.compress.targets import PreHook, Target, Targets, write_back
from pytest_kick.errors import CompressionError, KickError
from pytest_kick.extras import lacking
from pytest_kick.models.checkpoint import Trust
from pytest_kick.models.scopes import Matrix, body_size, find_matrices, select
from pytest_kick.registry import METHODS, load_target
from pytest_kick.result import CompressionReport, StepReport
from pytest_kick.spec import CompressionStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.compress.formats import Format
    from pytest_kick.compress.inputs import Calibrator
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.spec import CompressionSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """Hold what `finish_` has to swap in."""

    spec: CompressionSpec
    int8: tuple[int8.Packed, ...]
    modules: dict[str, nn.Module]
    hooks: dict[str, PreHook]
    kernels: dict[str, nn.Module]


_PENDING: WeakKeyDictionary[LoadedModel, _Pending] = WeakKeyDictionary()


@dataclass(slots=True, kw_only=True)
class _Cell:
    """Hold what the steps of one cell share.

    Attributes:
        model: being compressed.
        matrices: all of its matrices.
        touched: parameters that steps changed.
        grids: as in `Targets`.
        formats: likewise.
        packed: likewise.
        hooks: likewise.
        kernels: likewise.
        dropped: likewise.
        skipped: likewise.
        masks: as in `effective_bits`.
        inputs: number of a step, from 1 -> what it gets besides, see `supplies`.
    """

    model: LoadedModel
    matrices: tuple[Matrix, ...]
    touched: set[str] = field(default_factory=set)
    grids: dict[str, torch.Tensor] = field(default_factory=dict)
    formats: dict[str, Format] = field(default_factory=dict)
    packed: dict[str, nn.Module] = field(default_factory=dict)
    hooks: dict[str, PreHook] = field(default_factory=dict)
    kernels: dict[str, nn.Module] = field(default_factory=dict)
    dropped: dict[str, torch.Tensor] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    masks: dict[str, Mask] = field(default_factory=dict)
    inputs: dict[int, Supply] = field(default_factory=dict)


@torch.no_grad()
def compress_(
    model: LoadedModel, spec: CompressionSpec, calibrator: Calibrator | None = None, trust: Trust | None = None
) -> CompressionReport:
    """Apply a compression to the float32 master, step by step, and measure each step on the weights.

    `model.fresh_()` comes before it; after it `model.cast_()`, then `finish_`. Whatever happens, `model.fresh_()` brings the dense
    model back.

    Args:
        model: dense.
        spec: what is done to it.
        calibrator: gives calibrated steps their data; needed by them alone.
        trust: what a checkpoint may be.

    Raises:
        CompressionError: a step failed, did not achieve what was asked, or needs an extra that is not installed.
        CalibrationError: there is no data for a calibrated step.
        ModelError: a checkpoint that is none of this model.
        ScopeError: a scope that this model does not have.
    """
    _PENDING.pop(model, None)
    if reason := lacking(spec):
        raise CompressionError(reason)
    cell = _Cell(model=model, matrices=find_matrices(model.module), inputs=supplies(model, spec, calibrator, trust or Trust()))
    reports = tuple(_run(cell, step, (number, len(spec.steps))) for number, step in enumerate(spec.steps, 1))
    grids = {name: grid for name, grid in cell.grids.items() if name not in cell.packed}
    packed = int8.pack(model.module, cell.matrices, grids)
    _PENDING[model] = _Pending(spec=spec, int8=packed, modules=cell.packed, hooks=cell.hooks, kernels=cell.kernels)
    return CompressionReport(steps=reports, n_body=body_size(cell.matrices), n_total=model.n_total)


@torch.no_grad()
def finish_(model: LoadedModel, spec: CompressionSpec) -> None:
    """Swap in the packed int8 weights of a compression, and put its hooks on, after `model.cast_()`; else nothing is to do.

    Raises:
        CompressionError: `compress_` did not run before it, a float32 method in another dtype, or a module that was not swapped.
    """
    if not spec.steps:
        return
    pending = _PENDING.pop(model, None)
    if pending is None or pending.spec != spec:
        msg = f"{spec.id}: finish_: got a model that was not compressed so, expected compress_() before it. Report this as a bug."
        raise CompressionError(msg)
    if pending.modules and (model.dtype != torch.float32 or model.device.type != "cpu"):
        msg = f"{spec.id}: dtype: got {model.dtype} on {model.device}, expected torch.float32 on the cpu. Run this method in float32."
        raise CompressionError(msg)
    packed = [*(f"{name}.weight" for name in pending.modules), *(f"{p.module}.{p.key}" for p in pending.int8)]
    unpacked = {id(p): p for p in map(model.module.get_parameter, packed)}
    for name, module in pending.modules.items():
        model.replace_module(name, module)
    int8.swap_(model, pending.int8)
    swap_kernels_(model, pending.kernels)
    for name, hook in pending.hooks.items():
        if name not in pending.kernels:
            model.add_hook(model.module.get_submodule(name).register_forward_pre_hook(hook))
    missing = [name for name, module in pending.modules.items() if model.module.get_submodule(name) is not module]
    missing += sorted({f"{p.module}.{p.key}" for p in pending.int8} ^ int8.swapped(model))
    if missing:
        msg = f"{spec.id}: {', '.join(missing[:3])}: got {len(missing)} modules not swapped as asked, expected none. Report this as a bug."
        raise CompressionError(msg)
    shared = [name for name, p in model.module.named_parameters(remove_duplicate=False) if id(p) in unpacked]
    if shared:
        msg = (
            f"{spec.id}: {', '.join(shared[:3])}: got {len(shared)} modules that share a weight with a packed one and still compute with"
            " floats, expected weights of their own. Leave them out of the scope."
        )
        raise CompressionError(msg)


def _run(cell: _Cell, step: CompressionStep, place: tuple[int, int]) -> StepReport:
    info = METHODS.get(step.method, step.id)
    if cell.packed or cell.kernels:
        msg = f"{step.id}: chain: got a step after weights were packed, expected the one that packs to be the last. Put it last."
        raise CompressionError(msg)
    if info.level == "bits" and info.bits and step.level not in info.bits:
        msg = f"{step.id}: level: got {step.level:g} bits, expected one of {', '.join(map(str, info.bits))}. Correct the level."
        raise CompressionError(msg)
    chosen = select(cell.model.module, cell.model.family, step.scope, bits=info.level == "bits")
    notes = _notes(cell.model, chosen)
    earlier = set(cell.touched)
    inputs = cell.inputs.get(place[0])
    brought = inputs.parameters() if inputs else []
    names = list(dict.fromkeys([*(m.parameter for m in chosen), *brought]))
    cell.model.touch(names)
    cell.touched.update(names)
    targets = _targets(cell, chosen)
    before = {m.name: _before(cell.model, m, earlier) for m in chosen}
    outside = Outside(cell.model, chosen, cell.matrices, cell.touched)
    if info.level == "sparsity" and not info.check:
        check_level(targets, step)
    formats, skipped = dict(cell.formats), set(cell.skipped)
    _call(load_target(info.target), targets, step, *([inputs] if inputs else []))
    for item in targets.items:
        write_back(cell.model.module, item)
    counts, checked = check_step(targets, step, before)
    if not brought:
        outside.check(cell.model, step)
    for item in targets.items:  # what the step moved off an earlier step's format is in it no more
        known, count = cell.formats.get(item.matrix.name), counts[item.matrix.name]
        if known and known is formats.get(item.matrix.name) and count.changed and (count.rewritten or not known.holds(item.weight)):
            cell.formats.pop(item.matrix.name)
    for name in sorted(cell.skipped - skipped):
        skip_(cell.model.module.get_submodule(name))
    check_chain(step, place, counts)
    report = _report(cell, step, targets, tuple(counts.values()), replace(checked, notes=(*notes, *checked.notes)))
    return report if inputs is None else replace(report, **inputs.recorded, notes=(*report.notes, *inputs.notes))


def _notes(model: LoadedModel, chosen: tuple[Matrix, ...]) -> tuple[str, ...]:
    """Untie the head where the scope holds it, and say so."""
    notes = []
    if any(m.role == "head" for m in chosen):
        name = next(m.parameter for m in chosen if m.role == "head")
        weight = model.module.get_parameter(name)
        model.untie_head_()
        notes += ["head untied from the input embedding"] if model.module.get_parameter(name) is not weight else []
    special = [m.name for m in chosen if m.role in {"norm", "router"}]
    if special:
        notes.append(f"unsafe: {len(special)} norm or router weights in the scope")
    return tuple(notes)


def _targets(cell: _Cell, chosen: tuple[Matrix, ...]) -> Targets:
    module = cell.model.module
    items = tuple(
        Target(matrix=m, weight=m.read(module.get_parameter(m.parameter).detach()), layer=module.get_submodule(m.module)) for m in chosen
    )
    return Targets(
        items=items,
        n_body=body_size(cell.matrices),
        n_attention=sum(m.n for m in cell.matrices if m.role == "attention"),
        grids=cell.grids,
        formats=cell.formats,
        packed=cell.packed,
        hooks=cell.hooks,
        kernels=cell.kernels,
        module=module,
        dropped=cell.dropped,
        skipped=cell.skipped,
    )


def _before(model: LoadedModel, matrix: Matrix, earlier: set[str]) -> torch.Tensor:
    if matrix.parameter in earlier:
        return matrix.read(model.module.get_parameter(matrix.parameter).detach()).clone()
    return matrix.read(model.dense(matrix.parameter))


def _call(method: Callable[..., None], *arguments: object) -> None:
    step = arguments[1]
    assert isinstance(step, CompressionStep)
    try:
        method(*arguments)
    except KickError:
        raise
    except Exception as error:  # a method of any package, on any model
        text = " ".join(str(error).split())[:200]
        msg = f"{step.id}: method: got {type(error).__name__} ({text}), expected it to run. Correct the method."
        raise CompressionError(msg) from error


def _report(cell: _Cell, step: CompressionStep, targets: Targets, counts: tuple[Count, ...], checked: Checked) -> StepReport:
    zeros, notes = sum(c.zeros for c in counts), checked.notes
    info = METHODS.get(step.method, step.id)
    pruning = info.level == "sparsity" and not info.check
    base = {"model": targets.n_body, "attention": targets.n_attention}.get(str(dict(step.params).get("sparsity_of")), targets.n)
    mask: Mask = "weights" if step.method not in STRUCTURED else "rows" if step.param("dim") == "rows" else "columns"
    cell.masks.update({item.matrix.name: mask for item in targets.items} if pruning else {})
    widths = [width(targets, item.matrix.name) for item in targets.items]
    if step.method == "dynamic_int8" and not int8.kernel_is_exact():
        notes = (*notes, "int8 products computed in float32: this processor's own saturate")
    return StepReport(
        method=step.method,
        scope=step.scope,
        n_matrices=len(counts),
        n_weights=targets.n,
        n_zeros_before=sum(c.zeros_before for c in counts),
        n_zeros=zeros,
        n_changed=sum(c.changed for c in counts),
        asked=step.level,
        achieved=checked.achieved if checked.achieved is not None else zeros / base if pruning else float(max(widths)),
        bits_per_weight=effective_bits(targets, counts, cell.masks) / targets.n,
        notes=notes,
    )
