"""What stands below the heading of a model: per probe how many examples, what knowing nothing scores, and what was left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kick.report.brief import plain, wrapped
from pytest_kick.report.numbers import count, fraction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.report.rows import Row

_INDENT = "  "
_CUT = ("truncated", "documents_cut")


def left_out_text(score: Mapping[str, Any]) -> str:
    """Return how many examples could not be asked, with the reasons, and how many texts lost a part to the window; "" where none.

    Args:
        score: `ProbeScore.plain()`.
    """
    excluded = {plain(reason): number for reason, number in score.get("excluded", {}).items() if number}
    cut = int(sum(score.get("work", {}).get(name, 0.0) for name in _CUT))
    why = ", ".join(excluded if len(excluded) == 1 else (f"{count(number)} {reason}" for reason, number in excluded.items()))
    said = [f"{count(sum(excluded.values()))} left out ({why})"] if excluded else []
    return ", ".join([*said, *([f"{count(cut)} text{'' if cut == 1 else 's'} cut to the window"] if cut else [])])


def trivial_text(score: Mapping[str, Any], metric: str) -> str:
    """Return the trivial baselines, the best first: `majority .087, chance .020`; they are of the probe's own metric, which else is named.

    Args:
        score: `ProbeScore.plain()`.
        metric: what the row shows.
    """
    own = score["metric"]
    loss = any(mean["name"] == own and mean["kind"] in {"loss", "distance"} for mean in score.get("means", ()))
    ranked = sorted(score.get("trivial", {}).items(), key=lambda item: item[1], reverse=not loss)
    shown = ", ".join(f"{plain(name)} {fraction(value)}" for name, value in ranked)
    return shown if metric == own or not shown else f"of {own}: {shown}"


def asked_lines(group: Sequence[Row], numbers: Mapping[tuple[str, str], str], width: int, *, several: bool) -> list[str]:
    """Return what stands below the heading of a model, wrapped to `width`.

    Args:
        group: rows of one model, with the names of their probes in full; the first row of a probe speaks for it.
        numbers: probe and metric -> the number that stands for them in the rows, where one does.
        width: of the terminal, in characters.
        several: the table has several probes, so the heading says nothing of any; else it has said n and what knowing nothing scores.
    """
    first = {(row.probe, row.metric): row for row in reversed(group) if row.probe}
    rows = [row for row in group if row.probe and first[row.probe, row.metric] is row]
    texts = [_one_of_many(row, numbers.get((row.probe, row.metric), "")) if several else _alone(row) for row in rows]
    return [line for text in texts if text for line in wrapped(text, width, first=_INDENT, then=3 * _INDENT)]


def _alone(row: Row) -> str:
    return "; ".join(filter(None, (f"trivial: {row.trivial}" if row.trivial else "", row.left_out)))


def _one_of_many(row: Row, number: str) -> str:
    name = " ".join(filter(None, (number, row.probe, row.metric)))
    floor = "" if row.floor is None else f"knowing nothing {fraction(row.floor)}"
    nothing = f"{floor} ({row.trivial})" if floor and row.trivial else floor or row.trivial
    return f"{name}: " + ", ".join(filter(None, (f"n={count(row.n)}", nothing, row.left_out)))
