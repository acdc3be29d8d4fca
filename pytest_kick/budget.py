"""Budgets of a suite: which cells they judge, and which of several wins.

A `[[budgets]]` table has keys that match cells (`model`, `family`, `method`, `scope`, `sparsity`, `bits`, `cell`; names may be
globs) and keys that limit a loss (`retention`, `drop`, `flips`, `ratio`, `at_most`, each optionally `:metric`). Where several tables
limit the same thing of a cell, the one with more matching keys wins, an exact name counting more than a glob; of two alike the
later one. `cell` counts as the four keys it stands for: method, scope, sparsity and bits.
"""

from __future__ import annotations

import fnmatch
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import SuiteError
from pytest_kick.infos import LEVELS
from pytest_kick.registry import PROBES, did_you_mean
from pytest_kick.spec import Budget, Case, CompressionSpec, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_kick.infos import ProbeInfo

KINDS = ("retention", "drop", "flips", "ratio", "at_most")
KINDS_OF = {"outcome": ("retention", "drop", "flips"), "score": ("retention", "drop"), "loss": ("ratio",), "distance": ("at_most",)}
"""Which limits a kind of metric can have."""
_NAMES = ("model", "family", "method", "scope", "cell")
_NUMBERS = tuple(kind for kind in LEVELS if kind != "name")
_MATCH = (*_NAMES, *_NUMBERS)
_CELL_WEIGHT = 4
_MAX_RETENTION = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """Hold one `[[budgets]]` table.

    Attributes:
        match: key -> wanted values (globs for names, numbers for levels); all must match.
        budgets: what it limits.
    """

    match: tuple[tuple[str, tuple[Any, ...]], ...]
    budgets: tuple[Budget, ...]

    @property
    def specificity(self) -> float:
        """Return how specific it is: one per key, four for `cell`, half of that for a glob."""
        total = 0.0
        for key, values in self.match:
            glob = any(isinstance(value, str) and set(value) & set("*?[") for value in values)
            total += (_CELL_WEIGHT if key == "cell" else 1) / (2 if glob else 1)
        return total

    def of(self, key: tuple[str, str, str]) -> Budget:
        """Return its budget on (probe, metric, kind)."""
        return [budget for budget in self.budgets if _key(budget) == key][-1]


def parse_budget(where: str, table: object) -> BudgetRule:
    """Read one table.

    Args:
        where: opens the errors, such as `suites/a.toml: budgets[0]`.
        table: as parsed from TOML.

    Raises:
        SuiteError: an unknown key, or a limit outside its range.
    """
    if not isinstance(table, dict):
        msg = f"{where}: budget: got {table!r}, expected a table. Correct it."
        raise SuiteError(msg)
    probe = table.get("probe", "facts")
    info = PROBES.get(base_name(probe), where)
    match, budgets = [], []
    for key, value in table.items():
        kind, _, metric = key.partition(":")
        if key in _MATCH:
            match.append((key, _wanted(where, key, value)))
        elif kind in KINDS:
            _check_metric(where, key, info, metric or info.metric)
            budgets.append(Budget(probe=probe, metric=metric or info.metric, kind=kind, limit=_limit(where, key, kind, value)))
        elif key != "probe":
            known = (*_MATCH, *KINDS, "probe")
            msg = f"{where}: budget: got {key!r}, expected a known key. {did_you_mean(key, known)}"
            raise SuiteError(msg)
    if not budgets:
        msg = f"{where}: budget: got {sorted(table)}, expected a limit: {', '.join(KINDS)}. Add one."
        raise SuiteError(msg)
    return BudgetRule(match=tuple(match), budgets=tuple(budgets))


def base_name(probe: object) -> object:
    """Return the name of the probe that an id such as `lama:trex--template-1` begins with."""
    return probe.partition("--")[0].partition(":")[0] if isinstance(probe, str) else probe


def _check_metric(where: str, key: str, info: ProbeInfo, metric: str) -> None:
    """Refuse a metric that a probe does not have, or a limit of a kind that the metric cannot have."""
    known = (*info.metrics, *(mean.name for mean in info.means))
    if metric not in known:
        if info.open_metrics:
            return
        msg = f"{where}: {key}: got metric {metric!r}, expected one of probe {info.name}. {did_you_mean(metric, known)}"
        raise SuiteError(msg)
    mean = info.mean(metric)
    able = KINDS_OF[mean.kind if mean else "outcome"]
    if key.partition(":")[0] not in able:
        msg = f"{where}: {key}: got a limit that {info.name}.{metric} cannot have, expected {' or '.join(able)}. Correct it."
        raise SuiteError(msg)


def _wanted(where: str, key: str, value: object) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, list) else (value,)
    kinds, expected = ((str,), "a name or a glob") if key in _NAMES else ((int, float), "a number")
    if not values or not all(isinstance(one, kinds) and not isinstance(one, bool) for one in values):
        msg = f"{where}: {key}: got {value!r}, expected {expected}, or a list of them. Correct it."
        raise SuiteError(msg)
    return values


def _limit(where: str, key: str, kind: str, value: object) -> float:
    limit = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if kind == "retention":
        right, interval = 0 < limit <= _MAX_RETENTION, f"(0, {_MAX_RETENTION:g}]"
    elif kind in {"ratio", "at_most"}:
        if not 0 < limit < math.inf:
            msg = f"{where}: {key}: got {value!r}, expected a number above 0. Correct it."
            raise SuiteError(msg)
        return limit
    else:
        right, interval = 0 <= limit < 1, "[0, 1)"
    if not right:
        example = 0.95 if kind == "retention" else 0.05
        hint = f"Write a fraction, such as {example}, not a percentage." if limit >= 1 or isinstance(value, str) else "Correct it."
        msg = f"{where}: {key}: got {value!r}, expected a fraction in {interval}. {hint}"
        raise SuiteError(msg)
    return limit


def budgets_for(
    rules: Sequence[BudgetRule],
    model: ModelSpec,
    spec: CompressionSpec,
    probes: Sequence[str],
) -> tuple[tuple[Budget, ...], set[int]]:
    """Return the budgets of one cell, and the indices of all rules that matched it.

    The dense cell has none: there is nothing to lose.
    """
    best, matched = _holding(rules, model, spec, probes)
    return tuple(rules[best[key]].of(key) for key in sorted(best)), matched


def shadowed(rules: Sequence[BudgetRule], cases: Iterable[Case]) -> tuple[tuple[int, Budget], ...]:
    """Return the budgets that judge no cell because more specific ones hold wherever they match, with the index of their rule.

    Args:
        rules: of one suite, in order.
        cases: of that suite.
    """
    holding = set()
    for case in cases:
        best, _ = _holding(rules, case.model, case.compression, case.probes)
        holding |= {(i, key) for key, i in best.items()}
    return tuple((i, budget) for i, rule in enumerate(rules) for budget in rule.budgets if (i, _key(budget)) not in holding)


def _holding(
    rules: Sequence[BudgetRule], model: ModelSpec, spec: CompressionSpec, probes: Sequence[str]
) -> tuple[dict[tuple[str, str, str], int], set[int]]:
    """Return what is limited -> the index of the rule whose budget holds for a cell, and the indices of all rules that match it."""
    best: dict[tuple[str, str, str], int] = {}
    matched: set[int] = set()
    if not spec.steps:
        return best, matched
    facts = _facts(model, spec)
    for i, rule in enumerate(rules):
        if not all(_matches(facts[key], wanted) for key, wanted in rule.match):
            continue
        matched.add(i)
        for budget in rule.budgets:
            key = _key(budget)
            if budget.probe in probes and (key not in best or rule.specificity >= rules[best[key]].specificity):
                best[key] = i
    return best, matched


def _key(budget: Budget) -> tuple[str, str, str]:
    return (budget.probe, budget.metric, budget.kind)


def _facts(model: ModelSpec, spec: CompressionSpec) -> Mapping[str, tuple[Any, ...]]:
    return {
        "model": (model.name,),
        "family": (model.family,),
        "method": ("+".join(step.method for step in spec.steps),),
        "scope": ("+".join(dict.fromkeys(step.scope for step in spec.steps)),),
        **{kind: tuple(step.level for step in spec.steps if step.kind == kind) for kind in _NUMBERS},
        "cell": (spec.id,),
    }


def _matches(found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    for have in found:
        for want in wanted:
            # A scope's own pattern is matched as it stands too.
            if have == want or (isinstance(want, str) and fnmatch.fnmatchcase(have, want)):
                return True
    return False
