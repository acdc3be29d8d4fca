"""See to it that a method leaves alone what is outside its scope."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    import torch

    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.models.scopes import Matrix
    from pytest_kick.spec import CompressionStep

Sums = NDArray[np.uint64]

_BLOCK = 1 << 12
_DENSE: WeakKeyDictionary[LoadedModel, dict[str, Sums]] = WeakKeyDictionary()


def block_sums(tensor: torch.Tensor) -> Sums:
    """Return the bits of a float32 tensor summed as integers, block by block: changes when a weight does, at the speed of memory."""
    flat = tensor.detach().contiguous().reshape(-1).numpy().view(np.uint32)
    even = flat[: flat.size // 2 * 2].view(np.uint64)
    starts = np.arange(0, even.size, _BLOCK)
    sums = np.add.reduceat(even, starts) if even.size else np.zeros(0, np.uint64)
    return np.append(sums, flat[-1:].astype(np.uint64))


class Outside:
    """Remember everything outside a scope before a step, and compare it afterwards.

    What the cell has not touched is the dense model itself: for it torch's own count of in-place writes is compared, and block
    sums taken once per model, since a write through `.data` or NumPy is not counted. What earlier steps touched is compared
    weight by weight.
    """

    def __init__(self, model: LoadedModel, chosen: tuple[Matrix, ...], matrices: tuple[Matrix, ...], touched: set[str]) -> None:
        """Remember `model`.

        Args:
            model: before the step; the parameters of `chosen` were given memory of their own.
            chosen: the scope.
            matrices: all matrices of the model.
            touched: parameters that steps of this cell changed or may change, those of `chosen` included.
        """
        self._dense = _DENSE.setdefault(model, {})
        parameters = dict(model.module.named_parameters())
        self._untouched = {name: p for name, p in parameters.items() if name not in touched}
        self._versions = {name: p._version for name, p in self._untouched.items()}  # noqa: SLF001 - torch has no public name
        for name, parameter in self._untouched.items():
            if name not in self._dense:
                self._dense[name] = block_sums(parameter)
        inside = {m.name for m in chosen}
        self._matrices = [m for m in matrices if m.parameter in touched and m.name not in inside and m.parameter in parameters]
        held = {m.parameter for m in matrices}  # a checkpoint may have changed biases too, which no matrix holds
        self._rest = {name: p.detach().clone() for name, p in parameters.items() if name in touched - held}
        self._before = {m.name: m.read(parameters[m.parameter].detach()).clone() for m in self._matrices}
        self._buffers = [(name, buffer, buffer.clone()) for name, buffer in model.module.named_buffers()]

    def check(self, model: LoadedModel, step: CompressionStep) -> None:
        """Compare.

        Raises:
            CompressionError: something outside the scope changed; names it.
        """
        parameters, buffers = dict(model.module.named_parameters()), dict(model.module.named_buffers())
        changed = [
            name
            for name, p in self._untouched.items()
            if parameters.get(name) is not p
            or p._version != self._versions[name]  # noqa: SLF001
            or not np.array_equal(block_sums(p), self._dense[name])
        ]
        changed += [m.name for m in self._matrices if not self._before[m.name].equal(m.read(parameters[m.parameter].detach()))]
        changed += [name for name, value in self._rest.items() if not value.equal(parameters[name].detach())]
        # A buffer of another identity is the model's own doing: rotary embeddings put a new one in for another length of text.
        changed += [name for name, buffer, value in self._buffers if buffers.get(name) is buffer and not buffer.equal(value)]
        if changed:
            msg = (
                f"{step.id}: {', '.join(changed[:3])}: got a change outside the scope {step.scope!r} ({len(changed)} tensors),"
                " expected none. Correct the method, and load the model again."
            )
            raise CompressionError(msg)
