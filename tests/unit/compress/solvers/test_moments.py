"""Moments of a matrix's inputs: what is summed, what is left out, and how far float32 can be trusted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made_matrices import made

from pytest_kick.compress.solvers import Moments
from pytest_kick.errors import CompressionError


def test_moments_are_those_of_all_tokens_together() -> None:
    """Norms and Hessian equal float64 sums over all tokens, however they came in batches, over a stripe's border too."""
    _, x = made(1, 300, tokens=257)
    moments = Moments(300)
    for batch in (x[:100].reshape(4, 25, 300), x[100:101], x[101:]):
        moments.add(batch)
    rows = x.numpy().astype(np.float64)
    want = 2 / 257 * rows.T @ rows
    size = np.sqrt(np.outer(np.diag(want), np.diag(want)))
    assert moments.n_tokens == 257
    np.testing.assert_allclose(moments.norms.numpy(), np.sqrt((rows**2).sum(axis=0)), rtol=1e-6)
    assert np.abs(moments.hessian.numpy() - want).max() < 2e-6 * size.max()
    assert (np.abs(moments.hessian.numpy() - want) / size).max() < 2e-6
    assert torch.equal(moments.hessian, moments.hessian.T)


def test_padding_never_enters() -> None:
    """Tokens that the mask leaves out change nothing, whatever stands in them, NaN included."""
    _, x = made(1, 12, tokens=20)
    padded = x.clone().reshape(4, 5, 12)
    mask = torch.ones(4, 5, dtype=torch.int64)
    mask[1, 3:] = mask[2, 0] = 0
    padded[1, 3:], padded[2, 0] = 1e6, torch.nan
    got, want = Moments(12), Moments(12)
    got.add(padded, mask)
    want.add(x[mask.reshape(-1).bool()])
    assert got.n_tokens == want.n_tokens == 17
    assert torch.equal(got.norms, want.norms)
    assert torch.equal(got.hessian, want.hessian)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_float_is_taken(dtype: torch.dtype) -> None:
    """Inputs of another dtype are summed in float32, not in their own."""
    _, x = made(1, 8, tokens=3000)
    x = x.to(dtype)
    moments = Moments(8)
    moments.add(x)
    np.testing.assert_allclose(moments.norms, x.double().square().sum(dim=0).sqrt(), rtol=1e-6)
    np.testing.assert_allclose(moments.hessian.diagonal(), x.double().square().sum(dim=0) * 2 / 3000, rtol=1e-5)


def test_float64_is_exact_where_asked() -> None:
    """With dtype float64 nothing is rounded to float32 on the way."""
    x = torch.full((2, 2), 1.0, dtype=torch.float64)
    x[0, 0] += 1e-12
    moments = Moments(2, dtype=torch.float64)
    moments.add(x)
    assert moments.hessian.dtype == torch.float64
    assert 1e-13 < float(moments.hessian[0, 1]) - 2.0 < 3e-12
    assert float(moments.norms[0] - moments.norms[1]) > 1e-13


def test_merged_moments_are_those_of_both() -> None:
    """Merging what two parts saw equals seeing both, and a saved one is the same one."""
    _, x = made(1, 140, tokens=60)
    one, two, both = Moments(140), Moments(140), Moments(140)
    one.add(x[:20])
    two.add(x[20:])
    both.add(x[:20])
    both.add(x[20:])
    one.merge(Moments.from_state({name: tensor.clone() for name, tensor in two.state().items()}))
    assert one.n_tokens == 60
    assert torch.equal(one.norms, both.norms)
    np.testing.assert_allclose(one.hessian, both.hessian, rtol=1e-5, atol=1e-5 * float(both.hessian.abs().max()))


def test_norms_alone_are_enough_for_wanda() -> None:
    """Without second moments norms are the same, there is no Hessian, and nothing of its size is saved."""
    _, x = made(1, 10)
    moments, full = Moments(10, gram=False), Moments(10)
    moments.add(x)
    full.add(x)
    assert torch.equal(moments.norms, full.norms)
    assert set(moments.state()) == {"n_tokens", "squares"}
    with pytest.raises(CompressionError, match="second moments"):
        _ = moments.hessian
    with pytest.raises(CompressionError, match="Merge moments of one matrix"):
        moments.merge(full)


def test_no_token_is_said() -> None:
    """A matrix that saw nothing has no norms, a batch that is all padding adds nothing."""
    moments = Moments(3)
    moments.add(torch.ones(2, 3), torch.zeros(2))
    with pytest.raises(CompressionError, match="tokens: got 0"):
        _ = moments.norms
    with pytest.raises(CompressionError, match="tokens: got 0"):
        _ = moments.hessian


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_inputs_that_overflow_are_said(value: float) -> None:
    """NaN, infinite values and squares beyond float32 are refused with the number of columns."""
    x = torch.ones(4, 3)
    x[2, 1] = value
    moments = Moments(3)
    moments.add(x)
    with pytest.raises(CompressionError, match="in 1 columns"):
        _ = moments.norms
    with pytest.raises(CompressionError, match="in 1 columns"):
        _ = moments.hessian


def test_inputs_of_another_matrix_are_refused() -> None:
    """Columns and mask must fit."""
    with pytest.raises(CompressionError, match="got 4 columns, expected the matrix's 3"):
        Moments(3).add(torch.ones(2, 4))
    with pytest.raises(CompressionError, match="mask: got shape"):
        Moments(3).add(torch.ones(2, 5, 3), torch.ones(5))


def test_magnitudes_by_numpy() -> None:
    """Means and peaks of magnitudes over all tokens, in parts or merged, survive being stored; without them asking is an error."""
    x = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    one, two = (Moments(6, gram=False, magnitudes=True) for _ in range(2))
    one.add(torch.from_numpy(x[:20]).reshape(4, 5, 6))
    two.add(torch.from_numpy(x[20:]))
    one.merge(two)
    found = Moments.from_state(one.state())
    assert np.allclose(found.means, np.abs(x).mean(axis=0))
    assert np.array_equal(found.peaks.numpy(), np.abs(x).max(axis=0))
    plain = Moments(6)
    plain.add(torch.from_numpy(x))
    with pytest.raises(CompressionError, match=r"^calibration: moments: got no magnitudes, .* Create them with magnitudes=True\.$"):
        _ = plain.peaks
    with pytest.raises(CompressionError, match=r"magnitudes=False\), expected Moments\(n_in=6, gram=False, magnitudes=True\)"):
        one.merge(Moments(6, gram=False))
