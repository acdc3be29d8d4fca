"""The solvers against a derivation in float64 NumPy that inverts the remaining Hessian for every column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from made_matrices import brain_surgeon, damped, made, prices, quantizer

from pytest_kick.compress.solvers import Moments, Pattern, factorize, gptq, sparsegpt, wanda

if TYPE_CHECKING:
    import torch

WIDE = 150  # more than one block of 128 columns


def moments(x: torch.Tensor) -> Moments:
    """Return the moments of inputs."""
    found = Moments(x.shape[1])
    found.add(x)
    return found


def close(got: torch.Tensor, want: np.ndarray) -> None:
    """Compare what float32 gave with float64: zeros the same, the rest within rounding."""
    assert np.array_equal(got.numpy() == 0, want == 0)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.5, 0.77, 1.0])
def test_wanda_drops_the_smallest_of_each_row(sparsity: float) -> None:
    """Each row loses floor(sparsity * in) weights, those first in a sort by |W| ||X||; the others keep their bits."""
    weight, x = made(7, 45)
    got = wanda(weight, moments(x).norms, sparsity)
    for row, values in zip(weight.tolist(), got.values.tolist(), strict=True):
        scores = [abs(w) * float(np.linalg.norm(x[:, j].double())) for j, w in enumerate(row)]
        gone = sorted(range(45), key=scores.__getitem__)[: int(sparsity * 45 + 1e-9)]
        assert values == [0.0 if j in gone else w for j, w in enumerate(row)]


@pytest.mark.parametrize(("keep", "of"), [(1, 2), (2, 4), (4, 8), (1, 4), (3, 5), (0, 3), (3, 3)])
def test_wanda_keeps_n_of_each_m_inputs(keep: int, of: int) -> None:
    """Each M consecutive inputs of a row keep the N of largest score; a shorter last group keeps a share rounded up."""
    weight, x = made(5, 47)
    got = wanda(weight, moments(x).norms, Pattern(keep=keep, of=of)).values
    for row, values in zip(weight.tolist(), got.tolist(), strict=True):
        for start in range(0, 47, of):
            group = range(start, min(start + of, 47))
            n_kept = int(np.ceil(keep * len(group) / of))
            kept = sorted(group, key=lambda j: -abs(row[j]) * float(np.linalg.norm(x[:, j].double())))[:n_kept]
            assert [values[j] for j in group] == [row[j] if j in kept else 0.0 for j in group]


@pytest.mark.parametrize(("n_in", "block", "sparsity"), [(40, 128, 0.5), (WIDE, 128, 0.6), (45, 16, 0.3), (90, 64, 0.5)])
def test_sparsegpt_is_the_brain_surgeon_block_by_block(n_in: int, block: int, sparsity: float) -> None:
    """The weights of smallest w^2 / [H^-1] of a block of columns go, over all rows, and the later columns make up for each."""
    weight, x = made(6, n_in)
    hessian = damped(x)
    price, gone = prices(hessian), set[tuple[int, int]]()

    def begin(j: int, w: np.ndarray) -> None:
        if j % block == 0:
            stop = min(j + block, n_in)
            places = sorted(((r, c) for c in range(j, stop) for r in range(6)), key=lambda place: w[place] ** 2 * price[place[1]])
            gone.update(places[: int(sparsity * stop * 6 + 1e-9) - len(gone)])

    want = brain_surgeon(weight, hessian, begin, lambda r, c, w: 0.0 if (r, c) in gone else w)
    got = sparsegpt(weight, factorize(moments(x).hessian), sparsity, block=block)
    close(got.values, want)
    assert int((got.values == 0).sum()) == int(sparsity * weight.numel() + 1e-9)


@pytest.mark.parametrize(("n_in", "keep", "of"), [(40, 2, 4), (WIDE, 1, 2), (WIDE, 4, 8), (47, 2, 4), (WIDE, 1, 3), (90, 10, 40)])
def test_sparsegpt_is_the_brain_surgeon_group_by_group(n_in: int, keep: int, of: int) -> None:
    """Each row drops the M - N weights of smallest loss of each M columns, chosen when the group is reached."""
    weight, x = made(5, n_in, seed=1)
    hessian = damped(x)
    price, gone = prices(hessian), set[tuple[int, int]]()

    def begin(j: int, w: np.ndarray) -> None:
        if j % of == 0:
            group = range(j, min(j + of, n_in))
            n_gone = len(group) - int(np.ceil(keep * len(group) / of))
            for r in range(5):
                gone.update((r, c) for c in sorted(group, key=lambda c, r=r: w[r, c] ** 2 * price[c])[:n_gone])  # type: ignore[misc]

    want = brain_surgeon(weight, hessian, begin, lambda r, c, w: 0.0 if (r, c) in gone else w)
    close(sparsegpt(weight, factorize(moments(x).hessian), Pattern(keep=keep, of=of)).values, want)


@pytest.mark.parametrize("act_order", [False, True], ids=["", "act_order"])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize(
    ("n_in", "bits", "group"), [(40, 4, None), (WIDE, 3, None), (WIDE, 4, 64), (WIDE, 4, 20), (45, 8, 16), (45, 2, 20), (48, 6, 48)]
)
def test_gptq_is_the_brain_surgeon_with_rounding(n_in: int, bits: int, group: int | None, symmetric: bool, act_order: bool) -> None:
    """Each column is rounded in turn, the later ones make up for it, and each group's grid is fitted when it is reached."""
    weight, x = made(5, n_in, seed=2)
    hessian = damped(x)
    order = np.argsort(-np.diag(hessian), kind="stable") if act_order else np.arange(n_in)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if symmetric else (0, 2**bits - 1)
    grid: list[tuple[float, float]] = []

    def begin(j: int, w: np.ndarray) -> None:
        if j % (group or n_in) == 0:
            grid.clear()
            for row in w[:, j : j + (group or n_in)]:
                scale = np.abs(row).max() / (high + 0.4) if symmetric else (max(row.max(), 0) - min(row.min(), 0)) / high
                grid.append((scale, 0.0 if symmetric else float(np.rint(-min(row.min(), 0) / scale))))

    def fix(row: int, _: int, w: float) -> float:
        scale, zero = grid[row]
        return float((np.clip(np.rint(w / scale) + zero, low, high) - zero) * scale)

    want = np.empty((5, n_in))
    want[:, order] = brain_surgeon(weight[:, order], hessian[np.ix_(order, order)], begin, fix)
    got = gptq(weight, factorize(moments(x).hessian, act_order=act_order), quantizer(bits, symmetric=symmetric), group_size=group)
    np.testing.assert_allclose(got.values.numpy(), want, rtol=1e-3, atol=2e-4)
