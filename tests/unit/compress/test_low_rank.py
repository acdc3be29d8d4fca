"""Low rank: what NumPy's singular value decomposition gives, plain and seen through inputs, on every architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from made_zoo import ZOO, fresh, shipped

from pytest_kick.calibration import make_batches, run_dense
from pytest_kick.compress import Calibrator, Targets, compress_, lifecycle, low_rank
from pytest_kick.compress.check import check_step
from pytest_kick.compress.inputs import Seen, calibration_of
from pytest_kick.compress.solvers import Moments
from pytest_kick.compress.targets import Target
from pytest_kick.errors import CompressionError
from pytest_kick.models.scopes import Matrix, find_matrices, select
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.result import StepReport

SHAPES = ((12, 12), (8, 30), (30, 8), (1, 9))
DATA = (("source", "statements"), ("count", 48), ("length", 32))


def step(method: str, level: float, scope: str = "overall", **params: Any) -> CompressionStep:
    """Make a step; a whole number above 0 is a rank."""
    return CompressionStep(method=method, scope=scope, level=level, unit="rank" if level >= 1 else "", params=tuple(params.items()))


def compress(model: LoadedModel, *steps: CompressionStep) -> tuple[StepReport, ...]:
    """Compress and return the reports."""
    return compress_(model, CompressionSpec(steps=steps)).steps


def numpy_rank(step: CompressionStep, out: int, inputs: int) -> int:
    """Return the rank asked for, in NumPy's floats."""
    exact = np.round((1 - step.level) * out * inputs, 6) / (out + inputs)
    return int(step.level) if step.kind == "rank" else max(1, int(np.floor(exact)))


def nearest(weight: np.ndarray, rank: int, root: np.ndarray | None = None) -> np.ndarray:
    """Return the best matrix of a rank, in the metric of inputs whose second moments are root root^T."""
    root = np.eye(weight.shape[1]) if root is None else root
    u, s, vt = np.linalg.svd(weight.astype(np.float64) @ root, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank] @ np.linalg.inv(root)


def targets_of(*weights: np.ndarray) -> Targets:
    """Make a scope of matrices; copies them."""
    items = []
    for i, weight in enumerate(weights):
        matrix = Matrix(name=f"m{i}", module=f"m{i}", parameter=f"m{i}.weight", role="ffn", shape=weight.shape)  # type: ignore[arg-type]
        items.append(Target(matrix=matrix, weight=torch.from_numpy(weight.copy()), layer=torch.nn.Identity()))
    return Targets(items=tuple(items), n_body=0, n_attention=0)


def made(seed: int = 0) -> list[np.ndarray]:
    """Return matrices of several shapes."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]


@pytest.mark.parametrize("level", [0.0, 0.3, 0.75, 0.99, 3, 8])
def test_it_is_the_truncated_svd(level: float) -> None:
    """Each matrix is the nearest of its rank to float32's rounding; one of no higher rank stays as it is; so says the check."""
    weights, what = made(), step("low_rank", level)
    targets = targets_of(*weights)
    low_rank.low_rank(targets, what)
    for item, weight in zip(targets.items, weights, strict=True):
        rank = numpy_rank(what, *weight.shape)
        if rank >= min(weight.shape):
            assert np.array_equal(item.weight.numpy(), weight)
            assert item.matrix.name not in targets.formats
        else:
            np.testing.assert_allclose(item.weight.numpy(), nearest(weight, rank), atol=2e-6)
            assert np.linalg.matrix_rank(item.weight.numpy().astype(np.float64), tol=1e-5) == rank
            assert targets.formats[item.matrix.name].side_bits == rank * sum(weight.shape) * 32
    before = {item.matrix.name: torch.from_numpy(weight) for item, weight in zip(targets.items, weights, strict=True)}
    _, checked = check_step(targets, what, before)
    ranks = [numpy_rank(what, *shape) for shape in SHAPES]
    stored = sum(r * sum(s) if r < min(s) else s[0] * s[1] for r, s in zip(ranks, SHAPES, strict=True))
    assert checked.achieved == pytest.approx(level if level >= 1 else 1 - stored / sum(a * b for a, b in SHAPES))


@dataclass
class StandIn:
    """Hand given inputs to every matrix."""

    inputs: dict[int, np.ndarray]
    seen: list[str] = field(default_factory=list)

    def solve(self, targets: Targets, solve: Any, *, gram: bool) -> None:
        """Solve as `Inputs` does."""
        assert gram
        for item in targets.items:
            moments = Moments(item.matrix.shape[1], dtype=torch.float64)
            moments.add(torch.from_numpy(self.inputs[item.matrix.shape[1]]))
            item.weight.copy_(solve(item, Seen(moments)).values)
            self.seen.append(item.matrix.name)


@pytest.mark.parametrize("damping", [0.01, 0.3])
def test_aware_is_the_truncated_svd_of_what_inputs_make_of_it(damping: float) -> None:
    """NumPy's own whitening, truncation and its inverse give the same matrix, tall or wide; plain truncation gives worse outputs."""
    rng = np.random.default_rng(4)
    inputs = {n: (rng.normal(size=(300, n)) @ rng.normal(size=(n, n)) * np.linspace(0.1, 2, n)).astype(np.float32) for n in (12, 30, 8, 9)}
    weights, what = made(1), step("low_rank_aware", 0.5, damping=damping)
    targets, stand_in = targets_of(*weights), StandIn(inputs)
    low_rank.low_rank_aware(targets, what, stand_in)  # type: ignore[arg-type]
    assert stand_in.seen == ["m0", "m1", "m2"]  # a single row has no lower rank
    for item, weight in list(zip(targets.items, weights, strict=True))[:3]:
        x = inputs[weight.shape[1]].astype(np.float64)
        moments = 2 * x.T @ x / len(x)
        root = np.linalg.cholesky(moments + damping * np.mean(np.diag(moments)) * np.eye(len(moments)))
        rank = numpy_rank(what, *weight.shape)
        np.testing.assert_allclose(item.weight.numpy(), nearest(weight, rank, root), atol=3e-5)
        errors = [np.square(x @ (weight - other).T).sum() for other in (item.weight.numpy(), nearest(weight, rank))]
        assert errors[0] < errors[1]
    before = {item.matrix.name: torch.from_numpy(weight) for item, weight in zip(targets.items, weights, strict=True)}
    check_step(targets, what, before)


@pytest.mark.parametrize(
    ("name", "propagate"), [("tiny-encoder", "compressed"), ("tiny-encoder-decoder", "dense"), ("tiny-decoder", "compressed")]
)
def test_aware_on_whole_models(name: str, propagate: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """On each family the outputs for the inputs that were seen are nearer than with the plain one."""
    cache = tmp_path_factory.getbasetemp()
    model = shipped(name, cache)
    model.fresh_()
    matrices = tuple(m for m in find_matrices(model.module) if m.role in {"attention", "ffn"})
    dense = {m.name: m.read(model.dense(m.parameter)).clone() for m in matrices}
    aware = CompressionStep(method="low_rank_aware", scope="overall", level=0.4, params=(*DATA, ("propagate", propagate)))
    moments: dict[str, Moments] = {}
    calibrator = Calibrator(cache=cache)
    batches = make_batches(calibrator.data(model, calibration_of(aware)).samples)
    keys = run_dense(
        model.module, batches, matrices, lambda key, x: moments.setdefault(key, Moments(x.shape[-1], dtype=torch.float64)).add(x)
    )
    losses = []
    for what in (aware, step("low_rank", 0.4)):
        model.fresh_()
        (report,) = compress_(model, CompressionSpec(steps=(what,)), calibrator).steps
        assert report.achieved == pytest.approx(0.4, abs=0.03)
        assert report.bits_per_weight == pytest.approx(32 * (1 - report.achieved))
        losses.append(0.0)
        for m in matrices:
            change = dense[m.name].double() - m.read(model.module.get_parameter(m.parameter).detach()).double()
            losses[-1] += float(((change @ moments[keys[m.name]].hessian) * change).sum())
    assert losses[0] < losses[1]


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture(name: str) -> None:
    """All matrices of the scope have the rank, parts of fused parameters and experts each their own; nothing else changes."""
    model = fresh(name)
    what = step("low_rank", 0.4)
    (report,) = compress(model, what)
    chosen = select(model.module, model.family, "overall")
    for matrix in chosen:
        weight = matrix.read(model.module.get_parameter(matrix.parameter).detach()).numpy().astype(np.float64)
        assert np.linalg.matrix_rank(weight, tol=1e-5 * np.linalg.norm(weight, 2)) == numpy_rank(what, *matrix.shape)
    inside = {matrix.parameter for matrix in chosen}
    assert all(p.detach().equal(model.dense(key)) for key, p in model.module.named_parameters() if key not in inside)
    stored = sum(numpy_rank(what, *m.shape) * sum(m.shape) for m in chosen)
    assert report.bits_per_weight == pytest.approx(32 * stored / report.n_weights)
    assert report.achieved == pytest.approx(1 - stored / report.n_weights)
    assert (report.n_zeros, report.n_matrices) == (0, len(chosen))


def test_chains() -> None:
    """The same rank again changes nothing, a lower one does; rounded or pruned products are no factors any more."""
    model = fresh("LlamaForCausalLM")
    first, second = compress(model, step("low_rank", 9), step("low_rank", 5))
    assert (first.achieved, second.achieved) == (9, 5)
    assert first.bits_per_weight > second.bits_per_weight
    model.fresh_()
    with pytest.raises(CompressionError, match="got no weight changed by step 2 of 2"):
        compress(model, step("low_rank", 5), step("low_rank", 9))
    model.fresh_()
    *_, pruned = compress(model, step("low_rank", 5), CompressionStep(method="l1_per_matrix", scope="overall", level=0.5))
    assert pruned.bits_per_weight == 17
    model.fresh_()
    *_, rounded = compress(model, step("low_rank", 5), CompressionStep(method="rtn", scope="overall", level=8, params=(("group", 16),)))
    assert rounded.bits_per_weight == 9
    model.fresh_()
    *_, factored = compress(model, CompressionStep(method="rtn", scope="overall", level=8), step("low_rank", 5))
    assert factored.bits_per_weight == second.bits_per_weight
    model.fresh_()
    with pytest.raises(CompressionError, match=r"low_rank--overall--r5: chain: got .* on the int8 grid"):
        compress(model, CompressionStep(method="dynamic_int8", scope="overall", level=8), step("low_rank", 5))


def test_a_rank_that_no_matrix_exceeds() -> None:
    """It would change nothing, and is an error that says which rank would; where only some matrices have it the report says so."""
    model = fresh("LlamaForCausalLM")
    with pytest.raises(
        CompressionError,
        match=r"^low_rank--overall--r32: rank: got 32, expected one that leaves a rank below 32, the highest here\. Change it\.$",
    ):
        compress(model, step("low_rank", 32))
    (report,) = compress(model, step("low_rank", 16))
    assert report.notes == ("6 of 21 matrices left as they are: their rank cannot be higher",)


def no_truncation(targets: Targets, step: CompressionStep) -> None:
    """Keep one rank too many."""
    low_rank.low_rank(targets, CompressionStep(method="low_rank", scope=step.scope, level=step.level + 1, unit="rank"))
    for item in targets.items:
        record = targets.formats[item.matrix.name]
        targets.formats[item.matrix.name] = low_rank.LowRank(rank=int(step.level), shape=item.matrix.shape, sums=record.sums)  # type: ignore[union-attr]


def too_low(targets: Targets, step: CompressionStep) -> None:
    """Keep one rank too few."""
    lower = CompressionStep(method="low_rank", scope=step.scope, level=step.level - 1, unit="rank")
    low_rank.low_rank(targets, lower)
    for item in targets.items:
        record = targets.formats[item.matrix.name]
        targets.formats[item.matrix.name] = low_rank.LowRank(rank=int(step.level), shape=item.matrix.shape, sums=record.sums)  # type: ignore[union-attr]


def wrong_directions(targets: Targets, step: CompressionStep) -> None:
    """Keep the smallest singular values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(low_rank, "_leading", lambda gram, rank: torch.linalg.eigh(gram).eigenvectors[:, :rank])
        low_rank.low_rank(targets, step)


def one_direction_off(targets: Targets, step: CompressionStep) -> None:
    """Keep the next singular value in place of the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(low_rank, "_leading", lambda gram, rank: torch.linalg.eigh(gram).eigenvectors.flip(1)[:, [*range(rank - 1), rank]])
        low_rank.low_rank(targets, step)


def leave_one_out(targets: Targets, step: CompressionStep) -> None:
    """Forget the second matrix."""
    low_rank.low_rank(Targets(items=targets.items[:1] + targets.items[2:], n_body=0, n_attention=0, formats=targets.formats), step)


def shrink(targets: Targets, step: CompressionStep) -> None:
    """Scale what is left."""
    low_rank.low_rank(targets, step)
    for item in targets.items:
        item.weight.mul_(0.99)


PLAIN = [
    (no_truncation, "got a higher rank"),
    (too_low, "got a lower rank"),
    (wrong_directions, "got a larger error than the singular values left out"),
    (one_direction_off, "got a larger error than the singular values left out"),
    (leave_one_out, r"k_proj: got a higher rank"),
    (shrink, "got a larger error"),
]


@pytest.mark.parametrize(("method", "message"), PLAIN)
def test_bad_factors_are_refused(monkeypatch: pytest.MonkeyPatch, method: Any, message: str) -> None:
    """Another rank, other directions, a matrix left out, or what is no projection, is an error."""
    monkeypatch.setattr(lifecycle, "load_target", lambda _: method)
    with pytest.raises(CompressionError, match=message):
        compress(fresh("LlamaForCausalLM"), step("low_rank", 5))


def test_bad_aware_factors_are_refused() -> None:
    """What is no projection of the matrix onto fewer outputs cannot be a best solution, whatever the inputs."""
    what, weights = step("low_rank_aware", 5), made()[:1]
    targets = targets_of(*weights)
    before = {"m0": torch.from_numpy(weights[0])}
    low_rank.low_rank(targets, step("low_rank", 5))
    check_step(targets, what, before)
    targets.items[0].weight.mul_(0.99)
    with pytest.raises(CompressionError, match="got a matrix that is no projection of what it was"):
        check_step(targets, what, before)
    targets.formats.clear()
    with pytest.raises(CompressionError, match="got no factors of this rank recorded"):
        check_step(targets, what, before)
