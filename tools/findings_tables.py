"""Print the tables of `docs/findings.md`: the claims as the stored runs of all suites decide them.

    python tools/findings_tables.py [float32|bfloat16]

A run of the suites decides the claims on what it measures, which for cells settled at a first look is a sample; the stored runs hold
all facts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_kick.baseline import BaselineStore
from pytest_kick.claims import Cell, Finding, cell_from, decide
from pytest_kick.claims.finding import STATEMENTS
from pytest_kick.claims.ruling import FLOAT32
from pytest_kick.spec import DTYPES, CompressionSpec
from pytest_kick.suite import read_suites

ROOT = Path(__file__).parents[1]
IN_FLOAT32 = ("C3", "C5", "C9", "C23")
"""Claims about eight bits and more, whatever the dtype of the others."""


def stored_cells(dtype: str) -> list[Cell | None]:
    """Return every recorded cell of the suites, each model with its dense one."""
    store = BaselineStore(ROOT / "baselines")
    cells = {}
    for case in (case for suite in read_suites(ROOT / "suites") for case in suite.cases):
        runs_in = "float32" if case.compression.float32_only else case.dtype or dtype
        for compression in (case.compression, CompressionSpec()):
            key = (case.shelf, runs_in, compression.id)
            if key not in cells and store.has(*key):
                cells[key] = cell_from(case.shelf, case.model.family, compression, store.read(*key))
    return list(cells.values())


def table(claim: str, findings: list[Finding]) -> str:
    """Return the table of one claim."""
    lines = [
        f"## {claim}: {findings[0].statement}",
        "",
        "| model | arm | word | estimate [90% interval] | detail |",
        "|---|---|---|---|---|",
    ]
    for f in findings:
        estimate = "-" if f.estimate is None else f"{_number(f.estimate)} [{_number(f.low)}, {_number(f.high)}]"
        lines.append(f"| {f.model} | {f.arm or '-'} | {f.word} | {estimate} | {f.detail} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "beyond" if value is None else f"{value:.3f}".replace("-0.000", "0.000")


def main() -> None:
    """Print the tables."""
    dtype = sys.argv[1] if len(sys.argv) > 1 else "bfloat16"
    if dtype not in DTYPES:
        sys.exit(f"dtype: got {dtype!r}, expected one of {', '.join(DTYPES)}. Correct it.")
    by_dtype = {name: decide([cell for cell in stored_cells(name) if cell]) for name in dict.fromkeys((dtype, FLOAT32))}
    claims = [claim for claim in STATEMENTS if any(f.claim == claim for found in by_dtype.values() for f in found)]
    findings = [f for claim in claims for f in by_dtype[FLOAT32 if claim in IN_FLOAT32 else dtype] if f.claim == claim]
    print("\n\n".join(table(claim, [f for f in findings if f.claim == claim]) for claim in claims))


if __name__ == "__main__":
    main()
