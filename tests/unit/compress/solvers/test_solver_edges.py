"""The solvers where inputs or weights are unusual: dead columns, zeros that are there, shared inputs, wrong shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from made_matrices import made, quantizer, rtn

from pytest_kick.compress.solvers import Pattern, Solution, factorize, gptq, output_error, sparsegpt, wanda
from pytest_kick.errors import CompressionError

if TYPE_CHECKING:
    from collections.abc import Callable

INT4 = quantizer(4, symmetric=True)
SOLVERS: dict[str, Callable[[torch.Tensor, torch.Tensor], Solution]] = {
    "wanda": lambda weight, x: wanda(weight, x.norm(dim=0), 0.5),
    "wanda_nm": lambda weight, x: wanda(weight, x.norm(dim=0), Pattern(keep=2, of=4)),
    "sparsegpt": lambda weight, x: sparsegpt(weight, factorize(x.T @ x), 0.5),
    "sparsegpt_nm": lambda weight, x: sparsegpt(weight, factorize(x.T @ x), Pattern(keep=2, of=4)),
    "gptq": lambda weight, x: gptq(weight, factorize(x.T @ x), INT4, group_size=16),
    "gptq_act_order": lambda weight, x: gptq(weight, factorize(x.T @ x, act_order=True), INT4),
}
ALL = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)


@ALL
def test_the_weights_are_left_as_they_are(solve: Callable[[torch.Tensor, torch.Tensor], Solution]) -> None:
    """A solver changes none of its inputs, in memory order of a Conv1D too, and gives the same contiguous float32 for both."""
    weight, x = made(6, 40)
    kept = weight.clone()
    one, two = solve(weight, x).values, solve(weight.T.contiguous().T, x).values
    assert torch.equal(weight, kept)
    assert torch.equal(one, two)
    assert one.dtype == torch.float32
    assert one.is_contiguous()
    one_row = weight[:1].clone()
    solve(one_row, x)
    assert torch.equal(one_row, kept[:1])


@ALL
def test_zeros_that_are_there_stay_zero(solve: Callable[[torch.Tensor, torch.Tensor], Solution]) -> None:
    """A chain's later step leaves pruned weights pruned, though they lie in columns that make up for others."""
    weight, x = made(8, 40)
    pruned = wanda(weight, x.norm(dim=0), 0.25).values
    assert bool((solve(pruned, x).values[pruned == 0] == 0).all())


def test_zeros_that_are_there_count() -> None:
    """More zeros than asked are kept and nothing is added; fewer are filled up to the count; patterns hold as well."""
    weight, x = made(8, 40, dead=(3,))
    pruned, factor, norms = wanda(weight, x.norm(dim=0), 0.25).values, factorize(x.T @ x), x.norm(dim=0)
    assert torch.equal(wanda(pruned, norms, 0.1).values, pruned)
    assert torch.equal(sparsegpt(pruned, factor, 0.1).values == 0, pruned == 0)
    for level in (0.25, 0.5):
        assert int((sparsegpt(pruned, factor, level).values == 0).sum()) == level * 320
        assert bool(((wanda(pruned, norms, level).values == 0).sum(dim=1) == level * 40).all())
    one = torch.tensor([[1.0, 0.0, 2.0]])  # the zero goes before the weight without input
    assert torch.equal(wanda(one, torch.tensor([0.0, 1.0, 1.0]), 0.34).values, one)
    half = wanda(weight, norms, Pattern(keep=2, of=4)).values
    assert torch.equal(sparsegpt(half, factor, Pattern(keep=2, of=4)).values == 0, half == 0)


def test_blocks_make_up_for_zeros_of_earlier_ones() -> None:
    """Where one block has more zeros than its share, the later ones lose less, so that the whole has its count."""
    weight, x = made(8, 40)
    weight[:, :10] = 0
    got = sparsegpt(weight, factorize(x.T @ x), 0.5, block=10).values
    assert int((got == 0).sum()) == 160
    assert not got[:, :10].any()


def test_dead_columns_go_first_and_no_more_than_asked() -> None:
    """Weights without input are pruned before all others, reported, and kept where the count is met; rounding keeps them."""
    dead = tuple(range(0, 40, 2))
    weight, x = made(4, 40, dead=dead)
    factor = factorize(x.T @ x)
    for got in (wanda(weight, x.norm(dim=0), 0.4), sparsegpt(weight, factor, 0.4)):
        assert got.dead.nonzero().flatten().tolist() == list(dead)
        assert int((got.values == 0).sum()) == 64
        assert bool(got.values[:, 1::2].all())
        left = got.values != 0
        assert torch.equal(got.values[left], weight[left])
    rounded = gptq(weight, factor, INT4).values
    assert torch.equal(rounded[:, ::2], rtn(weight, INT4)[:, ::2])


def test_rows_of_matrices_with_the_same_inputs_may_be_stacked() -> None:
    """Query and key stacked give what each gives alone: rows do not touch each other."""
    weight, x = made(12, 50)
    factor = factorize(x.T @ x)
    whole = gptq(weight, factor, INT4, group_size=16)
    parts = [gptq(part, factor, INT4, group_size=16) for part in (weight[:5], weight[5:])]
    torch.testing.assert_close(whole.values, torch.cat([part.values for part in parts]))


def test_without_correlation_solvers_are_the_plain_methods() -> None:
    """Inputs that do not correlate leave nothing to make up with: gptq rounds to nearest, sparsegpt prunes by score."""
    weight, _ = made(6, 32)
    factor = factorize(torch.diag(torch.linspace(1, 3, 32) ** 2), damping=0.0)
    assert torch.equal(gptq(weight, factor, INT4, group_size=8).values, rtn(weight, INT4, 8))
    pattern = Pattern(keep=2, of=4)
    assert torch.equal(sparsegpt(weight, factor, pattern).values, wanda(weight, torch.linspace(1, 3, 32), pattern).values)


def test_a_singular_hessian_is_solved_and_said() -> None:
    """With damping forgotten by the caller, columns that repeat each other still give finite weights, and a raised damping."""
    weight, x = made(4, 20)
    x[:, 10:] = x[:, :10]
    got = gptq(weight, factorize(x.T @ x, damping=0.0), INT4)
    assert got.raised
    assert got.damping == 0.01
    assert bool(torch.isfinite(got.values).all())
    assert output_error(weight, got.values, 2 * x.T @ x) < output_error(weight, rtn(weight, INT4), 2 * x.T @ x)


def test_the_output_error_is_that_of_the_outputs() -> None:
    """The error equals the mean over tokens of the squared difference of outputs."""
    weight, x = made(600, 10, tokens=30)
    values = rtn(weight, INT4)
    want = float(((x.double() @ (weight - values).double().T) ** 2).sum() / 30)
    assert output_error(weight, values, 2 / 30 * (x.double().T @ x.double())) == pytest.approx(want, rel=1e-6)


def test_wrong_shapes_are_refused() -> None:
    """A factor or norms of another matrix, act-order where groups are of the matrix, and empty groups are said in one line."""
    weight, x = made(4, 20)
    factor = factorize(torch.eye(19))
    with pytest.raises(CompressionError, match="got 19 columns"):
        gptq(weight, factor, INT4)
    with pytest.raises(CompressionError, match="got 19 columns"):
        sparsegpt(weight, factor, 0.5)
    with pytest.raises(CompressionError, match=r"got shape \(19,\)"):
        wanda(weight, torch.ones(19), 0.5)
    with pytest.raises(CompressionError, match="act-order"):
        sparsegpt(weight, factorize(x.T @ x, act_order=True), 0.5)
    with pytest.raises(CompressionError, match="group size: got 0"):
        gptq(weight, factorize(x.T @ x), INT4, group_size=0)
