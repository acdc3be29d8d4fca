"""Decide the claims of the studies on what a run measured; numpy, no torch, no pytest.

C1 to C5 are study A's (arXiv 2312.00960), C7 to C11 and C25 study B's (LLM-KICK, arXiv 2310.01382), C15 to C17 come from comparisons of
compression experiments, and C20 to C23 are the open questions of study A. `finding.STATEMENTS` says each in plain words; the function
that decides it says how.

Retentions are compared from 0 on: a model below the floor knows nothing, and cannot know less than another that knows nothing.
"""

from __future__ import annotations

from pytest_kick.claims.cell import Cell, cell_from
from pytest_kick.claims.decide import decide
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Finding
from pytest_kick.claims.lines import lines

__all__ = ["DOES_NOT_HOLD", "HOLDS", "NOT_APPLICABLE", "UNDECIDED", "Cell", "Finding", "cell_from", "decide", "lines"]
