from __future__ import annotations

import pytest
import torch
from made_matrices import made
from torch import nn
from torchao.sparsity import WandaSparsifier, apply_fake_sparsity

from pytest_kick.compress.solvers import Moments, Pattern, wanda
from pytest_kick.compress.solvers.masks import drop_in_rows

# torchao prunes by a part of torch that is to go, and says that it takes no sparsity beside a pattern.
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning"), pytest.mark.filterwarnings("ignore:WandaSparsifier got")]


def layer(weight: torch.Tensor) -> nn.Sequential:
    """Return a model of one layer without bias."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = weight.clone()
    return nn.Sequential(linear).requires_grad_(requires_grad=False)


def torchao_wanda(weight: torch.Tensor, x: torch.Tensor, *, of: int | None, sparsity: float = 0.5) -> torch.Tensor:
    """Return the weights that torchao leaves; it compares over the whole matrix, or keeps half of each `of` inputs.

    It multiplies magnitudes by squared norms (the paper: by norms), so it is shown inputs whose squared norms are the norms wanted.
    """
    model = layer(weight)
    x = x / x.norm(dim=0).sqrt()
    sparsifier = WandaSparsifier(sparsity_level=sparsity, semi_structured_block_size=of)
    sparsifier.prepare(model, [{"tensor_fqn": "0.weight"}])
    model(x)
    sparsifier.step()
    sparsifier.squash_mask()
    return model.get_parameter("0.weight").detach()


def norms(x: torch.Tensor) -> torch.Tensor:
    """Return the norms as calibration takes them."""
    moments = Moments(x.shape[1], gram=False)
    moments.add(x)
    return moments.norms


def test_magnitude_two_of_four() -> None:
    """The smaller two of each four inputs of a row go, as in torchao's simulation of 2:4."""
    weight, _ = made(24, 32)
    model = layer(weight)
    apply_fake_sparsity(model)
    ours = weight.masked_fill(drop_in_rows(weight.abs(), Pattern(keep=2, of=4)), 0.0)
    assert torch.equal(ours, model.get_parameter("0.weight"))


@pytest.mark.parametrize("of", [4, 8])
def test_wanda_half_of_each_group(of: int) -> None:
    """Of each 4 or 8 inputs of a row the half with the smaller product of magnitude and norm goes, as in torchao's."""
    weight, x = made(24, 32)
    ours = wanda(weight, norms(x), Pattern(keep=of // 2, of=of)).values
    assert torch.equal(ours, torchao_wanda(weight, x, of=of))


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_wanda_row_by_row(sparsity: float) -> None:
    """A row is pruned as torchao prunes a layer of that row alone: it compares over a layer, the paper and we over a row."""
    weight, x = made(6, 32)
    ours = wanda(weight, norms(x), sparsity).values
    theirs = torch.cat([torchao_wanda(row, x, of=None, sparsity=sparsity) for row in weight.split(1)])
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, torchao_wanda(weight, x, of=None, sparsity=sparsity))
