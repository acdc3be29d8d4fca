"""What a run shows and writes: pure functions from plain JSON to lines and documents, without decisions."""

from __future__ import annotations

from pytest_kick.report.beside import beside_lines
from pytest_kick.report.failure import failure_lines
from pytest_kick.report.json_report import cell_entry, run_document, write_json
from pytest_kick.report.rows import Row, outcome_of, rows_from, summary_line, worth_a_row
from pytest_kick.report.table import table_lines

__all__ = [
    "Row",
    "beside_lines",
    "cell_entry",
    "failure_lines",
    "outcome_of",
    "rows_from",
    "run_document",
    "summary_line",
    "table_lines",
    "worth_a_row",
    "write_json",
]
