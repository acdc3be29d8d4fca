"""Names that fit a narrow terminal: parameters that all cells of a method share say nothing there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.report.rows import Row


def without_shared(rows: Sequence[Row]) -> list[Row]:
    """Leave out of each method what all steps of this method in the table have: `rtn/group-32` stays beside `rtn`, and only there."""
    steps = [_steps(row) for row in rows]
    shared: dict[str, set[str]] = {}
    for name, *params in (step for chain in steps for step in chain):
        shared[name] = shared.get(name, set(params)) & set(params)
    shown = ["+".join("/".join([name, *(p for p in params if p not in shared[name])]) for name, *params in chain) for chain in steps]
    return [replace(row, method=method) for row, method in zip(rows, shown, strict=True)]


def _steps(row: Row) -> list[list[str]]:
    return [step.split("/") for step in row.method.split("+")]


def cut_in_the_middle(text: str, width: int, mark: str) -> str:
    """Return a text of at most `width` characters, its beginning and its end kept: names differ at their ends."""
    if len(text) <= width:
        return text
    room = max(0, width - len(mark))
    return text[: room - room // 2] + mark[:width] + (text[-(room // 2) :] if room // 2 else "")


def plain(text: str) -> str:
    r"""Return a text with its control characters written out, `\x1b` for an escape: what others wrote may not steer the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
