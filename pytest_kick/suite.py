"""Suites: TOML files that name models, compressions, probes and budgets, expanded to cases.

Everything is checked here, before a model is loaded or torch imported: names, levels, families, budgets, duplicates.
The format is described in `docs/suites.md`.
"""

from __future__ import annotations

import itertools
import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_kick.asking import asked_of, probes_for, read_probes
from pytest_kick.budget import BudgetRule, budgets_for, parse_budget
from pytest_kick.catalog import catalog
from pytest_kick.errors import SuiteError
from pytest_kick.grid import expand
from pytest_kick.infos import FAMILIES
from pytest_kick.parameters import as_list
from pytest_kick.references import resolved
from pytest_kick.registration import load_plugins
from pytest_kick.registry import METHODS, did_you_mean
from pytest_kick.series import with_paths
from pytest_kick.spec import DTYPES, FAMILY_SCOPES, MAX_CELL, NAME_RULE, Case, CompressionSpec, ModelSpec, is_name
from pytest_kick.together import check_together

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

SCHEMA = 1
_SUITE_KEYS = frozenset(
    {"schema", "name", "summary", "default", "hub", "probes", "facts", "first_look", "dtype", "dense", "models", "compressions"}
    | {"budgets", "plugins", "on_request", "claims", "data", "made_by"}
)
_MODEL_KEYS = frozenset({"name", "family", "source", "sha256", "licence", "summary", "terms"})
_FILTER_KEYS = frozenset({"models", "families", "dtype"})
_TYPES = {str: "a string", bool: "true or false", list: "a list", int: "a whole number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Hold one suite file.

    Attributes:
        name: the file's stem unless the file says otherwise.
        path: of the file.
        summary: one line for `kick list suites`.
        default: run without being named by `--kick-suite`.
        hub: needs models of the hub: run only when named, or under `--kick-hub`.
        data: needs data sets that nobody may ship: run only under `--kick-data`.
        claims: a run of it says what it shows of the claims of the studies.
        cases: the cells, model by model, the dense one first.
    """

    name: str
    path: Path
    summary: str
    default: bool
    hub: bool
    data: bool
    claims: bool
    cases: tuple[Case, ...]

    @property
    def n_cells(self) -> int:
        """Return the number of cells, without those on request."""
        return sum(not case.on_request for case in self.cases)


def read_suites(directory: Path) -> tuple[Suite, ...]:
    """Read every `*.toml` directly in `directory`, by name.

    Raises:
        UsageError: a file is malformed or names something that does not exist, or two suites do not go together.
    """
    suites = tuple(read_suite(path) for path in sorted(directory.glob("*.toml")))
    check_together(suites)
    return suites


def read_suite(path: Path) -> Suite:
    """Read one suite file and expand it.

    Raises:
        UsageError: the file is malformed (a `SuiteError`) or names a method or a probe that does not exist.
    """
    where = path.name if path.parent.name == "" else f"{path.parent.name}/{path.name}"
    try:
        data = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # all that tomllib raises on hostile input
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
            raise self.fail(value, _TYPES[kind], field=key)
        return value

    def suite(self) -> Suite:
        schema = self.data.get("schema")
        if type(schema) is not int or schema != SCHEMA:  # first of all: a later schema may have other keys
            raise self.fail(schema, f"{SCHEMA}", f"Write `schema = {SCHEMA}`, or upgrade pytest-kick.", field="schema")
        self.check_keys("suite", self.data, _SUITE_KEYS)
        name = self.typed(self.data, "name", str, self.path.stem)
        if not is_name(name):
            raise self.fail(name, NAME_RULE, "Rename the file, or write a `name`.", field="name")
        load_plugins(self.where, self.path.parent, self.typed(self.data, "plugins", list, []))
        cases = self.cases(name)
        self.check_ids(cases)
        return Suite(
            name=name,
            path=self.path,
            summary=self.typed(self.data, "summary", str, ""),
            default=self.typed(self.data, "default", bool, default=True),
            hub=self.typed(self.data, "hub", bool, default=False),
            data=self.typed(self.data, "data", bool, default=False),
            claims=self.typed(self.data, "claims", bool, default=False),
            cases=cases,
        )

    def check_ids(self, cases: Iterable[Case]) -> None:
        """Refuse a cell that stands twice, an id too long for a file name, and one that says another dtype than the cell runs in."""
        seen: set[str] = set()
        for case in cases:
            if case.id in seen:
                raise self.fail(case.id, "each cell once", "Remove the entry that repeats it.", field="compressions")
            if len(case.cell) > MAX_CELL:
                raise self.fail(case.cell, f"ids of at most {MAX_CELL} characters", "Shorten the chain.", field="compressions")
            if case.compression.float32_only and case.dtype not in {"", "float32"}:
                raise self.fail(case.dtype, f"float32 for {case.cell}", "It runs in nothing else: write that in its entry.", field="dtype")
            seen.add(case.id)

    def cases(self, name: str) -> tuple[Case, ...]:
        models = self.models
        asked = read_probes(self.where, self.typed(self.data, "probes", list, ["facts"]), self.path.parent, models)
        entries = [self.entry(i, entry) for i, entry in enumerate(self.typed(self.data, "compressions", list, []))]
        rules = [parse_budget(f"{self.where}: budgets[{i}]", table) for i, table in enumerate(self.typed(self.data, "budgets", list, []))]
        made_by = " ".join(self.typed(self.data, "made_by", str, "").split())
        same: dict[str, Any] = {"suite": name, "facts": self.facts(), "first_look": self.first_look()}
        suite_dtype = self.dtype(self.data)
        cases = []
        used: set[int] = set()
        for model in models:
            own = probes_for(self.where, asked, model)
            probes = tuple(spec.id for spec in own)
            held: dict[str, Any] = {"probes": probes, "asked": asked_of(own), "on_request": model in self.on_request}
            specs = [(CompressionSpec(), suite_dtype)] if self.typed(self.data, "dense", bool, default=True) else []
            specs += [(spec, dtype or suite_dtype) for entry in entries for spec, dtype in self.specs_for(entry, model)]
            for spec, dtype in specs:
                budgets, used_now = budgets_for(rules, model, spec, probes)
                used |= used_now
                cases.append(Case(model=model, compression=spec, budgets=budgets, dtype=dtype, made_by=made_by, **same, **held))
        if not cases:
            raise self.fail([], "at least one cell", "Add a [[compressions]] entry, or leave `dense` on.", field="compressions")
        self.check_used(rules, used, tuple(entry.spec.id for entry in asked))
        for entry in entries:
            if not any(self.takes(entry, model) for model in models):
                got = {key: entry[key] for key in ("models", "families") if entry[key] is not None}
                raise self.fail(got, "at least one model of the suite", "Correct or remove the entry.", field=entry["field"])
        return tuple(cases)

    def check_used(self, rules: list[BudgetRule], used: set[int], probes: tuple[str, ...]) -> None:
        """Refuse a budget that judges nothing: it would look like a gate."""
        for i, rule in enumerate(rules):
            field = f"budgets[{i}]"
            if i not in used:
                got = {key: list(values) for key, values in rule.match}
                raise self.fail(got, "a match with at least one compressed cell", "Correct or remove it.", field=field)
            for budget in rule.budgets:
                if budget.probe not in probes:
                    fix = did_you_mean(budget.probe, probes) + " Name it as `probe` of the budget (`facts` where it names none)."
                    raise self.fail(budget.probe, f"a probe that the suite runs: {', '.join(probes)}", fix, field=f"{field}.probe")

    @cached_property
    def on_request(self) -> tuple[ModelSpec, ...]:
        return self.named_models("on_request")

    @cached_property
    def models(self) -> tuple[ModelSpec, ...]:
        models = self.named_models("models")
        if not models:
            raise self.fail([], "at least one model", 'Write `models = ["smollm2-135m"]`.', field="models")
        models += self.on_request
        names = [model.name for model in models]
        if len(set(names)) != len(names):
            raise self.fail(names, "each model once", "Remove the repeated one.", field="models")
        return models

    def named_models(self, key: str) -> tuple[ModelSpec, ...]:
        models = []
        for i, entry in enumerate(self.typed(self.data, key, list, [])):
            table = {"name": entry} if isinstance(entry, str) else entry
            field = f"{key}[{i}]"
            if not isinstance(table, dict) or not isinstance(table.get("name"), str):
                raise self.fail(entry, "a name of the catalogue or a table with name, family and source", field=field)
            self.check_keys(field, table, _MODEL_KEYS)
            models.append(self.own_model(field, table) if "source" in table else self.known_model(field, table))
        return tuple(models)

    def known_model(self, field: str, table: Mapping[str, Any]) -> ModelSpec:
        known = catalog()
        if table["name"] not in known:
            raise self.fail(table["name"], "a known model, or a `source`", did_you_mean(table["name"], known), field=field)
        if len(table) > 1:
            raise self.fail(sorted(table), "`name` alone, or a `source` too", "The catalogue says the rest.", field=field)
        return known[table["name"]]

    def own_model(self, field: str, table: Mapping[str, Any]) -> ModelSpec:
        for key, value in table.items():
            if not isinstance(value, str):
                raise self.fail(value, "a string", field=f"{field}.{key}")
        source = resolved(table["source"], self.path.parent)
        try:
            return ModelSpec(**{"family": "", **table, "source": source})
        except SuiteError as error:
            msg = f"{self.where}: {field}: {error}"
            raise SuiteError(msg) from error

    def first_look(self) -> int:
        if (n := int(self.typed(self.data, "first_look", int, 0))) >= 0:
            return n
        raise self.fail(n, "a number of facts, 0 for all", field="first_look")

    def facts(self) -> str:
        name: str = self.typed(self.data, "facts", str, "")
        path = (self.path.parent / name).resolve()
        if name and not path.is_file():
            fix = "Correct the path, or remove the key for the shipped facts."
            raise self.fail(name, "a facts file beside the suite", fix, field="facts")
        if name and not is_name(path.stem):
            raise self.fail(name, f"a file name of {NAME_RULE}", "Rename the file: it names the baselines' directory.", field="facts")
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
        table = {key: value for key, value in entry.items() if key not in _FILTER_KEYS}
        where, folder = f"{self.where}: {field}", self.path.parent
        specs = tuple(spec for each in with_paths(where, resolved(table, folder), folder) for spec in expand(where, each))
        chosen = {key: self.names(field, entry, key) for key in ("models", "families")}
        return {"field": field, "specs": specs, "dtype": self.dtype(entry), **chosen}

    def names(self, field: str, entry: Mapping[str, Any], key: str) -> list[str] | None:
        """Read a filter of an entry: a name or a list of names, all of which the suite has."""
        if key not in entry:
            return None
        known = FAMILIES if key == "families" else [model.name for model in self.models]
        if entry[key] == []:
            raise self.fail([], "at least one name", "Add one, or remove the key.", field=f"{field}.{key}")
        for name in as_list(entry[key]):
            if name not in known:
                raise self.fail(name, f"one of {', '.join(known)}", did_you_mean(str(name), known), field=f"{field}.{key}")
        return as_list(entry[key])

    def takes(self, entry: Mapping[str, Any], model: ModelSpec) -> bool:
        """Return whether the filters of an entry, all of them, let a model through."""
        pairs = ((model.name, entry["models"]), (model.family, entry["families"]))
        return all(wanted is None or have in wanted for have, wanted in pairs)

    def specs_for(self, entry: Mapping[str, Any], model: ModelSpec) -> list[tuple[CompressionSpec, str]]:
        if not self.takes(entry, model):
            return []
        for step in itertools.chain.from_iterable(spec.steps for spec in entry["specs"]):
            families = FAMILY_SCOPES.get(step.scope, (model.family,))
            able = METHODS.get(step.method, self.where).families
            if model.family not in families or model.family not in able:
                got = f"{step.method} of {step.scope} on {model.name} ({model.family})"
                expected = f"a model of family {' or '.join(name for name in able if name in families)}"
                raise self.fail(got, expected, "Add `families` to the entry.", field=entry["field"])
        return [(spec, entry["dtype"]) for spec in entry["specs"]]
