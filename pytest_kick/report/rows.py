"""Rows of the terminal table, made of what crossed xdist: plain JSON of measurements and verdicts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_kick.report.asked import left_out_text, trivial_text
from pytest_kick.report.brief import plain
from pytest_kick.report.judged import judged_text
from pytest_kick.report.numbers import count, flow
from pytest_kick.verdict import CHANGED, FORGOT, INCONCLUSIVE, REGRESSED, RETAINED, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OUTCOMES = ("pass", "fail", "inconclusive", "error")
_NOT_COMPRESSION = ("load", "evaluate")
_PATTERN = "pattern-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Hold one row of the table: one probe of one cell.

    Attributes:
        model: name of the model; rows of one model stand together under one heading.
        dtype: of the forward pass.
        method: of each step, with parameters that differ from the default; `dense` for the uncompressed model.
        scope: of each step, once where all steps share it.
        level: of each step, as ids print it.
        probe: name of the probe.
        metric: name of the outcome or mean.
        own: it is the probe's own metric.
        n: examples.
        floor: score of a model that knows nothing.
        accuracy: share that is right, or the mean.
        kind: `outcome`, or of a mean of numbers `score`, `loss` or `distance`.
        retention: against dense, of a loss the ratio, of a distance the distance; None for the dense model itself.
        low: lower end of its interval.
        high: upper end.
        lost: right in dense, wrong now; None for the dense model itself.
        gained: wrong in dense, right now.
        seconds_compress: everything between loading and evaluating.
        seconds_evaluate: of all probes of the cell.
        word: the verdict.
        stored: what differs from the stored run, such as `unchanged` or `changed -3+1`.
        note: what else a reader should know, such as `lossless`.
        trivial: trivial baselines, such as `majority .087, chance .020`; "" where the probe has none.
        left_out: what could not be asked, or not in full, such as `142 left out (answer of several tokens)`; "" where nothing was.
        judged: a judge's scores with their noise, and what is missing of them; "" where none judged.
        error: why the cell could not be measured; then the numbers are None.
    """

    model: str
    dtype: str = ""
    method: str
    scope: str = ""
    level: str = ""
    probe: str = ""
    metric: str = ""
    own: bool = True
    n: int = 0
    kind: str = "outcome"
    floor: float | None = None
    accuracy: float | None = None
    retention: float | None = None
    low: float | None = None
    high: float | None = None
    lost: int | None = None
    gained: int | None = None
    seconds_compress: float | None = None
    seconds_evaluate: float | None = None
    word: str = ""
    stored: str = ""
    note: str = ""
    trivial: str = ""
    left_out: str = ""
    judged: str = ""
    error: str = ""


def rows_from(
    model: str,
    cell: str,
    *,
    measurement: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    error: str = "",
    word: str = "",
) -> tuple[Row, ...]:
    """Return the rows of one cell: one per probe, under the metric its first budget names, else the probe's own.

    Args:
        model: name of the model.
        cell: id of the cell, `CompressionSpec.id`.
        measurement: `Measurement.to_json()`; examples are not needed.
        verdict: `Verdict.to_json()`.
        error: why the cell could not be measured or judged: a row of its own, after what was measured.
        word: what stands before it: MISSING, STALE, UNJUDGED or SKIPPED; ERROR where it is empty.
    """
    method, scope, level = cell_parts(cell)
    bare = Row(model=model, method=method, scope=scope, level=level, dtype=measurement["dtype"] if measurement else "")
    why = replace(bare, word=word or "ERROR", error=plain(" ".join((error.removeprefix(f"{cell}: ") or "nothing was measured").split())))
    if not measurement:
        return (why,)
    phases = measurement["timing"]["seconds"]
    timed = replace(
        bare,
        seconds_compress=sum(value for phase, value in phases.items() if phase not in _NOT_COMPRESSION),
        seconds_evaluate=phases.get("evaluate", 0.0),
    )
    rows = tuple(_measured(timed, score, verdict or {}) for score in measurement["scores"])
    return (*rows, why) if error else rows


def worth_a_row(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that a reader of many cells needs: of each cell its first probe, and others about which there is something to say.

    Nothing is to be said of a further probe that no budget judges and that scores as its stored run does.
    """
    kept, cells = [], set()
    for row in rows:
        cell = (row.model, row.dtype, row.method, row.scope, row.level)
        if row.error or cell not in cells or row.word not in {UNCHANGED, CHANGED}:
            kept.append(row)
        cells.add(cell)
    return kept


def cell_parts(cell: str) -> tuple[str, str, str]:
    """Split the id of a cell into what the columns method, scope and level show.

    Steps of a chain are joined by `+`; a scope or level that all steps share stands once; parameters follow the method, but a pattern
    is a level: `2:4`.
    """
    steps = [step.split("--") for step in cell.split("+")]
    methods = ["/".join([step[0], *(param for param in step[3:] if not param.startswith(_PATTERN))]) for step in steps]
    scopes = [step[1] for step in steps if len(step) > 1]
    levels = [_level(step) for step in steps if len(step) > len(("method", "scope"))]
    return "+".join(methods), _once(scopes), _once(levels)


def _level(step: Sequence[str]) -> str:
    pattern = next((param.removeprefix(_PATTERN) for param in step[3:] if param.startswith(_PATTERN)), "")
    return pattern.replace("of", ":") or step[2]


def summary_line(outcomes: Sequence[str], notes: Sequence[str] = ()) -> str:
    """Return the last line of a run: `kick: 42 cells, 39 pass, 1 fail, 2 inconclusive, 0 error`, then notes.

    Args:
        outcomes: one of `OUTCOMES` per cell; another word is counted after those, by its name.
        notes: appended as they are, such as `baseline 2026-11-18`.
    """
    found = Counter(outcomes)
    words = [*OUTCOMES, *sorted(found.keys() - set(OUTCOMES))]
    cells = f"{count(len(outcomes))} cell{'' if len(outcomes) == 1 else 's'}"
    return "kick: " + ", ".join([cells, *(f"{found[word]} {word}" for word in words), *notes])


def outcome_of(verdict: Mapping[str, Any] | None, error: str = "") -> str:
    """Return which of `OUTCOMES` a cell is counted as."""
    if error or verdict is None:
        return "error"
    return "fail" if verdict["failed"] else "inconclusive" if verdict["inconclusive"] else "pass"


def _once(parts: list[str]) -> str:
    return parts[0] if len(set(parts)) == 1 else "+".join(parts)


def _measured(timed: Row, score: Mapping[str, Any], verdict: Mapping[str, Any]) -> Row:
    """Complete a row with the score and the verdict of one probe."""
    probe = score["probe"]
    checks = [check for check in verdict.get("checks", ()) if check["probe"] == probe]
    metric = checks[0]["metric"] if checks else score["metric"]
    records = [record for record in verdict.get("retentions", ()) if (record["probe"], record["metric"]) == (probe, metric)]
    record = records[0] if records else {}
    regressions = [entry for entry in verdict.get("regressions", ()) if entry["probe"] == probe]
    return replace(
        timed,
        probe=probe,
        metric=metric,
        own=metric == score["metric"],
        n=score["n"],
        kind=record.get("kind") or next((mean["kind"] for mean in score.get("means", ()) if mean["name"] == metric), "outcome"),
        floor=score["floors"].get(metric),
        accuracy=score["metrics"].get(metric, record.get("p_now")),
        retention=record.get("estimate"),
        low=record.get("low"),
        high=record.get("high"),
        lost=record.get("lost"),
        gained=record.get("gained"),
        word=_word(checks, regressions),
        stored=_stored(regressions, metric),
        note=_note(record, checks),
        trivial=trivial_text(score, metric),
        left_out=left_out_text(score),
        judged=judged_text(score),
    )


def _word(checks: Sequence[Mapping[str, Any]], regressions: Sequence[Mapping[str, Any]]) -> str:
    words = [entry["word"] for entry in (*checks, *regressions)]
    worst = next((word for word in (REGRESSED, FORGOT, INCONCLUSIVE, RETAINED) if word in words), None)
    return worst or next((entry["word"] for entry in regressions), "")


def _stored(regressions: Sequence[Mapping[str, Any]], metric: str) -> str:
    shown = [entry for entry in regressions if entry["metric"] == metric] or list(regressions)
    grave = [entry for entry in regressions if entry["word"] == REGRESSED] or shown
    if not grave:
        return ""
    entry = grave[0]
    word: str = entry["word"].lower()
    return f"{word} {flow(entry['lost'], entry['gained'])}" if entry["lost"] or entry["gained"] else word


def _note(record: Mapping[str, Any], checks: Sequence[Mapping[str, Any]]) -> str:
    more = [check["n_more"] for check in checks if check["word"] == INCONCLUSIVE and check["n_more"] is not None]
    if more:
        return f"{count(max(more))} more decide"
    if not record:
        return ""
    better = (record["low"] or 0.0) > 1.0 and record.get("kind", "outcome") in {"outcome", "score"}
    return "lossless" if record["lossless"] else "better than dense" if better else ""
