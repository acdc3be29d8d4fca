"""Decide all claims on all models of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.head import rows_against_weights
from pytest_kick.claims.int8 import attention_against_ffn
from pytest_kick.claims.panel import panels
from pytest_kick.claims.pruning import cliff, overall_against_parts
from pytest_kick.stats import critical_z

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding

_CLAIMS = (overall_against_parts, cliff, attention_against_ffn, rows_against_weights)


def decide(cells: Iterable[Cell], confidence: float = 0.95) -> tuple[Finding, ...]:
    """Decide C1 to C4 for every model whose cells are there, each claim, model and arm by itself.

    Args:
        cells: of any models, suites and dtypes, measured or stored, in any order. For each model and dtype one of them must be the
            dense model (a compression without steps) on at least the same facts; of equal cells the first given counts.
        confidence: of each one-sided bound, in (0.5, 1); the intervals are the matching two-sided ones.

    Returns:
        Findings by claim, then in the order in which the models were given. A claim for which a model lacks cells has none.

    Raises:
        KickError: the confidence is not in its range.
    """
    critical_z(confidence)
    made = panels(cells, confidence)
    return tuple(finding for claim in _CLAIMS for panel in made for finding in claim(panel))
