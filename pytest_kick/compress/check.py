"""Measure what a step achieved, from the weights, and refuse what is not what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from pytest_kick.compress.check_formats import check_formats
from pytest_kick.compress.check_solved import SOLVED, asked_per_row, check_lines_of_inputs
from pytest_kick.compress.prune import asked_zeros
from pytest_kick.compress.quantize import QMAX, QMIN
from pytest_kick.compress.rank import Float32, blocks, exact_count
from pytest_kick.compress.refusal import refuse
from pytest_kick.registry import METHODS, load_target

if TYPE_CHECKING:
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep

STRUCTURED = frozenset({"ln_structured", "random_structured"})
_NONE_LEFT = np.uint32(2**32 - 1)
SMALLEST = 1e-4  # torchao clamps the scale of rows with smaller weights, which then use fewer codes
_OFF_GRID = 1e-3  # of a step: float32 rounding leaves a product code * scale at most 128 * 2**-23 of a step off


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Hold what changed in one matrix.

    Attributes:
        n: weights.
        zeros_before: exact zeros before the step.
        zeros: exact zeros after it.
        changed: weights whose value changed.
        rewritten: those among them that are not zero now, NaN included.
        dropped: largest magnitude that became zero.
        kept: smallest magnitude left above zero.
    """

    n: int
    zeros_before: int
    zeros: int
    changed: int
    rewritten: int
    dropped: float
    kept: float


def count_changes(before: Float32, after: Float32) -> Count:
    """Compare a matrix with itself before a step, bit for bit but for the sign of zero.

    Args:
        before: 1-D float32.
        after: 1-D float32; NaN counts as rewritten.
    """
    zeros_before = zeros = changed = rewritten = 0
    dropped, least = np.uint32(0), _NONE_LEFT
    for old, new in zip(blocks([before]), blocks([after]), strict=True):
        differs, kept = old != new, new != 0
        zeros_before += int(np.count_nonzero(old == 0))
        zeros += new.size - int(np.count_nonzero(kept))
        changed += int(np.count_nonzero(differs))
        rewritten += int(np.count_nonzero(differs & kept))
        # The bits of positive floats order as integers do; zero minus one wraps to the largest. Selecting by arithmetic keeps
        # the pass at the speed of memory: a branch per weight would be guessed wrong every other time.
        dropped = max(dropped, (np.abs(old).view(np.uint32) & (kept.view(np.uint8).astype(np.uint32) - np.uint32(1))).max())
        least = min(least, (np.abs(new).view(np.uint32) - np.uint32(1)).min())
    return Count(
        n=before.size,
        zeros_before=zeros_before,
        zeros=zeros,
        changed=changed,
        rewritten=rewritten,
        dropped=float(dropped.view(np.float32)),
        kept=float((least + np.uint32(1)).view(np.float32)) if least != _NONE_LEFT else float("inf"),
    )


def check_level(targets: Targets, step: CompressionStep) -> None:
    """Check, before a pruning step, that its level asks for anything.

    Raises:
        CompressionError: it comes to less than one weight, or one line of a structured method, in every matrix of the scope.
    """
    if step.method == "l1_global":
        asked = asked_zeros(targets, step)
    elif step.pattern or step.method == "wanda":
        asked = max(int(asked_per_row(step, item.matrix.shape[1]).sum()) for item in targets.items)
    elif step.method in STRUCTURED:
        asked = max(exact_count(step.level, item.matrix.shape[0 if step.param("dim") == "rows" else 1]) for item in targets.items)
    else:
        asked = max(exact_count(step.level, item.matrix.n) for item in targets.items)
    if step.level and not asked:
        names = [item.matrix.name for item in targets.items]
        refuse(step, names, "got a level that is less than one weight or line", "something to remove", "Raise the level")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """Hold what a check found.

    Attributes:
        notes: what a reader should know.
        achieved: the level found, in the unit of the one asked for; None for the share of zeros or the bits of a stored value.
    """

    notes: tuple[str, ...] = ()
    achieved: float | None = None


class Check(Protocol):
    """Measure, from the weights, whether a step did what was asked: what `MethodInfo.check` names."""

    def __call__(self, targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count], /) -> Checked:
        """Check `targets` against the weights `before` and what changed, by matrix; refuse by `compress.refusal.refuse`."""


def check_step(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor]) -> tuple[dict[str, Count], Checked]:
    """Check one step on the float32 master.

    Args:
        targets: the weights after the step.
        step: what was asked.
        before: name of a matrix -> `(out, in)` float32 as it was.

    Returns:
        Name of a matrix -> what changed in it, in the order of the model, and what the method's check found.

    Raises:
        CompressionError: NaN or infinite weights, survivors changed, counts of zeros that are not those asked, weights off their
            grid; names the matrices.
    """
    counts = {t.matrix.name: count_changes(before[t.matrix.name].numpy().reshape(-1), t.flat()) for t in targets.items}
    broken = [t.matrix.name for t in targets.items if counts[t.matrix.name].rewritten and not np.isfinite(t.flat()).all()]
    refuse(step, broken, "got NaN or infinite weights", "finite ones", "Correct the method, or take a format that holds them")
    info = METHODS.get(step.method, "step")
    if info.check:
        check: Check = load_target(info.check)
        return counts, check(targets, step, before, counts)
    plain = _check_pruning if info.level == "sparsity" else _check_rounding
    return counts, Checked(notes=plain(targets, step, before, counts))


def check_chain(step: CompressionStep, place: tuple[int, int], counts: dict[str, Count]) -> None:
    """Check that a step of a chain did something: the cell's name says that it did.

    A compression of one step may find its level met by the dense model itself, and then only says so.

    Args:
        step: what was asked.
        place: its number in the chain, from 1, and the number of steps.
        counts: name of a matrix -> what changed in it.

    Raises:
        CompressionError: no weight changed; names the step and the matrices.
    """
    number, n_steps = place
    if n_steps > 1 and step.level and not any(count.changed for count in counts.values()):
        found = f"got no weight changed by step {number} of {n_steps}, since what stood before it meets its level"
        refuse(step, list(counts), found, "each step of a chain to change some", "Leave the step out, or raise its level")


def _check_pruning(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> tuple[str, ...]:
    rewritten = [name for name, count in counts.items() if count.rewritten]
    if not METHODS.get(step.method, "step").compensates:
        refuse(step, rewritten, "got survivors whose values changed", "pruning to set zeros only", "Correct the method")
    _check_order(step, counts)
    if step.pattern or step.method in SOLVED:
        return check_lines_of_inputs(targets, step, before)
    if step.method in STRUCTURED:
        return _check_lines(targets, step, before)
    if step.method == "l1_global":
        return _check_total(targets, step, counts)
    if step.method in {"l1_per_matrix", "random_unstructured"} or not _in_total(targets, step, counts):
        wrong = [name for name, c in counts.items() if c.zeros != max(exact_count(step.level, c.n), c.zeros_before)]
        found = f"got {sum(counts[n].zeros for n in wrong)} zeros there"
        asked = f"{sum(max(exact_count(step.level, counts[n].n), counts[n].zeros_before) for n in wrong)}, matrix by matrix"
        refuse(step, wrong, found, asked, "The method touched too little, too much or the wrong modules")
    return _met(counts, [name for name, c in counts.items() if c.zeros_before > exact_count(step.level, c.n)])


def _check_order(step: CompressionStep, counts: dict[str, Count]) -> None:
    """Hold a method that ranks by magnitude to its word: nothing dropped is larger than anything kept."""
    wrong: list[str] = []
    if step.method == "l1_global":
        dropped = max(c.dropped for c in counts.values())
        wrong = [name for name, c in counts.items() if c.kept < dropped]
    elif step.method == "l1_per_matrix" and not step.pattern:
        wrong = [name for name, c in counts.items() if c.kept < c.dropped]
    advice = "The method ranked wrongly or left these out"
    refuse(step, wrong, "kept weights smaller than some it dropped", "the smallest to go first", advice)


def _in_total(targets: Targets, step: CompressionStep, counts: dict[str, Count]) -> bool:
    """Say whether a method of another package met the level over the whole scope, where it did not matrix by matrix."""
    return sum(c.zeros for c in counts.values()) == max(exact_count(step.level, targets.n), sum(c.zeros_before for c in counts.values()))


def _check_total(targets: Targets, step: CompressionStep, counts: dict[str, Count]) -> tuple[str, ...]:
    zeros, before = sum(c.zeros for c in counts.values()), sum(c.zeros_before for c in counts.values())
    asked = max(asked_zeros(targets, step), before)
    if zeros != asked:
        same = [name for name, c in counts.items() if not c.changed] or list(counts)
        refuse(step, same, f"got {zeros} zeros in the scope", f"{asked}", "The method left these as they were or broke its count")
    return _met(counts, list(counts) if before > asked_zeros(targets, step) else [])


def _check_lines(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor]) -> tuple[str, ...]:
    wrong, met = [], []
    along = 1 if step.param("dim") == "rows" else 0
    for item in targets.items:
        old = ~before[item.matrix.name].numpy().any(axis=along)
        new = ~item.weight.numpy().any(axis=along)
        asked = exact_count(step.level, new.size)
        partial = np.any(item.weight.numpy() != before[item.matrix.name].numpy(), axis=along) & ~new
        if int(new.sum()) != max(asked, int(old.sum())) or partial.any():
            wrong.append(item.matrix.name)
        met += [item.matrix.name] if int(old.sum()) > asked else []
    asked_text = f"the share {step.level:g} of {step.param('dim')} wholly zero, and no other weight"
    refuse(step, wrong, "got other zeros there", asked_text, "The method touched too little, too much or the wrong modules")
    return (f"already more zeros than asked in {len(met)} matrices",) if met else ()


def _check_rounding(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor], counts: dict[str, Count]) -> tuple[str, ...]:
    if any(t.matrix.name not in targets.grids for t in targets.items) and any(t.matrix.name in targets.formats for t in targets.items):
        check_formats(targets, step, before)
    else:
        _check_grids(targets, step, before)
    met = [name for name, c in counts.items() if not c.changed]
    return (f"{len(met)} of {len(counts)} matrices lay on this grid before",) if met else ()


def _check_grids(targets: Targets, step: CompressionStep, before: dict[str, torch.Tensor]) -> None:
    missing = [t.matrix.name for t in targets.items if t.matrix.name not in targets.grids]
    refuse(step, missing, "got no grid recorded", "one per matrix", "The method left these modules out")
    wrong = [t.matrix.name for t in targets.items if not _on_grid(t, before[t.matrix.name], targets.grids[t.matrix.name])]
    refuse(step, wrong, "got weights off their int8 grid", "the nearest of its 256 values", "Correct the method")
    narrow = [t.matrix.name for t in targets.items if not _fills(t, before[t.matrix.name], targets.grids[t.matrix.name])]
    refuse(step, narrow, "got a grid wider than its weights, so fewer than 8 bits", "codes up to 127", "Correct the scales")


def _on_grid(target: Target, before: torch.Tensor, scale: torch.Tensor) -> bool:
    # Maxima, not `all`: NaN stays NaN in them and fails the comparison, and they are faster.
    codes = target.weight / scale
    whole = codes.round()
    low, high = (float(end) for end in whole.aminmax())
    moved = float((target.weight - before).div_(scale).abs_().max())
    return float(codes.sub_(whole).abs_().max()) <= _OFF_GRID and moved <= 0.5 + _OFF_GRID and low >= QMIN and high <= QMAX


def _fills(target: Target, before: torch.Tensor, scale: torch.Tensor) -> bool:
    """Say whether the largest weight of each grid has the largest code; weights that lay on an earlier grid keep that one's scale."""
    over = (1,) if scale.numel() > 1 else (0, 1)
    if torch.equal(target.weight, before):
        return True
    top = (target.weight.abs().amax(over, keepdim=True) / scale).round()
    alive = before.abs().amax(over, keepdim=True) > SMALLEST
    return bool((top[alive.expand_as(top)] >= QMAX).all())


def _met(counts: dict[str, Count], names: list[str]) -> tuple[str, ...]:
    return (f"already more zeros than asked in {len(names)} of {len(counts)} matrices",) if names else ()
