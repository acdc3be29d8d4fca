"""What fits a narrow terminal: parts that all names share say nothing there."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kick.report.rows import Row

CUT = ".."
_INSIDE, _HARD = re.compile(r"(?<![,;:]) "), "\N{NO-BREAK SPACE}"
_SAMPLE = re.compile(r"--sample-\d+")


def without_shared(rows: Sequence[Row]) -> list[Row]:
    """Leave out of each method what all steps of this method have under the model's heading: `rtn/group-32` stays beside `rtn` alone."""
    shared: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        for name, *params in _steps(row):
            shared[row.model, name] = shared.get((row.model, name), set(params)) & set(params)
    return [replace(row, method="+".join(_without(shared[row.model, name], name, params) for name, *params in _steps(row))) for row in rows]


def _without(shared: set[str], name: str, params: Sequence[str]) -> str:
    return "/".join([name, *(param for param in params if param not in shared)])


def _steps(row: Row) -> list[list[str]]:
    return [step.split("/") for step in row.method.split("+")]


def short_probes(probes: Sequence[str]) -> dict[str, str]:
    """Return a short name for each probe, all different: first the size of the sample goes, then what all probes of a kind share.

    `retrieval_qa:squad--book-open--sample-100` is `squad--book-open` beside `retrieval_qa:squad--sample-100`, which is `squad`.
    """
    names = {probe: probe for probe in probes}
    names = _shortened(names, lambda name: _SAMPLE.sub("", name))
    kinds = Counter(_kind(name) for name in names)
    params: dict[str, set[str]] = {}
    for name in names.values():
        params[_kind(name)] = params.get(_kind(name), set(name.split("--")[1:])) & set(name.split("--")[1:])
    names = _shortened(names, lambda name: "--".join(part for part in name.split("--") if part not in params[_kind(name)]))
    return _shortened(names, lambda name: name.removeprefix(f"{_kind(name)}:") if kinds[_kind(name)] > 1 else name)


def _shortened(names: Mapping[str, str], shorten: Callable[[str], str]) -> dict[str, str]:
    """Shorten the names that stay alone with theirs, and none where that would make two alike after all."""
    shorter = {probe: shorten(name) for probe, name in names.items()}
    often = Counter(shorter.values())
    found = {probe: shorter[probe] if shorter[probe] and often[shorter[probe]] == 1 else name for probe, name in names.items()}
    return found if len(set(found.values())) == len(found) else dict(names)


def _kind(probe: str) -> str:
    return probe.partition("--")[0].partition(":")[0]


def with_probes(rows: Sequence[Row], shown: Mapping[tuple[str, str], str]) -> list[Row]:
    """Put what `shown` has for probe and metric in the place of the probe's name; rows of no probe stay."""
    return [replace(row, probe=shown[row.probe, row.metric], own=True) if row.probe else row for row in rows]


def wrapped(text: str, width: int, *, first: str, then: str) -> list[str]:
    """Return a text as lines of at most `width` characters, broken after `,`, `;` and `:` where that can be."""
    whole = _INSIDE.sub(_HARD, text)  # a number stands with what it is of
    if max(map(len, whole.split(" "))) > width - max(len(first), len(then)):
        whole = text
    lines = wrap(whole, max(1, width), initial_indent=first, subsequent_indent=then, break_on_hyphens=False)
    return [clip(line.replace(_HARD, " "), width) for line in lines]


def clip(text: str, width: int) -> str:
    """Return the beginning of a text, at most `width` characters, marked where something is cut off."""
    return text if len(text) <= width else text[: max(0, width - len(CUT))] + CUT[:width]


def cut_in_the_middle(text: str, width: int, mark: str) -> str:
    """Return a text of at most `width` characters, its beginning and its end kept: names differ at their ends."""
    return _cut_before(text, max(0, width - len(mark)) // 2, width, mark)


def _cut_before(text: str, tail: int, width: int, mark: str) -> str:
    """Return a text of at most `width` characters, the last `tail` of them its own end."""
    if len(text) <= width:
        return text
    room = max(0, width - len(mark))
    return text[: room - tail] + mark[:width] + (text[-tail:] if tail else "")


def with_methods_apart(rows: Sequence[Row], texts: Sequence[str], width: int) -> list[Row]:
    """Cut the methods of rows, which would show `texts`, to `width`: cells of one model, scope and level stay apart."""
    groups: dict[tuple[str, str, str], dict[str, str]] = {}
    for row, text in zip(rows, texts, strict=True):
        groups.setdefault((row.model, row.scope, row.level), {})[text] = ""
    for group in groups.values():
        group.update(zip(group, cut_apart(list(group), width, CUT), strict=True))
    return [replace(row, method=groups[row.model, row.scope, row.level][text]) for row, text in zip(rows, texts, strict=True)]


def cut_apart(texts: Sequence[str], width: int, mark: str) -> list[str]:
    """Return texts of at most `width` characters, as many of them different as can be.

    Cut in their middle; else elsewhere, all at one place; else those that would be cut alike show where they differ instead of their ends.
    """
    room = max(0, width - len(mark))
    tails = sorted(range(room), key=lambda tail: abs(tail - room // 2))
    found = [[_cut_before(text, tail, width, mark) for text in texts] for tail in tails or [0]]
    return max([*found, _unlike(texts, found[0], width, mark)], key=lambda shown: len(set(shown)))


def _unlike(texts: Sequence[str], cut: list[str], width: int, mark: str) -> list[str]:
    """Return texts as they were cut, but those that were cut alike with what they differ in."""
    for shown in {one for one, often in Counter(dict(zip(texts, cut, strict=True)).values()).items() if often > 1}:
        alike = sorted({text for text, one in zip(texts, cut, strict=True) if one == shown})
        head = _common(alike)
        tail = min(_common([text[::-1] for text in alike]), min(map(len, alike)) - head)
        apart = {text: _around(text, head, len(text) - tail, width, mark) for text in alike}
        if len(set(apart.values())) == len(alike):
            cut = [apart.get(text, one) for text, one in zip(texts, cut, strict=True)]
    return cut


def _common(texts: Sequence[str]) -> int:
    """Return how many letters texts begin with alike."""
    least, most = min(texts), max(texts)
    return next((place for place, (one, other) in enumerate(zip(least, most, strict=False)) if one != other), len(least))


def _around(text: str, begin: int, end: int, width: int, mark: str) -> str:
    """Return a text with what stands from `begin` to `end` of it, and as much of its beginning as has room."""
    kept = text[begin:end][: max(0, width - len(mark) - 1)]
    return text[: max(0, width - len(mark) - len(kept))] + mark + kept


def plain(text: str) -> str:
    r"""Return a text with its control characters written out, `\x1b` for an escape: what others wrote may not steer the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
