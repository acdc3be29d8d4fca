"""Run methods that a decorator registered: what each is given, and what it may give back."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

from pytest_kick.compress.check_registered import Declared
from pytest_kick.compress.refusal import refuse
from pytest_kick.compress.solvers import Solution
from pytest_kick.compress.weight_only import refuse_int8
from pytest_kick.errors import CompressionError, KickError
from pytest_kick.models.isolation import isolated
from pytest_kick.models.snapshot import Snapshot
from pytest_kick.registry import METHODS
from pytest_kick.signatures import origin, place_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.compress.inputs import Inputs, Seen
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.spec import CompressionStep

_DENSE_BITS = 32


class LayerInputs:
    """Hold what calibration saw of the inputs that a matrix reads. Each tensor is the caller's own, to be changed at will."""

    def __init__(self, seen: Seen) -> None:
        """Take what was seen."""
        self._seen = seen

    @property
    def n_tokens(self) -> int:
        """Return the number of tokens seen; padding is none."""
        return self._seen.n_tokens

    @property
    def norms(self) -> torch.Tensor:
        """Return the norm of each input over all tokens, `(in,)` float32."""
        return self._seen.norms.float()

    @property
    def hessian(self) -> torch.Tensor:
        """Return 2 X^T X / tokens, `(in, in)` float32: the second derivative, by a row of weights, of its squared error per token."""
        return self._seen.hessian


class Compress(Protocol):
    """Compress one matrix, as registered code does it."""

    def __call__(self, item: Target, inputs: LayerInputs | None, /) -> Any:  # noqa: ANN401 - a stranger's code: checked afterwards
        """Return what that code returned."""


def run(targets: Targets, step: CompressionStep, inputs: Inputs | None = None) -> None:
    """Call registered code with each matrix of the scope, and take its weights.

    The random numbers of torch, NumPy and Python start alike in every step, and go on afterwards as if there had been none.

    Raises:
        CompressionError: the code raised, or returned something else than weights; names the matrix, and the line.
    """
    info = METHODS.get(step.method, step.id)
    if info.level != "sparsity" or info.compensates:
        refuse_int8(targets, step)
    with isolated():
        compress = _made(targets, step)
        if inputs is None:
            for item in targets.items:
                item.weight.copy_(_solved(compress, targets, step, item))
            return

        def solve(item: Target, seen: Seen) -> Solution:
            values = _solved(compress, targets, step, item, LayerInputs(seen))
            return Solution(values=values, damping=None, raised=False, dead=torch.zeros(values.shape[1], dtype=torch.bool))

        inputs.solve(targets, solve, gram=True)


def _made(targets: Targets, step: CompressionStep) -> Compress:
    """Return what compresses one matrix: the function with its level and parameters, or an instance of the class."""
    info = METHODS.get(step.method, step.id)
    taken = inspect.signature(info.code).parameters
    code: Callable[..., Any] = info.code
    own = {name: step.param(name) for name, _ in info.params if name in taken}
    level = int(step.level) if info.level in {"bits", "rank", "count"} else step.level

    def seen(inputs: LayerInputs | None) -> dict[str, LayerInputs | None]:
        return {"inputs": inputs} if info.calibrated else {}

    if not inspect.isclass(info.code):
        return lambda item, inputs: code(item.weight.clone(), level, **own, **seen(inputs))
    made = _guarded(targets, step, "class", lambda: code(level, **own))
    if hasattr(made, "start"):
        _guarded(targets, step, "start", lambda: made.start(targets))
    return lambda item, inputs: made(replace(item, weight=item.weight.clone()), **seen(inputs))


def _guarded(targets: Targets, step: CompressionStep, what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - a stranger's code
    """Call registered code, and see that a class, which gets at modules, leaves them alone.

    Looked at call by call, since the passes of calibration in between may put something into modules, such as hooks.

    Raises:
        CompressionError: it raised, in one line that names the line of its file; or a class, parameter, buffer, submodule, hook or any
            other attribute of a module was added, replaced or removed.
    """
    before = Snapshot(targets.module) if targets.module and inspect.isclass(METHODS.get(step.method, step.id).code) else None
    found = _called(step, what, call)
    changed = [] if before is None else before.changed()
    refuse(step, changed, "got a module changed there", "modules as they were", "Return the new weights, and leave layers alone")
    return found


def _called(step: CompressionStep, what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - as above
    """Call registered code; whatever it raises is one line that names the line of its file."""
    try:
        return call()
    except KickError:
        raise
    except (Exception, SystemExit) as error:
        file = origin(METHODS.get(step.method, step.id).code)[0]
        line, text = place_in(error, file), " ".join(str(error).split())[:200]
        place = f" at {Path(file).name}:{line}" if line else ""
        msg = f"{step.id}: {what}: got {type(error).__name__} ({text}){place}, expected it to run. Correct the method."
        raise CompressionError(msg) from error


def _solved(compress: Compress, targets: Targets, step: CompressionStep, item: Target, inputs: LayerInputs | None = None) -> torch.Tensor:
    """Return the new weights of a matrix, and enter the format that goes with them."""
    name = item.matrix.name
    found = _guarded(targets, step, name, lambda: compress(item, inputs))
    values, bits = found if isinstance(found, tuple) and len(found) == 2 else (found, None)  # noqa: PLR2004 - a pair
    if not isinstance(values, torch.Tensor) or _said(values) != _said(item.weight):
        refuse(step, [name], f"got {_said(values)} returned", _said(item.weight), "Return the new weights")
    if bits is not None and (isinstance(bits, bool) or not isinstance(bits, int | float) or not 0 < bits <= _DENSE_BITS):
        refuse(step, [name], f"got {bits!r} as bits per weight", f"a number above 0, at most {_DENSE_BITS}", "Return (weights, bits)")
    if step.kind == "sparsity" and bits is not None:
        refuse(step, [name], "got bits beside the weights", "weights alone: zeros are counted", "Return the weights")
    if step.kind != "sparsity":
        targets.formats[name] = _format(step, item, bits)
    return torch.as_tensor(values).detach()


def _said(values: object) -> str:
    if isinstance(values, torch.Tensor):
        layout = "" if values.layout == torch.strided else "sparse "
        return f"a {layout}tensor {tuple(values.shape)} of {values.dtype} on {values.device.type}"
    return "None" if values is None else f"a {type(values).__name__}"


def _format(step: CompressionStep, item: Target, bits: float | None) -> Declared:
    """Return the format of a matrix, by what the method returned beside its weights; by the level where it returned nothing."""
    n, code_bits = item.matrix.n, int(step.level) if step.kind == "bits" else 0
    factors = int(step.level) * sum(item.matrix.shape) if step.kind == "rank" else n
    plain = n * code_bits or min(factors, n) * _DENSE_BITS
    total = plain if bits is None else round(bits * n)
    group = dict(METHODS.get(step.method, step.id).params).get("group")
    group = int(step.param("group")) if isinstance(group, int) and not isinstance(group, bool) else None
    return Declared(bits=code_bits, side_bits=total - n * code_bits, counted=bits is not None, group=group)
