"""Suites: TOML files that name models, compressions, probes and budgets, expanded to cases.

Everything is checked here, before a model is loaded or torch imported: names, levels, families, budgets, duplicates.
The format is described in `docs/suites.md`.
"""

from __future__ import annotations

import itertools
import math
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from pytest_kick.budget import BudgetRule, budgets_for, parse_budget
from pytest_kick.catalog import catalog
from pytest_kick.errors import SuiteError
from pytest_kick.registry import METHODS, PROBES, MethodInfo, Scalar, did_you_mean
from pytest_kick.spec import DTYPES, FAMILY_SCOPES, SCOPES, Case, CompressionSpec, CompressionStep, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA = 1
_SUITE_KEYS = frozenset(
    {"schema", "name", "summary", "default", "hub", "probes", "facts", "dtype", "dense", "models", "compressions", "budgets"}
)
_MODEL_KEYS = frozenset({"name", "family", "source", "sha256", "licence", "summary"})
_ENTRY_KEYS = frozenset({"method", "scope", "sparsity", "bits", "chain", "models", "families", "dtype"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Hold one suite file.

    Attributes:
        name: the file's stem unless the file says otherwise.
        path: of the file.
        summary: one line for `kick list suites`.
        default: run without being named by `--kick-suite`.
        hub: needs models of the hub: run only when named, or under `--kick-hub`.
        cases: the cells, model by model, the dense one first.
    """

    name: str
    path: Path
    summary: str
    default: bool
    hub: bool
    cases: tuple[Case, ...]


def read_suites(directory: Path) -> tuple[Suite, ...]:
    """Read every `*.toml` directly in `directory`, by name.

    Raises:
        SuiteError: a file is malformed, or two suites share a name.
    """
    suites = tuple(read_suite(path) for path in sorted(directory.glob("*.toml")))
    names: dict[str, Path] = {}
    for suite in suites:
        if suite.name in names:
            msg = f"{suite.path}: name: got {suite.name!r}, which {names[suite.name].name} has too, expected unique names. Rename one."
            raise SuiteError(msg)
        names[suite.name] = suite.path
    return suites


def read_suite(path: Path) -> Suite:
    """Read one suite file and expand it.

    Raises:
        SuiteError: the file is malformed or names something that does not exist.
    """
    where = path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}"
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = " ".join(str(error).split())
        msg = f"{where}: file: got {reason}, expected a TOML file in UTF-8. Correct it, or write a new one with `kick init`."
        raise SuiteError(msg) from error
    return _Reader(where, path, data).suite()


class _Reader:
    """Expand the parsed TOML of one suite; `where` opens every error."""

    def __init__(self, where: str, path: Path, data: dict[str, Any]) -> None:
        self.where = where
        self.path = path
        self.data = data

    def fail(self, field: str, got: object, expected: str, do: str = "Correct it.") -> SuiteError:
        return SuiteError(f"{self.where}: {field}: got {got!r}, expected {expected}. {do}")

    def check_keys(self, field: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                raise self.fail(field, key, "a known key", did_you_mean(key, known))

    def typed(self, table: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:  # noqa: ANN401 - the type is an argument
        value = table.get(key, default)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self.fail(key, value, f"a {kind.__name__}")
        return value

    def suite(self) -> Suite:
        self.check_keys("suite", self.data, _SUITE_KEYS)
        if self.data.get("schema") != SCHEMA:
            raise self.fail("schema", self.data.get("schema"), f"{SCHEMA}", f"Write `schema = {SCHEMA}`, or upgrade pytest-kick.")
        name = self.typed(self.data, "name", str, self.path.stem)
        cases = self.cases(name)
        seen: set[str] = set()
        for case in cases:
            if case.id in seen:
                raise self.fail("compressions", case.id, "each cell once", "Remove the entry that repeats it.")
            seen.add(case.id)
        return Suite(
            name=name,
            path=self.path,
            summary=self.typed(self.data, "summary", str, ""),
            default=self.typed(self.data, "default", bool, default=True),
            hub=self.typed(self.data, "hub", bool, default=False),
            cases=cases,
        )

    def cases(self, name: str) -> tuple[Case, ...]:
        models = self.models()
        probes = self.probes()
        entries = [self.entry(i, entry) for i, entry in enumerate(self.typed(self.data, "compressions", list, []))]
        rules = [parse_budget(f"{self.where}: budgets[{i}]", table) for i, table in enumerate(self.typed(self.data, "budgets", list, []))]
        dense = self.typed(self.data, "dense", bool, default=True)
        facts = self.facts()
        suite_dtype = self.dtype(self.data)
        cases = []
        used: set[int] = set()
        for model in models:
            specs = [(CompressionSpec(), suite_dtype)] if dense else []
            specs += [(spec, dtype or suite_dtype) for entry in entries for spec, dtype in self.specs_for(entry, model)]
            for spec, dtype in specs:
                budgets, used_now = budgets_for(rules, model, spec, probes)
                used |= used_now
                cases.append(
                    Case(suite=name, model=model, compression=spec, probes=probes, budgets=budgets, dtype=dtype, facts=facts),
                )
        if not cases or not any(case.compression.steps for case in cases) and not dense:
            raise self.fail("compressions", [], "at least one cell", "Add a [[compressions]] entry, or leave `dense` on.")
        self.check_used(rules, used)
        return tuple(cases)

    def check_used(self, rules: list[BudgetRule], used: set[int]) -> None:
        for i, rule in enumerate(rules):
            if i not in used:
                msg = f"{self.where}: budgets[{i}]: got {dict(rule.match)}, which matches no cell, expected at least one. Correct or remove it."
                raise SuiteError(msg)

    def models(self) -> tuple[ModelSpec, ...]:
        models = []
        for i, entry in enumerate(self.typed(self.data, "models", list, [])):
            table = {"name": entry} if isinstance(entry, str) else entry
            field = f"models[{i}]"
            if not isinstance(table, dict) or "name" not in table:
                raise self.fail(field, entry, "a name of the catalogue or a table with name, family and source")
            self.check_keys(field, table, _MODEL_KEYS)
            if "source" not in table:
                known = catalog()
                if table["name"] not in known:
                    raise self.fail(field, table["name"], "a known model, or a `source`", did_you_mean(str(table["name"]), known))
                models.append(known[table["name"]])
            else:
                models.append(self.own_model(field, table))
        if not models:
            raise self.fail("models", [], "at least one model", 'Write `models = ["smollm2-135m"]`.')
        names = [model.name for model in models]
        if len(set(names)) != len(names):
            raise self.fail("models", names, "each model once", "Remove the repeated one.")
        return tuple(models)

    def own_model(self, field: str, table: Mapping[str, Any]) -> ModelSpec:
        for key, value in table.items():
            if not isinstance(value, str):
                raise self.fail(f"{field}.{key}", value, "a string")
        source = table["source"]
        if source.startswith("path:"):
            source = f"path:{(self.path.parent / source.removeprefix('path:')).resolve()}"
        try:
            return ModelSpec(**{"family": "", **table, "source": source})
        except SuiteError as error:
            msg = f"{self.where}: {field}: {error}"
            raise SuiteError(msg) from error

    def probes(self) -> tuple[str, ...]:
        names = self.typed(self.data, "probes", list, ["facts"])
        if not names:
            raise self.fail("probes", names, "at least one probe", 'Write `probes = ["facts"]`.')
        for name in names:
            PROBES.get(name, self.where)
        return tuple(dict.fromkeys(names))

    def facts(self) -> str:
        name: str = self.typed(self.data, "facts", str, "")
        path = (self.path.parent / name).resolve()
        if name and not path.is_file():
            raise self.fail("facts", name, "a facts file beside the suite", "Correct the path, or remove the key for the shipped facts.")
        return str(path) if name else ""

    def dtype(self, table: Mapping[str, Any]) -> str:
        dtype: str = self.typed(table, "dtype", str, "")
        if dtype and dtype not in DTYPES:
            raise self.fail("dtype", dtype, f"one of {', '.join(DTYPES)}", did_you_mean(dtype, DTYPES))
        return dtype

    def entry(self, index: int, entry: object) -> dict[str, Any]:
        field = f"compressions[{index}]"
        if not isinstance(entry, dict):
            raise self.fail(field, entry, "a table")
        here = f"{self.where}: {field}"
        if ("chain" in entry) == ("method" in entry):
            raise self.fail(field, sorted(entry), "either `method` or `chain`")
        tables = entry.get("chain", [entry])
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            raise self.fail(f"{field}.chain", tables, "a list of tables, each with a `method`")
        shared = entry.get("scope") if "chain" in entry else None
        if "chain" in entry:
            self.check_keys(field, entry, {"chain", "scope", "models", "families", "dtype"})
        grids = [_steps(here if len(tables) == 1 else f"{here}.chain[{i}]", table, shared) for i, table in enumerate(tables)]
        specs = tuple(CompressionSpec(steps=steps) for steps in itertools.product(*grids) if shared is None or _one_scope(steps))
        return {"field": field, "specs": specs, "models": entry.get("models"), "families": entry.get("families"), "dtype": self.dtype(entry)}

    def specs_for(self, entry: Mapping[str, Any], model: ModelSpec) -> list[tuple[CompressionSpec, str]]:
        chosen = (entry["models"] is None or model.name in entry["models"]) and (entry["families"] is None or model.family in entry["families"])
        if not chosen:
            return []
        for step in itertools.chain.from_iterable(spec.steps for spec in entry["specs"]):
            families = FAMILY_SCOPES.get(step.scope, (model.family,))
            if model.family not in families:
                got = f"{step.scope} on {model.name} ({model.family})"
                raise self.fail(f"{entry['field']}.scope", got, f"a model of family {', '.join(families)}", "Add `families` to the entry.")
            if model.family not in METHODS.get(step.method, self.where).families:
                raise self.fail(f"{entry['field']}.method", step.method, f"a method for {model.family} models", "Add `families` to the entry.")
        return [(spec, entry["dtype"]) for spec in entry["specs"]]


def _one_scope(steps: tuple[CompressionStep, ...]) -> bool:
    return len({step.scope for step in steps}) == 1


def _steps(where: str, table: Mapping[str, Any], shared_scope: object) -> list[CompressionStep]:
    """Expand one table to its grid of steps."""
    if not isinstance(table.get("method"), str):
        msg = f"{where}: method: got {table.get('method')!r}, expected the name of a method. Correct it."
        raise SuiteError(msg)
    info = METHODS.get(table["method"], where)
    params = dict(info.params)
    known = _ENTRY_KEYS | params.keys()
    for key in table:
        if key not in known:
            msg = f"{where}: {info.name}: got {key!r}, expected a known key. {did_you_mean(key, known)}"
            raise SuiteError(msg)
    scopes = [_scope(where, scope) for scope in _as_list(table.get("scope", shared_scope or "overall"))]
    levels = _levels(where, info, table)
    grid = [[(key, value) for value in _as_list(table[key])] for key in params if key in table]
    steps = []
    for scope, level, *chosen in itertools.product(scopes, levels, *grid):
        kept = tuple((key, _param(where, info, key, value)) for key, value in chosen if value != params[key])
        steps.append(CompressionStep(method=info.name, scope=scope, level=level, params=kept))
    return steps


def _as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _scope(where: str, scope: object) -> str:
    if not isinstance(scope, str) or not scope:
        msg = f"{where}: scope: got {scope!r}, expected a scope's name or a name pattern. Correct it."
        raise SuiteError(msg)
    if scope not in SCOPES and not any(char in scope for char in "*?["):
        msg = f"{where}: scope: got {scope!r}, expected a known scope or a pattern such as '*.q_proj'. {did_you_mean(scope, SCOPES)}"
        raise SuiteError(msg)
    return scope


def _param(where: str, info: MethodInfo, key: str, value: object) -> Scalar:
    default = dict(info.params)[key]
    choices = dict(info.choices).get(key)
    right = isinstance(value, type(default)) and isinstance(value, bool) == isinstance(default, bool)
    if not right or (choices is not None and value not in choices):
        expected = f"one of {', '.join(map(str, choices))}" if choices else f"a {type(default).__name__}"
        msg = f"{where}: {key}: got {value!r}, expected {expected}. Correct it."
        raise SuiteError(msg)
    assert isinstance(value, str | int | float | bool)
    return value


def _levels(where: str, info: MethodInfo, table: Mapping[str, Any]) -> list[float]:
    other = "bits" if info.level == "sparsity" else "sparsity"
    if other in table or (info.level not in table and len(info.bits) != 1):
        msg = f"{where}: {info.name}: got {sorted(table)}, expected `{info.level}` as its level. Correct it."
        raise SuiteError(msg)
    value = table.get(info.level, list(info.bits))
    levels = _range(where, info.level, value) if isinstance(value, dict) else _as_list(value)
    if not levels:
        msg = f"{where}: {info.level}: got {value!r}, expected at least one level. Correct it."
        raise SuiteError(msg)
    return [_level(where, info, level) for level in levels]


def _range(where: str, field: str, table: Mapping[str, Any]) -> list[float]:
    """Expand `{from, to, step}`, both ends included, in decimal arithmetic so that 0.1 + 0.2 is 0.3."""
    if set(table) != {"from", "to", "step"} or not all(type(value) in {int, float} and math.isfinite(value) for value in table.values()):
        msg = f"{where}: {field}: got {dict(table)!r}, expected {{from, to, step}}, three numbers. Correct it."
        raise SuiteError(msg)
    first, last, step = (Decimal(str(table[key])) for key in ("from", "to", "step"))
    if step <= 0 or last < first:
        msg = f"{where}: {field}: got {dict(table)!r}, expected from <= to and a step above 0. Correct it."
        raise SuiteError(msg)
    return [float(first + i * step) for i in range(int((last - first) / step) + 1)]


def _level(where: str, info: MethodInfo, level: object) -> float:
    if info.level == "bits":
        if level not in info.bits or isinstance(level, bool):
            msg = f"{where}: bits: got {level!r}, expected one of {', '.join(map(str, info.bits))} for {info.name}. Correct it."
            raise SuiteError(msg)
        return int(str(level))
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 <= level < 1:
        hint = "Write a fraction, such as 0.2, not a percentage." if isinstance(level, int | float) and level >= 1 else "Correct it."
        msg = f"{where}: sparsity: got {level!r}, expected a fraction in [0, 1). {hint}"
        raise SuiteError(msg)
    return float(level)
