"""The section that shows registered methods beside stored runs of the usual ones."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from pytest_kick.infos import CALIBRATION
from pytest_kick.report.brief import cut_in_the_middle
from pytest_kick.report.numbers import count, flow, fraction
from pytest_kick.report.rows import cell_parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_INDENT, _GAP = "    ", "  "
_LEAST = 9
_NAMES = (0, 2)  # columns that may be cut
_HEADINGS = ("method", "bits", "stored run", "bits", "difference", "flips")
_DATA = tuple(f"{key}-" for key, _ in CALIBRATION if key != "propagate")


def beside_lines(comparisons: Sequence[Mapping[str, Any]], confidence: float, width: int = 80) -> list[str]:
    """Return a section: for each registered cell, its difference from each of the usual methods; no line is longer than `width`.

    Args:
        comparisons: as JSON, in the order to print.
        confidence: of each bound, in (0.5, 1).
        width: of the terminal, in characters.
    """
    if not comparisons:
        return []
    level = f"{round(100 * (2 * confidence - 1), 6):g}%"
    lines = ["", f"beside stored runs: difference of accuracy on the same facts, {level} interval:"]
    rows = [_cells(entry) for entry in comparisons]
    widths = [max(len(row[i]) for row in (_HEADINGS, *rows) if len(row) > 1) for i in range(len(_HEADINGS))]
    for _ in range(max(0, len(_INDENT) + sum(widths) + len(_GAP) * (len(widths) - 1) - width)):
        widest = max(_NAMES, key=lambda i: widths[i])
        widths[widest] = max(_LEAST, widths[widest] - 1)
    lines.append(_line(_HEADINGS, widths))
    pairs = list(zip(comparisons, rows, strict=True))
    for place, group in groupby(pairs, key=lambda pair: _place(pair[0])):
        found = list(group)
        asked = next((f"  {entry['probe']} {entry['metric']}, n={count(entry['n'])}" for entry, _ in found if entry["n"]), "")
        lines += [f"  {place}{asked}", *(_line(row, widths) for _, row in found)]
    for mark, said in (("+", "scales and the like not counted, as the method returns no bits per weight"), ("*", "unequal bits")):
        lines += [f"{_INDENT}{mark}: {said}"] if any(mark in row[i] for row in rows if len(row) > 1 for i in (1, 3)) else []
    return [line if len(line) <= width else f"{line[: width - 2]}.." for line in lines]


def _place(entry: Mapping[str, Any]) -> str:
    return "  ".join([entry["model"], entry["dtype"], cell_parts(entry["cell"])[1]])


def _line(row: Sequence[str], widths: Iterable[int]) -> str:
    if len(row) == 1:
        return _INDENT + row[0]
    return (
        _INDENT + _GAP.join(cut_in_the_middle(text, width, "..").ljust(width) for text, width in zip(row, widths, strict=True))
    ).rstrip()


def _cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if entry["problem"]:
        return (f"{_named(entry['cell'])}: {entry['problem']}",)
    found, low, high = (f"{'+' if value > 0 else ''}{fraction(value)}" for value in (entry["difference"], entry["low"], entry["high"]))
    return (
        _named(entry["cell"]),
        f"{entry['bits']:.2f}{'+' if entry['uncounted'] else ''}",
        _named(entry["against"]),
        f"{entry['against_bits']:.2f}{'' if entry['equal_bits'] else '*'}",
        f"{found:>5} [{low}, {high}]",
        flow(entry["lost"], entry["gained"]),
    )


def _named(cell: str) -> str:
    """Return method, parameters but for those of the data, and level."""
    method, _, level = cell_parts("--".join(part for part in cell.split("--") if not part.startswith(_DATA)))
    return f"{method} {level}"
