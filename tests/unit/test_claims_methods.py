"""The claims about methods, chains and sizes, decided on cells in which the truth was planted, both ways."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from test_claims import Model, found, int8, l1

from pytest_kick.claims import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Cell, cell_from, decide
from pytest_kick.claims.recipes import looked_at
from pytest_kick.examples import Examples
from pytest_kick.result import CompressionReport, Measurement, ProbeScore, StepReport, Timing
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from collections.abc import Mapping

BODY = 10_000


def step(method: str, level: float, scope: str = "overall", **params: Any) -> CompressionStep:
    """Make a step; parameters in the order given."""
    return CompressionStep(method=method, scope=scope, level=level, params=tuple(params.items()))


def sized(cell: Cell, zeros: int | None = None, bits: float | None = None, body: int = BODY) -> Cell:
    """Return a cell with sizes."""
    return replace(cell, zeros=zeros, bits=bits, body=body)


def words(cells: list[Cell], claim: str) -> dict[str, str]:
    """Return arm -> word."""
    return {f.arm: f.word for f in decide(cells) if f.claim == claim}


# C5, C21


@pytest.mark.parametrize(("kept", "word"), [(0.79, HOLDS), (0.6, DOES_NOT_HOLD), (0.75, UNDECIDED)])
def test_c5_compares_pruning_and_int8_with_pruning_alone(kept: float, word: str) -> None:
    """A chain as good as pruning alone holds, one that loses .2 more does not, one at the margin is open; each order by itself."""
    model = Model()
    cells = [model.cell(), model.cell(l1("ffn", 0.2), retention=0.8), model.cell(l1("ffn", 0.2), int8("ffn"), retention=kept)]
    cells.append(model.cell(int8("ffn"), l1("ffn", 0.2), retention=0.8))
    assert words(cells, "C5") == {"prune then int8": word, "int8 then prune": HOLDS}
    assert "at ffn 0.2" in found(cells, "C5", "prune then int8").detail
    assert words([replace(cell, dtype="bfloat16") for cell in cells], "C5") == {}


def test_c5_needs_a_model_that_pruning_left_alive() -> None:
    """Two dead models are alike, and show nothing."""
    model = Model()
    cells = [model.cell(), model.cell(l1("ffn", 0.4), retention=0.0), model.cell(l1("ffn", 0.4), int8("ffn"), retention=0.02)]
    assert words(cells, "C5") == {"prune then int8": NOT_APPLICABLE}


@pytest.mark.parametrize(("kept", "word"), [(0.7, HOLDS), (0.5, DOES_NOT_HOLD), (0.9, DOES_NOT_HOLD)])
def test_c21_compares_the_same_steps_in_all_orders(kept: float, word: str) -> None:
    """The reverse order decides, better or worse; interleaved chains are an arm of their own; other steps are no other order."""
    model = Model()
    prune, quantize = step("wanda", 0.5), step("gptq", 4)
    parts = [step("wanda", 0.5, "attention"), step("gptq", 4, "attention"), step("wanda", 0.5, "ffn"), step("gptq", 4, "ffn")]
    cells = [model.cell(), model.cell(prune, quantize, retention=0.7), model.cell(quantize, prune, retention=kept)]
    cells += [model.cell(*parts, retention=0.7), model.cell(*parts[::2], *parts[1::2], retention=0.7)]
    cells.append(model.cell(step("gptq", 3), prune, retention=0.1))
    assert words(cells, "C21") == {"wanda, gptq": word, "wanda, gptq interleaved": HOLDS}
    first = found(cells, "C21", "wanda, gptq")
    assert first.estimate == pytest.approx(0.7 - kept, abs=0.02)
    assert words(cells[:2], "C21") == {}


# C7, C8


def pruners(model: Model, curves: Mapping[str, Mapping[float, float]], **data: Any) -> list[Cell]:
    """Make cells per matrix: method -> level -> retention; the calibrated ones on the data given."""
    return [
        model.cell(step(method, level, **({} if method == "l1_per_matrix" else data)), retention=kept)
        for method, curve in curves.items()
        for level, kept in curve.items()
    ]


def test_c7_finds_pruners_alike_or_not() -> None:
    """Alike up to 0.3 and magnitude dead at 0.5 holds; one of them .2 behind at 0.3, and magnitude alive, does not."""
    model = Model()
    alike = {"l1_per_matrix": {0.2: 0.97, 0.3: 0.9, 0.5: 0.1}, "wanda": {0.2: 0.97, 0.3: 0.91, 0.5: 0.7}, "sparsegpt": {0.3: 0.9}}
    cells = [model.cell(), *pruners(model, alike, count=32)]
    assert words(cells, "C7") == {"up to 0.3": HOLDS, "collapse": HOLDS}
    assert "wanda .7" in found(cells, "C7", "collapse").detail
    apart = {"l1_per_matrix": {0.2: 0.97, 0.3: 0.7, 0.5: 0.8}, "wanda": {0.2: 0.97, 0.3: 0.9}}
    cells = [model.cell(), *pruners(model, apart, count=32)]
    assert words(cells, "C7") == {"up to 0.3": DOES_NOT_HOLD, "collapse": DOES_NOT_HOLD}
    shown = found(cells, "C7", "up to 0.3")
    assert shown.estimate == pytest.approx(-0.2, abs=0.03)
    assert "magnitude less wanda at 0.3" in shown.detail


def test_c7_compares_calibrated_pruners_on_the_same_data_only() -> None:
    """Wanda on few tokens and sparsegpt on many are not compared; magnitude looks at none and is compared with both."""
    model = Model()
    cells = [model.cell(), *pruners(model, {"wanda": {0.3: 0.9}}, count=8), *pruners(model, {"sparsegpt": {0.3: 0.5}}, count=128)]
    assert words(cells, "C7") == {}
    cells += pruners(model, {"l1_per_matrix": {0.3: 0.9}})
    assert words(cells, "C7") == {"up to 0.3": DOES_NOT_HOLD}
    assert "2 pairs" in found(cells, "C7", "up to 0.3").detail


@pytest.mark.parametrize(("kept", "word"), [(0.5, HOLDS), (0.8, DOES_NOT_HOLD), (0.85, DOES_NOT_HOLD), (0.755, HOLDS)])
def test_c8_needs_every_pattern_to_be_worse(kept: float, word: str) -> None:
    """One pattern as good as half the weights anywhere is enough against the claim; 1:4 keeps another share and is not compared."""
    model = Model()
    free = model.cell(step("wanda", 0.5), retention=0.8)
    cells = [model.cell(), free, model.cell(step("wanda", 0.5, pattern="1of2"), retention=0.4)]
    cells += [
        model.cell(step("wanda", 0.5, pattern="2of4"), retention=kept),
        model.cell(step("wanda", 0.75, pattern="1of4"), retention=0.0),
    ]
    assert words(cells, "C8") == {"wanda": word}
    assert found(cells, "C8", "wanda").n_cells == 3
    assert ("2:4" in found(cells, "C8", "wanda").detail) == (kept > 0.4)


def test_c8_leaves_out_dead_pairs() -> None:
    """Where half anywhere has killed the model, a pattern cannot be worse."""
    model = Model()
    dead = [model.cell(step("wanda", 0.5), retention=0.0), model.cell(step("wanda", 0.5, pattern="2of4"), retention=0.0)]
    assert words([model.cell(), *dead], "C8") == {"wanda": NOT_APPLICABLE}


# C9, C23


def test_c9_and_c23_judge_widths_in_float32() -> None:
    """8 bits that keep all, half, or .95 of what is known; 16 and 4 bits are the other claim's; other scopes and dtypes are none."""
    model = Model()
    cells = [model.cell(), model.cell(step("rtn", 8), retention=1.0), model.cell(step("gptq", 8), retention=0.5)]
    cells += [model.cell(int8("overall"), retention=0.95), model.cell(int8("attention"), retention=0.1)]
    cells += [model.cell(step("cast", 16, format="fp16")), model.cell(step("rtn", 4, group=0), retention=0.3)]
    assert words(cells, "C9") == {"rtn": HOLDS, "gptq": DOES_NOT_HOLD, "dynamic_int8": UNDECIDED}
    assert list(words(cells, "C23").items()) == [("16 bits, fp16", HOLDS), ("8 bits, rtn", HOLDS), ("4 bits, rtn group 0", DOES_NOT_HOLD)]
    half = [replace(cell, dtype="bfloat16") for cell in cells]
    assert words(half, "C9") == words(half, "C23") == {}


# C11


def pair(seed: int, small: float, pruned: float, zeros: int = BODY // 2) -> list[Cell]:
    """Make a small model, dense, and a large one of twice the body, dense and pruned, that know shares of what can be known."""
    whole = Model(name="x")
    rows = {"small": whole.cell(retention=small), "large": whole.cell(), "pruned": whole.cell(step("wanda", 0.5), retention=pruned)}
    rng = np.random.default_rng(seed)
    noise = rng.random(whole.n) < 0.01
    cells = {name: replace(cell, right=cell.right ^ noise) for name, cell in rows.items()}
    named = [replace(sized(cells["small"], body=BODY // 2), model=f"body-small-{seed}", compression=CompressionSpec())]
    named.append(replace(sized(cells["large"]), model=f"body-large-{seed}"))
    named.append(replace(sized(cells["pruned"], zeros=zeros), model=f"body-large-{seed}"))
    return named


@pytest.mark.parametrize(("pruned", "word"), [(0.5, HOLDS), (0.8, HOLDS), (0.99, DOES_NOT_HOLD)])
def test_c11_compares_the_pruned_large_model_with_the_small_one(pruned: float, word: str) -> None:
    """Worse or equal holds, clearly better does not; the finding is of the pair, by pruner."""
    cells = [cell for seed in range(3) for cell in pair(seed, 0.8, pruned)]
    finding = found(cells, "C11", "wanda s0.5")
    assert finding.word == word
    assert finding.model == "body"
    assert finding.estimate == pytest.approx(pruned / 0.8 - 1, abs=0.03)


def test_c11_allows_for_the_training_seeds() -> None:
    """Seeds that disagree leave it open; two seeds, or a large model pruned to another size, are no finding."""
    spread = [cell for seed, pruned in enumerate((0.6, 0.8, 1.0)) for cell in pair(seed, 0.8, pruned)]
    assert found(spread, "C11", "wanda s0.5").word == UNDECIDED
    assert words([cell for seed in range(2) for cell in pair(seed, 0.8, 0.5)], "C11") == {}
    assert words([cell for seed in range(3) for cell in pair(seed, 0.8, 0.5, zeros=BODY // 4)], "C11") == {}


# C15, C16


@pytest.mark.parametrize(
    ("norms", "control", "word"), [(0.1, 1.0, HOLDS), (0.9, 1.0, DOES_NOT_HOLD), (0.1, 0.1, DOES_NOT_HOLD), (0.1, None, HOLDS)]
)
def test_c15_compares_norms_with_as_many_random_weights(norms: float, control: float | None, word: str) -> None:
    """A catastrophe holds where as many random weights are none; where these kill too it is the number; without them it says so."""
    model = Model()
    cells = [model.cell(), sized(model.cell(step("l1_per_matrix", 0.1, "*norm*"), retention=norms), zeros=50)]
    cells.append(sized(model.cell(step("random_unstructured", 0.5), retention=0.0), zeros=BODY // 2))
    if control is not None:
        cells.append(sized(model.cell(step("random_unstructured", 0.005), retention=control), zeros=52))
    finding = found(cells, "C15")
    assert finding.word == word
    assert ("52 random weights" in finding.detail) == (control is not None)


def test_c16_compares_the_levels_at_which_knowledge_is_lost() -> None:
    """Attention falling after ffn holds, before it does not, and where neither falls it is not applicable; per target and arm."""
    model = Model()
    levels = (0.2, 0.4, 0.6, 0.8)
    late, early, never = [1.0, 1.0, 0.95, 0.2], [0.95, 0.3, 0.0, 0.0], [1.0, 1.0, 1.0, 0.97]

    def cells(**curves: list[float]) -> list[Cell]:
        made = [
            model.cell(step("l1_per_matrix", s, name), retention=r) for name, c in curves.items() for s, r in zip(levels, c, strict=True)
        ]
        return [model.cell(), *made]

    given = cells(attention=late, ffn=early, ffn_like_attention=late)
    got = words(given, "C16")
    assert got["equal scope, s90"] == got["equal scope, s50"] == HOLDS
    assert got["equal weights, s50"] == DOES_NOT_HOLD
    assert found(given, "C16", "equal scope, s50").unit == "sparsity"
    assert set(words(cells(attention=early, ffn=late), "C16").values()) == {DOES_NOT_HOLD}
    assert set(words(cells(attention=never, ffn=never), "C16").values()) == {NOT_APPLICABLE}
    one = found(cells(attention=never, ffn=early), "C16", "equal scope, s50")
    assert one.word == HOLDS
    assert one.estimate == pytest.approx(0.8 - 0.34, abs=0.03)
    assert words(given[:3], "C16") == {}


# C17


def seeded(model: Model, method: str, kept: list[float], **params: Any) -> list[Cell]:
    """Make cells of several calibration seeds."""
    return [model.cell(step(method, 0.5, count=8, **({"seed": i} if i else {}), **params), retention=r) for i, r in enumerate(kept)]


@pytest.mark.parametrize(
    ("wanda", "word"),
    [
        ([0.70, 0.80, 0.68, 0.79, 0.74], HOLDS),
        ([0.90, 0.92, 0.91, 0.89, 0.90], DOES_NOT_HOLD),
        ([0.749, 0.749, 0.749, 0.749, 0.749], UNDECIDED),
    ],
)
def test_c17_asks_whether_seeds_reverse_a_ranking(wanda: list[float], word: str) -> None:
    """Seeds that rank both ways bound it, a lead above their spread does not, and equal methods show neither."""
    model = Model()
    cells = [model.cell(), *seeded(model, "wanda", wanda), *seeded(model, "sparsegpt", [0.75] * 5)]
    finding = found(cells, "C17", "wanda less sparsegpt, s0.5")
    assert finding.word == word
    assert "5 seeds" in finding.detail
    assert words(cells[:-1], "C17") == {}


# C20


@pytest.mark.parametrize(
    ("parts", "n", "word"), [(0.5, 2000, HOLDS), (0.9, 2000, DOES_NOT_HOLD), (0.92, 2000, DOES_NOT_HOLD), (0.9, 60, UNDECIDED)]
)
def test_c20_compares_parts_with_as_many_single_weights(parts: float, n: int, word: str) -> None:
    """Heads against as many weights of attention: a cell of another count or scope is none, and each kind of part is an arm."""
    model = Model(n)
    cells = [model.cell(), sized(model.cell(step("drop_heads", 0.25, "attention"), retention=parts), zeros=1000)]
    cells += [sized(model.cell(step("l1_per_matrix", 0.25, "attention"), retention=0.9), zeros=1001)]
    cells += [sized(model.cell(step("l1_per_matrix", 0.5, "attention"), retention=0.1), zeros=2000)]
    cells += [sized(model.cell(step("l1_per_matrix", 0.25, "ffn"), retention=0.1), zeros=1000)]
    cells += [sized(model.cell(step("drop_layers", 0.3), retention=0.5), zeros=3000)]
    assert words(cells, "C20") == {"drop_heads": word}


# C22


def recipe(*levels: float, method: str = "l1_per_matrix") -> list[CompressionStep]:
    """Make the steps of a chain over attention and ffn."""
    return [step(method, level, scope) for level, scope in zip(levels, ("attention", "ffn"), strict=True)]


@pytest.mark.parametrize(("kept", "word"), [(0.9, HOLDS), (0.7, DOES_NOT_HOLD), (0.5, DOES_NOT_HOLD)])
def test_c22_compares_a_recipe_with_one_level_at_equal_size(kept: float, word: str) -> None:
    """The cell of one level with as many zeros is the other side, not a nearer level of another size."""
    model = Model()
    cells = [model.cell(), sized(model.cell(*recipe(0.6, 0.2), retention=kept), zeros=3000, bits=12.2)]
    cells += [sized(model.cell(step("l1_per_matrix", 0.3), retention=0.7), zeros=3003, bits=12.2)]
    cells += [sized(model.cell(step("l1_per_matrix", 0.4), retention=0.1), zeros=4000, bits=10.6)]
    assert words(cells, "C22") == {"l1_per_matrix": word}
    assert words([*cells[:2], cells[3]], "C22") == {}


def test_c22_is_decided_on_the_other_half_of_the_facts() -> None:
    """A recipe that knows more only on the half that it was made on is not better."""
    model = Model()
    even = sized(model.cell(step("l1_per_matrix", 0.3), retention=0.6), zeros=3000, bits=12.2)
    made = sized(model.cell(*recipe(0.6, 0.2), retention=0.9), zeros=3000, bits=12.2)
    half = looked_at(made.ids)
    assert 0.45 < half.mean() < 0.55
    fitted = replace(made, right=np.where(half, made.right, even.right))
    assert words([model.cell(), fitted, even], "C22") == {"l1_per_matrix": DOES_NOT_HOLD}
    assert words([model.cell(), replace(made, right=np.where(half, even.right, made.right)), even], "C22") == {"l1_per_matrix": HOLDS}


# C25


def test_c25_compares_pruning_and_quantization_at_equal_bytes() -> None:
    """Each quantized cell is compared with the pruned one of the next more bits; one that is beaten is enough against the claim."""
    model = Model()
    sparse = {0.3: (12.2, 0.9), 0.5: (9.0, 0.4), 0.8: (4.2, 0.0)}
    cells = [model.cell(), *(sized(model.cell(step("wanda", s), retention=r), bits=b) for s, (b, r) in sparse.items())]
    eight = sized(model.cell(step("rtn", 8), retention=0.99), bits=8.25)
    good, bad = (sized(model.cell(step("rtn", 4), retention=r), bits=4.25) for r in (0.7, 0.1))
    assert words([*cells, eight, good], "C25") == {"equal bytes": HOLDS, "25-30%": HOLDS}
    finding = found([*cells, eight, bad], "C25", "equal bytes")
    assert finding.word == DOES_NOT_HOLD
    assert "rtn 4 (4.25 bits) .1" in finding.detail
    assert "wanda 0.5 (9.00 bits)" in finding.detail


@pytest.mark.parametrize(("kept", "word"), [(0.8, HOLDS), (0.99, DOES_NOT_HOLD), (0.95, UNDECIDED)])
def test_c25_asks_every_pruner_and_every_pattern(kept: float, word: str) -> None:
    """One pruner that keeps .95 at 0.25, or one N:M that does, is enough against the claim."""
    model = Model()
    cells = [model.cell(), model.cell(step("l1_per_matrix", 0.3), retention=0.5), model.cell(step("wanda", 0.25), retention=kept)]
    cells += [
        model.cell(step("wanda", 0.5, pattern="2of4"), retention=0.2),
        model.cell(step("wanda", 0.25, pattern="3of4"), retention=kept),
    ]
    assert words(cells, "C25") == {"25-30%": word, "N:M": word}


# What they share


def test_a_dense_model_that_knows_nothing_is_judged_on_no_claim() -> None:
    """Every claim about methods is not applicable there, and nothing is estimated."""
    model = Model(known=0.0)
    cells = [model.cell(), model.cell(step("wanda", 0.5)), model.cell(step("wanda", 0.5, pattern="2of4"))]
    cells += [model.cell(step("l1_per_matrix", s, scope)) for scope in ("overall", "attention", "ffn") for s in (0.3, 0.4, 0.5)]
    cells += [model.cell(step("rtn", b)) for b in (4, 8)]
    cells += [sized(model.cell(step("drop_heads", 0.3, "attention")), zeros=9), sized(model.cell(*recipe(0.6, 0.2)), zeros=9, bits=9.0)]
    cells += [sized(model.cell(step("l1_global", 0.3, "attention")), zeros=9), sized(model.cell(step("l1_per_matrix", 0.2)), zeros=9)]
    cells += [model.cell(step("l1_per_matrix", 0.1, "*norm*")), *seeded(model, "wanda", [1.0] * 5), *seeded(model, "sparsegpt", [1.0] * 5)]
    cells += [model.cell(step("l1_global", 0.3, "attention"), int8("attention")), model.cell(int8("attention"), l1("attention", 0.3))]
    findings = decide([replace(cell, floor=0.15) for cell in cells])  # of the half of C22 too nothing is known
    assert {f.claim for f in findings} == {"C5", "C7", "C8", "C9", "C15", "C16", "C17", "C20", "C21", "C22", "C23", "C25"}
    assert {(f.word, f.estimate) for f in findings} == {(NOT_APPLICABLE, None)}


@pytest.mark.parametrize(
    ("scopes", "zeros", "bits"),
    [
        ((("l1_per_matrix", "overall", 1000, 500, 17.0),), 500, 9.0),
        ((("rtn", "overall", 1000, 3, 4.5),), 3, 4.5),
        ((("rtn", "attention", 400, 3, 4.5),), 3, 4.5 * 0.4 + 16 * 0.6),
        ((("wanda", "overall", 1000, 500, 17.0), ("rtn", "overall", 1000, 520, 3.0)), 520, 3.0),
        ((("wanda", "attention", 400, 200, 17.0), ("wanda", "ffn", 600, 60, 29.8)), 260, 9.0 * 0.4 + 15.4 * 0.6),
        ((("wanda", "overall", 1000, 500, 17.0), ("rtn", "ffn", 600, 520, 3.0)), None, None),
        ((("l1_per_matrix", "head", 400, 100, 24.0),), None, None),
    ],
)
def test_sizes_are_taken_from_what_the_steps_achieved(scopes: Any, zeros: int | None, bits: float | None) -> None:
    """Weights that are left count 16 bits, quantized ones those of their format; scopes that overlap or leave the body have no size."""
    examples = Examples(ids=np.asarray(["a"]), groups=np.asarray(["g"]), hashes=np.zeros(1, np.uint32), arrays={"p1": np.ones(1, np.bool_)})
    score = ProbeScore(probe="facts", version=1, metric="p1", metrics={}, floors={"p1": 0.1}, trivial={}, n=1, examples=examples)
    rest = {"n_matrices": 1, "n_zeros_before": 0, "n_changed": 1, "asked": 0.0, "achieved": 0.0}
    reports = tuple(StepReport(method=m, scope=s, n_weights=n, n_zeros=z, bits_per_weight=b, **rest) for m, s, n, z, b in scopes)
    report = CompressionReport(steps=reports, n_body=1000, n_total=1500)
    measured = Measurement(cell="c", dtype="float32", scores=(score,), compression=report, timing=Timing(seconds={}), fingerprint={})
    spec = CompressionSpec(steps=tuple(step(m, 4 if m == "rtn" else 0.5, s) for m, s, *_ in scopes))
    cell = cell_from("m", "decoder", spec, measured)
    assert cell is not None
    assert (cell.zeros, cell.body) == (zeros, 1000)
    assert cell.bits == (None if bits is None else pytest.approx(bits))
