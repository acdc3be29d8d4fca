"""Decide the claims of study A (arXiv 2312.00960) on what a run measured; numpy, no torch, no pytest.

C1 pruning everything hurts at least as much as pruning attention or ffn alone. C2 the cliff lies above sparsity 0.5. C3 int8 on
attention hurts no more than int8 on ffn. C4 pruning whole rows of the final layer hurts far more than pruning single weights.

Retentions are compared from 0 on: a model below the floor knows nothing, and cannot know less than another that knows nothing.
"""

from __future__ import annotations

from pytest_kick.claims.cell import Cell, cell_from
from pytest_kick.claims.decide import decide
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Finding
from pytest_kick.claims.lines import lines

__all__ = ["DOES_NOT_HOLD", "HOLDS", "NOT_APPLICABLE", "UNDECIDED", "Cell", "Finding", "cell_from", "decide", "lines"]
