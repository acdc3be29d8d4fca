"""C13 and C14: answers that change while the score does not, and where they do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED
from pytest_kick.errors import KickError
from pytest_kick.noise import FLIPS, assumed_noise
from pytest_kick.stats import Interval, PairedCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Floats = NDArray[np.float64]

CHANCE = 0.5
"""AUC of a margin that says nothing of which answers change."""
FEWEST = 10
"""Answers that flipped, and that did not, from which anything is said: a sample cannot show what did not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlipsBeyondScore:
    """Hold what one cell shows about C13.

    Attributes:
        word: `holds`, `does not hold`, `undecided`, or `not applicable` where the score is shown to have changed.
        drop: dense score less that of the cell.
        drop_interval: Tango's.
        flips: share of examples right in one and wrong in the other.
        flips_interval: Clopper-Pearson.
    """

    word: str
    drop: float
    drop_interval: Interval
    flips: float
    flips_interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseFlips:
    """Hold how many answers of a dense model change by chance alone.

    Attributes:
        share: of the examples, in [0, 1).
        measured: between runs of it, with `--kick-noise`; else it is assumed.
    """

    share: float
    measured: bool

    def __str__(self) -> str:
        """Return it for the detail of a finding."""
        return f"two dense runs differ by {f'{self.share:.4f}'.lstrip('0')} ({'measured' if self.measured else 'assumed'})"


def dense_flips(measured: Mapping[str, float], metric: str, dtype: str, n: int) -> DenseFlips:
    """Return the floor that flips have to exceed.

    What is stored as the noise of a score is a net change, and flips that cancel move no score: only flips that were counted between
    dense runs are a floor of flips. Until they are, the cautious figures stand that a net loss has to exceed, or a measured net
    change that is larger, since no fewer answers flipped then.

    Args:
        measured: metric -> noise floor of the probe, as stored with the dense baseline.
        metric: the outcome.
        dtype: of the forward pass.
        n: examples that are compared.
    """
    if (counted := measured.get(f"{FLIPS}{metric}")) is not None:
        return DenseFlips(share=counted, measured=True)
    return DenseFlips(share=max(assumed_noise(dtype, n) / n, measured.get(metric, 0.0)), measured=False)


def flips_beyond_score(dense: Flags, now: Flags, noise: float, confidence: float = 0.95) -> FlipsBeyondScore:
    """Decide C13 on one cell: where the interval of the drop contains 0, more answers flip than between two dense runs.

    Args:
        dense: `(n,)` whether the dense model is right.
        now: `(n,)` whether the cell is.
        noise: share of flips between two dense runs, in [0, 1).
        confidence: of each bound, in (0.5, 1).

    Raises:
        KickError: the outcomes are not of one length.
    """
    pairs = PairedCounts.from_outcomes(dense, now)
    drop, flips = stats.drop_interval(pairs, confidence), stats.flips_interval(pairs, confidence)
    if not drop.low <= 0.0 <= drop.high:
        word = NOT_APPLICABLE
    else:
        word = HOLDS if flips.low > noise else DOES_NOT_HOLD if flips.high <= noise else UNDECIDED
    return FlipsBeyondScore(
        word=word,
        drop=(pairs.lost - pairs.gained) / pairs.n,
        drop_interval=drop,
        flips=(pairs.lost + pairs.gained) / pairs.n,
        flips_interval=flips,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginOfFlips:
    """Hold what one cell shows about C14.

    Attributes:
        word: `holds` where the lower bound lies above 0.5, `does not hold` where the upper one lies at or below it, `undecided`, or
            `not applicable` where no answer flipped, or all did; `undecided` too where fewer than 10 did, or did not.
        auc: how often an answer that flipped has a smaller dense margin than one that did not, ties counted half; None likewise.
        interval: of it, by DeLong's variance; None likewise.
    """

    word: str
    auc: float | None
    interval: Interval | None


def margin_of_flips(dense_margin: Floats, flipped: Flags, confidence: float = 0.95) -> MarginOfFlips:
    """Decide C14 on one cell: flips concentrate where the dense margin is small, on either side of 0.

    Args:
        dense_margin: `(n,)` of the dense model, nats.
        flipped: `(n,)` whether the answer flipped.
        confidence: of each bound, in (0.5, 1).

    Raises:
        KickError: the arrays are not of one length, or a margin is not finite.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837-845 (the variance of an AUC), on the scale of its logit.
    """
    size = np.abs(np.asarray(dense_margin, np.float64))
    if size.shape != np.shape(flipped) or not np.isfinite(size).all():
        shapes = f"shape {size.shape} for {np.shape(flipped)} flips"
        msg = f"claims: dense_margin: got {shapes}, or NaN, expected finite numbers of one length. Measure again."
        raise KickError(msg)
    if flipped.all() or not flipped.any():
        return MarginOfFlips(word=NOT_APPLICABLE, auc=None, interval=None)
    estimate, error = _auc(size[flipped], size[~flipped])
    interval = _interval(estimate, error, min(int(flipped.sum()), int((~flipped).sum())), stats.critical_z(confidence))
    word = HOLDS if interval.low > CHANCE else DOES_NOT_HOLD if interval.high <= CHANCE else UNDECIDED
    word = word if min(flipped.sum(), (~flipped).sum()) >= FEWEST else UNDECIDED
    return MarginOfFlips(word=word, auc=estimate, interval=interval)


def _auc(there: Floats, others: Floats) -> tuple[float, float]:
    """Return how often a value of `there` is smaller than one of `others`, ties counted half, and its standard error."""
    below, above = np.sort(there), np.sort(others)
    of_there = 1.0 - (np.searchsorted(above, there, "left") + np.searchsorted(above, there, "right")) / (2 * len(others))
    of_others = (np.searchsorted(below, others, "left") + np.searchsorted(below, others, "right")) / (2 * len(there))
    variance = sum(float(part.var(ddof=1)) / len(part) for part in (of_there, of_others) if len(part) > 1)
    return float(of_there.mean()), math.sqrt(variance)


def _interval(estimate: float, error: float, n: int, z: float) -> Interval:
    """Return the interval on the scale of the logit, kept off 0 and 1 by half an example: a sample shows no certainty."""
    least = 0.5 / (n + 1)
    inside = min(max(estimate, least), 1 - least)
    spread = z * max(error, math.sqrt(inside * (1 - inside)) / (2 * n)) / (inside * (1 - inside))
    middle = math.log(inside / (1 - inside))
    low, high = (1 / (1 + math.exp(-(middle + sign * spread))) for sign in (-1, 1))
    return Interval(low=min(low, estimate), high=max(high, estimate))
