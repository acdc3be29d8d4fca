"""A level that removes nothing is refused: a cell that did nothing would keep any budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick.compress import compress_
from pytest_kick.errors import CompressionError
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("method", ["l1_global", "l1_per_matrix", "random_unstructured", "ln_structured", "random_structured"])
def test_a_level_below_one_weight_is_an_error(loaded: Callable[[str], Any], method: str) -> None:
    """Asked for less than one weight or line of any matrix, every method says so and names the matrices."""
    step = CompressionStep(method=method, scope="ffn", level=1e-7)
    with pytest.raises(CompressionError, match=r"gate_proj.* got a level that is less than one weight or line, expected something"):
        compress_(loaded("llama"), CompressionSpec(steps=(step,)))
