"""Simulate how often a verdict is wrong: false RETAINED and false FORGOT where retention is exactly at its budget.

Run: `python benchmarks/verdict_error_rates.py` (about a minute). Exit code 1 if a rate is above 7% by more than its
Monte-Carlo error. Beside it, what Newcombe's interval for a difference would give if it were used for the ratio.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pytest_kick.stats import PairedCounts, critical_z, judgeable, retention_score_test

CONFIDENCE = 0.95
LIMIT = 0.07
SIGMAS = 3.0  # about 400 rates are looked at: at two sigmas ten of them would pass the limit by chance
SIZES = (200, 500, 2000)
DENSE = (0.2, 0.35, 0.6, 0.9)
FLOORS = (0.0, 0.05, 0.25)
RETENTIONS = (0.8, 0.9, 0.95)
GAINED = (0.0, 0.03)

Tables = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """Name one truth to draw from: the retention is exactly r."""

    n: int
    p_dense: float
    floor: float
    r: float
    p_gained: float

    def probabilities(self) -> tuple[float, float, float, float] | None:
        """Return the shares of both, lost, gained, neither; None where no such truth exists."""
        lost = (1.0 - self.r) * (self.p_dense - self.floor) + self.p_gained
        neither = 1.0 - self.p_dense - self.p_gained
        if self.p_dense <= self.floor or lost > self.p_dense or neither < 0.0:
            return None
        return self.p_dense - lost, lost, self.p_gained, neither


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Hold the shares of draws with a wrong verdict."""

    retained: float
    forgot: float
    unjudged: float
    newcombe_retained: float


def draw(setting: Setting, n_draws: int, seed: int) -> Tables:
    """Return tables of (both, lost, gained, neither), shape (n_draws, 4).

    Raises:
        ValueError: No truth has this retention.
    """
    probabilities = setting.probabilities()
    if probabilities is None:
        raise ValueError(str(setting))
    return np.random.default_rng(seed).multinomial(setting.n, probabilities, size=n_draws)


def wilson(p: NDArray[np.float64], n: int, z: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Wilson's bounds of a proportion."""
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return center - half, center + half


def newcombe_retained(tables: Tables, setting: Setting) -> float:
    """Return the share of draws where Newcombe's bound of the drop lies inside (1 - r) times the observed margin.

    Source: Newcombe 1998, Stat. Med. 17:2635-2650, method 10 without continuity correction.
    """
    both, lost, gained, neither = (tables[:, index].astype(np.float64) for index in range(4))
    n = setting.n
    dense, compressed = (both + lost) / n, (both + gained) / n
    product = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    phi = np.where(product > 0, (both * neither - lost * gained) / np.sqrt(np.maximum(product, 1.0)), 0.0)
    z = critical_z(CONFIDENCE)
    above = wilson(dense, n, z)[1] - dense
    below = compressed - wilson(compressed, n, z)[0]
    upper = dense - compressed + np.sqrt(above**2 - 2 * phi * above * below + below**2)
    return float(np.mean(upper < (1 - setting.r) * (dense - setting.floor)))


def rates(setting: Setting, n_draws: int, seed: int) -> Rates:
    """Simulate one setting; each distinct table is judged once."""
    tables = draw(setting, n_draws, seed)
    distinct, times = np.unique(tables, axis=0, return_counts=True)
    z = critical_z(CONFIDENCE)
    statistics = np.zeros(len(distinct))
    unjudged = np.zeros(len(distinct), dtype=np.bool_)
    for index, (both, lost, gained, neither) in enumerate(distinct.tolist()):
        counts = PairedCounts(both=both, lost=lost, gained=gained, neither=neither)
        if judgeable(counts, setting.floor, CONFIDENCE):
            statistics[index] = retention_score_test(counts, setting.floor, setting.r).z
        else:
            unjudged[index] = True
    return Rates(
        retained=float(times[statistics > z].sum() / n_draws),
        forgot=float(times[statistics < -z].sum() / n_draws),
        unjudged=float(times[unjudged].sum() / n_draws),
        newcombe_retained=newcombe_retained(tables, setting),
    )


def settings() -> tuple[Setting, ...]:
    """Return every truth of the grid that exists."""
    grid = itertools.product(SIZES, GAINED, FLOORS, DENSE, RETENTIONS)
    every = (Setting(n=n, p_gained=g, floor=b, p_dense=p, r=r) for n, g, b, p, r in grid)
    return tuple(setting for setting in every if setting.probabilities() is not None)


def main() -> int:
    """Print the table and the worst rates; return 1 if a limit is beaten beyond Monte-Carlo error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=4000)
    n_draws = parser.parse_args().draws
    limit = LIMIT + SIGMAS * float(np.sqrt(LIMIT * (1 - LIMIT) / n_draws))
    print(f"{n_draws} draws; Monte-Carlo error {np.sqrt(0.05 * 0.95 / n_draws):.2%} at a rate of 5%; limit {limit:.2%}")
    print("    n  dense  floor     r  gained  RETAINED  FORGOT  unjudged  Newcombe RETAINED")
    results = []
    for seed, setting in enumerate(settings()):
        found = rates(setting, n_draws, seed)
        results.append((setting, found))
        beaten = max(found.retained, found.forgot) > limit
        print(
            f"{setting.n:5d}  {setting.p_dense:5.2f}  {setting.floor:5.2f}  {setting.r:4.2f}  {setting.p_gained:6.2f}"
            f"  {found.retained:8.2%}  {found.forgot:6.2%}  {found.unjudged:8.2%}  {found.newcombe_retained:17.2%}"
            f"{'  ABOVE THE LIMIT' if beaten else ''}"
        )
    for n, gained in itertools.product(SIZES, GAINED):
        chosen = [found for setting, found in results if (setting.n, setting.p_gained) == (n, gained)]
        print(
            f"worst at n = {n}, gained {gained:.2f}: RETAINED {max(f.retained for f in chosen):.2%},"
            f" FORGOT {max(f.forgot for f in chosen):.2%}; Newcombe RETAINED"
            f" {max(f.newcombe_retained for f in chosen):.2%}"
        )
    return int(any(max(found.retained, found.forgot) > limit for _, found in results))


if __name__ == "__main__":
    sys.exit(main())
