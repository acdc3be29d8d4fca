"""C17: what the choice of calibration data does to a ranking of methods."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.claims.finding import DOES_NOT_HOLD, HOLDS, NOT_APPLICABLE, UNDECIDED, number
from pytest_kick.claims.ruling import ALIVE, calibration, over_seeds, settings
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from pytest_kick.claims.cell import Cell
    from pytest_kick.claims.finding import Finding
    from pytest_kick.claims.panel import Panel
    from pytest_kick.claims.ruling import Params

LEAST_SEEDS = 5
Line = dict[int, "Cell"]
"""The cells of one method at one level, by calibration seed."""


def seed_spread(panel: Panel) -> list[Finding]:
    """Decide C17, for each two calibrated methods at the same level and data, at least 5 seeds: can they be ranked?

    The difference of their retentions, the mean over seeds, with an interval that allows for seeds and facts (`ruling.over_seeds`).

    - `holds`: the interval has 0 in it, and one seed alone ranks them one way and another the other way.
    - `does not hold`: the interval excludes 0: the ranking stands in spite of seeds and facts.
    - `undecided`: else.
    """
    lines = _lines(panel)
    found = []
    for (key, first), (other, second) in itertools.combinations(lines.items(), 2):
        seeds = sorted(first.keys() & second.keys())
        if key[1:] == other[1:] and key[0] != other[0] and len(seeds) >= LEAST_SEEDS:
            found.append(_decided(panel, f"{key[0]} less {other[0]}, {key[1]}", [(first[seed], second[seed]) for seed in seeds]))
    return found


def _lines(panel: Panel) -> dict[tuple[str, str, Params], Line]:
    """Return the lines of at least five seeds, by method, level as ids show it, and the rest of the data."""
    lines: dict[tuple[str, str, Params], Line] = {}
    for step, cell in panel.single():
        seen = calibration(step)
        if METHODS.get(step.method, "claims").calibrated and step.scope == "overall" and not settings(step):
            rest = tuple((name, value) for name, value in seen if name != "seed")
            level = step.id.split("--")[2] + (f" {dict(step.params)['pattern']}" if step.pattern else "")
            lines.setdefault((step.method, level, rest), {})[int(dict(seen).get("seed", 0))] = cell
    return {key: line for key, line in lines.items() if len(line) >= LEAST_SEEDS}


def _decided(panel: Panel, arm: str, pairs: list[tuple[Cell, Cell]]) -> Finding:
    if not panel.judgeable():
        return panel.unjudged("C17", arm, 2 * len(pairs))
    kept = np.asarray([[panel.retention(cell) for cell in pair] for pair in pairs])
    if kept.mean(axis=0).max() <= ALIVE:
        return panel.finding("C17", arm, NOT_APPLICABLE, f"both retain at most {number(ALIVE)}", 2 * len(pairs))
    drawn = [panel.draws(x, y) for x, y in pairs]
    of_seed = [float(x - y) for x, y in kept]
    draws = np.mean([np.maximum(d[:, 0], 0.0) - np.maximum(d[:, 1], 0.0) for d in drawn], axis=0)
    estimate, interval = over_seeds(of_seed, draws, panel.confidence)
    reversed_ = min(of_seed) < 0.0 < max(of_seed)
    open_ = interval.low <= 0.0 <= interval.high
    word = DOES_NOT_HOLD if not open_ else HOLDS if reversed_ else UNDECIDED
    deviations = " and ".join(number(float(np.std(kept[:, i], ddof=1))) for i in (0, 1))
    ahead = sum(value > 0.0 for value in of_seed)
    detail = f"standard deviation over {len(pairs)} seeds {deviations}; the first is ahead with {ahead} of them"
    return panel.finding("C17", arm, word, detail, 2 * len(pairs), (estimate, interval))
