"""Bring calibrated methods and calibration data together: what each matrix of a scope reads, in the order it may be changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pytest_kick.calibration import CalibrationData, DenseCache, make_batches, prepare, run_compressed
from pytest_kick.compress.solvers import Moments, factorize
from pytest_kick.compress.targets import write_back
from pytest_kick.spec import Calibration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import torch

    from pytest_kick.compress.solvers import Factor, Solution
    from pytest_kick.compress.targets import Target, Targets
    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.models.matrices import Matrix
    from pytest_kick.spec import CompressionStep

    Make = Callable[[int], Moments]


class Seen:
    """Hold what calibration saw of the inputs that some matrices share."""

    def __init__(self, moments: Moments) -> None:
        """Take the moments of these inputs."""
        self._moments = moments
        self._factors: dict[tuple[float, bool], Factor] = {}

    @property
    def norms(self) -> torch.Tensor:
        """Return the norm of each input, `(in,)` float64."""
        return self._moments.norms

    @property
    def means(self) -> torch.Tensor:
        """Return the mean magnitude of each input, `(in,)` float32; where magnitudes were asked for."""
        return self._moments.means

    @property
    def peaks(self) -> torch.Tensor:
        """Return the largest magnitude of each input, `(in,)` float32; where magnitudes were asked for."""
        return self._moments.peaks

    @property
    def n_tokens(self) -> int:
        """Return the number of tokens seen."""
        return self._moments.n_tokens

    @property
    def hessian(self) -> torch.Tensor:
        """Return the Hessian, `(in, in)` float32, made anew: its reader may change it."""
        return self._moments.hessian

    def factor(self, *, damping: float, act_order: bool = False) -> Factor:
        """Return the factored Hessian, made once for all matrices that read these inputs."""
        key = (damping, act_order)
        if key not in self._factors:
            self._factors[key] = factorize(self._moments.hessian, damping=damping, act_order=act_order)
        return self._factors[key]


class Solve(Protocol):
    """Find the new values of a matrix."""

    def __call__(self, item: Target, seen: Seen, /) -> Solution:
        """Leave `item.weight` as it is."""


@dataclass(slots=True, kw_only=True)
class Calibrator:
    """Give the calibrated steps of any cell their data; one for a process.

    Attributes:
        cache: directory where dense passes are kept.
        facts: of the probes, looked for in the data.
        device: where passes run.
        offline: never use the network.
    """

    cache: Path
    facts: tuple[FactSet, ...] = ()
    device: str = "cpu"
    offline: bool = False
    _known: dict[tuple[str, str, Calibration], CalibrationData] = field(default_factory=dict)

    def data(self, model: LoadedModel, calibration: Calibration) -> CalibrationData:
        """Return the sequences for a model, which is dense still: it may have to draw them.

        Raises:
            CalibrationError: there are none to be had, or they hold what a probe asks.
        """
        key = (model.weights_hash, model.tokenizer_hash, calibration)
        if key not in self._known:
            self._known[key] = prepare(calibration, model, self.facts, offline=self.offline)
        return self._known[key]


@dataclass(slots=True, kw_only=True)
class Inputs:
    """Hold what one calibrated step needs besides the weights.

    Attributes:
        model: being compressed.
        data: what goes through it.
        propagate: whether a block sees what the compressed blocks before it give, or what the model gave before this step.
        calibrator: whose cache serves dense passes.
        after: ids of the earlier steps of the chain.
        notes: what a reader should know of the solutions.
    """

    model: LoadedModel
    data: CalibrationData
    propagate: str
    calibrator: Calibrator
    after: str
    notes: tuple[str, ...] = ()

    @property
    def recorded(self) -> dict[str, str]:
        """Return what the report of the step says of its data."""
        return {"calibration": self.data.hash}

    def parameters(self) -> list[str]:
        """Return the names of the parameters that it changes besides the scope's matrices."""
        return []

    def solve(self, targets: Targets, solve: Solve, *, gram: bool, magnitudes: bool = False) -> None:
        """Replace the weights of all targets by their solutions.

        Args:
            targets: the matrices of the step.
            solve: called once for each, when its inputs are known.
            gram: whether second moments are needed, or norms alone.
            magnitudes: whether means and peaks are needed.
        """
        items = {item.matrix.name: item for item in targets.items}
        matrices = tuple(item.matrix for item in targets.items)
        raised: list[str] = []
        kind = ("moments" if gram else "norms") + ("+magnitudes" if magnitudes else "")

        def make(n_in: int) -> Moments:
            return Moments(n_in, gram=gram, magnitudes=magnitudes)

        def change(item: Target, seen: Seen) -> None:
            found = solve(item, seen)
            item.weight.copy_(found.values)
            raised.extend([item.matrix.name] if found.raised else [])

        if self.propagate == "dense":
            self._each_dense(items, matrices, change, make, kind)
        else:
            self._each_compressed(items, matrices, change, make)
        more = (f"damping raised in {len(raised)} matrices whose Hessian is singular, {raised[0]} first",) if raised else ()
        self.notes = (*self.data.notes, *more)

    def _each_dense(self, items: Mapping[str, Target], matrices: tuple[Matrix, ...], change: Change, make: Make, kind: str) -> None:
        cache = DenseCache(self.calibrator.cache, device=self.calibrator.device)
        found = cache.get(self.model, self.data, matrices, make, kind=kind, after=self.after)
        by_key: dict[str, list[Matrix]] = {}
        for matrix in matrices:
            by_key.setdefault(found.keys[matrix.name], []).append(matrix)
        for group in by_key.values():  # one factor at a time in memory
            seen = Seen(Moments.from_state(found.state(group[0])))
            for matrix in group:
                change(items[matrix.name], seen)

    def _each_compressed(self, items: Mapping[str, Target], matrices: tuple[Matrix, ...], change: Change, make: Make) -> None:
        moments: dict[str, Moments] = {}

        def add(key: str, x: torch.Tensor) -> None:
            if key not in moments:
                moments[key] = make(x.shape[-1])
            moments[key].add(x.cpu())

        def solve(block: tuple[Matrix, ...], keys: Mapping[str, str]) -> None:
            seen = {key: Seen(moments.pop(key)) for key in dict.fromkeys(keys[matrix.name] for matrix in block)}
            for matrix in block:
                change(items[matrix.name], seen[keys[matrix.name]])
                write_back(self.model.module, items[matrix.name])

        batches = make_batches(self.data.samples)
        run_compressed(self.model.module, batches, matrices, add, solve, device=self.calibrator.device)


class Change(Protocol):
    """Replace the weights of one matrix."""

    def __call__(self, item: Target, seen: Seen, /) -> None:
        """Change `item.weight` in place."""


def calibration_of(step: CompressionStep) -> Calibration:
    """Return what data a calibrated step sees, by its parameters."""
    return Calibration(
        source=step.named("source"),
        count=int(step.param("count")),
        length=int(step.param("length")),
        seed=int(step.param("seed")),
        propagate=str(step.param("propagate")),
    )
