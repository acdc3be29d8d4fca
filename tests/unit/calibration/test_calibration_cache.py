from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING
from weakref import WeakSet

import pytest
import torch
from made_models import inputs_by_hand, make_model, matrices_of

from pytest_kick.calibration import DenseCache, cache, make_batches, prepare
from pytest_kick.calibration.order import block_of
from pytest_kick.errors import CalibrationError
from pytest_kick.spec import Calibration

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.calibration import CalibrationData
    from pytest_kick.models.loaded import LoadedModel


class Squares:
    """Add up squares, and count the accumulators that were made."""

    made = 0

    def __init__(self, n_in: int) -> None:
        """Start at zero."""
        Squares.made += 1
        self.total = torch.zeros(n_in)

    def add(self, x: torch.Tensor) -> None:
        """Take inputs in."""
        self.total += x.square().sum(dim=0)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the sums."""
        return {"squares": self.total}


@pytest.fixture
def model() -> LoadedModel:
    """Return a small decoder."""
    Squares.made = 0
    return make_model("llama")


@pytest.fixture
def data(model: LoadedModel) -> CalibrationData:
    """Return a few sequences."""
    return prepare(Calibration(source="model", count=4, length=16), model)


def test_one_pass_serves_all(tmp_path: Path, model: LoadedModel, data: CalibrationData) -> None:
    """What is found later is what was made, by hand too; overlapping scopes make only what is missing."""
    attention, both = matrices_of(model.module, ["attention"]), matrices_of(model.module, ["attention", "ffn"])
    first = DenseCache(tmp_path).get(model, data, attention, Squares, kind="squares")
    assert Squares.made == 2 * 3
    second = DenseCache(tmp_path).get(model, data, both, Squares, kind="squares")
    assert Squares.made == 4 * 3
    DenseCache(tmp_path).get(model, data, both, Squares, kind="squares")
    assert Squares.made == 4 * 3
    plain = inputs_by_hand(model.module, make_batches(data.samples))
    for matrix in both:
        torch.testing.assert_close(second.state(matrix)["squares"], plain[matrix.module].square().sum(dim=0))
    assert all(torch.equal(first.state(m)["squares"], second.state(m)["squares"]) for m in attention)
    assert not list(tmp_path.rglob("*.tmp*"))


def test_nothing_is_shared_that_differs(tmp_path: Path, model: LoadedModel, data: CalibrationData) -> None:
    """Other data, another kind, another state of the weights, another model: each makes its own."""
    matrices = matrices_of(model.module, ["attention"])
    store = DenseCache(tmp_path)
    store.get(model, data, matrices, Squares, kind="squares")
    store.get(model, prepare(Calibration(source="model", count=4, length=16, seed=1), model), matrices, Squares, kind="squares")
    store.get(model, data, matrices, Squares, kind="other")
    store.get(model, data, matrices, Squares, kind="squares", after="l1_layer--ffn--s0.5")
    other = make_model("qwen2")
    store.get(other, data, matrices_of(other.module, ["attention"]), Squares, kind="squares")
    assert Squares.made == 5 * 2 * 3


def test_a_torn_file_is_made_again(tmp_path: Path, model: LoadedModel, data: CalibrationData) -> None:
    """A file that is no whole safetensors file counts as missing; one torn after it was found is an error in one line."""
    matrices = matrices_of(model.module, ["attention"])
    found = DenseCache(tmp_path).get(model, data, matrices, Squares, kind="squares")
    path = min(tmp_path.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CalibrationError, match="Remove its directory"):
        [found.state(matrix) for matrix in matrices]
    DenseCache(tmp_path).get(model, data, matrices, Squares, kind="squares")
    assert Squares.made == 2 * 3 + 1
    assert len([found.state(matrix) for matrix in matrices]) == 12


def test_processes_wait_for_each_other(tmp_path: Path, model: LoadedModel, data: CalibrationData) -> None:
    """Two that want the same: one makes it while the other says that it waits, and then finds it."""
    matrices = matrices_of(model.module, ["attention"])
    inside, go = threading.Event(), threading.Event()

    class Slow(Squares):
        def add(self, x: torch.Tensor) -> None:
            inside.set()
            go.wait(30)
            super().add(x)

    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        go.set()

    def make_slowly() -> None:
        DenseCache(tmp_path).get(model, data, matrices, Slow, kind="squares")

    first = threading.Thread(target=make_slowly)
    first.start()
    inside.wait(30)
    twin = make_model("llama")
    DenseCache(tmp_path, progress=tell).get(twin, data, matrices_of(twin.module, ["attention"]), Squares, kind="squares")
    first.join(30)
    assert Squares.made == 2 * 3
    assert len(lines) == 1
    assert "waiting for another process" in lines[0]


def test_a_cache_that_cannot_be_written(tmp_path: Path, model: LoadedModel, data: CalibrationData) -> None:
    """A directory that is a file is an error in one line."""
    (tmp_path / "calibration").write_text("", encoding="utf-8")
    with pytest.raises(CalibrationError, match="expected a writable directory") as caught:
        DenseCache(tmp_path).get(model, data, matrices_of(model.module, ["attention"]), Squares, kind="squares")
    assert "\n" not in str(caught.value)


def test_a_pass_that_fails_leaves_nothing(
    tmp_path: Path, model: LoadedModel, data: CalibrationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where writing stops half way, what is not whole is made again, and no temporary file stays."""
    matrices = matrices_of(model.module, ["attention"])
    real = cache.save_file
    calls: list[Path] = []

    def fail(state: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        if len(calls) > 1:
            path.write_bytes(b"half")
            message = "No space left on device"
            raise OSError(28, message)
        real(state, path)

    monkeypatch.setattr(cache, "save_file", fail)
    with pytest.raises(CalibrationError, match="No space left"):
        DenseCache(tmp_path).get(model, data, matrices, Squares, kind="squares")
    monkeypatch.setattr(cache, "save_file", real)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    assert not list(tmp_path.rglob("*.tmp*"))
    made = Squares.made
    DenseCache(tmp_path).get(model, data, matrices, Squares, kind="squares")
    assert Squares.made == made + 5


@pytest.mark.parametrize("kind", ["llama", "t5", "albert"])
def test_one_block_is_held_at_a_time(tmp_path: Path, kind: str) -> None:
    """Of the accumulators of all blocks no more are alive at once than one block has inputs."""
    model = make_model(kind)
    data = prepare(Calibration(source="shipped", count=3, length=16), model)
    matrices = matrices_of(model.module, ["attention", "ffn"])
    alive: WeakSet[Squares] = WeakSet()
    most: Counter[str] = Counter()

    class Watched(Squares):
        def __init__(self, n_in: int) -> None:
            super().__init__(n_in)
            alive.add(self)

        def add(self, x: torch.Tensor) -> None:
            super().add(x)
            most["now"] = max(most["now"], len(alive))

    found = DenseCache(tmp_path).get(model, data, matrices, Watched, kind="squares")
    keys = {found.keys[matrix.name] for matrix in matrices}
    per_block = Counter(block_of(key) for key in keys)
    assert most["now"] == max(per_block.values())
    assert len(alive) == 0
    assert kind == "albert" or len(keys) >= 2 * most["now"]  # ALBERT has one block
