"""The table at the end of a run: as wide as the terminal, never wider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_kick.report.asked import asked_lines
from pytest_kick.report.brief import CUT, clip, cut_in_the_middle, short_probes, with_methods_apart, with_probes, without_shared, wrapped
from pytest_kick.report.judged import NOISE
from pytest_kick.report.numbers import NONE, count, flow, fraction, interval, seconds
from pytest_kick.verdict import CHANGED, FORGOT, IMPROVED, INCONCLUSIVE, NEW, REGRESSED, RETAINED, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_kick.report.rows import Row

Paint = Callable[[str, str], str]
_INDENT = "  "
_STYLES = {
    **dict.fromkeys((RETAINED, UNCHANGED, IMPROVED), "green"),
    **dict.fromkeys((FORGOT, REGRESSED, "MISSING", "STALE", "UNJUDGED"), "red"),
    **dict.fromkeys((INCONCLUSIVE, CHANGED, NEW, "ERROR"), "yellow"),
}
# Longest first: parts of names, shortened where the terminal is narrow.
_SHORT = (
    ("encoder_self_attention", "enc_attn"),
    ("decoder_self_attention", "dec_attn"),
    ("quantize_dynamic", "quant_dyn"),
    ("dynamic_int8", "int8"),
    ("unstructured", "unstr"),
    ("structured", "struct"),
    ("bfloat16", "bf16"),
    ("float32", "f32"),
    ("per_matrix", "per_mat"),
    ("attention", "attn"),
    ("a_compat", "a"),
    ("random", "rand"),
    ("columns", "cols"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """Describe a column: its heading, what it shows of a row, its side, and the least width it may be cut to (0: never cut)."""

    name: str
    show: Callable[[Row], str]
    right: bool = False
    least: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Hold a way to print the table: the columns, their widths, and what stands between."""

    columns: tuple[_Column, ...]
    widths: tuple[int, ...]
    gap: str
    short: bool

    @property
    def width(self) -> int:
        return len(_INDENT) + sum(self.widths) + len(self.gap) * (len(self.widths) - 1)

    def cells(self, texts: Sequence[str]) -> list[str]:
        """Return texts cut and padded to their columns."""
        padded = []
        for text, column, width in zip(texts, self.columns, self.widths, strict=True):
            shown = cut_in_the_middle(text, width, CUT)
            padded.append(shown.rjust(width) if column.right else shown.ljust(width))
        return padded


def _retention(row: Row) -> str:
    if row.retention is None:
        return NONE
    return f"{fraction(row.retention):>5} {interval(row.low, row.high)}"


def _flow(row: Row) -> str:
    return NONE if row.lost is None or row.gained is None else flow(row.lost, row.gained)


_NAMES = (
    _Column(name="method", show=lambda row: row.method, least=9),
    _Column(name="scope", show=lambda row: row.scope, least=7),
    _Column(name="level", show=lambda row: row.level),
)
_COLUMNS = (
    *_NAMES,
    _Column(name="probe", show=lambda row: row.probe if row.own else f"{row.probe} {row.metric}", least=9),
    _Column(name="acc", show=lambda row: fraction(row.accuracy), right=True),
    _Column(name="retention", show=_retention),
    _Column(name="-lost+gained", show=_flow, right=True),
    _Column(name="compress s", show=lambda row: seconds(row.seconds_compress), right=True),
    _Column(name="evaluate s", show=lambda row: seconds(row.seconds_evaluate), right=True),
    _Column(name="verdict", show=lambda row: row.word),
    _Column(name="stored run", show=lambda row: row.stored),
    _Column(name="note", show=lambda row: row.note),
)
_NARROW_HEADINGS = {"-lost+gained": "flips", "compress s": "cmp", "evaluate s": "eval"}
# The first that fits is printed: what is left out, whether names are shortened, what stands between columns.
_LADDER = (
    ((), False, "  "),
    ((), True, "  "),
    (("note",), False, "  "),
    (("note",), True, "  "),
    (("note", "stored run"), False, "  "),
    (("note", "stored run"), True, "  "),
    (("note", "stored run"), True, " "),
    (("note", "stored run", "compress s"), True, " "),
    (("note", "stored run", "compress s", "evaluate s"), True, " "),
    (("note", "stored run", "compress s", "evaluate s", "-lost+gained"), True, " "),
)


def table_lines(rows: Sequence[Row], *, width: int = 80, paint: Paint | None = None) -> list[str]:
    """Return the table, one line per row under one heading per model; no line is longer than `width`.

    Columns give way by priority: first names are shortened, then the note, the difference from the stored run, and the times go.

    Args:
        rows: in the order to print; the rows of one model are brought together.
        width: of the terminal, in characters.
        paint: adds colour to a text: `paint(text, style)` with style `green`, `red`, `yellow`, `bold` or `dim`.
    """
    if not rows:
        return []
    paint = paint or (lambda text, _: text)
    probes = list(dict.fromkeys((row.probe, row.metric) for row in rows if row.probe))
    several = len(probes) > 1
    names = _named(rows, probes, width, several=several)
    layout, shown = names.layout, names.rows
    lines = [paint(clip(_INDENT + layout.gap.join(layout.cells(_headings(layout))), width).rstrip(), "dim")]
    for model in dict.fromkeys(row.model for row in rows):
        group = [row for row in rows if row.model == model]
        lines.append(paint(clip(_heading(group, several=several), width), "bold"))
        lines += [paint(line, "dim") for line in asked_lines(group, names.numbers, width, several=several)]
        for row in (row for row in shown if row.model == model):
            lines += [_line(row, layout, width, paint), *(paint(line, "dim") for line in _below(row, layout, width))]
    return [*lines, *(paint(clip(line, width), "dim") for line in _legend(rows))]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """Hold the rows with the names that the layout has room for, and the numbers of probes whose names it has none for."""

    layout: _Layout
    rows: list[Row]
    numbers: dict[tuple[str, str], str]


def _named(rows: Sequence[Row], probes: Sequence[tuple[str, str]], width: int, *, several: bool) -> _Named:
    """Return rows and layout: names in full where they fit, else short ones, and numbers where those of two probes would be cut alike."""
    own = {(row.probe, row.metric) for row in rows if row.own}
    short = short_probes([probe for probe, _ in probes])
    whole, brief = _marked(rows), _marked(without_shared(rows))
    names = {key: short[key[0]] if key in own else f"{short[key[0]]} {key[1]}" for key in probes}
    layout = _fitting(whole, with_probes(brief, names), width, several=several)
    if not layout.short:
        return _Named(layout=layout, rows=with_methods_apart(whole, *_methods(whole, layout)), numbers={})
    room = next((size for size, column in zip(layout.widths, layout.columns, strict=True) if column.name == "probe"), width)
    numbers: dict[tuple[str, str], str] = {}
    if len({cut_in_the_middle(name, room, CUT) for name in names.values()}) < len(probes):
        names = numbers = {key: f"[{number}]" for number, key in enumerate(probes, start=1)}
        layout = _fitting(whole, with_probes(brief, names), width, several=several)
    rows = with_probes(brief, names) if layout.short else whole
    return _Named(layout=layout, rows=with_methods_apart(rows, *_methods(rows, layout)), numbers=numbers if layout.short else {})


def _methods(rows: Sequence[Row], layout: _Layout) -> tuple[list[str], int]:
    """Return what the column of methods would show, and its width."""
    return [_text(layout.columns[0], row, short=layout.short) for row in rows], layout.widths[0]


def _below(row: Row, layout: _Layout, width: int) -> list[str]:
    """Return the lines below a row: a judge's scores, or why it could not be measured where that has no room beside it."""
    if row.judged:
        return wrapped(f"judge: {row.judged}", width, first=2 * _INDENT, then=4 * _INDENT)
    return wrapped(row.error, width, first=2 * _INDENT, then=2 * _INDENT) if _is_told_below(row, layout, width) else []


def _is_told_below(row: Row, layout: _Layout, width: int) -> bool:
    """Return whether a row's error stands below it: nothing of one is cut, but for what the run's last lines say once for all cells."""
    return row.word == "ERROR" and len(_head(row, layout)) + len(f"{row.word} {row.error}") > width


def _legend(rows: Sequence[Row]) -> list[str]:
    """Return what the column retention shows of metrics that have none, and what a judge's noise is."""
    kinds = {row.kind for row in rows if row.retention is not None}
    said = [text for kind, text in (("loss", "of a loss its ratio to dense"), ("distance", "of a distance the distance")) if kind in kinds]
    noise = [NOISE] if any("(noise " in row.judged for row in rows) else []
    return ([f"retention: {', '.join(said)}"] if said else []) + noise


def _fitting(whole: Sequence[Row], brief: Sequence[Row], width: int, *, several: bool) -> _Layout:
    """Return the richest layout that fits, names cut where none does."""
    last = None
    for dropped, short, gap in _LADDER:
        columns = [c for c in _COLUMNS if c.name not in dropped and (several or c.name != "probe")]
        rows = brief if short else whole
        measured = [row for row in rows if not row.error]
        kept = tuple(c for c in columns if c in _NAMES or any(c.show(row).strip(NONE) for row in measured))
        last = _layout(rows, kept, gap, short=short)
        if last.width <= width:
            return last
        # Names are cut only once the time to compress has gone: a cell must stay recognisable.
        cut = _cut(last, last.width - width) if "compress s" in dropped else None
        if cut and cut.width <= width:
            return cut
    assert last is not None
    return _cut(last, last.width - width)


def _layout(rows: Sequence[Row], columns: tuple[_Column, ...], gap: str, *, short: bool) -> _Layout:
    bare = _Layout(columns=columns, widths=(0,) * len(columns), gap=gap, short=short)
    widths = [len(heading) for heading in _headings(bare)]
    for row in rows:
        shown = columns if not row.error else _NAMES
        widths[: len(shown)] = [max(old, len(_text(c, row, short=short))) for old, c in zip(widths, shown, strict=False)]
    return _Layout(columns=columns, widths=tuple(widths), gap=gap, short=short)


def _cut(layout: _Layout, excess: int) -> _Layout:
    """Take `excess` characters from the columns that can be cut, the widest first."""
    widths = list(layout.widths)
    for _ in range(excess):
        room = [(widths[i] - c.least, i) for i, c in enumerate(layout.columns) if c.least and widths[i] > c.least]
        if not room:
            break
        widths[max(room)[1]] -= 1
    return _Layout(columns=layout.columns, widths=tuple(widths), gap=layout.gap, short=layout.short)


def _headings(layout: _Layout) -> list[str]:
    return [_NARROW_HEADINGS.get(c.name, c.name) if layout.short else c.name for c in layout.columns]


def _heading(group: Sequence[Row], *, several: bool) -> str:
    """Return the line above a model's rows: what was measured, on how many examples, and what knowing nothing scores."""
    parts = [group[0].model, _main_dtype(group)]
    measured = next((row for row in group if row.probe), None)
    if measured and not several:
        parts.append(f"{measured.probe} {measured.metric}, n={count(measured.n)}, knowing nothing {fraction(measured.floor)}")
    return "  ".join(part for part in parts if part)


def _main_dtype(group: Iterable[Row]) -> str:
    dtypes = [row.dtype for row in group if row.dtype]
    return max(dict.fromkeys(dtypes), key=dtypes.count, default="")


def _marked(rows: Sequence[Row]) -> list[Row]:
    """Name the dtype after the method, as a parameter, and n as a note, where they are not those of the model's heading."""
    main = {model: _main_dtype(row for row in rows if row.model == model) for model in {row.model for row in rows}}
    asked = {(row.model, row.probe): row.n for row in reversed(rows) if row.probe}
    marked = []
    for row in rows:
        name, slash, params = row.method.partition("/")  # the dtype goes first: names are cut in their middle
        method = f"{name}/{row.dtype}{slash}{params}" if row.dtype and row.dtype != main[row.model] else row.method
        other = f"n={count(row.n)}" if row.probe and row.n != asked[row.model, row.probe] else ""
        marked.append(replace(row, method=method, note=" ".join(filter(None, (row.note, other)))))
    return marked


def _line(row: Row, layout: _Layout, width: int, paint: Paint) -> str:
    if row.error:
        return _painted_error(row, layout, width, paint)
    shown = layout.cells([_text(c, row, short=layout.short) for c in layout.columns])
    plain = clip((_INDENT + layout.gap.join(shown)).rstrip(), width)
    if not row.word or row.word not in plain:
        return plain
    before, word, after = plain.rpartition(row.word)
    return before + paint(word, _STYLES.get(row.word, "dim")) + after


def _head(row: Row, layout: _Layout) -> str:
    shown = layout.cells([_text(c, row, short=layout.short) for c in layout.columns])
    return _INDENT + layout.gap.join(shown[: len(_NAMES)]) + layout.gap


def _painted_error(row: Row, layout: _Layout, width: int, paint: Paint) -> str:
    head = _head(row, layout)
    line = clip(head + row.word if _is_told_below(row, layout, width) else f"{head}{row.word} {row.error}", width).rstrip()
    end = len(head) + len(row.word)
    return line[: len(head)] + paint(line[len(head) : end], _STYLES.get(row.word, "dim")) + line[end:] if len(line) >= end else line


def _text(column: _Column, row: Row, *, short: bool) -> str:
    text = column.show(row)
    if short and column in _NAMES:
        for long, brief in _SHORT:
            text = text.replace(long, brief)
    return text
