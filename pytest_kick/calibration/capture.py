"""Run calibration sequences through a model and hand the inputs of its matrices on, in one pass or block by block."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from pytest_kick.calibration.inputs import Add, Collector, check_supported, input_name
from pytest_kick.calibration.order import Stage, observe
from pytest_kick.calibration.replay import Replay
from pytest_kick.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_kick.models.matrices import Matrix


class Solve(Protocol):
    """Compress matrices."""

    def __call__(self, matrices: tuple[Matrix, ...], keys: Mapping[str, str], /) -> None:
        """Change the weights of `matrices` in place; `keys` says under which key each one's inputs were handed on, by its name."""


class Finish(Protocol):
    """Take note that all inputs of some matrices were handed on."""

    def __call__(self, keys: tuple[str, ...], /) -> None:
        """Use what `add` was given under `keys`; nothing more comes under them."""


@torch.no_grad()
def run_dense(
    module: nn.Module,
    batches: Sequence[Mapping[str, torch.Tensor]],
    matrices: tuple[Matrix, ...],
    add: Add,
    *,
    finish: Finish | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, str]:
    """Hand on the inputs that matrices have in the model as it is: `propagate = "dense"`.

    Each block runs once on each batch, and the last one that runs is the last that holds one of the matrices, where none lies outside
    the blocks. With `finish` all batches go through one block before the next, so that its caller keeps what it makes of one block's
    inputs and not of the whole model's; the blocks' outputs wait in between (see `Replay`). A model that is no chain of blocks takes
    one pass all the same. The values are the same, in the same order for each key.

    Args:
        module: a transformers model in float32 on the CPU.
        batches: keyword arguments of its forward, without padding; see `make_batches`.
        matrices: whose inputs are wanted; no other module is hooked.
        add: called as `add(key, x)`, `x` of `(tokens, in)` float32 on `device`; several times for each key.
        finish: called with keys under which nothing more comes, as soon as that is so.
        device: where the pass runs; the weights are put there for its time.

    Returns:
        Name of a matrix -> key of its inputs. Matrices that are given the same tensor (q, k and v) share a key.

    Raises:
        CalibrationError: a matrix whose inputs cannot be seen, or through which no sequence passes.
    """
    _check(module, batches, matrices)
    order = observe(module, batches[0])
    keys = order.keys(matrices)
    stages = order.stages(matrices)
    replay = Replay(module, order.calls, batches)
    if finish is None or not replay.is_chain():
        stages = (Stage(matrices=matrices, first=0, last=max(stage.last for stage in stages)),)
    stages = tuple(_first_of_keys(stages, keys))
    start = 0
    with placed(module, device):
        for stage, later in zip(stages, (*stages[1:], None), strict=True):
            keep = later.first if later else 0
            with replay.installed(), Collector(module, stage.matrices, keys, add) as collector:
                for number in range(len(batches)):
                    replay.run(number, start=start, keep=keep, stop=stage.last + 1, device=device)
            collector.check_seen()
            if finish:
                finish(tuple(dict.fromkeys(keys[input_name(matrix)] for matrix in stage.matrices)))
            start = min(keep, stage.last + 1)
    return by_name(matrices, keys)


def _first_of_keys(stages: tuple[Stage, ...], keys: Mapping[str, str]) -> Iterator[Stage]:
    """Leave out matrices whose inputs an earlier stage hands on, such as the cross-attention's of later blocks."""
    seen: set[str] = set()
    for stage in stages:
        new = tuple(matrix for matrix in stage.matrices if keys[input_name(matrix)] not in seen)
        seen.update(keys[input_name(matrix)] for matrix in new)
        if new:
            yield Stage(matrices=new, first=stage.first, last=stage.last)


@torch.no_grad()
def run_compressed(
    module: nn.Module,
    batches: Sequence[Mapping[str, torch.Tensor]],
    matrices: tuple[Matrix, ...],
    add: Add,
    solve: Solve,
    *,
    device: torch.device | str = "cpu",
) -> None:
    """Go block by block: hand on the inputs of a block's matrices, let them be compressed, go on with what the block gives then.

    This is `propagate = "compressed"`, as SparseGPT, Wanda and GPTQ do it. Encoder-decoders: the blocks of the encoder first, then
    those of the decoder, with what the compressed encoder gives; keys and values of the cross-attention see that. A block that
    runs several times with the same weights (ALBERT) hands on the inputs of all its runs. Modules outside the blocks come one by one,
    where they run: projections of embeddings first, the transform of a masked-LM head and the vocabulary layer last. The matrices of
    one block are handed on together, from one pass.

    Each block runs twice, whatever the number of blocks: once to see its inputs, once with its new weights, on the way to the next
    one's. Peak memory beside the model: one block's output for all sequences (see `Replay`), and what the caller keeps of `add`.

    Args:
        module: a transformers model in float32 on the CPU.
        batches: keyword arguments of its forward, without padding.
        matrices: to be compressed; no other module is hooked.
        add: as in `run_dense`; the keys of one block come before its `solve`, and never again.
        solve: called once for each block, with its matrices; changes the weights of the module in place.
        device: as in `run_dense`; `solve` finds the weights on the CPU.

    Raises:
        CalibrationError: as `run_dense`.

    Source: Frantar and Alistarh, SparseGPT (2023), section 4; Sun et al., Wanda (2024), algorithm 1.
    """
    _check(module, batches, matrices)
    order = observe(module, batches[0])
    keys = order.keys(matrices, by_block=True)
    replay = Replay(module, order.calls, batches)
    start, is_chain = 0, replay.is_chain()
    for stage in order.stages(matrices):
        collector = Collector(module, stage.matrices, keys, add)
        with replay.installed(), placed(module, device), collector:
            for number in range(len(batches)):
                replay.run(number, start=start, keep=stage.first, stop=stage.last + 1, device=device)
        collector.check_seen()
        solve(stage.matrices, by_name(stage.matrices, keys))
        start = stage.first if is_chain else 0


def by_name(matrices: tuple[Matrix, ...], keys: Mapping[str, str]) -> dict[str, str]:
    """Return name of a matrix -> key of its inputs."""
    return {matrix.name: keys[input_name(matrix)] for matrix in matrices}


@contextmanager
def placed(module: nn.Module, device: torch.device | str) -> Iterator[None]:
    """Put parameters and buffers on a device inside the block, and the very tensors back that were there before it.

    All of the model at once; one that does not fit would be placed block by block, which `Replay` allows.
    """
    if torch.device(device).type == "cpu":
        yield
        return
    before: list[tuple[dict[str, Any], str, torch.Tensor]] = [
        (tensors, name, tensor)
        for child in module.modules()
        for tensors in (child._parameters, child._buffers)  # noqa: SLF001 - torch has no public name
        for name, tensor in tensors.items()
        if tensor is not None
    ]
    moved: dict[int, torch.Tensor] = {}  # tied ones stay tied
    try:
        for tensors, name, tensor in before:
            if id(tensor) not in moved:
                there = tensor.detach().to(device)
                moved[id(tensor)] = nn.Parameter(there, requires_grad=False) if isinstance(tensor, nn.Parameter) else there
            tensors[name] = moved[id(tensor)]
        yield
    finally:
        for tensors, name, tensor in before:
            tensors[name] = tensor


def _check(module: nn.Module, batches: Sequence[Mapping[str, torch.Tensor]], matrices: tuple[Matrix, ...]) -> None:
    if not batches or not matrices:
        msg = f"calibration: got {len(batches)} batches and {len(matrices)} matrices, expected at least one of each. Report this as a bug."
        raise CalibrationError(msg)
    check_supported(module, matrices)
