"""What the tables of methods and probes hold of each: enough to validate a suite without importing the code."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

FAMILIES = ("encoder", "encoder-decoder", "decoder")
Level = Literal["sparsity", "bits", "rank", "count", "sigma", "name"]
LEVELS = {"sparsity": "s", "bits": "b", "rank": "r", "count": "n", "sigma": "sd", "name": ""}
"""Kinds of level, as keys of suites, and what ids print before the number: a share in [0, 1); bits in [1, 16]; whole numbers from 1;
a share above 0; for methods without numbers, the parameter `name` of the step."""
Scalar = str | int | float | bool
CALIBRATION: tuple[tuple[str, Scalar], ...] = (
    ("source", "shipped"),
    ("count", 128),
    ("length", 2048),
    ("seed", 0),
    ("propagate", "compressed"),
)
"""Parameters of every calibrated method, as study B has them by default; see `spec.Calibration`."""
CALIBRATION_SOURCES = ("shipped", "statements", "model")
MIN_CALIBRATION_LENGTH = 8
"""Tokens: fewer leave nothing to mask between the special ones."""
CALIBRATION_LEAST = (("count", 1), ("length", MIN_CALIBRATION_LENGTH))
CALIBRATION_CHOICES = (("source", CALIBRATION_SOURCES), ("propagate", ("compressed", "dense")))

EXECUTION: tuple[str, Scalar] = ("execution", "")
"""Parameter of methods whose format a library has kernels for: "" for rounded floats, or its packed weights."""
EXECUTION_CHOICES: tuple[str, tuple[Scalar, ...]] = ("execution", ("packed",))


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """Describe a compression method without importing it.

    Attributes:
        name: as suites write it.
        level: what its level means, a key of `LEVELS`.
        also: other kinds of level that a suite may give instead.
        check: `module:function` that checks what a step of it achieved, a `compress.check.Check`; "" for the checks of pruning by level
            or of rounding, as `level` says.
        target: `module:function` of the implementation, see `pytest_kick.compress`.
        summary: one line for `kick list methods`.
        families: model families it is defined for.
        bits: the widths it can do, for `level == "bits"`.
        params: names of the further parameters, each with its default, in the order in which ids print them.
        choices: for a parameter with a closed set of values, those values.
        words: for a parameter that is a number, the words it takes besides.
        least: for a number, its least value where that is not 0.
        levels_of: for a parameter whose values go with one level each, (parameter, value, level) of all of them.
        float32_only: it runs its cell, and the dense comparison of that cell, in float32.
        packs: it replaces the weights by another layout, so nothing can be applied after it in a chain.
        calibrated: it looks at activations: `CALIBRATION` stands at the end of its `params`.
        compensates: a pruning method that changes the weights it keeps.
        levels: those at which a registered method runs where no suite names it.
        code: the function or class that a decorator registered; then `target` is what runs those.
        paths: names of the parameters that are paths, relative to the suite: ids and fingerprints hold none, but what was read there.
        brings: it brings weights from elsewhere, for the whole model where its scope is `overall`: first in a chain.
        zeroless: its format has no value zero, so that no step of a chain may prune before or after it.
        extra: the extra of this package that brings what it needs, "" where nothing is needed.
        needs: the module that has to be there then; its cells are skipped without it.
    """

    name: str
    level: Level
    target: str
    summary: str
    families: tuple[str, ...] = FAMILIES
    bits: tuple[int, ...] = ()
    also: tuple[Level, ...] = ()
    check: str = ""
    params: tuple[tuple[str, Scalar], ...] = ()
    choices: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    least: tuple[tuple[str, int], ...] = ()
    levels_of: tuple[tuple[str, Scalar, int], ...] = ()
    float32_only: bool = False
    packs: bool = False
    calibrated: bool = False
    compensates: bool = False
    levels: tuple[float, ...] = ()
    code: Any = field(default=None, compare=False, repr=False)
    paths: tuple[str, ...] = ()
    brings: bool = False
    zeroless: bool = False
    extra: str = ""
    needs: str = ""


MeanKind = Literal["score", "loss", "distance"]
MEAN_KINDS = ("score", "loss", "distance")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanInfo:
    """Describe a metric that is a mean of numbers per example, not a share of right answers.

    Attributes:
        name: of the metric.
        kind: `score`: higher is better, a budget limits `retention` or `drop`; `loss`: nats, lower is better, a budget limits the
            `ratio` to dense, exp of the difference; `distance`: from the dense model, 0 for itself, a budget says `at_most`.
        array: array of the examples whose mean it is; "" for the one of its name.
        weights: array of what each example weighs (tokens of a window), "" for all alike.
        macro: the mean of the groups' means.
    """

    name: str
    kind: MeanKind
    array: str = ""
    weights: str = ""
    macro: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeInfo:
    """Describe a probe without importing it.

    Attributes:
        name: as suites write it.
        target: `module:callable` that makes the probe from a `pytest_kick.probes.context.ProbeContext`, see `pytest_kick.probes`.
        summary: one line for `kick list probes`.
        metric: the metric a budget judges when it names none.
        metrics: the outcomes (right or wrong per example) that a budget may name.
        means: the metrics that are means of numbers.
        open_metrics: it has further metrics, known when it has run: a budget may name any.
        families: model families it is defined for.
        params: names of its parameters, each with its default, in the order in which ids print them.
        variant: the parameter that a suite may give after a colon: `lama:trex` for `dataset = "trex"`.
        choices: for a parameter with a closed set of values, those values.
        words: for a parameter that is a number, the words it takes besides.
        least: for a number, its least value where that is not 0.
        refers: names of the parameters that may be `path:FILE`, relative to the suite, or `datasets:ID`.
        dense: it compares with answers of the dense model, which the runner gets it: it has a method `reference`.
        data: the folders of `--kick-data` it reads, by variant or all.
        licence: of that data where it is not free for all use.
        judge: it has metrics that need `--kick-judge`.
        extra: the extra of this package that brings what it needs, "" where nothing is needed.
        needs: the module that has to be there then.
        parts: the probes whose examples it asks, named by its variant: each one's parameters stand among its own, and are given with it.
        code: the function or class that a decorator registered; then `target` is what runs those.
    """

    name: str
    target: str
    summary: str
    metric: str
    metrics: tuple[str, ...] = ()
    means: tuple[MeanInfo, ...] = ()
    open_metrics: bool = False
    families: tuple[str, ...] = FAMILIES
    params: tuple[tuple[str, Scalar], ...] = ()
    variant: str = ""
    choices: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    words: tuple[tuple[str, tuple[str, ...]], ...] = ()
    least: tuple[tuple[str, int], ...] = ()
    refers: tuple[str, ...] = ()
    dense: bool = False
    data: tuple[str, ...] = ()
    licence: str = ""
    judge: bool = False
    extra: str = ""
    needs: str = ""
    parts: tuple[ProbeInfo, ...] = ()
    code: Any = field(default=None, compare=False, repr=False)

    def asking(self, value: object) -> ProbeInfo:
        """Return it as it is where its variant has a value: the parameters and families of the probe of that name, and of no other part."""
        part = next((part for part in self.parts if part.name == value), None)
        if part is None:
            return self
        others = {key for other in self.parts if other is not part for key, _ in other.params}
        return replace(self, families=part.families, params=tuple(pair for pair in self.params if pair[0] not in others), parts=(part,))

    @property
    def paths(self) -> tuple[str, ...]:
        """Return the parameters that are plain paths: none, a probe refers to files as `path:FILE`."""
        return ()

    def mean(self, name: str) -> MeanInfo | None:
        """Return the mean called `name`, None where the metric is an outcome or not known."""
        return next((mean for mean in self.means if mean.name == name), None)
