"""Spread the cells of a run over xdist workers so that models are loaded seldom and nobody waits.

A worker stays with its model while that has cells left, then joins the model with the most work left per worker. Near the end it
rather stops than load a model for a last cell that the workers at that model are about to take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler.load import LoadScheduling

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

_QUEUED = 2
"""A worker starts an item only when it knows the next one, so two are queued."""


class ModelScheduling(LoadScheduling):
    """Serve `--dist load` with a worker's next cell taken from the model it has loaded."""

    collection: list[str] | None
    pending: list[int]

    def __init__(
        self,
        config: pytest.Config,
        log: Producer | None,
        model_of: Callable[[str], str],
        cost_of: Callable[[str], float],
    ) -> None:
        """Take the model (or "" for an ordinary test) and the expected cost, in any unit, of a node id."""
        super().__init__(config, log)
        self._model_of = model_of
        self._cost_of = cost_of
        self._at: dict[WorkerController, str] = {}
        self._models: list[str] = []
        self._costs: list[float] = []

    def schedule(self) -> None:
        """Queue two items at each worker, one after the other; or top all up when called again, after a crash."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            self.collection = next(iter(self.node2collection.values()))
            self.pending[:] = range(len(self.collection))
            self._models = [self._model_of(nodeid) for nodeid in self.collection]
            self._costs = [self._cost_of(nodeid) for nodeid in self.collection]
            for node in self.nodes:  # one each before anyone's second: models spread first
                self._top_up(node, 1)
        for node in self.nodes:
            self.check_schedule(node)

    def check_schedule(self, node: WorkerController, duration: float = 0) -> None:  # noqa: ARG002 - the base class's signature
        """Top up one worker's queue; shut it down when nothing is left for it."""
        if node.shutting_down:
            return
        if not self._top_up(node, _QUEUED - len(self.node2pending[node])):
            node.shutdown()

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a worker; what was queued there goes to the others."""
        self._at.pop(node, None)
        crashed: str | None = super().remove_node(node)
        return crashed

    def _top_up(self, node: WorkerController, num: int) -> bool:
        """Send up to `num` items; return whether there may be more for this worker later."""
        for _ in range(num):
            index = self._choose(node)
            if index is None:
                return False
            self.pending.remove(index)
            self._at[node] = self._models[index]
            self.node2pending[node].append(index)
            node.send_runtest_some([index])
        return True

    def _choose(self, node: WorkerController) -> int | None:
        here = self._at.get(node)
        left: dict[str, list[int]] = {}
        for index in self.pending:
            left.setdefault(self._models[index], []).append(index)
        if here in left:
            return left[here][0]
        # A worker that was told to stop takes nothing more: its model's last cell, back after a crash, is anyone's.
        others = [model for other, model in self._at.items() if other is not node and not other.shutting_down]

        def share(model: str) -> float:
            return sum(self._costs[index] for index in left[model]) / (1 + others.count(model))

        worth = [model for model in left if not model or len(left[model]) >= _QUEUED or model not in others]
        return left[max(worth, key=share)][0] if worth else None
