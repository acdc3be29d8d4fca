"""A model in memory: its dense float32 master, what a cell changed of it, and the way back."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_kick.errors import ModelError
from pytest_kick.models import hashing
from pytest_kick.models.snapshot import Snapshot
from pytest_kick.registry import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CPU = torch.device("cpu")


class LoadedModel:
    """Hold one dense model that cells compress in place, one after the other.

    A cell goes `fresh_()`, `touch()` and change the float32 master on the CPU, `cast_()`, forward passes. The dense tensors are
    those of the memory-mapped file and are never written: `touch` gives a parameter a copy of its own, and `fresh_` points the
    parameter back to the dense tensor, so restoring copies nothing, and processes on one machine share the dense pages.

    Other devices: the master and everything done to it stay on the CPU; `cast_` moves the parameters of the forward pass.
    Models too large for one float32 master would be compressed shard by shard: iterate over the files of the checkpoint, let
    `touch` materialise the matrices of one shard, cast that shard into the forward dtype, and release the float32 copies before
    the next one; a method that ranks over a whole scope then needs its threshold from a first pass. Nothing here does so yet.

    Attributes:
        name: of the model, as in its `ModelSpec`.
        family: `encoder`, `encoder-decoder` or `decoder`.
        module: the network, in eval mode, without gradients.
        tokenizer: its tokenizer.
        device: where the forward pass runs; `cpu` between `fresh_` and `cast_`.
        dtype: of the forward pass; float32 between `fresh_` and `cast_`.
        n_total: number of parameters, tied ones counted once.
        tokenizer_hash: of all that decides how text is cut.
        architecture_hash: of what decides the dense forward pass besides the parameters: the configuration and the stored buffers.
    """

    def __init__(self, *, name: str, family: str, module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take over a module whose parameters are dense float32 tensors on the CPU."""
        self.name = name
        self.family = family
        module.train(mode=False)
        self.module = module.requires_grad_(requires_grad=False)
        self.tokenizer = tokenizer
        self.tokenizer_hash = hashing.tokenizer_hash(tokenizer)
        self.device = CPU
        self.dtype = torch.float32
        self._originals: dict[str, nn.Parameter] = dict(module.named_parameters())
        by_identity = {id(parameter): name for name, parameter in self._originals.items()}
        self._aliases = {name: by_identity[id(p)] for name, p in module.named_parameters(remove_duplicate=False)}
        # Now, before a cell swaps modules or casts buffers: what is hashed is the dense model.
        self.architecture_hash = hashing.architecture_hash(module, self._aliases)
        self._dense: dict[str, torch.Tensor] = {name: p.detach() for name, p in self._originals.items()}
        self._buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        self._snapshot = Snapshot(module)
        self._scratch: dict[str, torch.Tensor] = {}
        self._casts: dict[str, torch.Tensor] = {}
        self._cast_scratch: dict[str, torch.Tensor] = {}
        self._cast_kind = (torch.float32, CPU)
        self._is_cast = False
        self._touched: set[str] = set()
        self._handles: list[RemovableHandle] = []
        self._versions = {name: parameter._version for name, parameter in self._originals.items()}  # noqa: SLF001
        self.n_total = sum(tensor.numel() for tensor in self._dense.values())
        self._bos = _plain_text_bos(tokenizer)

    @cached_property
    def weights_hash(self) -> str:
        """Return the hash of the dense float32 tensors: of the values, whatever files they came from."""
        return hashing.tensors_hash(self._dense[name] for name in sorted(self._dense))

    def dense(self, name: str) -> torch.Tensor:
        """Return the dense float32 value of a parameter, memory-mapped: never write to it.

        Raises:
            ModelError: the model has no such parameter.
        """
        return self._dense[self._canonical(name)]

    def touch(self, names: Iterable[str]) -> None:
        """Give parameters memory of their own, because they are about to be changed in place.

        Args:
            names: as `module.named_parameters()` has them, or the name of a tied parameter: then both are changed.

        Raises:
            ModelError: the model has no such parameter.
        """
        current = dict(self.module.named_parameters(remove_duplicate=False))
        for name in names:
            if name in current and name in self._aliases:
                parameter, canonical = current[name], self._aliases[name]
                if parameter is not self._originals[canonical]:
                    continue  # this cell's own, such as an untied head
            elif name in current:
                continue
            else:
                canonical = self._canonical(name)
            self._own(canonical)

    def _own(self, name: str) -> None:
        if name in self._touched:
            return
        parameter = self._originals[name]
        self._check_unwritten(name)
        if self._is_cast:
            parameter.data = parameter.data.clone()
        else:
            if name not in self._scratch:
                self._scratch[name] = torch.empty_like(self._dense[name])
            parameter.data = self._scratch[name].copy_(self._dense[name])
        self._touched.add(name)

    def add_hook(self, handle: RemovableHandle) -> None:
        """Take over a hook that belongs to this cell: `fresh_` removes it."""
        self._handles.append(handle)

    def replace_module(self, name: str, replacement: nn.Module) -> None:
        """Put `replacement` where the submodule `name` hangs; `fresh_` puts the original back.

        Raises:
            ModelError: the model has no such submodule.
        """
        known = dict(self.module.named_modules(remove_duplicate=False))
        if not name or name not in known:
            msg = f"model {self.name!r}: module: got {name!r}, expected a submodule. {did_you_mean(name, known)}"
            raise ModelError(msg)
        parent, _, child = name.rpartition(".")
        setattr(known[parent], child, replacement.eval().requires_grad_(requires_grad=False))

    def untie_head_(self) -> str:
        """Give the final vocabulary layer a weight of its own for this cell, where it shares the input embedding's.

        Returns:
            The name of the head's weight, shape `(vocabulary, width)`, whether it was tied or not.

        Raises:
            ModelError: the model has no final vocabulary layer.
        """
        head = self.module.get_output_embeddings()  # type: ignore[no-untyped-call]
        if head is None:
            msg = f"model {self.name!r}: head: got none, expected a final vocabulary layer. Choose another scope."
            raise ModelError(msg)
        modules = self.module.named_modules(remove_duplicate=False)
        name: str = next(path for path, module in modules if module is head) + ".weight"
        canonical = self._canonical(name)
        tied = sum(target == canonical for target in self._aliases.values()) > 1
        if tied and head.weight is self._originals[canonical]:
            head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        return name

    def cast_(self, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Turn the master into what the forward pass uses; cells with packed weights swap those in afterwards.

        Parameters no cell touched are cast once and kept. Buffers that checkpoints do not store (rotary frequencies) stay
        float32, as when transformers loads a checkpoint in `dtype`.

        Args:
            dtype: float32 or bfloat16.
            device: where the forward pass runs.

        Raises:
            ModelError: the model was cast already; `fresh_` comes first.
        """
        kind = (dtype, torch.device(device))
        if self._is_cast:
            msg = f"model {self.name!r}: cast: got a second cast in one cell, expected fresh_() before it. Report this as a bug."
            raise ModelError(msg)
        if kind != self._cast_kind:
            self._casts.clear()
            self._cast_scratch.clear()
            self._cast_kind = kind
        self.dtype, self.device, self._is_cast = *kind, True
        self._cast_originals()
        self._cast_others()

    def _cast_originals(self) -> None:
        dtype, device = self._cast_kind
        strict = getattr(self.module, "_keep_in_fp32_modules_strict", None) or ()
        kept = re.compile("|".join(rf"(?:^|\.){re.escape(part)}(?:$|\.)" for part in sorted(strict)) or r"(?!)")
        for name, parameter in self._originals.items():
            target = torch.float32 if kept.search(name) else dtype
            if not parameter.is_floating_point() or (target == torch.float32 and device == CPU):
                parameter.data = parameter.data.to(device)
            elif name in self._touched:
                if name not in self._cast_scratch:
                    self._cast_scratch[name] = torch.empty_like(parameter, dtype=target, device=device)
                parameter.data = self._cast_scratch[name].copy_(parameter.data)
            else:
                if name not in self._casts:
                    self._casts[name] = self._dense[name].to(device, target)
                parameter.data = self._casts[name]

    def _cast_others(self) -> None:
        dtype, device = self._cast_kind
        known = {id(parameter) for parameter in self._originals.values()}
        for parameter in self.module.parameters():
            if id(parameter) not in known and type(parameter.data) is torch.Tensor and parameter.is_floating_point():
                parameter.data = parameter.data.to(device, dtype)
        for module in self.module.modules():
            stored = set(module._buffers) - module._non_persistent_buffers_set  # noqa: SLF001 - torch has no public name
            for name, buffer in module._buffers.items():  # noqa: SLF001
                if buffer is not None:
                    cast = dtype if name in stored and buffer.is_floating_point() else buffer.dtype
                    module._buffers[name] = buffer.to(device, cast)  # noqa: SLF001

    def fresh_(self) -> None:
        """Put the dense float32 master back, bit for bit: parameters, ties, submodules, buffers, hooks.

        Raises:
            ModelError: a parameter was changed in place without `touch`; the dense model is lost, load it again.
        """
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._snapshot.restore()
        for name, parameter in self._originals.items():
            if name not in self._touched:
                self._check_unwritten(name)
            parameter.data = self._dense[name]
            parameter.grad = None
            parameter.requires_grad = False
            self._versions[name] = parameter._version  # noqa: SLF001
        for buffer, value in self._buffers:
            buffer.copy_(value)
        self._touched.clear()
        self.dtype, self.device, self._is_cast = torch.float32, CPU, False

    def prompt_ids(self, text: str) -> list[int]:
        """Return the token ids of a prompt; the first is the BOS token where the tokenizer puts one before plain text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return [*self._bos, *ids]

    def _canonical(self, name: str) -> str:
        if name not in self._aliases:
            msg = f"model {self.name!r}: parameter: got {name!r}, expected one it has. {did_you_mean(name, self._aliases)}"
            raise ModelError(msg)
        return self._aliases[name]

    def _check_unwritten(self, name: str) -> None:
        # Torch counts in-place writes to a tensor; it does not see those that go through `.data`.
        if self._originals[name]._version != self._versions[name]:  # noqa: SLF001
            msg = (
                f"model {self.name!r}: {name}: got a parameter changed in place, expected touch() before it."
                " Correct the method, and load the model again."
            )
            raise ModelError(msg)


def _plain_text_bos(tokenizer: Any) -> list[int]:  # noqa: ANN401 - transformers' base class lacks these attributes
    with_special = tokenizer.encode("a", add_special_tokens=True)
    without = tokenizer.encode("a", add_special_tokens=False)
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and with_special[:1] == [bos] and without[:1] != [bos] else []
