"""The probes of a suite: names, names with a variant after a colon, or tables with parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kick.errors import SuiteError
from pytest_kick.infos import FAMILIES
from pytest_kick.parameters import as_list, checked_param
from pytest_kick.probe_spec import SAMPLE, ProbeSpec
from pytest_kick.references import refers, resolved, shortened
from pytest_kick.registry import PROBES, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_kick.spec import ModelSpec


FILTERS = ("models", "families")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Hold one entry of `probes`: a probe, and which models of the suite it asks; None for all."""

    field: str
    spec: ProbeSpec
    models: tuple[str, ...] | None
    families: tuple[str, ...] | None

    def asks(self, model: ModelSpec) -> bool:
        """Return whether it asks a model."""
        pairs = ((model.name, self.models), (model.family, self.families))
        return all(wanted is None or have in wanted for have, wanted in pairs)


def read_probes(where: str, entries: object, folder: Path, models: Sequence[ModelSpec]) -> tuple[Entry, ...]:
    """Read the key `probes` of a suite.

    Args:
        where: opens every error, such as `suites/a.toml`.
        entries: as parsed from TOML.
        folder: of the suite.
        models: of the suite.

    Raises:
        UsageError: an unknown name or parameter, a value outside its range, no probe at all, or one not defined for a model it asks.
    """
    if not isinstance(entries, list) or not entries:
        msg = f'{where}: probes: got {entries!r}, expected at least one probe. Write `probes = ["facts"]`.'
        raise SuiteError(msg)
    known = {"models": [model.name for model in models], "families": list(FAMILIES)}
    found = tuple(_entry(where, i, entry, folder, known) for i, entry in enumerate(entries))
    for entry in found:
        info = PROBES.get(entry.spec.name, where)
        able = info.asking(entry.spec.param(info.variant)).families if info.parts else info.families
        asked = [model for model in models if entry.asks(model)]
        wrong = next((model for model in asked if model.family not in able), None)
        if wrong or not asked:
            got = [entry.spec.id, wrong.name] if wrong else entry.spec.id
            expected = f"a model of family {' or '.join(able)}" if wrong else "at least one model of the suite"
            msg = f"{where}: {entry.field}: got {got!r}, expected {expected}. Write it as a table with `families` or `models`."
            raise SuiteError(msg)
    return found


def probes_for(where: str, entries: Sequence[Entry], model: ModelSpec) -> tuple[ProbeSpec, ...]:
    """Return the probes that ask a model, each once.

    Raises:
        SuiteError: there is none.
    """
    found = {entry.spec.id: entry.spec for entry in entries if entry.asks(model)}
    if not found:
        msg = f"{where}: probes: got none for {model.name!r}, expected at least one. Add one, or remove the model."
        raise SuiteError(msg)
    return tuple(found.values())


def asked_of(specs: Sequence[ProbeSpec]) -> tuple[ProbeSpec, ...]:
    """Return the probes as a case holds them beside their ids: none where the ids say all."""
    return tuple(specs) if any(spec.params for spec in specs) else ()


def _entry(where: str, index: int, entry: object, folder: Path, known: dict[str, list[str]]) -> Entry:
    field = f"probes[{index}]"
    table = {"probe": entry} if isinstance(entry, str) else entry
    if not isinstance(table, dict) or not isinstance(table.get("probe"), str):
        msg = f"{where}: {field}: got {entry!r}, expected a name, or a table with `probe` and its parameters. Correct it."
        raise SuiteError(msg)
    filters = {key: _names(f"{where}: {field}.{key}", table[key], known[key]) for key in FILTERS if key in table}
    spec = _spec(f"{where}: {field}", {key: value for key, value in table.items() if key not in FILTERS}, folder)
    return Entry(field=field, spec=spec, models=filters.get("models"), families=filters.get("families"))


def _names(where: str, value: object, known: list[str]) -> tuple[str, ...]:
    names = as_list(value)
    for name in names or [[]]:
        if name not in known:
            msg = f"{where}: got {name!r}, expected one of {', '.join(known)}. {did_you_mean(str(name), known)}"
            raise SuiteError(msg)
    return tuple(names)


def _spec(where: str, table: dict[str, Any], folder: Path) -> ProbeSpec:
    name, colon, variant = table["probe"].partition(":")
    info = PROBES.get(name, where)
    given = {key: resolved(value, folder) for key, value in table.items() if key != "probe"}
    if colon:
        if not info.variant or info.variant in given:
            msg = f"{where}: probe: got {table['probe']!r}, expected {name!r} alone. Correct it."
            raise SuiteError(msg)
        given = {info.variant: resolved(variant, folder)} | given
    info = info.asking(given.get(info.variant, dict(info.params).get(info.variant)))
    defaults = dict(info.params)
    fixed = () if SAMPLE in defaults or SAMPLE not in given else ((SAMPLE, _sample(where, given.pop(SAMPLE))),)
    for key in given:
        if key not in defaults:
            msg = f"{where}: {name}: got {key!r}, expected a parameter of this probe. {did_you_mean(key, (*defaults, *FILTERS, SAMPLE))}"
            raise SuiteError(msg)
    chosen: dict[str, Any] = {key: checked_param(where, info, key, given[key]) for key in defaults if key in given}
    _check_given(where, info.name, info.variant, defaults, chosen)
    for part in info.parts if len(info.parts) == 1 else ():
        if part.variant and defaults[part.variant] == "" and not chosen.get(part.variant):
            msg = (
                f"{where}: {part.variant}: got none, expected what {part.name} asks about. Write `{part.variant}` beside `{info.variant}`."
            )
            raise SuiteError(msg)
    params = tuple((key, value) for key, value in shortened(info, chosen).items() if value != defaults[key])
    outside = tuple((key, str(value)) for key, value in chosen.items() if refers(info, key, value))
    return ProbeSpec(name=name, params=(*params, *fixed), outside=outside)


def _sample(where: str, value: object) -> int:
    if type(value) is not int or value < 1:
        msg = f"{where}: {SAMPLE}: got {value!r}, expected a number of examples from 1. Correct it."
        raise SuiteError(msg)
    return value


def _check_given(where: str, name: str, variant: str, defaults: dict[str, Any], chosen: dict[str, Any]) -> None:
    """Refuse a probe without the variant that it cannot do without: one whose default is empty."""
    if variant and defaults[variant] == "" and not chosen.get(variant):
        msg = f"{where}: {name}: got no {variant}, expected one, such as `{name}:...`. Name it after a colon."
        raise SuiteError(msg)
