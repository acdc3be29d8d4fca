"""Claims about other probes than `facts`: their scores cell by cell, and differences with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, Finding, number
from pytest_kick.claims.ruling import EQUAL, Ruling
from pytest_kick.stats import Interval, percentile_interval, resamples

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.claims.cell import Measured
    from pytest_kick.result import ProbeScore
    from pytest_kick.spec import CompressionSpec

N_RESAMPLES = 2000
MOST_CORRELATED = 0.9
"""A sample of few flips can show any correlation: a higher one would leave a difference without a width."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probed:
    """Hold what one probe measured in one cell.

    Attributes:
        model: name of the model.
        family: its family.
        compression: what was done to it; no steps for the dense model.
        dtype: of the forward pass.
        score: of the probe.
        noise: metric -> how far chance alone moves it, see `pytest_kick.noise`: of dense models of which it was measured.
    """

    model: str
    family: str
    compression: CompressionSpec
    dtype: str
    score: ProbeScore
    noise: Mapping[str, float] = field(default_factory=dict)

    def on(self, ids: NDArray[np.str_], metric: str) -> NDArray[np.bool_]:
        """Return the outcomes of the examples named, `(n,)`, in that order."""
        return self.score.examples.subset(ids).outcome(metric)


def probed_from(model: str, family: str, compression: CompressionSpec, measured: Measured, probe: str) -> list[Probed]:
    """Take from a measurement, or from a stored run, the scores of a probe, whatever its parameters.

    Args:
        model: name of the model; of the shelf, where a suite brings its own facts.
        family: its family.
        compression: what was done to it.
        measured: a `Measurement` or a `Baseline`.
        probe: name of the probe, without parameters.
    """
    scores = [score for score in measured.scores if score.probe.split("--")[0].split(":")[0] == probe]
    return [
        Probed(
            model=model,
            family=family,
            compression=compression,
            dtype=measured.dtype,
            score=score,
            noise=measured.noise_floor.get(score.probe, {}),
        )
        for score in scores
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gap:
    """Hold the difference of two quantities, `first` less `second`, measured on the same n examples.

    Attributes:
        name: what is compared, as a detail names it.
        first: estimate of the first.
        second: estimate of the second.
        draws: `(B,)` resamples of the difference.
        bounds: intervals of both at any confidence, none of zero width.
        correlation: of the two estimates.
        n: examples, or pairs of them.
    """

    name: str
    first: float
    second: float
    draws: NDArray[np.float64]
    bounds: Callable[[float], tuple[Interval, Interval]]
    correlation: float
    n: int

    @property
    def estimate(self) -> float:
        """Return the difference."""
        return self.first - self.second

    def interval(self, confidence: float) -> Interval:
        """Return the bootstrap interval, or the one made of the bounds of both quantities where that reaches farther.

        The bootstrap cannot see what did not happen in the sample; score intervals can.

        Source: Zou 2007, Psychol. Methods 12:399-413 (the interval of a difference of correlated estimates from theirs).
        """
        drawn = percentile_interval(self.draws, confidence)
        first, second = self.bounds(confidence)
        rho = float(np.clip(self.correlation, -1.0, MOST_CORRELATED))
        below = _reach(self.first - first.low, second.high - self.second, rho)
        above = _reach(first.high - self.first, self.second - second.low, rho)
        return Interval(low=min(drawn.low, self.estimate - below), high=max(drawn.high, self.estimate + above))


def _reach(a: float, b: float, rho: float) -> float:
    return math.sqrt(max(0.0, a * a + b * b - 2.0 * rho * a * b))


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the correlation of what single examples add to two estimates, `(n,)` each; 0 where one does not vary."""
    a, b = first - first.mean(), second - second.mean()
    norm = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / norm if norm else 0.0


@lru_cache(maxsize=4)
def drawn(n: int) -> NDArray[np.float64]:
    """Return the resamples of n examples as weights `(B, n)`: the same for all comparisons, so that they are paired."""
    return np.concatenate(list(resamples(n, groups=None, n_resamples=N_RESAMPLES, seed=0)))


def rule(gaps: Sequence[Gap], confidence: float) -> Ruling:
    """Decide whether every difference lies above 0, as `ruling.more` does.

    `holds` where that is shown of each; `does not hold` where one is shown to be less than 0.05 and not shown to be above 0
    (Bonferroni). What decides is the one of the smallest lower bound, or, where the rule does not hold, of the smallest upper one.
    """
    intervals = [gap.interval(confidence) for gap in gaps]
    strict = [gap.interval(1.0 - (1.0 - confidence) / len(gaps)) for gap in gaps]
    behind = [i for i, wide in enumerate(strict) if wide.high < EQUAL and intervals[i].low <= 0.0]
    word = HOLDS if all(interval.low > 0.0 for interval in intervals) else DOES_NOT_HOLD if behind else UNDECIDED
    shown = min(behind, key=lambda i: intervals[i].high) if behind else int(np.argmin([interval.low for interval in intervals]))
    return Ruling(word=word, index=shown, estimate=gaps[shown].estimate, interval=intervals[shown])


def found(first: Probed, claim: tuple[str, str], arm: str, gaps: Sequence[Gap], why: str, unit: str, confidence: float) -> Finding:
    """Make the finding of a model.

    Args:
        first: any cell of the model.
        claim: its id and what it says.
        arm: which comparison of the claim.
        gaps: the differences, above 0 where the claim holds.
        why: said where there is none.
        unit: of the differences.
        confidence: of each bound.
    """
    ruling = rule(gaps, confidence) if gaps else None
    gap = None if ruling is None else gaps[ruling.index]
    return Finding(
        claim=claim[0],
        model=first.model,
        family=first.family,
        dtype=first.dtype,
        arm=arm,
        statement=claim[1],
        word=NOT_APPLICABLE if ruling is None else ruling.word,
        estimate=None if ruling is None else ruling.estimate,
        low=None if ruling is None else ruling.interval.low,
        high=None if ruling is None else ruling.interval.high,
        unit=unit,
        detail=why if gap is None else f"{gap.name}: {number(gap.first)} against {number(gap.second)}; cells: {len(gaps)}",
        n=0 if gap is None else gap.n,
        n_cells=len(gaps),
    )
