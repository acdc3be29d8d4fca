"""Make a recipe for a model from a sweep of its parts: a level for each part, so that the sum of what they cost is least at equal size.

    python -m tools.sensitivity tiny-decoder --level 0.6 [--method l1_per_matrix] [--dtype bfloat16]

The sweep is a part of `suites/open_questions.toml`: each part of the model (attention or ffn of a block, say) pruned alone at some
levels, its runs stored (`pytest suites/ --kick-suite open_questions --kick-update-new-only`). Only half of the facts is looked at,
`claims.recipes.looked_at`; the recipe is judged on the other half. What a part costs at a level is the retention lost there, interpolated
between the levels of the sweep, none at 0; costs of parts are added up, which is an assumption. The recipe is the cheapest choice of
levels, in steps of 0.05 up to the highest of the sweep, that removes as many weights as `--level` of all parts, found by dynamic
programming. It is printed as an entry of a suite; the cell with one level everywhere goes beside it.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick import stats
from pytest_kick.baseline import BaselineStore
from pytest_kick.claims import cell_from
from pytest_kick.claims.recipes import looked_at
from pytest_kick.spec import DTYPES, CompressionSpec
from pytest_kick.stats import PairedCounts
from pytest_kick.suite import read_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
SUITE = ROOT / "suites" / "open_questions.toml"
STEP = 0.05
UNITS = 4000
"""Parts of the whole that weights are counted in: sizes agree to about a tenth of a percent."""
WHOLE = frozenset({"attention", "ffn", "overall", "head", "ffn_like_attention"})
"""Scopes that are no parts of the sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Hold what a sweep says of one part.

    Attributes:
        scope: its scope.
        n_weights: weights in it.
        costs: level -> retention lost on the half that is looked at.
    """

    scope: str
    n_weights: int
    costs: dict[float, float]

    def cost(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the cost at each level, interpolated; a cost below 0 counts as none."""
        known = sorted(self.costs)
        return np.maximum(np.interp(levels, [0.0, *known], [0.0, *(self.costs[level] for level in known)]), 0.0)


def sweep(root: Path, suite: Path, model: str, method: str, dtype: str) -> list[Part]:
    """Read the stored runs of a sweep: every part of a model that the suite prunes alone."""
    store = BaselineStore(root)
    found: dict[str, tuple[int, dict[float, float]]] = {}
    for case in read_suite(suite).cases:
        steps = case.compression.steps
        if case.model.name != model or len(steps) != 1 or steps[0].method != method or steps[0].params or steps[0].scope in WHOLE:
            continue
        if "norm" in steps[0].scope.lower() or not store.has(case.shelf, dtype, case.cell):
            continue
        run = store.read(case.shelf, dtype, case.cell)
        dense = cell_from(model, case.model.family, CompressionSpec(), store.read(case.shelf, dtype, "dense"))
        cell = cell_from(model, case.model.family, case.compression, run)
        if cell is not None and dense is not None:
            half = looked_at(cell.ids)
            counts = PairedCounts.from_outcomes(dense.right[half], cell.right[half])
            _, costs = found.setdefault(steps[0].scope, (run.compression.steps[0].n_weights, {}))
            costs[steps[0].level] = 1.0 - max(stats.retention(counts, cell.floor), 0.0)
    return [Part(scope=scope, n_weights=n, costs=costs) for scope, (n, costs) in found.items()]


def choose(parts: Sequence[Part], level: float) -> list[float]:
    """Return the level of each part, so that together they remove `level` of all weights at the least sum of costs.

    Args:
        parts: at least one, each with a cost at one level or more.
        level: share of the weights of all parts, above 0 and below the highest level of the sweep.
    """
    n_all = sum(part.n_weights for part in parts)
    target = round(level * UNITS)
    best = np.full(target + 1, np.inf)
    best[0] = 0.0
    back: list[NDArray[np.int64]] = []
    grids = [np.asarray([i * STEP for i in range(1, round(max(part.costs) / STEP) + 1)]) for part in parts]
    for part, grid in zip(parts, grids, strict=True):
        sizes = np.round(grid * part.n_weights / n_all * UNITS).astype(np.int64)
        costs = part.cost(grid)
        options = np.full((len(grid), target + 1), np.inf)
        for i, (size, cost) in enumerate(zip(sizes, costs, strict=True)):
            if size <= target:
                options[i, size:] = best[: target + 1 - size] + cost
        back.append(np.argmin(options, axis=0))
        best = options.min(axis=0)
    place = int(np.flatnonzero(np.isfinite(best))[-1])  # as near to the target as the steps come, from below
    chosen = []
    for part, grid, taken in zip(reversed(parts), reversed(grids), reversed(back), strict=True):
        i = int(taken[place])
        chosen.append(round(float(grid[i]), 2))
        place -= round(float(grid[i]) * part.n_weights / n_all * UNITS)
    return chosen[::-1]


def entry(model: str, method: str, parts: Sequence[Part], levels: Sequence[float], even: float) -> str:
    """Return the recipe as an entry of a suite, and the cell of one level everywhere."""
    n_all = sum(part.n_weights for part in parts)
    removed = sum(part.n_weights * level for part, level in zip(parts, levels, strict=True)) / n_all
    cost = sum(float(part.cost(np.asarray([level]))[0]) for part, level in zip(parts, levels, strict=True))
    same = sum(float(part.cost(np.asarray([even]))[0]) for part in parts)
    steps = "".join(
        f'  {{ method = "{method}", scope = "{part.scope}", sparsity = {level:g} }},\n' for part, level in zip(parts, levels, strict=True)
    )
    return (
        f"# python -m tools.sensitivity {model} --level {even:g}\n"
        f"# {removed:.3f} of the weights; sum of costs {cost:.3f}, at one level {same:.3f}\n"
        f'[[compressions]]\nchain = [\n{steps}]\nmodels = "{model}"\n\n'
        f'[[compressions]]\nmethod = "{method}"\nsparsity = {even:g}\nmodels = "{model}"\n'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the recipe of one model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--level", type=float, required=True, help="share of the weights of all parts that goes")
    parser.add_argument("--method", default="l1_per_matrix")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES)
    parser.add_argument("--suite", type=Path, default=SUITE, help="that holds the sweep")
    parser.add_argument("--baselines", type=Path, default=ROOT / "baselines")
    options = parser.parse_args(arguments)
    parts = sweep(options.baselines, options.suite, options.model, options.method, options.dtype)
    if len(parts) < 2:  # noqa: PLR2004 - one part has nothing to trade
        parser.error(f"got {len(parts)} parts of {options.model} with stored runs, expected two or more; record {options.suite.name} first")
    highest = min(max(part.costs) for part in parts)
    if not 0.0 < options.level < highest:
        parser.error(f"--level: got {options.level:g}, expected one between 0 and {highest:g}, the highest of the sweep")
    print(entry(options.model, options.method, parts, choose(parts, options.level), options.level))
    return 0


if __name__ == "__main__":
    sys.exit(main())
