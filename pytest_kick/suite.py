"""Suites: TOML files that name models, compressions, probes and budgets, expanded to cases.

Everything is checked here, before a model is loaded or torch imported: names, levels, families, budgets, duplicates.
The format is described in `docs/suites.md`.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kick.budget import BudgetRule, budgets_for, parse_budget
from pytest_kick.catalog import catalog
from pytest_kick.errors import SuiteError
from pytest_kick.grid import as_list, expand_steps
from pytest_kick.registry import FAMILIES, METHODS, PROBES, did_you_mean
from pytest_kick.spec import DTYPES, FAMILY_SCOPES, Case, CompressionSpec, CompressionStep, ModelSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA = 1
_SUITE_KEYS = frozenset(
    {"schema", "name", "summary", "default", "hub", "probes", "facts", "dtype", "dense", "models", "compressions", "budgets"}
)
_MODEL_KEYS = frozenset({"name", "family", "source", "sha256", "licence", "summary"})


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

    def fail(self, got: object, expected: str, do: str = "Correct it.", *, field: str) -> SuiteError:
        return SuiteError(f"{self.where}: {field}: got {got!r}, expected {expected}. {do}")

    def check_keys(self, field: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
        for key in table:
            if key not in known:
                raise self.fail(key, "a known key", did_you_mean(key, known), field=field)

    def typed(self, table: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:  # noqa: ANN401 - the type is an argument
        value = table.get(key, default)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise self.fail(value, f"a {kind.__name__}", field=key)
        return value

    def suite(self) -> Suite:
        self.check_keys("suite", self.data, _SUITE_KEYS)
        if self.data.get("schema") != SCHEMA:
            raise self.fail(self.data.get("schema"), f"{SCHEMA}", f"Write `schema = {SCHEMA}`, or upgrade pytest-kick.", field="schema")
        name = self.typed(self.data, "name", str, self.path.stem)
        cases = self.cases(name)
        seen: set[str] = set()
        for case in cases:
            if case.id in seen:
                raise self.fail(case.id, "each cell once", "Remove the entry that repeats it.", field="compressions")
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
        if not cases:
            raise self.fail([], "at least one cell", "Add a [[compressions]] entry, or leave `dense` on.", field="compressions")
        self.check_used(rules, used)
        return tuple(cases)

    def check_used(self, rules: list[BudgetRule], used: set[int]) -> None:
        for i, rule in enumerate(rules):
            if i not in used:
                raise self.fail(dict(rule.match), "a match with at least one cell", "Correct or remove it.", field=f"budgets[{i}]")

    def models(self) -> tuple[ModelSpec, ...]:
        models = []
        for i, entry in enumerate(self.typed(self.data, "models", list, [])):
            table = {"name": entry} if isinstance(entry, str) else entry
            field = f"models[{i}]"
            if not isinstance(table, dict) or "name" not in table:
                raise self.fail(entry, "a name of the catalogue or a table with name, family and source", field=field)
            self.check_keys(field, table, _MODEL_KEYS)
            if "source" not in table:
                known = catalog()
                if table["name"] not in known:
                    raise self.fail(table["name"], "a known model, or a `source`", did_you_mean(str(table["name"]), known), field=field)
                models.append(known[table["name"]])
            else:
                models.append(self.own_model(field, table))
        if not models:
            raise self.fail([], "at least one model", 'Write `models = ["smollm2-135m"]`.', field="models")
        names = [model.name for model in models]
        if len(set(names)) != len(names):
            raise self.fail(names, "each model once", "Remove the repeated one.", field="models")
        return tuple(models)

    def own_model(self, field: str, table: Mapping[str, Any]) -> ModelSpec:
        for key, value in table.items():
            if not isinstance(value, str):
                raise self.fail(value, "a string", field=f"{field}.{key}")
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
            raise self.fail(names, "at least one probe", 'Write `probes = ["facts"]`.', field="probes")
        for name in names:
            PROBES.get(name, self.where)
        return tuple(dict.fromkeys(names))

    def facts(self) -> str:
        name: str = self.typed(self.data, "facts", str, "")
        path = (self.path.parent / name).resolve()
        if name and not path.is_file():
            raise self.fail(
                name, "a facts file beside the suite", "Correct the path, or remove the key for the shipped facts.", field="facts"
            )
        return str(path) if name else ""

    def dtype(self, table: Mapping[str, Any]) -> str:
        dtype: str = self.typed(table, "dtype", str, "")
        if dtype and dtype not in DTYPES:
            raise self.fail(dtype, f"one of {', '.join(DTYPES)}", did_you_mean(dtype, DTYPES), field="dtype")
        return dtype

    def entry(self, index: int, entry: object) -> dict[str, Any]:
        field = f"compressions[{index}]"
        if not isinstance(entry, dict):
            raise self.fail(entry, "a table", field=field)
        here = f"{self.where}: {field}"
        if ("chain" in entry) == ("method" in entry):
            raise self.fail(sorted(entry), "either `method` or `chain`", field=field)
        tables = entry.get("chain", [entry])
        if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
            raise self.fail(tables, "a list of tables, each with a `method`", field=f"{field}.chain")
        shared = entry.get("scope", "overall") if "chain" in entry else None
        if "chain" in entry:
            self.check_keys(field, entry, {"chain", "scope", "models", "families", "dtype"})
        grids = [expand_steps(here if len(tables) == 1 else f"{here}.chain[{i}]", table, shared) for i, table in enumerate(tables)]
        specs = tuple(CompressionSpec(steps=steps) for steps in itertools.product(*grids) if "scope" not in entry or _one_scope(steps))
        if not specs:
            raise self.fail(
                entry["chain"], "at least one cell", "Name scopes in the entry or in its steps, not in both.", field=f"{field}.chain"
            )
        chosen = {key: self.names(field, entry, key) for key in ("models", "families")}
        return {"field": field, "specs": specs, "dtype": self.dtype(entry), **chosen}

    def names(self, field: str, entry: Mapping[str, Any], key: str) -> list[str] | None:
        """Read a filter of an entry: a name or a list of names, all of which the suite has."""
        if key not in entry:
            return None
        known = FAMILIES if key == "families" else [model.name for model in self.models()]
        for name in as_list(entry[key]):
            if name not in known:
                raise self.fail(name, f"one of {', '.join(known)}", did_you_mean(str(name), known), field=f"{field}.{key}")
        return as_list(entry[key])

    def specs_for(self, entry: Mapping[str, Any], model: ModelSpec) -> list[tuple[CompressionSpec, str]]:
        for have, wanted in ((model.name, entry["models"]), (model.family, entry["families"])):
            if wanted is not None and have not in wanted:
                return []
        for step in itertools.chain.from_iterable(spec.steps for spec in entry["specs"]):
            families = FAMILY_SCOPES.get(step.scope, (model.family,))
            able = METHODS.get(step.method, self.where).families
            if model.family not in families or model.family not in able:
                got = f"{step.method} of {step.scope} on {model.name} ({model.family})"
                expected = f"a model of family {', '.join(name for name in able if name in families)}"
                raise self.fail(got, expected, "Add `families` to the entry.", field=entry["field"])
        return [(spec, entry["dtype"]) for spec in entry["specs"]]


def _one_scope(steps: tuple[CompressionStep, ...]) -> bool:
    return len({step.scope for step in steps}) == 1
