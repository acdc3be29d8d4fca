"""The factor of a Hessian: damping, what is done where it is singular, dead columns, act-order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_matrices import damped, made, prices

from pytest_kick.compress.solvers import factorize
from pytest_kick.errors import CompressionError


@pytest.mark.parametrize("scale", [1.0, 1e-8, 1e8])
def test_pivots_are_prices_and_do_not_depend_on_scale(scale: float) -> None:
    """Squared pivots are 1 / [H^-1]_jj of the columns left, and the spread is the same for any scale of the Hessian."""
    _, x = made(1, 20)
    gram = damped(x, damping=0.0)
    got, one = factorize(torch.from_numpy(gram * scale)), factorize(torch.from_numpy(gram))
    np.testing.assert_allclose(got.pivots.double().square() / scale, prices(damped(x)), rtol=1e-5)
    np.testing.assert_allclose(got.spread, one.spread, rtol=1e-4, atol=1e-6)
    assert (got.damping, got.raised) == (0.01, False)


def test_fewer_tokens_than_columns_need_no_raise() -> None:
    """Damping of 0.01 makes a Hessian of 5 tokens and 60 columns regular, and it is not reported as raised."""
    _, x = made(1, 60, tokens=5)
    factor = factorize(x.T @ x)
    assert (factor.damping, factor.raised) == (0.01, False)
    np.testing.assert_allclose(factor.pivots.double().square(), prices(damped(x)), rtol=1e-3)


@pytest.mark.parametrize(("asked", "used"), [(0.0, 0.01), (1e-9, 1e-7)])
def test_a_singular_hessian_raises_the_damping(asked: float, used: float) -> None:
    """Where pivots are noise the damping is raised tenfold until they are not, and said to be."""
    x = torch.ones(7, 4)
    x[:, 0] = torch.arange(7)
    factor = factorize(x.T @ x, damping=asked)
    assert factor.raised
    assert factor.damping == pytest.approx(used)
    assert bool(torch.isfinite(factor.spread).all())


def test_a_regular_hessian_needs_no_damping() -> None:
    """Damping 0 is taken at its word where the Hessian is regular."""
    _, x = made(1, 10)
    factor = factorize(x.double().T @ x.double(), damping=0.0)
    assert (factor.damping, factor.raised) == (0.0, False)
    np.testing.assert_allclose(factor.pivots.double().square(), prices(damped(x, damping=0.0)), rtol=1e-4)


def test_a_hessian_that_stays_singular_is_refused() -> None:
    """What is no Hessian at all (negative eigenvalues) is refused after the largest damping."""
    with pytest.raises(CompressionError, match="singular one at damping 1,"):
        factorize(torch.tensor([[1.0, 5.0], [5.0, 1.0]]))


def test_dead_columns_are_named_and_do_not_lower_the_damping() -> None:
    """Columns without input are found; the mean diagonal is that of the others; nothing spreads into or out of them."""
    _, x = made(1, 12, dead=(2, 7))
    factor = factorize(x.T @ x)
    assert factor.dead.nonzero().flatten().tolist() == [2, 7]
    np.testing.assert_allclose(factor.pivots.double().square(), prices(damped(x)), rtol=1e-4)
    assert not factor.spread[[2, 7]].any()
    assert not factor.spread[:, [2, 7]].any()


def test_no_input_at_all_is_like_independent_inputs() -> None:
    """A Hessian of zeros spreads nothing, at the damping asked for."""
    for damping in (0.0, 0.01):
        factor = factorize(torch.zeros(3, 3), damping=damping)
        assert bool(factor.dead.all())
        assert not factor.spread.any()
        assert bool((factor.pivots > 0).all())


def test_act_order_is_by_falling_diagonal_ties_by_position() -> None:
    """The factor in act-order is that of the reordered Hessian, dead columns last."""
    _, x = made(1, 9, dead=(0,))
    gram = damped(x, damping=0.0)
    gram[4], gram[:, 4] = 0, 0
    gram[4, 4] = gram[6, 6]
    got = factorize(torch.from_numpy(gram), act_order=True)
    assert got.order is not None
    order = sorted(range(9), key=lambda j: (-gram[j, j], j))
    assert got.order.tolist() == order
    want = factorize(torch.from_numpy(gram[np.ix_(order, order)]))
    assert torch.equal(got.spread, want.spread)
    assert got.dead.tolist() == [True] + [False] * 8


@pytest.mark.parametrize(
    ("value", "damping", "message"), [(torch.nan, 0.01, "NaN or infinite"), (1.0, 1.5, "0 to 1"), (1.0, -0.1, "0 to 1")]
)
def test_nonsense_is_refused(value: float, damping: float, message: str) -> None:
    """NaN entries and dampings out of range are said."""
    hessian = torch.eye(3)
    hessian[0, 0] = value
    with pytest.raises(CompressionError, match=message):
        factorize(hessian, damping=damping)
