"""The claims of study A, decided on cells in which the truth was planted."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pytest_kick import stats
from pytest_kick.baseline import Baseline
from pytest_kick.claims import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Cell, Finding, cell_from, decide, lines
from pytest_kick.claims.contrast import Contrast, _p_paired
from pytest_kick.claims.panel import panels
from pytest_kick.errors import KickError
from pytest_kick.examples import Examples
from pytest_kick.result import CompressionReport, Measurement, ProbeScore, Timing
from pytest_kick.spec import CompressionSpec, CompressionStep
from pytest_kick.stats import PairedCounts

N = 2000
FLOOR = 0.1
KNOWN = 0.7
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SCOPES = ("overall", "attention", "ffn")


class Model:
    """Make cells of a model that knows 70% of n facts and guesses the others right at the floor."""

    def __init__(self, n: int = N, *, name: str = "m", dtype: str = "float32", known: float = KNOWN) -> None:
        """Draw what the dense model knows, and how easily each fact is lost."""
        self.n, self.name, self.dtype = n, name, dtype
        self.rng = np.random.default_rng(7)
        self.known = self.rng.random(n) < known
        self.ease = self.rng.permutation((np.arange(n) + 0.5) / n)
        self.guess = self.rng.random(n) < FLOOR

    def cell(self, *steps: CompressionStep, retention: float = 1.0, below: bool = False, gone: Any = None) -> Cell:
        """Make a cell of a retention; where `below`, lost facts are not even guessed, so that it scores below the floor."""
        kept = self.known & (self.ease < retention)
        right = kept | (~kept & (np.zeros(self.n, np.bool_) if below else self.guess))
        if gone is not None:
            right &= ~gone
        return Cell(
            model=self.name,
            family="decoder",
            compression=CompressionSpec(steps=steps),
            dtype=self.dtype,
            ids=np.asarray([f"q{i:05d}" for i in range(self.n)]),
            hashes=np.arange(self.n, dtype=np.uint32),
            right=right,
            floor=FLOOR,
            gold_row_gone=gone,
        )

    def grid(self, curves: dict[str, list[float]], levels: tuple[float, ...] = LEVELS) -> list[Cell]:
        """Make the dense cell and `l1_global` cells: scope -> retention per level."""
        points = [(scope, level, kept) for scope, curve in curves.items() for level, kept in zip(levels, curve, strict=True)]
        return [self.cell(), *(self.cell(l1(scope, level), retention=kept) for scope, level, kept in points)]


def l1(scope: str, level: float, **params: Any) -> CompressionStep:
    """Make a step of `l1_global`."""
    return CompressionStep(method="l1_global", scope=scope, level=level, params=tuple(params.items()))


def int8(scope: str) -> CompressionStep:
    """Make a step of `dynamic_int8`."""
    return CompressionStep(method="dynamic_int8", scope=scope, level=8)


def head(method: str, level: float, **params: Any) -> CompressionStep:
    """Make a step on the final layer."""
    return CompressionStep(method=method, scope="head", level=level, params=tuple(params.items()))


def found(cells: list[Cell], claim: str, arm: str = "", **options: Any) -> Finding:
    """Decide and return the one finding of a claim and arm."""
    (finding,) = (f for f in decide(cells, **options) if f.claim == claim and f.arm == arm)
    return finding


def falling(at: float, to: float = 0.0) -> list[float]:
    """Return a curve over LEVELS that stays at 1 up to level `at` and is `to` from then on."""
    return [1.0 if level < at else to for level in LEVELS]


# C1


def test_c1_holds_where_overall_is_worse_or_equal_at_every_level() -> None:
    """A planted fall of overall before both parts: the claim holds, and the bound shown lies under the margin."""
    cells = Model().grid({"overall": falling(0.4), "attention": falling(0.8), "ffn": falling(0.6)})
    finding = found(cells, "C1")
    assert finding.word == HOLDS
    assert finding.high is not None
    assert finding.high < 0.05
    assert "less at 6 of 18" in finding.detail  # .4 to .7 against attention, .4 and .5 against ffn
    assert finding.n_cells == 27


def test_c1_does_not_hold_where_overall_keeps_more_at_one_level() -> None:
    """One level of nine at which ffn alone loses .3 of retention more is enough against the claim, and is the one shown."""
    ffn = falling(0.8)
    ffn[4] = 0.7
    finding = found(Model().grid({"overall": falling(0.8), "attention": falling(0.8), "ffn": ffn}), "C1")
    assert finding.word == DOES_NOT_HOLD
    assert finding.estimate == pytest.approx(0.3, abs=0.03)
    assert "closest at 0.5 against ffn" in finding.detail
    assert finding.low is not None
    assert finding.low > 0.05


def test_c1_is_undecided_where_nothing_hurts() -> None:
    """Scopes that lose nothing show neither direction: equal is not worse."""
    assert found(Model().grid({scope: falling(1.0) for scope in SCOPES}), "C1").word == UNDECIDED


def test_c1_is_undecided_where_facts_are_too_few_to_exclude_the_margin() -> None:
    """An overall that is worse at one level and ahead by .04 at another: 300 facts cannot exclude .05."""
    overall = [0.96, *falling(0.2)[1:]]
    ffn = [0.92, *falling(0.6)[1:]]
    finding = found(Model(300).grid({"overall": overall, "attention": falling(0.6), "ffn": ffn}), "C1")
    assert finding.word == UNDECIDED
    assert finding.high is not None
    assert finding.high > 0.05


def test_c1_corrects_for_the_number_of_comparisons() -> None:
    """A lead that would be significant alone is not, as one of 18 differences."""
    model = Model(400)
    ffn = falling(0.9)
    ffn[3] = 0.92
    curves = {"overall": falling(0.9), "attention": falling(0.9), "ffn": ffn}
    grid = model.grid(curves)
    (panel,) = panels(grid, 0.95)
    p = panel.contrast(panel.find("l1_global", "overall")[0.4], panel.find("l1_global", "ffn")[0.4]).p_more(0.05)
    assert 0.05 / 18 < p < 0.05 / 2
    assert found(grid, "C1").word == UNDECIDED
    alone = [cell for cell in grid if not cell.compression.steps or cell.compression.steps[0].level == 0.4]
    assert found(alone, "C1").word == DOES_NOT_HOLD


def test_c1_takes_models_below_the_floor_for_equal() -> None:
    """A dead overall that guesses at the floor does not know more than dead parts that score below it."""
    model = Model()
    cells = [model.cell(), *(model.cell(l1("overall", level), retention=0.0) for level in LEVELS[:4])]
    cells += [model.cell(l1(scope, level), retention=0.0, below=True) for scope in SCOPES[1:] for level in LEVELS[:3]]
    cells += [model.cell(l1(scope, 0.4), retention=1.0) for scope in SCOPES[1:]]
    finding = found(cells, "C1")
    assert finding.word == HOLDS
    assert "less at 2 of 8, over .050 more at 0" in finding.detail


def test_c1_needs_both_parts_at_a_shared_level() -> None:
    """Without ffn, or with ffn at other levels, there is no finding."""
    model = Model(200)
    cells = model.grid({"overall": [1.0], "attention": [1.0]}, (0.1,))
    assert not decide(cells)
    assert not decide([*cells, model.cell(l1("ffn", 0.2))])
    assert decide([*cells, model.cell(l1("ffn", 0.1))])
    assert not decide([*cells, model.cell(l1("ffn", 0.1, sparsity_of="attention"))])


# C2


@pytest.mark.parametrize(
    ("at", "word", "place"),
    [(0.8, HOLDS, (0.7, 0.8)), (0.6, HOLDS, (0.5, 0.6)), (0.5, DOES_NOT_HOLD, (0.4, 0.5)), (0.2, DOES_NOT_HOLD, (0.1, 0.2))],
)
def test_c2_finds_the_side_of_the_cliff(at: float, word: str, place: tuple[float, float]) -> None:
    """A cliff planted on either side of 0.5, its step bordering on 0.5 included, is found there in each scope by itself."""
    cells = Model().grid({"overall": falling(at), "ffn": falling(0.9)})
    finding = found(cells, "C2", "overall")
    assert (finding.word, (finding.low, finding.high)) == (word, place)
    assert finding.estimate == pytest.approx(sum(place) / 2)
    assert f"steepest from {place[0]:g} to {place[1]:g}" in finding.detail
    assert found(cells, "C2", "ffn").word == HOLDS


def test_c2_is_undecided_across_the_middle_and_without_a_cliff() -> None:
    """Two near-equal steps on both sides of 0.5 leave it open; so does a model that never falls to half."""
    slope = [1.0, 1.0, 0.75, 0.5, 0.5, 0.5, 0.25, 0.0, 0.0]
    finding = found(Model(300).grid({"overall": slope}), "C2", "overall")
    assert finding.word == UNDECIDED
    assert finding.low is not None
    assert finding.high is not None
    assert finding.low < 0.5 < finding.high
    flat = found(Model().grid({"overall": falling(0.2, to=0.8)}), "C2", "overall")
    assert flat.word == UNDECIDED
    assert "s50 beyond" in flat.detail


def test_c2_on_a_short_grid_can_only_fail_to_hold() -> None:
    """A grid up to 0.3: collapsed before is against the claim, s50 with its interval; alive says nothing; one that goes to 0.5 is short."""
    levels = (0.1, 0.2, 0.3)
    finding = found(Model().grid({"overall": [1.0, 0.8, 0.2]}, levels), "C2", "overall")
    assert finding.word == DOES_NOT_HOLD
    assert finding.estimate == pytest.approx(0.25, abs=0.02)
    assert finding.high is not None
    assert finding.high < 0.3
    assert found(Model().grid({"overall": [1.0, 0.9, 0.8]}, levels), "C2", "overall").word == NOT_APPLICABLE
    assert found(Model().grid({"overall": [1.0, 0.9, 0.8]}, (0.1, 0.3, 0.5)), "C2", "overall").word == NOT_APPLICABLE
    assert not decide(Model(200).grid({"overall": [1.0, 0.2]}, (0.1, 0.2)))


def test_c2_is_not_moved_by_a_score_that_falls_below_the_floor() -> None:
    """The step at which knowledge ends is the cliff, not a later one from the floor to below it."""
    model = Model(known=0.25)
    curve = [1.0, 1.0, 0.9, 0.6, 0.3, 0.02, 0.0]
    cells = [model.cell(), *(model.cell(l1("overall", level), retention=kept) for level, kept in zip(LEVELS, curve, strict=False))]
    cells.append(model.cell(l1("overall", 0.8), retention=0.0, below=True))
    finding = found(cells, "C2", "overall")
    assert finding.high is not None
    assert finding.high <= 0.6


# C3


@pytest.mark.parametrize(
    ("attention", "ffn", "word"), [(0.99, 0.9, HOLDS), (0.99, 0.99, HOLDS), (0.93, 0.99, DOES_NOT_HOLD), (0.965, 0.985, UNDECIDED)]
)
def test_c3_compares_int8_on_attention_with_ffn(attention: float, ffn: float, word: str) -> None:
    """Planted losses decide in both directions and at equality; a loss beside the margin of .02 is left open."""
    model = Model()
    cells = [model.cell(), model.cell(int8("attention"), retention=attention), model.cell(int8("ffn"), retention=ffn)]
    finding = found(cells, "C3", "equal scope")
    assert finding.word == word
    assert finding.estimate == pytest.approx(attention - ffn, abs=0.01)


def test_c3_decides_each_arm_by_itself() -> None:
    """The equal-weights arm may say otherwise than the equal-scope one."""
    model = Model()
    kept = {"attention": 0.95, "ffn": 0.9, "ffn_like_attention": 1.0}
    cells = [model.cell(), *(model.cell(int8(scope), retention=value) for scope, value in kept.items())]
    assert found(cells, "C3", "equal scope").word == HOLDS
    assert found(cells, "C3", "equal weights").word == DOES_NOT_HOLD


def test_c3_is_decided_in_float32_with_both_scopes_only() -> None:
    """Bfloat16 cells, or attention alone, are no finding."""
    half = Model(dtype="bfloat16")
    assert not decide([half.cell(), half.cell(int8("attention")), half.cell(int8("ffn"))])
    full = Model()
    assert not decide([full.cell(), full.cell(int8("attention"))])


# C4


def rows_gone(model: Model, share: float, seed: int = 0) -> np.ndarray:
    """Mark facts whose gold row is gone."""
    return np.asarray(np.random.default_rng(100 + seed).random(model.n) < share)


def smallest(model: Model, single: list[float], rows: list[float], *, recorded: bool = True) -> list[Cell]:
    """Make cells of the final layer at levels .2 and .4 whose rows removed take their facts with them."""
    cells = [model.cell()]
    for level, kept_single, kept_rows in zip((0.2, 0.4), single, rows, strict=True):
        cells.append(model.cell(head("l1_per_matrix", level), retention=kept_single))
        cell = model.cell(head("ln_structured", level), retention=kept_rows, gone=rows_gone(model, level))
        cells.append(cell if recorded else replace(cell, gold_row_gone=None))
    return cells


@pytest.mark.parametrize(
    ("rows", "word"), [([0.8, 0.6], HOLDS), ([1.0, 1.0], DOES_NOT_HOLD), ([0.96, 0.94], DOES_NOT_HOLD), ([0.95, 0.87], UNDECIDED)]
)
def test_c4_decides_on_facts_whose_gold_row_is_still_there(rows: list[float], word: str) -> None:
    """Facts lost with their own row do not count; those lost beside it decide, as the mean over levels."""
    finding = found(smallest(Model(), [1.0, 1.0], rows), "C4", "smallest")
    assert finding.word == word
    assert finding.estimate == pytest.approx(1 - sum(rows) / 2, abs=0.03)
    assert "gold row gone for .197 to .398 of the facts, decided on the rest" in finding.detail


def test_c4_without_recorded_rows_says_that_it_was_decided_on_all() -> None:
    """Where the rows removed are not recorded, their own facts count, and the detail says so."""
    finding = found(smallest(Model(), [1.0, 1.0], [1.0, 1.0], recorded=False), "C4", "smallest")
    assert finding.word == HOLDS
    assert "all facts" in finding.detail


def test_c4_leaves_out_levels_at_which_single_weights_kill_too() -> None:
    """A level without knowledge in either arm does not dilute the mean; if all are, the claim cannot be judged."""
    finding = found(smallest(Model(), [1.0, 0.05], [0.8, 0.0]), "C4", "smallest")
    assert finding.word == HOLDS
    assert "levels 0.2" in finding.detail
    assert finding.n_cells == 2
    assert found(smallest(Model(), [0.05, 0.0], [0.0, 0.0]), "C4", "smallest").word == NOT_APPLICABLE


def random_head(model: Model, kept: list[float], n_unstructured: int = 9) -> list[Cell]:
    """Make random cells of the final layer at .2: per seed the retention without rows, nothing lost without single weights."""
    cells = [model.cell()]
    for seed, retention in enumerate(kept):
        named = {"seed": seed} if seed else {}
        if seed < n_unstructured:
            cells.append(model.cell(head("random_unstructured", 0.2, **named)))
        cells.append(model.cell(head("random_structured", 0.2, **named), retention=retention, gone=rows_gone(model, 0.2, seed)))
    return cells


def test_c4_random_arm_allows_for_the_spread_of_the_seeds() -> None:
    """Equal means: seeds that agree decide, seeds that spread do not."""
    agreeing = found(random_head(Model(), [0.82, 0.8, 0.78, 0.81, 0.79]), "C4", "random")
    assert agreeing.word == HOLDS
    assert "5 seeds" in agreeing.detail
    assert agreeing.n_cells == 10
    spread = found(random_head(Model(), [1.0, 0.95, 0.85, 0.7, 0.5]), "C4", "random")
    assert spread.estimate == pytest.approx(agreeing.estimate, abs=0.02)
    assert spread.word == UNDECIDED
    assert found(random_head(Model(), [1.0] * 5), "C4", "random").word == DOES_NOT_HOLD


def test_c4_random_arm_needs_five_common_seeds() -> None:
    """Four seeds, or five of which one has no counterpart, are no finding."""
    assert not decide(random_head(Model(), [0.5] * 4))
    assert not decide(random_head(Model(), [0.5] * 5, n_unstructured=4))


# Which cells are compared


def test_dense_may_cover_more_facts_than_the_cells() -> None:
    """A sample judged against the whole stored dense run gives what the dense run of that sample gives."""
    whole = Model()
    cells = whole.grid({"overall": falling(0.4), "attention": falling(0.8), "ffn": falling(0.6)})

    def part(cell: Cell) -> Cell:
        chosen = slice(None, None, 3)
        return replace(cell, ids=cell.ids[chosen], hashes=cell.hashes[chosen], right=cell.right[chosen])

    sampled = [part(cell) for cell in cells[1:]]
    assert decide([cells[0], *sampled]) == decide([part(cells[0]), *sampled])
    assert decide(sampled) == ()


def test_facts_that_changed_are_not_compared() -> None:
    """A dense run on facts of other content, of another dtype or of another model is none."""
    dense, *cells = Model(300).grid({"overall": falling(0.4)})
    assert decide([dense, *cells])
    assert not decide([replace(dense, hashes=dense.hashes + np.uint32(1)), *cells])
    assert not decide([replace(dense, dtype="bfloat16"), *cells])
    assert not decide([replace(dense, model="other"), *cells])


def test_order_copies_and_chains_change_nothing() -> None:
    """The same cells in another order, twice, or among chains of which no claim speaks give the same findings."""
    model = Model(500)
    cells = model.grid({"overall": falling(0.4), "attention": falling(0.8), "ffn": falling(0.6)})
    chain = model.cell(l1("overall", 0.4), int8("ffn"), retention=1.0)
    assert decide([chain, *reversed(cells), *cells]) == decide(cells)


def test_models_are_decided_apart() -> None:
    """Findings come by claim, then by model in the order given."""
    one, two = (Model(400, name=name).grid({"overall": falling(0.8), "ffn": falling(0.2)}) for name in ("one", "two"))
    assert [(f.claim, f.model, f.arm) for f in decide([*one, *two])] == [
        ("C2", "one", "overall"),
        ("C2", "one", "ffn"),
        ("C2", "two", "overall"),
        ("C2", "two", "ffn"),
    ]


def test_a_dense_model_that_knows_nothing_is_not_judged() -> None:
    """Where the dense score is not shown above the floor, every claim is not applicable and nothing is estimated."""
    model = Model(known=0.0)
    cells = model.grid({scope: falling(0.4) for scope in SCOPES})
    cells += [model.cell(int8(scope)) for scope in ("attention", "ffn")] + smallest(model, [1.0, 1.0], [1.0, 1.0])[1:]
    findings = decide(cells)
    assert {f.claim for f in findings} == {"C1", "C2", "C3", "C4"}
    assert {(f.word, f.estimate) for f in findings} == {(NOT_APPLICABLE, None)}


def test_nothing_to_decide() -> None:
    """No cells give no findings; a confidence out of range is refused."""
    assert decide([]) == ()
    with pytest.raises(KickError, match="confidence"):
        decide([], confidence=95)


def measurement(ids: list[str], **arrays: np.ndarray) -> Measurement:
    """Make a measurement of the facts probe."""
    examples = Examples(ids=np.asarray(ids), groups=np.asarray(ids), hashes=np.arange(len(ids), dtype=np.uint32), arrays=arrays)
    score = ProbeScore(probe="facts", version=1, metric="p1", metrics={}, floors={"p1": 0.25}, trivial={}, n=len(ids), examples=examples)
    report = CompressionReport(steps=(), n_body=1, n_total=1)
    return Measurement(cell="c", dtype="float32", scores=(score,), compression=report, timing=Timing(seconds={}), fingerprint={})


def test_cells_are_taken_from_measurements_and_stored_runs() -> None:
    """Both give the same cell, sorted by id; what was not asked gives none."""
    measured = measurement(["b", "c", "a"], p1=np.asarray([True, False, False]), gold_row_gone=np.asarray([False, False, True]))
    stored = Baseline(
        model="m",
        cell="c",
        dtype=measured.dtype,
        recorded="2025-01-01",
        scores=measured.scores,
        compression=measured.compression,
        timing=measured.timing,
        fingerprint={},
    )
    spec = CompressionSpec(steps=(head("ln_structured", 0.2),))
    for source in (measured, stored):
        cell = cell_from("m", "encoder", spec, source)
        assert cell is not None
        assert cell.ids.tolist() == ["a", "b", "c"]
        assert cell.hashes.tolist() == [2, 0, 1]
        assert cell.right.tolist() == [False, True, False]
        assert cell.gold_row_gone is not None
        assert cell.gold_row_gone.tolist() == [True, False, False]
        assert (cell.floor, cell.family, cell.dtype) == (0.25, "encoder", "float32")
    bare = cell_from("m", "encoder", spec, measurement(["a"], p1=np.asarray([True])))
    assert bare is not None
    assert bare.gold_row_gone is None
    assert cell_from("m", "encoder", spec, replace(measured, scores=())) is None


# The difference of two retentions


def contrast(dense: np.ndarray, x: np.ndarray, y: np.ndarray, floor: float) -> Contrast:
    """Make a contrast of outcomes through a panel."""
    model = Model(len(dense))
    base = replace(model.cell(), right=dense, floor=floor)
    cells = [replace(base, right=right, compression=CompressionSpec(steps=(l1(s, 0.5),))) for s, right in (("attention", x), ("ffn", y))]
    (panel,) = panels([base, *cells], 0.95)
    return panel.contrast(panel.cells[0], panel.cells[1])


def test_contrast_is_the_paired_difference_while_both_know_something() -> None:
    """Far above the floor estimate and interval are those of `stats.paired_difference_of_retentions`."""
    rng = np.random.default_rng(3)
    dense = rng.random(800) < 0.7
    x, y = dense & (rng.random(800) < 0.9), dense & (rng.random(800) < 0.8)
    found_here = contrast(dense, x, y, 0.1)
    estimate, interval = stats.paired_difference_of_retentions(dense, x, y, 0.1)
    assert found_here.estimate == pytest.approx(estimate)
    assert (found_here.interval(0.95).low, found_here.interval(0.95).high) == pytest.approx((interval.low, interval.high))
    assert found_here.swapped().interval(0.95).low == pytest.approx(-interval.high)


def test_contrast_is_cut_at_what_is_known() -> None:
    """Against a model far below the floor the difference is what the other one retains, not more; between two such it is 0."""
    model = Model()
    dense, half = model.cell().right, model.cell(retention=0.5).right
    nothing = np.zeros(N, np.bool_)
    against = contrast(dense, half, nothing, 0.3)
    alone = stats.retention_interval(PairedCounts.from_outcomes(dense, half), 0.3)
    assert against.raw > 0.7
    assert (against.interval(0.95).low, against.interval(0.95).high) == pytest.approx((alone.low, alone.high))
    dead = contrast(dense, model.cell(retention=0.1).right, nothing, 0.3)
    assert dead.estimate == 0.0
    assert dead.interval(0.95).high == 0.0
    assert dead.p_more() > 0.5


def test_agreement_on_every_fact_keeps_a_width() -> None:
    """Two cells that agree on all 20 facts are not shown to be equal to within a tenth."""
    dense = np.arange(20) < 15
    interval = contrast(dense, dense, dense, 0.0).interval(0.95)
    assert interval.low < -0.1
    assert interval.high > 0.1


@pytest.mark.parametrize(("more", "less"), [(30, 10), (9, 0), (0, 0), (4, 12)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_p_value_of_a_difference_agrees_with_its_interval(more: int, less: int, confidence: float) -> None:
    """At the lower bound of Tango's interval, found elsewhere by a constrained maximum, the p-value is the level."""
    pair = PairedCounts(both=100, lost=more, gained=less, neither=60)
    for counts, sign in ((pair, 1.0), (PairedCounts(both=100, lost=less, gained=more, neither=60), -1.0)):
        bound = stats.drop_interval(pair, confidence)
        difference = bound.low if sign > 0 else -bound.high
        if difference > 0.0:
            assert _p_paired(counts, difference) == pytest.approx(1.0 - confidence, abs=1e-6)
    assert _p_paired(pair, 0.0) == stats.mcnemar_exact_one_sided(more, less)


# What is printed


def all_findings() -> tuple[Finding, ...]:
    """Decide every claim on two models with long names."""
    cells = []
    for name in ("tiny-encoder-decoder", "smollm2-135m-instruct-with-a-long-name"):
        model = Model(400, name=name)
        cells += model.grid({"overall": falling(0.4), "attention": falling(0.8), "ffn": falling(0.6)})
        cells += [model.cell(int8(scope)) for scope in ("attention", "ffn", "ffn_like_attention")]
        cells += smallest(model, [1.0, 1.0], [0.8, 0.6])[1:] + random_head(model, [0.8] * 5)[1:]
    return decide(cells)


def test_lines_fit_their_width() -> None:
    """One line a claim and one a finding, none too long; at 80 columns each still shows word and interval, at 160 the detail."""
    findings = all_findings()
    for width in (20, 60, 80, 100, 160, 300):
        shown = lines(findings, width)
        assert len(shown) == len(findings) + 4
        assert max(map(len, shown)) <= width
        assert all(line == line.rstrip() for line in shown)
    narrow = [line for line in lines(findings, 80) if line.startswith("  ")]
    assert all(f.word in line and "]" in line for f, line in zip(findings, narrow, strict=True))
    wide = [line for line in lines(findings, 300) if line.startswith("  ")]
    assert all(f.detail in line for f, line in zip(findings, wide, strict=True))
    assert lines((), 80) == []


def test_lines_name_the_dtype_where_one_model_is_decided_in_two() -> None:
    """The dtype tells apart what would else look the same."""
    cells = [c for dtype in ("float32", "bfloat16") for c in Model(300, dtype=dtype).grid({"overall": falling(0.8)})]
    shown = lines(decide(cells), 100)
    assert "  m/float32 " in shown[1]
    assert "  m/bfloat16 " in shown[2]
    assert "  m " in lines(decide(cells[:10]), 100)[1]


def test_findings_are_json() -> None:
    """Every finding survives strict JSON, infinite bounds included."""
    findings = (*all_findings(), *decide(Model(300).grid({"overall": falling(1.0)})))
    for finding in findings:
        assert Finding(**json.loads(json.dumps(finding.to_json(), allow_nan=False))) == finding
    assert not any(math.isinf(f.high) for f in findings if f.high is not None)
