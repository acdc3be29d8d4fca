"""Print the tables of `docs/findings.md`: the claims as the stored runs of all suites decide them.

    python -m tools.findings_tables [float32|bfloat16] [--write]

A run of the suites decides the claims on what it measures; here they are decided on every stored run. `--write` puts the tables into
the page, between its two marks.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick.baseline import BaselineStore
from pytest_kick.claims import Cell, Finding, cell_from, decide
from pytest_kick.claims.asked import PROBES, decide_asked
from pytest_kick.claims.finding import STATEMENTS
from pytest_kick.claims.probed import Probed, probed_from
from pytest_kick.claims.ruling import FLOAT32
from pytest_kick.spec import DTYPES, CompressionSpec
from pytest_kick.suite import read_suites

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "findings.md"
MARKS = ("<!-- tables: python -m tools.findings_tables --write -->\n", "<!-- end of tables -->\n")
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


def stored_scores(dtype: str) -> dict[str, list[Probed]]:
    """Return every recorded score that claims about other probes look at."""
    store = BaselineStore(ROOT / "baselines")
    seen = set()
    found: dict[str, list[Probed]] = {probe: [] for probe in PROBES}
    for case in (case for suite in read_suites(ROOT / "suites") for case in suite.cases):
        runs_in = "float32" if case.compression.float32_only else case.dtype or dtype
        for compression in (case.compression, CompressionSpec()):
            key = (case.shelf, runs_in, compression.id)
            if key in seen or not store.has(*key):
                continue
            seen.add(key)
            measured = store.read(*key)
            for probe, scores in found.items():
                scores.extend(probed_from(case.shelf, case.model.family, compression, measured, probe))
    return found


def found_in(dtype: str) -> list[Finding]:
    """Return the findings by claim: those about eight bits in float32, the others in `dtype`."""
    by_dtype = {
        name: [
            *decide([cell for cell in stored_cells(name) if cell]),
            *(finding for finding in decide_asked(stored_scores(name)) if finding.dtype == name),
        ]
        for name in dict.fromkeys((dtype, FLOAT32))
    }
    return [f for claim in STATEMENTS for f in by_dtype[FLOAT32 if claim in IN_FLOAT32 else dtype] if f.claim == claim]


def overview(findings: Sequence[Finding]) -> str:
    """Return the table of all claims: a column for each model, its arms counted where they differ."""
    models = list(dict.fromkeys(f.model for f in findings))
    lines = [f"| claim | {' | '.join(models)} |", "|---" * (1 + len(models)) + "|"]
    for claim, statement in STATEMENTS.items():
        words = [_words([f.word for f in findings if (f.claim, f.model) == (claim, model)]) for model in models]
        lines.append(f"| {claim}: {statement} | {' | '.join(words)} |")
    return "\n".join(lines)


def _words(words: list[str]) -> str:
    counts = Counter(words)
    return next(iter(counts), "-") if len(counts) < 2 else ", ".join(f"{word} {n}" for word, n in counts.items())  # noqa: PLR2004 - one word


def table(claim: str, findings: Sequence[Finding]) -> str:
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


def text_of(findings: Sequence[Finding]) -> str:
    """Return all tables, the overview first."""
    claims = dict.fromkeys(f.claim for f in findings)
    return "\n\n".join([overview(findings), *(table(claim, [f for f in findings if f.claim == claim]) for claim in claims)])


def put(page: str, tables: str) -> str:
    """Return a page with the tables between its marks."""
    before, opening, rest = page.partition(MARKS[0])
    _, closing, after = rest.partition(MARKS[1])
    if not opening or not closing:
        message = f"{PAGE.name}: got a page without its two marks, expected {MARKS[0].strip()} and {MARKS[1].strip()}. Put them back."
        raise SystemExit(message)
    return f"{before}{opening}\n{tables}\n\n{closing}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, or write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dtype", nargs="?", default="bfloat16", choices=DTYPES)
    parser.add_argument("--write", action="store_true", help="put them into docs/findings.md")
    options = parser.parse_args(arguments)
    tables = text_of(found_in(options.dtype))
    if options.write:
        PAGE.write_text(put(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")
    else:
        print(tables)


if __name__ == "__main__":
    main()
