"""C10, C12 and C18, decided on scores in which the truth was planted, both ways."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_measurements import make_measurement, make_score
from test_claims import l1

from pytest_kick.claims import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED
from pytest_kick.claims.books import long_against_short, open_against_closed
from pytest_kick.claims.displaced import CALIPER, against_never_known, displaced, in_differences, matched_pairs
from pytest_kick.claims.probed import Gap, Probed, correlation, probed_from, rule
from pytest_kick.examples import Examples
from pytest_kick.spec import CompressionSpec
from pytest_kick.stats import Interval, PairedCounts, drop_interval

N = 1500
DENSE = CompressionSpec()


def examples(n: int, groups: int = 5, **arrays: Any) -> Examples:
    """Return n examples with these arrays."""
    return Examples(
        ids=np.asarray([f"q{i:05d}" for i in range(n)]),
        groups=np.asarray([f"r{i % groups}" for i in range(n)]),
        hashes=np.arange(n, dtype=np.uint32),
        arrays=arrays,
    )


def probed(compression: CompressionSpec, asked: Examples, *, floors: dict[str, float], dtype: str = "float32", **settings: Any) -> Probed:
    """Return one cell's score."""
    score = make_score(asked, probe="made-up", floors=floors, settings=settings)
    return Probed(model="m", family="decoder", compression=compression, dtype=dtype, score=score)


def pruned(level: float = 0.3) -> CompressionSpec:
    """Return a compression."""
    return CompressionSpec(steps=(l1("overall", level),))


class Reader:
    """Make cells of a model that knows 70% of n facts closed book and finds 90% in a text."""

    def __init__(self, n: int = N) -> None:
        """Draw what is known and found, and how easily each is lost."""
        self.rng = np.random.default_rng(3)
        self.n = n
        self.known, self.found = self.rng.random(n) < 0.7, self.rng.random(n) < 0.9
        self.ease = self.rng.permutation((np.arange(n) + 0.5) / n)

    def cell(self, compression: CompressionSpec = DENSE, *, closed: float = 1.0, opened: float = 1.0, distractors: int = 4) -> Probed:
        """Make a cell that keeps these shares of what was known, and of what was found."""
        arrays = {"closed": self.known & (self.ease < closed), "open": self.found & (self.ease < opened)}
        return probed(compression, examples(self.n, **arrays), floors={"closed": 0.05, "open": 0.2}, distractors=distractors)


def retention(reader: Reader, share: float, what: np.ndarray, floor: float) -> float:
    """Return the retention by its definition."""
    return max(((what & (reader.ease < share)).mean() - floor) / (what.mean() - floor), 0.0)


@pytest.mark.parametrize(
    ("closed", "opened", "word"),
    [(0.5, 0.8, HOLDS), (0.8, 0.5, DOES_NOT_HOLD), (0.7, 0.7, DOES_NOT_HOLD), (1.0, 1.0, NOT_APPLICABLE), (0.05, 0.2, NOT_APPLICABLE)],
)
def test_c10_compares_open_and_closed_book_on_the_same_facts(closed: float, opened: float, word: str) -> None:
    """Open book that loses less holds; as much or more does not; nothing lost, or all dead, shows nothing."""
    reader = Reader()
    (finding,) = open_against_closed([reader.cell(pruned(), closed=closed, opened=opened), reader.cell()])
    assert (finding.claim, finding.arm, finding.word) == ("C10", "4 distractors", word)
    if word != NOT_APPLICABLE:
        gap = retention(reader, opened, reader.found, 0.2) - retention(reader, closed, reader.known, 0.05)
        assert finding.estimate == pytest.approx(gap)
        assert finding.low is not None
        assert finding.high is not None
        assert finding.low < gap < finding.high
        assert finding.n == N


def test_c10_is_open_on_few_facts_and_needs_a_dense_model_that_reads() -> None:
    """A small difference on 60 facts decides nothing; a dense model at the floor of copying is not judged; other texts are not compared."""
    reader = Reader(60)
    cells = [reader.cell(), reader.cell(pruned(), closed=0.6, opened=0.7)]
    assert [f.word for f in open_against_closed(cells)] == [UNDECIDED]
    reader = Reader()
    reader.found = reader.rng.random(N) < 0.19
    (blind,) = open_against_closed([reader.cell(), reader.cell(pruned(), closed=0.5)])
    assert (blind.word, blind.estimate) == (NOT_APPLICABLE, None)
    assert open_against_closed([reader.cell(distractors=16), reader.cell(pruned())]) == []


def test_c12_compares_longer_texts_with_the_shortest() -> None:
    """More lost after 16 and as much after 4 as after none: one holds, the other does not; each is an arm of its own."""
    reader = Reader()
    cells = [reader.cell(distractors=d) for d in (0, 4, 16)]
    cells += [reader.cell(pruned(), closed=0.5, opened=kept, distractors=d) for d, kept in ((0, 0.9), (4, 0.9), (16, 0.5))]
    findings = {finding.arm: finding for finding in long_against_short(cells)}
    assert {arm: f.word for arm, f in findings.items()} == {
        "4 against 0 distractors": DOES_NOT_HOLD,
        "16 against 0 distractors": HOLDS,
    }
    expected = retention(reader, 0.9, reader.found, 0.2) - retention(reader, 0.5, reader.found, 0.2)
    assert findings["16 against 0 distractors"].estimate == pytest.approx(expected)
    assert long_against_short(cells[:1] + cells[3:4]) == []


def test_c12_compares_the_facts_in_both() -> None:
    """Facts whose longer text did not fit are left out of both arms."""
    reader = Reader()
    short = [reader.cell(distractors=0), reader.cell(pruned(), opened=0.9, distractors=0)]
    long = [reader.cell(distractors=16), reader.cell(pruned(), opened=0.5, distractors=16)]
    kept = np.arange(400, N)
    floors = {"closed": 0.05, "open": 0.2}
    cut = [probed(cell.compression, cell.score.examples.take(kept), floors=floors, distractors=16) for cell in long]
    (finding,) = long_against_short([*short, *cut])
    assert (finding.n, finding.word) == (N - 400, HOLDS)


class Learner:
    """Make cells of `displacement`: the dense model knows 60% of n facts, some of the others come right by exemplars."""

    def __init__(self, n: int = N) -> None:
        """Draw what is known."""
        self.n, self.rng = n, np.random.default_rng(5)
        self.zero = self.rng.random(n) < 0.6
        self.few = self.zero ^ (self.rng.random(n) < 0.1)

    def cell(self, *, lost: float, back: float, by_chance: float = 0.1) -> Probed:
        """Make a compressed cell that lost a share of the known facts, some of which are back; never-known ones come right by chance."""
        gone = self.zero & (self.rng.random(self.n) < lost)
        zero = self.zero & ~gone
        never = ~self.zero & ~self.few
        few = np.where(gone, self.rng.random(self.n) < back, np.where(never, self.rng.random(self.n) < by_chance, self.few))
        arrays = {
            "zero": zero,
            "few": few,
            "dense_zero": self.zero,
            "dense_few": self.few,
            "lost": gone,
            "back": gone & few,
            "never_known": never,
            "zero_margin": np.where(zero, 1.0, -self.rng.random(self.n) * 3).astype(np.float32),
        }
        return probed(pruned(), examples(self.n, **arrays), floors={"zero": 0.05, "few": 0.1}, shots=4)


@pytest.mark.parametrize(("back", "by_chance", "word"), [(0.6, 0.1, HOLDS), (0.3, 0.5, DOES_NOT_HOLD), (0.1, 0.1, DOES_NOT_HOLD)])
def test_c18_needs_more_back_than_never_known_facts_come_right(back: float, by_chance: float, word: str) -> None:
    """Lost facts that come back hold; as many as come right of those never known, or fewer, do not, whatever exemplars do to all facts."""
    findings = displaced([Learner(4000).cell(lost=0.4, back=back, by_chance=by_chance)])
    assert [(f.claim, f.arm) for f in findings] == [("C18", "all facts"), ("C18", "lost facts")]
    assert [f.word for f in findings] == [HOLDS, word]
    assert findings[1].estimate == pytest.approx(back - by_chance, abs=0.05)
    assert findings[0].n == 4000 > findings[1].n


def test_the_difference_in_differences_is_what_it_says() -> None:
    """Both steps by their definition; the interval holds the estimate and covers Tango's widths of both steps."""
    asked = Learner().cell(lost=0.3, back=0.4).score.examples
    zero, few, dense_zero, dense_few = (asked.outcome(name).astype(int) for name in ("zero", "few", "dense_zero", "dense_few"))
    gap = in_differences(asked)
    assert gap.estimate == pytest.approx(np.mean((few - zero) - (dense_few - dense_zero)))
    interval = gap.interval(0.95)
    assert interval.low < gap.estimate < interval.high
    error = np.std((few - zero) - (dense_few - dense_zero)) / np.sqrt(N)
    assert interval.width == pytest.approx(2 * 1.645 * error, rel=0.15)


def test_nothing_seen_is_no_certainty() -> None:
    """A model that exemplars change in no fact has an interval of some width, and so has a lost set of which none is back."""
    n = 40
    right = np.arange(n) % 2 == 0
    same = {"zero": right, "few": right, "dense_zero": right, "dense_few": right}
    assert in_differences(examples(n, **same)).interval(0.95).width > 2 / n
    lost = np.arange(n) < 20
    none = np.zeros(n, np.bool_)
    gone = {"zero": none, "few": none, "lost": lost, "never_known": ~lost, "zero_margin": np.full(n, -1.0, np.float32)}
    gap = against_never_known(examples(n, 1, **gone))
    assert gap is not None
    tango = drop_interval(PairedCounts.from_outcomes(none[:20], none[:20]), 0.95)
    assert (gap.interval(0.95).low, gap.interval(0.95).high) == (pytest.approx(tango.low), pytest.approx(tango.high))


def test_pairs_are_as_near_as_can_be() -> None:
    """Against all assignments by brute force: as many pairs within the caliper as possible, then the smallest sum; relations apart."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        margin = -rng.random(9) * 2
        lost = np.asarray([1, 1, 1, 0, 0, 0, 0, 1, 0], np.bool_)
        asked = examples(9, 1, lost=lost, zero=np.zeros(9, np.bool_), never_known=~lost, zero_margin=margin.astype(np.float32))
        groups = np.asarray(["a"] * 7 + ["b"] * 2)
        asked = Examples(ids=asked.ids, groups=groups, hashes=asked.hashes, arrays=asked.arrays)
        rows, columns = matched_pairs(asked)
        best = max(_pairings(margin, [0, 1, 2], [3, 4, 5, 6]), key=lambda found: (found[0], -found[1]))
        inside = [abs(margin[i] - margin[j]) for i, j in zip(rows, columns, strict=True) if i < 7]
        assert (len(inside), sum(inside)) == (best[0], pytest.approx(best[1], abs=1e-5))
        assert ((rows < 7) == (columns < 7)).all()
        assert len(set(columns.tolist())) == len(columns)


def _pairings(margin: np.ndarray, lost: list[int], never: list[int]) -> list[tuple[int, float]]:
    found = []
    for chosen in itertools.permutations(never, len(lost)):
        apart = [abs(margin[i] - margin[j]) for i, j in zip(lost, chosen, strict=True)]
        near = [value for value in apart if value <= CALIPER]
        found.append((len(near), sum(near)))
    return found


def test_c18_is_not_asked_of_models_that_lose_nothing_or_cannot_use_exemplars() -> None:
    """No loss, a dead model, and a dense model at the floor with exemplars are not applicable; a dense cell is no cell to decide on."""
    learner = Learner()
    whole = displaced([learner.cell(lost=0.0, back=0.0)])
    dead = displaced([learner.cell(lost=1.0, back=0.05, by_chance=0.05)])
    assert {f.word for f in [*whole, *dead]} == {NOT_APPLICABLE}
    learner.few = learner.rng.random(N) < 0.1
    (blind, _) = displaced([learner.cell(lost=0.4, back=0.2)])
    assert blind.word == NOT_APPLICABLE
    assert "with or without exemplars" in blind.detail
    dense = learner.cell(lost=0.4, back=0.2)
    assert displaced([Probed(model="m", family="decoder", compression=DENSE, dtype="float32", score=dense.score)]) == []


def test_scores_are_taken_by_the_name_of_the_probe() -> None:
    """Whatever its parameters; another probe whose name begins alike is not it."""
    asked = examples(4, right=np.ones(4, np.bool_))
    names = ("open_book", "open_book--distractors-16", "open_book_of_mine", "facts")
    measured = make_measurement(scores=tuple(make_score(asked, probe=name) for name in names))
    found = probed_from("m", "decoder", DENSE, measured, "open_book")
    assert [cell.score.probe for cell in found] == list(names[:2])


def test_noise_goes_with_its_own_probe() -> None:
    """What chance moves is stored by the probe's whole id, parameters and all."""
    asked = examples(4, right=np.ones(4, np.bool_))
    scores = tuple(make_score(asked, probe=name) for name in ("open_book", "open_book--distractors-16"))
    measured = replace(make_measurement(scores=scores), noise_floor={"open_book": {"flips_open": 0.01}})
    assert [cell.noise for cell in probed_from("m", "decoder", DENSE, measured, "open_book")] == [{"flips_open": 0.01}, {}]


def test_a_rule_over_cells_needs_each_of_them() -> None:
    """All above 0 hold, one shown to be about 0 does not, one wide leaves it open; correlation narrows, and never to nothing."""

    def gap(estimate: float, width: float, rho: float = 0.0) -> Gap:
        return Gap(
            name="g",
            first=estimate,
            second=0.0,
            draws=np.full(100, estimate),
            bounds=lambda _: (Interval(low=estimate - width, high=estimate + width), Interval(low=-width, high=width)),
            correlation=rho,
            n=10,
        )

    assert rule([gap(0.3, 0.1), gap(0.2, 0.1)], 0.95).word == HOLDS
    assert rule([gap(0.3, 0.1), gap(0.0, 0.01)], 0.95).word == DOES_NOT_HOLD
    assert rule([gap(0.3, 0.1), gap(0.1, 0.5)], 0.95).word == UNDECIDED
    assert gap(0.3, 0.1).interval(0.95).width == pytest.approx(2 * 0.1 * np.sqrt(2))
    assert 0 < gap(0.3, 0.1, 1.0).interval(0.95).width < gap(0.3, 0.1, 0.5).interval(0.95).width
    assert correlation(np.ones(3), np.arange(3.0)) == 0.0
