from __future__ import annotations

import pytest
import torch

from pytest_kick.compress.check_formats import _spacing
from pytest_kick.compress.formats import FLOATS


@pytest.mark.parametrize("name", FLOATS)
def test_the_spacing_is_the_distance_to_the_next_number(name: str) -> None:
    """For every number of a format, of either sign, it is what lies between it and the next larger one, zero and subnormals included."""
    kind = FLOATS[name]
    info = torch.finfo(kind)
    codes = torch.int16 if info.bits == 16 else torch.int8
    largest = int(torch.tensor(info.max, dtype=kind).view(codes))
    numbers = torch.arange(largest + 1, dtype=torch.int32).to(codes).view(kind).float()
    gaps = numbers.double().diff()
    assert _spacing(numbers, name)[:-1].double().equal(gaps)
    assert _spacing(-numbers, name)[:-1].double().equal(gaps)


def test_the_spacing_of_what_lies_between_is_that_below() -> None:
    """A number that the format does not have is judged by its neighbours there: 1.9 lies among steps of 2**-10 in fp16."""
    assert _spacing(torch.tensor([1.0, 1.9, 2.0, 1e30, 1e-30]), "fp16").tolist() == [2**-10, 2**-10, 2**-9, 2**5, 2**-24]
