"""The inputs of chosen matrices: hooks that hand `(tokens, in)` to a callback while the model runs."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from pytest_kick.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType

    from torch.utils.hooks import RemovableHandle

    from pytest_kick.models.matrices import Matrix

EXPERT_DIMS = 3


class Add(Protocol):
    """Take inputs in."""

    def __call__(self, key: str, x: torch.Tensor, /) -> None:
        """Take the inputs of one call in: `key` names them, `x` is `(tokens, in)` float32; neither keep nor change it."""


def input_name(matrix: Matrix) -> str:
    """Return the name of what feeds a matrix: its module, or parameter and number of its expert."""
    if _is_expert(matrix):
        return f"{matrix.parameter}.{matrix.name[len(matrix.parameter) + 1 :].partition('.')[0]}"
    return matrix.module


def _is_expert(matrix: Matrix) -> bool:
    return matrix.part is not None and len(matrix.part.shape) == EXPERT_DIMS and matrix.name.startswith(f"{matrix.parameter}.")


def check_supported(module: nn.Module, matrices: Iterable[Matrix]) -> None:
    """Check that the inputs of all matrices can be had.

    Raises:
        CalibrationError: a matrix is multiplied elsewhere than in a Linear, a Conv1D or fused experts of the known form.
    """
    bad = []
    for matrix in matrices:
        child = module.get_submodule(matrix.module)
        fits = _known_experts(child) if _is_expert(matrix) else isinstance(child, (nn.Linear, Conv1D))
        bad += [] if fits else [matrix.name]
    if bad:
        msg = (
            f"calibration: matrices: got {len(bad)} of another kind ({', '.join(bad[:3])}), expected those of Linear, Conv1D or fused"
            " experts, whose inputs can be seen. Choose another scope, or a method without calibration."
        )
        raise CalibrationError(msg)


def _known_experts(child: nn.Module) -> bool:
    return all(hasattr(child, name) for name in ("gate_up_proj", "down_proj", "act_fn")) and not getattr(child, "is_transposed", False)


class Collector:
    """Hand the inputs of matrices on to `add` while it is entered.

    Inputs that several modules share (those of q, k and v) are handed on once, under the key that `keys` gives their names.
    """

    def __init__(self, module: nn.Module, matrices: tuple[Matrix, ...], keys: Mapping[str, str], add: Add) -> None:
        """Choose one module for each key.

        Args:
            module: the model.
            matrices: whose inputs are wanted; no other module gets a hook.
            keys: `input_name` of each matrix -> key.
            add: the callback.
        """
        self._module = module
        self._add = add
        self.n_calls: Counter[str] = Counter()
        self._linear: dict[str, str] = {}
        self._experts: dict[str, set[str]] = {}
        for matrix in matrices:
            name = input_name(matrix)
            if _is_expert(matrix):
                self._experts.setdefault(matrix.module, set()).add(name)
            elif keys[name] not in self._linear.values():
                self._linear[name] = keys[name]
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        """Set the hooks."""
        for name, key in self._linear.items():
            self._hook(name, lambda args, kwargs, key=key: self._give(key, first_tensor(args, kwargs)))
        for name, wanted in self._experts.items():
            self._hook(name, lambda args, kwargs, name=name, wanted=wanted: self._give_experts(name, wanted, args, kwargs))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(self, name: str, see: Any) -> None:  # noqa: ANN401 - a lambda with bound defaults
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.n_calls[name] += 1
            see(args, kwargs)

        self._handles.append(self._module.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True))

    def _give(self, key: str, x: torch.Tensor) -> None:
        self._add(key, x.detach().reshape(-1, x.shape[-1]))

    def _give_experts(self, name: str, wanted: set[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        child: Any = self._module.get_submodule(name)
        x = first_tensor(args, kwargs)
        chosen = kwargs.get("top_k_index", args[1] if len(args) > 1 else None)
        if chosen is None:
            msg = f"calibration: {name}: got experts called without top_k_index, expected the routing as an argument. Choose another scope."
            raise CalibrationError(msg)
        for expert in range(child.gate_up_proj.shape[0]):
            routed = x[(chosen == expert).any(dim=-1)]
            if f"{name}.gate_up_proj.{expert}" in wanted:
                self._give(f"{name}.gate_up_proj.{expert}", routed)
            if f"{name}.down_proj.{expert}" in wanted:
                gate, up = nn.functional.linear(routed, child.gate_up_proj[expert]).chunk(2, dim=-1)
                self._give(f"{name}.down_proj.{expert}", child.act_fn(gate) * up)

    def check_seen(self) -> None:
        """Check that every hooked module was called.

        Raises:
            CalibrationError: one was not; it has no part in the forward pass.
        """
        silent = [name for name in (*self._linear, *self._experts) if not self.n_calls[name]]
        if silent:
            msg = (
                f"calibration: {', '.join(silent[:3])}: got {len(silent)} modules that no sequence passed through, expected all to be"
                " called. Leave them out of the scope, or give more data."
            )
            raise CalibrationError(msg)


def first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Return the first tensor among the arguments of a call: what a layer multiplies, what a block works on."""
    found = next((value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)), None)
    assert found is not None, "a layer is called with a tensor"
    return found
