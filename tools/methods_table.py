"""Print the table of figures of `docs/methods.md`, from the stored runs; `--write` puts it there.

    python -m tools.methods_table [--write]

A row is a compression, its columns what each model keeps: retention of P@1 with its two-sided 90% interval, on all facts. Runs in
bfloat16 where both are stored, and in float32 where a suite asks for that.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick import stats
from pytest_kick.baseline import BaselineStore
from pytest_kick.report.numbers import fraction, interval
from pytest_kick.report.rows import cell_parts
from pytest_kick.spec import DTYPES
from pytest_kick.suite import read_suites
from pytest_kick.verdict.compare import paired

if TYPE_CHECKING:
    from pytest_kick.baseline import Baseline
    from pytest_kick.examples import Examples
    from pytest_kick.spec import Case

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods.md"
BEGIN, END = "<!-- figures: python -m tools.methods_table --write -->\n", "<!-- end of figures -->\n"
SUITES = ("methods", "methods_full", "extras", "checkpoints")
BESIDE = (
    "l1_global--overall--s0.3",
    "ln_structured--head--s0.2",
    "random_structured--head--s0.2",
    "random_unstructured--head--s0.2",
    "dynamic_int8--overall--b8",
    "quantize_dynamic--a_compat_overall--b8",
)
MODELS = ("tiny-encoder", "tiny-encoder-decoder", "tiny-decoder", "smollm2-135m")
SHARED = ("source-", "count-", "length-")
"""Parameters of calibration, which the page says once."""


def rows() -> list[tuple[str, ...]]:
    """Return method, scope, level, effective bits per weight, and what each model keeps; models without a stored run have a dash."""
    store = BaselineStore(ROOT / "baselines")
    cells: dict[str, dict[str, Case]] = {}
    suites = [suite for suite in read_suites(ROOT / "suites") if suite.name in (*SUITES, "tiny", "smollm2")]
    for suite in sorted(suites, key=lambda suite: suite.name not in ("tiny", "smollm2")):
        for case in suite.cases:
            if not case.is_dense and not case.on_request and (suite.name in SUITES or case.cell in BESIDE):
                cells.setdefault(case.cell, {})[case.model.name] = case
    merged: dict[tuple[str, ...], dict[str, Case]] = {}
    for cell, cases in cells.items():
        merged.setdefault(_shown(cell), {}).update(cases)
    found = []
    for shown, cases in merged.items():
        runs = {name: _run(store, case) for name, case in cases.items()}
        if any(runs.values()):
            found.append((*shown, _bits(runs), *(_kept(store, runs.get(name)) for name in MODELS)))
    return found


def _shown(cell: str) -> tuple[str, ...]:
    method, scope, level = cell_parts(cell)
    steps = ["/".join(part for part in step.split("/") if not part.startswith(SHARED)) for step in method.split("+")]
    return "+".join(steps), scope, level


def _run(store: BaselineStore, case: Case) -> Baseline | None:
    fixed = "float32" if case.compression.float32_only else case.dtype
    dtypes = (fixed,) if fixed else reversed(DTYPES)
    return next((store.read(case.shelf, dtype, case.cell) for dtype in dtypes if store.has(case.shelf, dtype, case.cell)), None)


def _bits(runs: dict[str, Baseline | None]) -> str:
    bits = sorted(run.compression.steps[-1].bits_per_weight for run in runs.values() if run)
    low, high = f"{bits[0]:.2f}", f"{bits[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def _kept(store: BaselineStore, run: Baseline | None) -> str:
    if run is None:
        return "-"
    dense = _dense(store, run.model, run.dtype)
    score = next(score for score in run.scores if score.probe == "facts")
    pairs, floor = paired(dense, score.examples, score.metric), score.floors[score.metric]
    found = stats.retention_interval(pairs, floor)
    return f"{fraction(stats.retention(pairs, floor))} {interval(found.low, found.high)}{' f32' if run.dtype == 'float32' else ''}"


@cache
def _dense(store: BaselineStore, model: str, dtype: str) -> Examples:
    return store.read(model, dtype, "dense").examples["facts"]


def table() -> str:
    """Return the table in Markdown."""
    head = ("method", "scope", "level", "bits per weight", *MODELS)
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows())]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table, or put it into the page."""
    if "--write" not in sys.argv[1:]:
        print(table(), end="")
        return
    text = PAGE.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"{PAGE}: figures: got no place for them, expected the lines {BEGIN.strip()} and {END.strip()}. Put them there.")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
