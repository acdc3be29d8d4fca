"""Probes of others, by a decorator: a function or a class becomes an entry of the table of probes.

What is registered is known to suites like a built-in probe; `docs/new-probe.md` shows how. A file that registers is imported as one that
registers methods is: where a suite names it, by pytest (a `conftest.py`), or as an entry point.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from pytest_kick.errors import UsageError
from pytest_kick.infos import FAMILIES, MEAN_KINDS, MeanInfo, MeanKind, ProbeInfo, Scalar
from pytest_kick.registration import check_families, enter
from pytest_kick.registry import PROBES, did_you_mean
from pytest_kick.signatures import checked_choices, suite_parameters, summary_of, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Code = TypeVar("Code")
Kind = Literal["facts", "questions"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILE = "file"
RUN_GIVES = ("batch_size",)
"""Parameters that the run gives, not the suite."""
_TARGET = "pytest_kick.probes.registered:registered_probe"
_TAKEN = frozenset({"probe", "models", "families", FILE})
_ARRAYS = frozenset({"margin", "predicted", "ids", "groups", "hashes"})
"""Names of arrays that mean something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Hold what a registered probe is asked about: a fact in its scoring template, or a question with its options.

    Attributes:
        id: unique.
        group: relation of the fact, group of the question.
        prompt: text before the answer, without a space at its end: `The capital of France is`, or the question.
        after: text after the answer, "." as a rule; "" for questions.
        answer: the right one.
        options: all answers of the relation, or of the question, the right one among them.
        gold: place of the right one.
        aliases: other accepted spellings.
        subject: of the fact, "" for questions.
    """

    id: str
    group: str
    prompt: str
    after: str
    answer: str
    options: tuple[str, ...]
    gold: int
    aliases: tuple[str, ...] = ()
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """Hold what a decorator said beside what a `ProbeInfo` holds.

    Attributes:
        examples: `facts` or `questions`.
        closed: the answer is chosen among the options, so that chance and majority are its floor.
        version: of the scoring.
        own: names of the parameters that the code takes.
        given: names of those that the run gives to its call.
    """

    examples: Kind
    closed: bool
    version: int
    own: tuple[str, ...]
    given: tuple[str, ...]


def probe(  # noqa: PLR0913 - each is one word in front of a function
    name: str,
    *,
    metric: str = "right",
    outcomes: Sequence[str] = (),
    means: Mapping[str, MeanKind] | None = None,
    examples: Kind = "facts",
    closed: bool = False,
    families: Sequence[str] = FAMILIES,
    choices: Mapping[str, Sequence[Scalar]] | None = None,
    version: int = 1,
) -> Callable[[Code], Code]:
    """Register a probe.

    A function is called once for each cell, `(model, examples)`: a `pytest_kick.models.loaded.LoadedModel`, compressed and cast, and a
    list of `Example`. It returns right or wrong for each example, in their order: bools, None for one that this model cannot be asked.
    Where the metric is a mean it returns a number for each. Several metrics, and arrays beside them, are a dict by name: bools are
    outcomes, floats numbers, and `predicted`, whole numbers, the answers. Parameters with a default become parameters of suites;
    one called `batch_size` is what the run was told, or None.

    A class is made once, `(**parameters)`, and called with each cell as a function is.

    Args:
        name: in suites, ids and reports; letters, digits, `_` and `.`.
        metric: what a budget judges that names none.
        outcomes: further outcomes, right or wrong, that a budget may name.
        means: metrics that are means of numbers, each `score` (higher is better), `loss` (nats) or `distance` (from the dense model).
        examples: `facts`: the suite's, or those of `file`; `questions`: those of `file`.
        closed: the answer is chosen among the options: chance and the commonest answer are its floor, not 0.
        families: model families it is defined for.
        choices: for parameters with a closed set of values, those values.
        version: raise it where the scoring changes: stored runs of another one are not compared with.

    Returns:
        A decorator that gives back what it decorates.

    Raises:
        UsageError: a name that is taken or does not fit an id, a metric, a family or a parameter that suites cannot hold.
    """
    _check_name(name)
    where, kinds = f"probe {name!r}", dict(means or {})

    def decorate(code: Code) -> Code:
        _check(where, (metric, *outcomes), kinds, examples, version)
        check_families(where, families)
        own, given = _parameters(where, code)
        info = ProbeInfo(
            name=name,
            target=_TARGET,
            summary=summary_of(code),
            metric=metric,
            metrics=tuple(dict.fromkeys(key for key in (metric, *outcomes) if key not in kinds)),
            means=tuple(MeanInfo(name=key, kind=kind) for key, kind in kinds.items()),
            families=tuple(families),
            params=((FILE, ""), *own),
            variant=FILE if examples == "questions" else "",
            choices=checked_choices(where, dict(own), choices or {}),
            refers=(FILE,),
            code=code,
        )
        enter(PROBES, info)
        declared = Declared(examples=examples, closed=closed, version=version, own=tuple(dict(own)), given=given)
        code.kick_declared = declared  # type: ignore[attr-defined]
        return code

    return decorate


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        got = getattr(name, "__name__", name)
        msg = f'probe: name: got {got!r}, expected a text, as in @pytest_kick.probe("my_probe"). Write one.'
        raise UsageError(msg)


def _check(where: str, names: Sequence[str], means: Mapping[str, str], examples: str, version: int) -> None:
    for metric in (*names, *means):
        if not isinstance(metric, str) or not metric.isidentifier() or metric in _ARRAYS:
            msg = f"{where}: metric: got {metric!r}, expected a word of letters, digits and '_' that names no other array. Rename it."
            raise UsageError(msg)
    for metric, kind in means.items():
        if kind not in MEAN_KINDS:
            msg = f"{where}: means.{metric}: got {kind!r}, expected one of {', '.join(MEAN_KINDS)}. {did_you_mean(str(kind), MEAN_KINDS)}"
            raise UsageError(msg)
    if examples not in KINDS:
        msg = f"{where}: examples: got {examples!r}, expected one of {', '.join(KINDS)}. {did_you_mean(str(examples), KINDS)}"
        raise UsageError(msg)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        msg = f"{where}: version: got {version!r}, expected a whole number from 1. Correct it."
        raise UsageError(msg)


def _parameters(where: str, code: Any) -> tuple[tuple[tuple[str, Scalar], ...], tuple[str, ...]]:  # noqa: ANN401 - a function or a class
    """Return the parameters that suites may give, with their defaults, and the names of those that the run gives to the call."""
    if inspect.isclass(code):
        if not any("__call__" in vars(base) for base in code.__mro__[:-1]):
            msg = f"{where}: class: got {code.__name__} without __call__, expected one that is called with a model. Write it."
            raise UsageError(msg)
        own, asks = taken(where, code, ()), taken(where, code.__call__, ("model", "examples"))
    else:
        own = asks = taken(where, code, ("model", "examples"))
    params = {name: parameter for name, parameter in own.items() if name not in RUN_GIVES}
    return suite_parameters(where, params, _TAKEN), tuple(name for name in RUN_GIVES if name in asks)
