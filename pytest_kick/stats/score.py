"""The score test of a linear contrast of paired proportions, and the intervals that invert it.

The hypothesis is `p_c - s * p_d = c` for the shares right in the compressed and the dense model. Retention r over a
floor b is s = r, c = (1 - r) b; a drop d is s = 1, c = -d. Give each of the four outcomes the value
`a = [compressed right] - s * [dense right] - c`: the hypothesis says that the mean of a is 0. The multinomial MLE under
it is `p_j = x_j / (n (1 + m a_j))` with one multiplier m, found by a bracketed Newton iteration; where that would leave
an empty outcome no room, m lies on its bound and the empty outcome takes the rest (so that no flip at all still has a
variance). The statistic is the observed mean of a over its standard error at that MLE.

Source: Tango 1998, Stat. Med. 17:891-908 (s = 1); Nam and Blackwelder 2002, Stat. Med. 21:689-699, and Tang, Tang and
Chan 2003, Stat. Med. 22:1217-1233 (c = 0); Owen 1988, Biometrika 75:237-249 (the multiplier).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_kick.errors import KickError
from pytest_kick.stats.counts import Interval, PairedCounts, checked_fraction, critical_z

if TYPE_CHECKING:
    from collections.abc import Callable

_STEPS = 200
_FAR = 1e12
_CLOSE = 1e-13


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTest:
    """Hold the score test of one value of retention.

    Attributes:
        z: The statistic: positive where the data retain more than the value tested; may be infinite.
        p_retained: One-sided p-value against "retention is at most r": small shows that more is retained.
        p_forgot: One-sided p-value against "retention is at least r": small shows that less is retained.
    """

    z: float
    p_retained: float
    p_forgot: float


def retention(counts: PairedCounts, floor: float) -> float:
    """Return the share of the dense model's knowledge above the floor that is left.

    Args:
        counts: The paired outcomes.
        floor: Score b of a model that knows nothing, in [0, 1).

    Returns:
        `(p_c - b) / (p_d - b)`, unrounded: 1 for equal scores, negative for a score below the floor.

    Raises:
        KickError: The dense score is not above the floor, or the floor is not a fraction.
    """
    margin = counts.p_dense - checked_fraction("floor", floor, zero=True)
    if margin <= 0.0:
        msg = f"stats: p_dense: got {counts.p_dense:.4g}, expected a score above the floor {floor:.4g}. The probe cannot judge this model."
        raise KickError(msg)
    return 1.0 if counts.lost == counts.gained else (counts.p_compressed - floor) / margin


def retention_score_test(counts: PairedCounts, floor: float, r: float) -> ScoreTest:
    """Test whether retention is r, with the variance from the constrained multinomial MLE.

    Args:
        counts: The paired outcomes.
        floor: Score b of a model that knows nothing, in [0, 1).
        r: The retention tested; for a floor of 0 at least 0.

    Returns:
        The statistic and both one-sided p-values.

    Raises:
        KickError: The floor is not a fraction, or r is not finite or, for a floor of 0, negative.

    Source: Nam and Blackwelder 2002 and Tang et al. 2003 for a floor of 0; the module says how it is generalised.
    """
    checked_fraction("floor", floor, zero=True)
    if not math.isfinite(r) or (floor == 0.0 and r < 0.0):
        msg = f"stats: r: got {r}, expected a finite retention (at least 0 for a floor of 0). Use 0.95, say."
        raise KickError(msg)
    z = _contrast_z(counts, r, (1.0 - r) * floor)
    return ScoreTest(z=z, p_retained=_upper_tail(z), p_forgot=_upper_tail(-z))


def retention_interval(counts: PairedCounts, floor: float, confidence: float = 0.95) -> Interval:
    """Return the retentions that the score test does not reject.

    Args:
        counts: The paired outcomes.
        floor: Score b of a model that knows nothing, in [0, 1).
        confidence: Of each bound alone, in (0.5, 1).

    Returns:
        An interval that contains the estimate and is never of zero width. Where the dense score is not shown to lie
        above the floor (see `judgeable`) no retention can be excluded: the interval is unbounded.

    Raises:
        KickError: The floor or the confidence is not in its range.

    Source: Nam and Blackwelder 2002; Tang et al. 2003; Tango 1998.
    """
    critical = critical_z(confidence)
    smallest = 0.0 if floor == 0.0 else -math.inf
    if not judgeable(counts, floor, confidence):
        return Interval(low=smallest, high=math.inf)
    center = retention(counts, floor)

    def statistic(r: float) -> float:
        return _contrast_z(counts, r, (1.0 - r) * floor)

    # The Wald error only says where to look first: the widening below does not rely on it.
    wald = math.sqrt(counts.lost + counts.gained + 1) / (counts.n * (counts.p_dense - floor))
    step = 1.2 * critical * wald
    return Interval(
        low=_crossing(statistic, center, -step, smallest, critical),
        high=_crossing(statistic, center, step, math.inf, critical),
    )


def dense_margin_lower_bound(counts: PairedCounts, floor: float, confidence: float = 0.95) -> float:
    """Return the lower bound of the dense score less the floor: not above 0 means that the probe cannot judge.

    Args:
        counts: The paired outcomes; only the dense side is used.
        floor: Score b of a model that knows nothing, in [0, 1).
        confidence: Of the bound, in (0.5, 1).

    Returns:
        Wilson's lower bound of p_d, less b.

    Raises:
        KickError: The floor or the confidence is not in its range.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22:209-212.
    """
    z2, n, p = critical_z(confidence) ** 2, counts.n, counts.p_dense
    checked_fraction("floor", floor, zero=True)
    half = math.sqrt(z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)))
    return max(0.0, (p + z2 / (2.0 * n) - half) / (1.0 + z2 / n)) - floor


def judgeable(counts: PairedCounts, floor: float, confidence: float = 0.95) -> bool:
    """Say whether the dense model is shown to know more than the floor: else no retention can be judged.

    It is the score test of `p_d = b`, the limit of the test of retention at infinity: where it rejects, and only there,
    both bounds of `retention_interval` are finite.

    Args:
        counts: The paired outcomes; only the dense side is used.
        floor: Score b of a model that knows nothing, in [0, 1).
        confidence: Of the lower bound, in (0.5, 1).

    Returns:
        Whether the lower bound of `p_d - b` is above 0.

    Raises:
        KickError: The floor or the confidence is not in its range.
    """
    return dense_z(counts, floor) > critical_z(confidence)


def dense_z(counts: PairedCounts, floor: float) -> float:
    """Return the score statistic of `p_d = b`; infinite for a floor of 0 and any right answer."""
    checked_fraction("floor", floor, zero=True)
    margin = counts.p_dense - floor
    if floor == 0.0:
        return math.inf if margin > 0.0 else 0.0
    return margin * math.sqrt(counts.n / (floor * (1.0 - floor)))


def drop_interval(counts: PairedCounts, confidence: float = 0.95) -> Interval:
    """Return Tango's interval for the drop `p_d - p_c`.

    Args:
        counts: The paired outcomes.
        confidence: Of each bound alone, in (0.5, 1).

    Returns:
        An interval within [-1, 1] that contains the estimate and is never of zero width.

    Raises:
        KickError: The confidence is not in its range.

    Source: Tango 1998, Stat. Med. 17:891-908.
    """
    critical = critical_z(confidence)
    center = (counts.lost - counts.gained) / counts.n
    step = 1.2 * critical * math.sqrt(counts.lost + counts.gained + 1) / counts.n

    def statistic(drop: float) -> float:
        # The sign is turned so that, as for retention, the statistic falls as the tested value grows.
        return -_contrast_z(counts, 1.0, -drop)

    return Interval(
        low=_crossing(statistic, center, -step, -1.0, critical),
        high=_crossing(statistic, center, step, 1.0, critical),
    )


def _upper_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def _contrast_z(counts: PairedCounts, slope: float, constant: float) -> float:
    """Return the score statistic of `p_c - slope * p_d = constant`."""
    n = float(counts.n)
    observed = (counts.both, counts.lost, counts.gained, counts.neither)
    values = (1.0 - slope - constant, -slope - constant, 1.0 - constant, -constant)
    total = math.fsum(x * a for x, a in zip(observed, values, strict=True))
    if total == 0.0:
        return 0.0
    bound = min(values) if total > 0.0 else max(values)
    if total * bound >= 0.0:
        return math.copysign(math.inf, total)  # no table of these outcomes meets the hypothesis
    cells = tuple((float(x), a) for x, a in zip(observed, values, strict=True) if x)
    multiplier, at_end = _multiplier(cells, -1.0 / bound, bound)
    shares = [(x / (n * (1.0 + multiplier * a)), a) for x, a in cells]
    variance = math.fsum(p * a * a for p, a in shares)
    if at_end:
        variance += max(0.0, 1.0 - math.fsum(p for p, _ in shares)) * bound * bound
    return total / math.sqrt(n * variance) if variance > 0.0 else math.copysign(math.inf, total)


def _multiplier(cells: tuple[tuple[float, float], ...], end: float, bound: float) -> tuple[float, bool]:
    """Solve `sum x a / (1 + m a) = 0` for m between 0 and end; say whether the end had to be taken.

    The sum falls as m grows. It has the sign of `end` at 0; at the end it runs to the other sign if the outcome of value
    `bound` was seen, and else may keep its sign: then the multiplier is the end itself.
    """
    sign = math.copysign(1.0, end)
    if all(1.0 + end * a > 0.0 for _, a in cells if a != bound) and all(a != bound for _, a in cells):
        at_end = math.fsum(x * a / (1.0 + end * a) for x, a in cells)
        if sign * at_end >= 0.0:
            return end, True
    inner, outer, m = 0.0, end, 0.0
    for _ in range(_STEPS):
        weighted = [(x * a / w, a / w) for x, a in cells if (w := 1.0 + m * a) > 0.0]
        value = math.fsum(g for g, _ in weighted)
        if len(weighted) == len(cells) and sign * value >= 0.0:
            inner = m
        else:
            outer = m
        step = value / math.fsum(g * h for g, h in weighted)
        proposed = m + step
        if not min(inner, outer) < proposed < max(inner, outer):
            proposed = 0.5 * (inner + outer)
        if abs(proposed - m) <= _CLOSE * abs(m) or proposed in (inner, outer):
            return proposed, False
        m = proposed
    return m, False


def _crossing(statistic: Callable[[float], float], center: float, step: float, limit: float, critical: float) -> float:
    """Find where a falling statistic, 0 at the center, first reaches the critical value in the direction of the step.

    The step is doubled until the value is passed; where that does not happen before `limit`, the limit is the bound.
    """
    inner, outer = center, center
    while True:
        outer = center + step
        if abs(outer) > _FAR and math.isinf(limit):
            return limit
        if (outer - limit) * step >= 0.0:
            outer = limit
        gap = abs(statistic(outer)) - critical
        if gap >= 0.0:
            return _root(lambda r: abs(statistic(r)) - critical, inner, outer)
        if outer == limit:
            return limit
        inner, step = outer, 2.0 * step


def _root(gap: Callable[[float], float], inner: float, outer: float) -> float:
    """Return the root of `gap`, negative at inner and not at outer, by the Illinois method with halvings between."""
    low, high, last = gap(inner), gap(outer), 0
    for index in range(_STEPS):
        middle = inner - low * (outer - inner) / (high - low) if high < _FAR else inner
        # Every fourth step halves: near a pole of the statistic false position alone would crawl.
        if index % 4 == 3 or not min(inner, outer) < middle < max(inner, outer):  # noqa: PLR2004
            middle = 0.5 * (inner + outer)
        value = gap(middle)
        if abs(value) <= _CLOSE or abs(outer - inner) <= _CLOSE * abs(middle):
            return middle
        if value < 0.0:
            inner, low, high = middle, value, 0.5 * high if last < 0 else high
        else:
            outer, high, low = middle, value, 0.5 * low if last > 0 else low
        last = -1 if value < 0.0 else 1
    return outer
