"""Names of methods and probes, known without importing what implements them.

A suite is validated before torch is imported: everything that validation asks (does this method exist, what kind of level does
it take, which parameters, which families) stands in the tables here. The code itself is imported when it is first run.
Other packages add methods and probes by the entry-point groups `pytest_kick.methods` and `pytest_kick.probes`; an entry point
resolves to a `MethodInfo` or `ProbeInfo`, whose `target` names the code in turn.
"""

from __future__ import annotations

import difflib
import importlib
import re
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from pytest_kick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FAMILIES = ("encoder", "encoder-decoder", "decoder")
Level = Literal["sparsity", "bits"]
Scalar = str | int | float | bool
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]*")  # stands in ids between '--' and '+'


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """Describe a compression method without importing it.

    Attributes:
        name: as suites write it.
        level: what its level means: `sparsity` in [0, 1), or `bits` in [1, 16].
        target: `module:function` of the implementation, see `pytest_kick.compress`.
        summary: one line for `kick list methods`.
        families: model families it is defined for.
        bits: the widths it can do, for `level == "bits"`.
        params: names of the further parameters, each with its default, in the order in which ids print them.
        choices: for a parameter with a closed set of values, those values.
        words: for a parameter that is a number, the words it takes besides.
        levels_of: for a parameter whose values go with one level each, (parameter, value, level) of all of them.
        float32_only: it runs its cell, and the dense comparison of that cell, in float32.
        packs: it replaces the weights by another layout, so nothing can be applied after it in a chain.
    """

    name: str
    level: Level
    target: str
    summary: str
    families: tuple[str, ...] = FAMILIES
    bits: tuple[int, ...] = ()
    params: tuple[tuple[str, Scalar], ...] = ()
    choices: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    levels_of: tuple[tuple[str, Scalar, int], ...] = ()
    float32_only: bool = False
    packs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeInfo:
    """Describe a probe without importing it.

    Attributes:
        name: as suites write it.
        target: `module:callable` that makes the probe, see `pytest_kick.probes`.
        summary: one line for `kick list probes`.
        metric: the metric a budget judges when it names none.
        metrics: all metrics a budget may name.
    """

    name: str
    target: str
    summary: str
    metric: str
    metrics: tuple[str, ...]
    families: tuple[str, ...] = FAMILIES


Info = TypeVar("Info", MethodInfo, ProbeInfo)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant: `Did you mean 'x'?` or the list of what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known) or 'none'}."


class Registry(Generic[Info]):
    """Map names to `MethodInfo` or `ProbeInfo`; entry points of other packages are looked up on the first miss."""

    def __init__(self, kind: str, group: str, builtin: Iterable[Info]) -> None:
        """Hold the built-in entries of one `kind` (the word used in errors) and the entry-point `group`."""
        self.kind = kind
        self.group = group
        self._known: dict[str, Info] = {info.name: info for info in builtin}
        self._looked_up = False

    def __iter__(self) -> Iterator[Info]:
        """Iterate over all entries, those of other packages included, by name."""
        self._look_up()
        return iter(sorted(self._known.values(), key=lambda info: info.name))

    def register(self, info: Info) -> None:
        """Add an entry.

        Raises:
            UsageError: the name is taken by another entry, or cannot stand in an id.
        """
        if not _NAME.fullmatch(info.name):
            msg = f"{self.kind} {info.name!r}: name: got {info.name!r}, expected letters, digits, '_' and '.' only. Rename it."
            raise UsageError(msg)
        if self._known.get(info.name, info) != info:
            msg = f"{self.kind} {info.name!r}: name: got a second {self.kind} of this name, expected unique names. Rename one."
            raise UsageError(msg)
        self._known[info.name] = info

    def get(self, name: object, where: str) -> Info:
        """Return the entry called `name`.

        Args:
            name: the name to look up, as a suite gives it: not a string is an error too.
            where: what an error names as the place of the name, such as `suites/a.toml: compressions[0]`.

        Raises:
            UsageError: no such name; with a near match, or the list of what is known.
        """
        if isinstance(name, str) and name not in self._known:
            self._look_up()
        if not isinstance(name, str) or name not in self._known:
            msg = f"{where}: {self.kind}: got {name!r}, expected a known {self.kind}. {did_you_mean(str(name), self._known)}"
            raise UsageError(msg)
        return self._known[name]

    def _look_up(self) -> None:
        if self._looked_up:
            return
        self._looked_up = True
        for point in metadata.entry_points(group=self.group):
            self.register(self._loaded(point))

    def _loaded(self, point: metadata.EntryPoint) -> Info:
        """Load one entry point; whatever another package raises is told in one line that names it."""
        try:
            info = point.load()
        except Exception as error:  # noqa: BLE001 - code of other packages may raise anything
            info = f"{type(error).__name__}: {error}"
        expected = ProbeInfo if self.kind == "probe" else MethodInfo
        if not isinstance(info, expected):
            where = f"entry point {point.name!r} of {self.group} ({point.value})"
            got = " ".join(str(info).split())
            msg = f"{where}: {self.kind}: got {got}, expected a {expected.__name__}. Update or uninstall its package."
            raise UsageError(msg)
        return cast("Info", info)


def load_target(target: str) -> Any:  # noqa: ANN401 - what a target is depends on the table it stands in
    """Import `module:attribute`."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


_OF = ("sparsity_of", "scope")
_OF_CHOICES = ("sparsity_of", ("scope", "model", "attention"))
_DIM_CHOICES = ("dim", ("rows", "columns"))
_FLOATS = (("bf16", 16), ("fp16", 16), ("fp8_e4m3", 8), ("fp8_e5m2", 8))

METHODS: Registry[MethodInfo] = Registry(
    "method",
    "pytest_kick.methods",
    (
        MethodInfo(
            name="l1_global",
            level="sparsity",
            target="pytest_kick.compress.prune:l1_global",
            summary="zero the weights of smallest magnitude over the whole scope",
            params=(_OF,),
            choices=(_OF_CHOICES,),
        ),
        MethodInfo(
            name="l1_per_matrix",
            level="sparsity",
            target="pytest_kick.compress.prune:l1_per_matrix",
            summary="zero the weights of smallest magnitude, matrix by matrix",
        ),
        MethodInfo(
            name="random_unstructured",
            level="sparsity",
            target="pytest_kick.compress.prune:random_unstructured",
            summary="zero random weights, matrix by matrix",
            params=(("seed", 0),),
        ),
        MethodInfo(
            name="ln_structured",
            level="sparsity",
            target="pytest_kick.compress.prune:ln_structured",
            summary="zero the rows or columns of smallest norm, matrix by matrix",
            params=(("n", 1), ("dim", "rows")),
            choices=(("n", (1, 2)), _DIM_CHOICES),
        ),
        MethodInfo(
            name="random_structured",
            level="sparsity",
            target="pytest_kick.compress.prune:random_structured",
            summary="zero random rows or columns, matrix by matrix",
            params=(("dim", "rows"), ("seed", 0)),
            choices=(_DIM_CHOICES,),
        ),
        MethodInfo(
            name="dynamic_int8",
            level="bits",
            target="pytest_kick.compress.quantize:dynamic_int8",
            summary="int8 weights per output channel, int8 activations per token (torchao)",
            bits=(8,),
        ),
        MethodInfo(
            name="rtn",
            level="bits",
            target="pytest_kick.compress.weight_only:rtn",
            summary="round weights to the nearest of a grid per group, channel (group 0) or tensor",
            bits=(2, 3, 4, 5, 6, 7, 8),
            params=(("group", 64), ("symmetric", True)),
            words=(("group", ("tensor",)),),
        ),
        MethodInfo(
            name="cast",
            level="bits",
            target="pytest_kick.compress.weight_only:cast",
            summary="round weights to a floating-point format: bf16, fp16, or fp8 with a scale per channel",
            bits=(8, 16),
            params=(("format", "bf16"),),
            choices=(("format", tuple(name for name, _ in _FLOATS)),),
            levels_of=tuple(("format", name, bits) for name, bits in _FLOATS),
        ),
        MethodInfo(
            name="quantize_dynamic",
            level="bits",
            target="pytest_kick.compress.quantize:quantize_dynamic",
            summary="torch's deprecated per-tensor dynamic int8, as study A used it (float32 only)",
            bits=(8,),
            float32_only=True,
            packs=True,
        ),
    ),
)

PROBES: Registry[ProbeInfo] = Registry(
    "probe",
    "pytest_kick.probes",
    (
        ProbeInfo(
            name="facts",
            target="pytest_kick.probes.facts:FactsProbe",
            summary="what the model still knows: rank the gold answer of each fact",
            metric="p1",
            metrics=("p1", "p5", "p10", "free_p1", "free_p5", "free_p10"),
        ),
    ),
)
