"""The difference between the retentions of two compressed models on the same facts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.stats import Interval, PairedCounts
from pytest_kick.stats.bootstrap import percentile_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contrast:
    """Compare the retentions of two models x and y, each cut off at 0: `max(R_x, 0) - max(R_y, 0)`.

    A model that has forgotten everything may score anywhere below the floor `max(chance, majority)`; differences down there are
    no differences in knowledge. So `x knows more than y by m` needs both `R_x - R_y > m` and `R_x > m`.

    The bootstrap cannot see what did not happen in the sample; Tango's interval for the difference of two scores, at the
    observed dense score, is the least width and the least p-value.

    Attributes:
        x: the first model against dense, over the facts compared.
        y: the second one against dense.
        pair: x (in the place of dense) against y.
        floor: score of a model that knows nothing.
        draws: `(B,)` resamples of `R_x - R_y`.
    """

    x: PairedCounts
    y: PairedCounts
    pair: PairedCounts
    floor: float
    draws: NDArray[np.float64]

    @property
    def margin(self) -> float:
        """Return the dense score above the floor, above 0."""
        return self.x.p_dense - self.floor

    @property
    def raw(self) -> float:
        """Return the difference without the cut at 0."""
        return stats.retention(self.x, self.floor) - stats.retention(self.y, self.floor)

    @property
    def estimate(self) -> float:
        """Return the difference."""
        return max(stats.retention(self.x, self.floor), 0.0) - max(stats.retention(self.y, self.floor), 0.0)

    def interval(self, confidence: float) -> Interval:
        """Return the interval of the difference; each bound alone holds at `confidence`, in (0.5, 1)."""
        drawn, (below, above) = percentile_interval(self.draws, confidence), self.least_widths(confidence)
        low, high = min(drawn.low, self.raw - below), max(drawn.high, self.raw + above)
        of_x, of_y = (_retained(counts, self.floor, confidence) for counts in (self.x, self.y))
        return Interval(low=_least(low, of_x.low, of_y.high), high=-_least(-high, of_y.low, of_x.high))

    def least_widths(self, confidence: float) -> tuple[float, float]:
        """Return how far Tango's interval reaches below and above the difference, in retention."""
        tango = stats.drop_interval(self.pair, confidence)
        return self.raw - tango.low / self.margin, tango.high / self.margin - self.raw

    def p_more(self, by: float = 0.0) -> float:
        """Return the p-value against "x knows at most `by` more than y", a retention of at least 0: small shows more."""
        drawn = (1 + int(np.count_nonzero(self.draws <= by))) / (1 + len(self.draws))
        return max(drawn, _p_paired(self.pair, by * self.margin), stats.retention_score_test(self.x, self.floor, by).p_retained)

    def swapped(self) -> Contrast:
        """Return the contrast of y and x."""
        pair = PairedCounts(both=self.pair.both, lost=self.pair.gained, gained=self.pair.lost, neither=self.pair.neither)
        return Contrast(x=self.y, y=self.x, pair=pair, floor=self.floor, draws=-self.draws)


@lru_cache(maxsize=1024)
def _retained(counts: PairedCounts, floor: float, confidence: float) -> Interval:
    """Return the interval of one retention; a cell is compared more than once."""
    return stats.retention_interval(counts, floor, confidence)


def _least(gap: float, ahead: float, behind: float) -> float:
    """Return the lower bound of `max(R_x, 0) - max(R_y, 0)`.

    Args:
        gap: lower bound of `R_x - R_y`.
        ahead: lower bound of `R_x`: the difference is shown to be above 0 only as far as x is.
        behind: upper bound of `R_y`: x cannot know less than y by more than y knows.
    """
    return max(0.0, min(gap, ahead)) if gap > 0.0 else max(gap, -max(behind, 0.0))


def _p_paired(pair: PairedCounts, difference: float) -> float:
    """Return the p-value against "p_x - p_y is at most `difference`", in [0, 1): exact McNemar at 0, Tango's score test above.

    Source: Tango 1998, Stat. Med. 17:891-908, equations 3 to 5.
    """
    if difference == 0.0:
        return stats.mcnemar_exact_one_sided(pair.lost, pair.gained)
    n, more, less = pair.n, pair.lost, pair.gained
    b = -more - less + (2 * n - more + less) * difference
    c = -less * difference * (1.0 - difference)
    share = (math.sqrt(b * b - 8.0 * n * c) - b) / (4.0 * n)
    z = (more - less - n * difference) / math.sqrt(n * (2.0 * share + difference * (1.0 - difference)))
    return 0.5 * math.erfc(z / math.sqrt(2.0))
