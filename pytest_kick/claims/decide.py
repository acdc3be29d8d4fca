"""Decide all claims on all models of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.claims.deployed import quantization_beats_pruning
from pytest_kick.claims.head import rows_against_weights
from pytest_kick.claims.int8 import attention_against_ffn
from pytest_kick.claims.norms import norm_weights
from pytest_kick.claims.order import either_order, int8_after_pruning
from pytest_kick.claims.panel import panels
from pytest_kick.claims.pruners import magnitude_against_calibrated, patterns_against_weights
from pytest_kick.claims.pruning import cliff, overall_against_parts
from pytest_kick.claims.quantizers import eight_bits, fewer_bits
from pytest_kick.claims.recipes import tailored
from pytest_kick.claims.seeds import seed_spread
from pytest_kick.claims.tolerance import attention_takes_more
from pytest_kick.claims.twins import twins
from pytest_kick.claims.units import units_against_weights
from pytest_kick.stats import critical_z

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding

_CLAIMS = (
    overall_against_parts,
    cliff,
    attention_against_ffn,
    rows_against_weights,
    int8_after_pruning,
    magnitude_against_calibrated,
    patterns_against_weights,
    eight_bits,
    norm_weights,
    attention_takes_more,
    seed_spread,
    units_against_weights,
    either_order,
    tailored,
    fewer_bits,
    quantization_beats_pruning,
)


def decide(cells: Iterable[Cell], confidence: float = 0.95) -> tuple[Finding, ...]:
    """Decide the claims for every model whose cells are there, each claim, model and arm by itself.

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
    given = list(cells)
    made = panels(given, confidence)
    found = [finding for claim in _CLAIMS for panel in made for finding in claim(panel)]
    return tuple(sorted([*found, *twins(given, confidence)], key=lambda finding: int(finding.claim[1:])))
