"""Check what `llm_int8` and `smoothquant` achieved: the weights, by their own rows, and the rounding of inputs, by trying it.

Steps are measured: the largest weight of a row, as it was, over the largest code. Only the factors of SmoothQuant are taken as
recorded, since nothing but the product of both sides depends on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_kick.compress.check import Checked
from pytest_kick.compress.library_formats import Int8Rows
from pytest_kick.compress.refusal import refuse_faults

if TYPE_CHECKING:
    from pytest_kick.compress.check import Count
    from pytest_kick.compress.targets import PreHook, Targets
    from pytest_kick.spec import CompressionStep

_OFF = 1e-3  # of a step
_TOP = 127
_HALF_STEPS = {"llm_int8": _TOP, "smoothquant": _TOP + 0.5}  # the largest magnitude of a row, in steps
_SMALLEST = {"llm_int8": torch.finfo(torch.float32).tiny, "smoothquant": torch.finfo(torch.float32).eps}
_FAULTS = {
    "format": ("got no int8 rows recorded", "one format per matrix", "The method left these out"),
    "factor": ("got factors that are none", "finite ones above 0, one per input", "Correct the method"),
    "grid": ("got weights off the int8 grid of their row", "the nearest of its codes", "Correct the method"),
    "hook": ("got no hook on the inputs", "one that rounds them", "The method left these out"),
    "input": ("got inputs that are not rounded as asked", "int8 per token, and outliers as they are", "Correct the hook"),
}


def check_rows(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> Checked:
    """Check the weights of each matrix, and what the hook of its layer does to inputs.

    Args:
        targets: the weights after the step, and the hooks.
        step: what was asked.
        before: name of a matrix -> `(out, in)` float32 as it was.
        counts: name of a matrix -> what changed in it.

    Raises:
        CompressionError: weights off the grids of their rows, or inputs that are not rounded; names the matrices.
    """
    faults: dict[str, str] = {}
    for item in targets.items:
        name = item.matrix.name
        found, hook = targets.formats.get(name), targets.hooks.get(item.matrix.module)
        fault = _weight_fault(item.weight, before[name], found, step)
        faults[name] = fault or _input_fault(hook, item.weight.shape[1], found, step, item.layer)
    refuse_faults(step, faults, _FAULTS)
    met = sum(not count.changed for count in counts.values())
    return Checked(notes=(f"{met} of {len(counts)} matrices lay on this grid before",) if met else ())


def _weight_fault(new: torch.Tensor, old: torch.Tensor, found: object, step: CompressionStep) -> str:
    smooth = step.method == "smoothquant"
    if not isinstance(found, Int8Rows) or (found.smooth is not None) != smooth:
        return "format"
    factor = torch.ones(new.shape[1]) if found.smooth is None else found.smooth
    if factor.shape != new.shape[1:] or not float(factor.min()) > 0 or not bool(factor.isfinite().all()):
        return "factor"
    new, old = new * factor, old * factor
    size = (old.abs().amax(dim=1, keepdim=True) / _HALF_STEPS[step.method]).clamp_(min=_SMALLEST[step.method])
    codes = new / size
    whole = float((codes - codes.round()).abs().max()) <= _OFF and float(codes.abs().max()) <= _TOP + 1 + _OFF
    return "" if whole and float((codes - old / size).abs().max()) <= 0.5 + _OFF else "grid"


def _input_fault(hook: PreHook | None, n_in: int, found: object, step: CompressionStep, layer: torch.nn.Module) -> str:
    if hook is None:
        return "hook"
    tokens = _tokens(n_in)
    assert isinstance(found, Int8Rows)
    factor = torch.ones(n_in) if found.smooth is None else found.smooth
    threshold = (float(step.param("threshold")) if step.method == "llm_int8" else 0) or float("inf")
    tokens = tokens * (threshold / 2 if threshold < float("inf") else 1.0)
    given = hook(layer, (tokens,))
    if given is None or given[0].shape != tokens.shape or given[0].dtype != tokens.dtype:
        return "input"
    got, tokens = given[0] / factor, tokens / factor
    outlier = tokens.abs() >= threshold
    size = tokens.masked_fill(outlier, 0.0).abs().amax(dim=1, keepdim=True) / _HALF_STEPS[step.method]
    kept = outlier.any(dim=0).expand_as(outlier) if step.method == "llm_int8" and step.param("columns") == "batch" else outlier
    codes = got / size
    moved, off = (codes - tokens / size).abs(), (codes - codes.round()).abs()
    right = torch.where(kept, moved == 0, (off <= _OFF) & (moved <= 0.5 + _OFF))
    return "" if bool(right.all()) and (moved[~kept] > 0).any() else "input"


def _tokens(n_in: int) -> torch.Tensor:
    """Return three tokens, `(3, in)` float32, in which some numbers are large and no two alike."""
    found = torch.sin(torch.arange(1, 3 * n_in + 1, dtype=torch.float64) * 1.7).view(3, n_in)
    found[0, n_in // 2] = 2.5
    return found.float()
