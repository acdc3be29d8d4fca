from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_kick.scheduling import ModelScheduling


class Node:
    """Stand in for an xdist worker: it runs an item once it knows the next one, or that there is none."""

    def __init__(self, name: str) -> None:
        """Start idle."""
        self.gateway = SimpleNamespace(id=name)
        self.queue: deque[int] = deque()
        self.ran: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        """Take items; after the shutdown they would be lost, so none may come."""
        assert not self.shutting_down, "an item was sent to a worker that was told to stop"
        self.queue.extend(indices)

    def shutdown(self) -> None:
        """Be told to finish the queue and stop."""
        self.shutting_down = True

    @property
    def ready(self) -> bool:
        """Return whether an item can be run now."""
        return len(self.queue) >= (1 if self.shutting_down else 2)


class Run:
    """Drive a scheduler as xdist's session does."""

    def __init__(self, models: list[str], n_nodes: int, seed: int = 0, costs: list[float] | None = None) -> None:
        """Make nodes and a collection whose i-th item belongs to the i-th model."""
        self.models = models
        self.items = [f"t[{i}]" for i in range(len(models))]
        values = costs or [1.0] * len(models)
        tx = ["popen"] * n_nodes

        def value(name: str) -> Any:
            return tx if name == "tx" else None

        config: Any = SimpleNamespace(getoption=value, getvalue=value, option=SimpleNamespace(tx=tx))
        place = {item: i for i, item in enumerate(self.items)}
        self.scheduler = ModelScheduling(config, None, lambda item: models[place[item]], lambda item: values[place[item]])
        self.random = random.Random(seed)  # noqa: S311 - a shuffle
        self.nodes: list[Node] = []
        self.crashed: list[int] = []
        self.gone: list[int] = []
        for i in range(n_nodes):
            self.add(f"gw{i}")
        self.scheduler.schedule()

    def add(self, name: str) -> None:
        """Bring a worker up."""
        node: Any = Node(name)
        self.nodes.append(node)
        self.scheduler.add_node(node)
        self.scheduler.add_node_collection(node, self.items)

    def step(self) -> bool:
        """Let one worker finish one item; return whether anyone could."""
        if self.scheduler.tests_finished:
            for one in self.scheduler.nodes:
                one.shutdown()
        ready: list[Any] = [node for node in self.nodes if node.ready]
        if not ready:
            return False
        node = self.random.choice(ready)
        index = node.queue.popleft()
        node.ran.append(index)
        self.scheduler.mark_test_complete(node, index)
        return True

    def crash(self, node: Any) -> None:
        """Kill a worker while it runs its first item, and put another in its place, as xdist does."""
        self.nodes.remove(node)
        if node.queue:
            self.crashed.append(node.queue[0])
        self.gone += node.ran
        item = self.scheduler.remove_node(node)
        assert item == (self.items[node.queue[0]] if node.queue else None)
        self.add(node.gateway.id + "x")
        self.scheduler.schedule()

    def finish(self) -> None:
        """Run to the end."""
        while self.step():
            pass

    @property
    def ran(self) -> list[int]:
        """Return all items that were run."""
        return [*self.gone, *(index for node in self.nodes for index in node.ran)]

    def visits(self, node: Node) -> list[str]:
        """Return the models of a worker one after the other, each as often as it had to be loaded."""
        models = [self.models[index] for index in node.ran]
        return [model for i, model in enumerate(models) if i == 0 or models[i - 1] != model]


grids = st.lists(st.tuples(st.sampled_from(["a", "b", "c", ""]), st.integers(1, 12)), max_size=6).map(
    lambda parts: [model for model, n in parts for _ in range(n)]
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(grids, st.integers(1, 6), st.integers(0, 10**6))
def test_every_item_is_run_once(models: list[str], n_nodes: int, seed: int) -> None:
    """Whatever the models, the workers and their speed: each item is run exactly once, and the run ends."""
    run = Run(models, n_nodes, seed)
    run.finish()
    assert sorted(run.ran) == list(range(len(models)))
    assert run.scheduler.tests_finished
    assert not run.scheduler.has_pending


@quick
@given(grids, st.integers(1, 6), st.integers(0, 10**6))
def test_a_worker_loads_no_model_twice(models: list[str], n_nodes: int, seed: int) -> None:
    """A worker stays with its model until nobody needs it any more: it never comes back to one."""
    run = Run(models, n_nodes, seed)
    run.finish()
    for node in run.nodes:
        visits = run.visits(node)
        assert len(visits) == len(set(visits))


@quick
@given(grids.filter(bool), st.integers(1, 5), st.integers(0, 10**6), st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_crashes_lose_only_the_item_that_crashed(models: list[str], n_nodes: int, seed: int, moments: list[int]) -> None:
    """When workers die, at any moment and in any number, all items but those they were running are still run once."""
    run = Run(models, n_nodes, seed)
    for moment in moments:
        for _ in range(moment):
            if not run.step():
                break
        run.crash(run.random.choice(run.nodes))
    run.finish()
    assert sorted([*run.ran, *run.crashed]) == list(range(len(models)))
    assert run.scheduler.tests_finished


@quick
@given(grids.filter(lambda models: "" not in models), st.integers(2, 6), st.integers(0, 10**6))
def test_no_model_is_loaded_for_one_last_cell(models: list[str], n_nodes: int, seed: int) -> None:
    """A worker joins a model that others are at only while it has two cells or more to give."""
    loads: list[tuple[str, int, int]] = []

    top_up = ModelScheduling._top_up

    def watch(self: ModelScheduling, node: Any, num: int) -> bool:
        for _ in range(num):
            before = self._at.get(node)
            others = [model for other, model in self._at.items() if other is not node and not other.shutting_down]
            left = [self._models[index] for index in self.pending]
            if not top_up(self, node, 1):
                return False
            model = self._at[node]
            if model != before:
                loads.append((model, left.count(model), others.count(model)))
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelScheduling, "_top_up", watch)
        Run(models, n_nodes, seed).finish()
    assert all(left >= 2 or not others for _, left, others in loads)


def test_workers_spread_over_models_by_cost() -> None:
    """Four workers: two go to the model with most of the work, one to each of the others."""
    models = ["a"] * 20 + ["b"] * 8 + ["c"] * 8
    run = Run(models, 4)
    assert sorted(run.scheduler._at.values()) == ["a", "a", "b", "c"]
    heavy = Run(models, 4, costs=[1.0] * 20 + [100.0] * 8 + [1.0] * 8)
    assert sorted(heavy.scheduler._at.values()) == ["b", "b", "b", "b"]


def test_one_model_uses_all_workers() -> None:
    """The cells of one model are spread over all workers."""
    run = Run(["a"] * 40, 4)
    run.finish()
    assert min(len(node.ran) for node in run.nodes) >= 2


def test_dense_comes_first() -> None:
    """The first cell of a model, its dense one, is the first that any worker gets of it, and order is kept within a worker."""
    run = Run(["a"] * 9 + ["b"] * 9, 3)
    firsts = {run.nodes[i].queue[0] for i in range(3)}
    assert {0, 9} <= firsts
    run.finish()
    assert all(node.ran == sorted(node.ran) for node in run.nodes if len(run.visits(node)) == 1)


def test_fewer_items_than_workers() -> None:
    """Workers that get nothing are told to stop at once."""
    run = Run(["a", "a"], 5)
    assert [node.shutting_down for node in run.nodes] == [False, True, True, True, True]
    run.finish()
    assert sorted(run.ran) == [0, 1]
    Run([], 2).finish()


def test_ordinary_tests_run_too() -> None:
    """Tests without a model are run beside the cells, in their order on each worker."""
    run = Run([""] * 10 + ["a"] * 10 + [""] * 3, 2, seed=3)
    run.finish()
    assert sorted(run.ran) == list(range(23))


def test_collections_that_differ_are_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that collected different items get none: xdist reports the difference."""
    run = Run([], 2)
    scheduler = ModelScheduling(run.scheduler.config, None, lambda _: "", lambda _: 1.0)
    monkeypatch.setattr(scheduler, "_check_nodes_have_same_collection", lambda: False)
    node: Any = Node("gw0")
    scheduler.add_node(node)
    scheduler.node2collection[node] = ["x"]
    scheduler.numnodes = 1
    scheduler.schedule()
    assert not node.queue
