"""Run a model from the middle: blocks before a point give what they gave last time, and the rest is the model's own code."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_kick.calibration.order import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

_ABSENT = object()


class _Stop(Exception):  # noqa: N818 - it ends a pass, and is no error
    """End a forward pass whose rest nobody needs."""


class Replay:
    """Run batches through a model from a given call of a block on.

    The blocks of a model form one chain, or two (encoder and decoder), and what lies between them (embeddings, masks, rotary
    angles, the encoder's last norm, T5's position bias, which each block passes on) costs little. So the model's own forward
    always runs; only `forward` of a block is replaced by one that returns the stored output of the latest block of its chain.
    Nothing is assumed about arguments, and none can be stale: they are made anew in every pass. Whether a model is such a chain is
    tried out, call by call, on a short sequence; one that is not (later blocks look back at earlier ones, or write into their
    input) runs from its beginning every time, which is slower, and right all the same.

    Memory: one block's output for every sequence and chain, `n_tokens * width * 4` bytes. Models whose sequences do not fit would
    keep these outputs on disk or on the host, batch by batch; nothing else depends on the number of sequences.
    """

    def __init__(self, module: nn.Module, calls: Sequence[str], batches: Sequence[Mapping[str, torch.Tensor]]) -> None:
        """Take a model, the order of its blocks and all batches."""
        self.n_calls = len(calls)
        self._module = module
        self._batches = batches
        self._blocks = {name: module.get_submodule(name) for name in dict.fromkeys(calls)}
        self._held: list[dict[str, Any]] = [{} for _ in batches]
        self._index = self._start = self._keep = self._stop = 0
        self._now: dict[str, Any] = {}

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Replace `forward` of the blocks inside the block, and put it back."""
        before = {name: block.__dict__.get("forward", _ABSENT) for name, block in self._blocks.items()}
        try:
            for name, block in self._blocks.items():
                block.__dict__["forward"] = self._instead(name.rpartition(".")[0], block.forward)
            yield
        finally:
            for name, block in self._blocks.items():
                if before[name] is _ABSENT:
                    del block.__dict__["forward"]
                else:
                    block.__dict__["forward"] = before[name]

    def run(self, number: int, *, start: int = 0, keep: int = 0, stop: int, device: torch.device | str = "cpu") -> Any:  # noqa: ANN401 - any output
        """Run one batch; `installed` has to be entered.

        Args:
            number: of the batch.
            start: index of the first call of a block that is computed; those before return what is held of an earlier run.
            keep: index of the call before which outputs are held for later runs.
            stop: index of the call before which the pass ends; above the number of calls: it does not end early.
            device: where the model is.

        Returns:
            The model's output; None where the pass ended early.
        """
        self._now = self._held[number]
        return self._run({name: value.to(device) for name, value in self._batches[number].items()}, start, keep, stop)

    def _run(self, batch: Mapping[str, torch.Tensor], start: int, keep: int, stop: int) -> Any:  # noqa: ANN401 - as above
        self._index, self._start, self._keep, self._stop = 0, start, keep, stop
        try:
            return self._module(**batch, use_cache=False)
        except _Stop:
            return None

    def _instead(self, chain: str, forward: Any) -> Any:  # noqa: ANN401 - a bound method
        def instead(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the block takes and returns
            index = self._index
            self._index += 1
            if index < self._start:
                return self._now[chain]
            if index >= self._stop:
                raise _Stop
            output = forward(*args, **kwargs)
            if index < self._keep:
                self._now[chain] = output
            if index + 1 == self._stop:
                raise _Stop
            return output

        return instead

    @torch.no_grad()
    def is_chain(self) -> bool:
        """Return whether going on call by call gives what the whole pass gives, tried on a short sequence.

        Each pass computes one call and holds what it gives for the next. So a block that looks back past its neighbour, or writes
        into its input, sees something else than in the whole pass, and what it gives goes through all the rest.
        """
        batch = shortened(self._batches[0])
        whole = self._module(**batch, use_cache=False).logits
        self._now = {}
        with self.installed():
            try:
                for call in range(1, self.n_calls + 1):
                    self._run(batch, call - 1, call, call)
                given = self._run(batch, self.n_calls, 0, self.n_calls + 1).logits
            except (TypeError, ValueError, IndexError, KeyError, RuntimeError):
                return False  # the stored output does not fit where it was put
        return torch.equal(whole, given)
