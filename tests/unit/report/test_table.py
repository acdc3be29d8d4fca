"""The terminal table: every width, every kind of row, colours that never change the text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_kick.report import Row, rows_from, table_lines, worth_a_row
from pytest_kick.report.brief import cut_apart, cut_in_the_middle

ROW = Row(
    model="smollm2-135m",
    dtype="bfloat16",
    method="l1_global",
    scope="ffn",
    level="s0.2",
    probe="facts",
    metric="p1",
    n=2612,
    floor=0.031,
    accuracy=0.3312,
    retention=0.9312,
    low=0.9021,
    high=0.9583,
    lost=161,
    gained=32,
    seconds_compress=0.42,
    seconds_evaluate=21.3,
    word="INCONCLUSIVE",
    stored="changed -3+1",
    note="1,240 more decide",
)
DENSE = replace(ROW, method="dense", scope="", level="", retention=None, low=None, high=None, lost=None, gained=None, word="UNCHANGED")
CHAIN = replace(ROW, method="l1_global+dynamic_int8", scope="ffn+overall", level="s0.2+b8", word="FORGOT")
LONG = replace(ROW, method="random_unstructured/seed-3", scope="encoder_self_attention", level="s0.15", word="RETAINED")
ERROR = Row(model="smollm2-135m", method="l1_global", scope="head", level="s0.9", word="ERROR", error="x" * 300)
ROWS = [DENSE, ROW, CHAIN, LONG, ERROR, replace(ROW, model="tiny-encoder")]


@pytest.mark.parametrize("width", [40, 60, 79, 80, 81, 100, 120, 160, 240])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    """One line per row, one per model and one of headings, and an error below its row, each within the width."""
    lines = table_lines(ROWS, width=width)
    assert len([line for line in lines if set(line) - {"x", " "}]) == len(ROWS) + 2 + 1
    assert sum(line.count("x") for line in lines if not set(line) - {"x", " "}) == len(ERROR.error)
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_a_wide_terminal_shows_everything() -> None:
    """At 200 columns every value stands in full, with the names as suites write them."""
    head, model, dense, row, *_ = table_lines(ROWS, width=200)
    assert head.split("  ")[1].strip() == "method"
    for title in (
        "method",
        "scope",
        "level",
        "acc",
        "retention",
        "-lost+gained",
        "compress s",
        "evaluate s",
        "verdict",
        "stored run",
        "note",
    ):
        assert title in head
    assert model == "smollm2-135m  bfloat16  facts p1, n=2,612, knowing nothing .031"
    assert dense.split() == ["dense", ".331", "-", "-", ".42", "21", "UNCHANGED", "changed", "-3+1", "1,240", "more", "decide"]
    assert row.split() == [
        *("l1_global", "ffn", "s0.2", ".331", ".931", "[.902,", ".958]", "-161+32", ".42", "21", "INCONCLUSIVE"),
        *("changed", "-3+1", "1,240", "more", "decide"),
    ]


def test_80_columns_keep_what_decides() -> None:
    """At 80 columns level, accuracy, retention with interval, flips and verdict stand in full for every measured row."""
    lines = table_lines(ROWS, width=80)
    for line, row in zip(lines[2:5], [DENSE, ROW, CHAIN], strict=True):
        assert row.level in line
        assert line.endswith(row.word)
        assert ".331" in line
    assert ".931 [.902, .958] -161+32" in lines[3]


def test_simple_rows_need_no_abbreviation_at_80() -> None:
    """Where the names are short they stand in full, and both times fit."""
    head, _, row = table_lines([ROW], width=80)
    assert "cmp eval" in " ".join(head.split())
    assert row.split() == ["l1_global", "ffn", "s0.2", ".331", ".931", "[.902,", ".958]", "-161+32", ".42", "21", "INCONCLUSIVE"]


@pytest.mark.parametrize("width", range(60, 170, 5))
def test_names_are_cut_last(width: int) -> None:
    """A cell stays recognisable: no name is cut while there is still room for the time to compress."""
    head, *lines = table_lines([ROW, CHAIN, LONG], width=width)
    cut = any(".." in line for line in lines[1:])
    assert not (cut and ("cmp" in head or "compress" in head))


def test_cells_that_differ_in_a_parameter_differ_at_80() -> None:
    """What all cells of a method share goes first, then the middle of its name; a pattern stands as a level."""
    data = "--source-statements--count-256--length-32"
    cells = [
        f"wanda--overall--s0.5{data}",
        f"wanda--overall--s0.5--pattern-2of4{data}",
        f"wanda--overall--s0.5{data}--propagate-dense",
        f"gptq--overall--b4{data}",
        f"gptq--overall--b4--act_order-True{data}",
        "cast--overall--b8--format-fp8_e4m3",
        "cast--overall--b8--format-fp8_e5m2",
        "rtn--overall--b4",
        "rtn--overall--b4--group-tensor",
        f"sparsegpt--overall--s0.5--pattern-2of4{data}+gptq--overall--b4{data}",
    ]
    rows = [replace(rows_from("m", cell, error="x")[0], error="", word="CHANGED", retention=0.5, low=0.4, high=0.6) for cell in cells]
    lines = [line.split("CHANGED")[0] for line in table_lines(rows, width=80)[2:]]
    assert len(set(lines)) == len(cells)
    assert "2:4" in lines[1]
    assert not any("256" in line for line in lines)


def test_what_cells_of_another_model_have_makes_no_name_longer() -> None:
    """Two models calibrate on other data: under each heading its own is left out, and the dtype stands before what else differs."""
    small, real = "--source-statements--count-256--length-32", "--count-32--length-256--propagate-dense"
    cells = [
        ("tiny", "bfloat16", f"gptq--overall--b2{small}"),
        ("tiny", "bfloat16", f"gptq--overall--b2{small}--act_order-True"),
        ("tiny", "bfloat16", f"awq--overall--b3{small}"),
        ("tiny", "float32", "cast--overall--b16--format-fp16"),
        ("tiny", "float32", "cast--overall--b16--format-bf16"),
        ("smollm2-135m", "bfloat16", f"gptq--overall--b4{real}"),
        ("smollm2-135m", "bfloat16", f"awq--overall--b4{real}"),
    ]
    judged = {"error": "", "word": "UNCHANGED", "accuracy": 0.5, "retention": 0.5, "low": 0.4, "high": 0.6, "lost": 100, "gained": 2}
    rows = [replace(rows_from(model, cell, error="x")[0], dtype=dtype, seconds_evaluate=1.0, **judged) for model, dtype, cell in cells]
    names = [line.split()[0] for line in table_lines(rows, width=80) if line.endswith("UNCHANGED")]
    assert [names[0], *names[5:]] == ["gptq", "gptq", "awq"]
    assert len(set(names[:5])) == 5


@given(st.lists(st.text(alphabet="ab-/", max_size=24), min_size=1, max_size=6, unique=True), st.integers(6, 20))
@settings(max_examples=200, deadline=None)
def test_names_cut_apart_fit_and_stay_as_different_as_before(names: list[str], width: int) -> None:
    """Each fits, one that fits as it is stays, and no fewer differ than where each is cut in its middle."""
    shown, cut = cut_apart(names, width, ".."), [cut_in_the_middle(name, width, "..") for name in names]
    assert all(len(text) <= width for text in shown)
    assert len(set(shown)) >= len(set(cut)) or len(set(cut)) == len(names)
    assert all(text == name for text, name in zip(shown, names, strict=True) if len(name) <= width and cut.count(name) == 1)
    assert shown == cut or len(set(shown)) > len(set(cut))


def test_names_that_differ_in_their_middle_show_it() -> None:
    """Four calibration files, the same count: what is cut is what they share."""
    names = [f"wanda/source-{name}/count-16" for name in ("leak", "para", "goodcr", "goodnul")]
    assert cut_apart(names, 11, "..") == ["wanda..leak", "wanda..para", "wan..goodcr", "wa..goodnul"]
    seeds = [f"rand_{kind}{seed}" for kind in ("struct", "unstr") for seed in ("", "/seed-1", "/seed-2")]
    assert len(set(cut_apart(seeds, 11, ".."))) == len(seeds)
    assert len(set(cut_apart(["weight_noise", "weight_noise+weight_noise"], 11, ".."))) == 2


def test_a_name_is_cut_in_its_middle() -> None:
    """Both ends stay, and the width is kept."""
    assert [cut_in_the_middle("cast/format-fp8_e4m3", width, "..") for width in (20, 11, 3, 1)] == [
        "cast/format-fp8_e4m3",
        "cast/..e4m3",
        "c..",
        ".",
    ]


def test_rows_of_a_model_stand_under_one_heading() -> None:
    """The model is printed once, in the order of its first row, though rows come interleaved."""
    lines = table_lines([ROW, replace(ROW, model="b"), CHAIN], width=160)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["smollm2-135m", "b"]
    assert lines[3].lstrip().startswith("l1_global+int8") or lines[3].lstrip().startswith("l1_global+dynamic_int8")


def test_an_error_is_one_row() -> None:
    """What is wrong stands in the row, cut to the width."""
    line = table_lines([ROW, replace(ERROR, error="the head is tied")], width=100)[3]
    assert line.split() == ["l1_global", "head", "s0.9", "ERROR", "the", "head", "is", "tied"]
    assert table_lines([replace(ERROR, word="MISSING")], width=80)[2].endswith("x..")  # said once for all cells at the end
    long = "probe facts: COULD NOT MEASURE: got p1 0.067 on n=30, expected one shown to lie above 0.100. Take other facts."
    head, *below = table_lines([replace(ERROR, error=long)], width=80)[2:]
    assert head.split() == ["l1_global", "head", "s0.9", "ERROR"]
    assert " ".join(" ".join(below).split()) == long
    assert max(map(len, below)) <= 80


def test_another_dtype_than_the_heading_is_named() -> None:
    """A method that runs only in float32 says so beside its name."""
    lines = table_lines([ROW, ROW, replace(ROW, method="quantize_dynamic", dtype="float32")], width=160)
    assert "quantize_dynamic/float32" in lines[-1]


def test_several_probes_get_a_column() -> None:
    """With one probe it stands in the heading, with two in every row."""
    lines = table_lines([ROW, replace(ROW, probe="mmlu", metric="acc")], width=160)
    assert lines[1] == "smollm2-135m  bfloat16"
    assert lines[2:4] == ["  facts p1: n=2,612, knowing nothing .031", "  mmlu acc: n=2,612, knowing nothing .031"]
    assert " facts  " in lines[4]
    assert " mmlu " in lines[5]


def test_colour_changes_no_text() -> None:
    """Taking the styles out again gives the plain table; verdicts carry the colour of their meaning."""
    used = []

    def paint(text: str, style: str) -> str:
        used.append((style, text))
        return f"<{style}>{text}</>"

    painted = [line.replace("</>", "") for line in table_lines(ROWS, width=120, paint=paint)]
    for style in ("dim", "bold", "green", "red", "yellow"):
        painted = [line.replace(f"<{style}>", "") for line in painted]
    assert painted == table_lines(ROWS, width=120)
    assert {("green", "RETAINED"), ("red", "FORGOT"), ("yellow", "INCONCLUSIVE"), ("yellow", "ERROR"), ("green", "UNCHANGED")} <= set(used)


def test_nothing_measured_is_no_table() -> None:
    """No rows, no headings."""
    assert table_lines([], width=80) == []


@given(
    cells=st.lists(
        st.tuples(
            st.sampled_from(["dense", "l1_global--ffn--s0.1", "a+b", "x--y--z--seed-1+dynamic_int8--overall--b8"]), st.text(max_size=90)
        ),
        min_size=1,
        max_size=6,
    ),
    width=st.integers(20, 200),
)
@settings(max_examples=60, deadline=None)
def test_any_error_text_at_any_width(cells: list[tuple[str, str]], width: int) -> None:
    """Whatever a cell is called and an error says, each row stands within the width, and is one line where the end of the run tells why."""
    for word in ("", "MISSING"):
        rows = [row for cell, error in cells for row in rows_from("m", cell, error=error or "e", word=word)]
        lines = table_lines(rows, width=width)
        assert not word or len(lines) == len(cells) + 2
        assert all(len(line) <= width and len(line.splitlines()) <= 1 for line in lines)


def test_a_mean_says_what_stands_in_the_column_retention() -> None:
    """A metric that is not the probe's own is named, and a legend says what is shown of losses and distances."""
    loss = replace(ROW, probe="perplexity", metric="bits_per_byte", own=False, kind="loss", retention=1.2)
    lines = table_lines([DENSE, ROW, loss], width=200)
    assert any("perplexity bits_per_byte" in line for line in lines)
    assert lines[-1] == "retention: of a loss its ratio to dense"
    assert not any(line.startswith("retention:") for line in table_lines([DENSE, ROW], width=200))


def test_further_probes_have_a_row_where_there_is_something_to_say() -> None:
    """Of each cell the first probe has a row, errors have one, and others that a budget judges or that changed for good or ill."""
    quiet = [replace(ROW, probe=name, word=word) for name, word in (("perplexity", "UNCHANGED"), ("divergence", "CHANGED"))]
    loud = [replace(ROW, probe=name, word=word) for name, word in (("a", "RETAINED"), ("b", "REGRESSED"), ("c", "IMPROVED"), ("d", "NEW"))]
    first = replace(ROW, word="UNCHANGED")
    other = replace(first, level="s0.9")
    assert worth_a_row([first, *quiet, *loud, other, ERROR]) == [first, *loud, other, ERROR]
