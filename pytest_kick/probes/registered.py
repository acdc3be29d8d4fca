"""Run probes that a decorator registered: what each is given, and what it may give back."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_kick.data_sets.questions import load_questions
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import DataError, KickError, ProbeError
from pytest_kick.facts import load_facts
from pytest_kick.identity import content_hash, sampled
from pytest_kick.models.isolation import isolated
from pytest_kick.probes.assemble import assembled
from pytest_kick.probing import FILE, Example
from pytest_kick.registry import PROBES
from pytest_kick.signatures import origin, place_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probing import Declared
    from pytest_kick.result import ProbeScore

LEFT_OUT = "left out by the probe"
_CODE = "code"


class RegisteredProbe:
    """Ask what registered code asks.

    Attributes:
        name: of the probe.
        version: of the scoring, as the decorator said.
    """

    def __init__(self, spec: ProbeSpec, examples: Sequence[Example]) -> None:
        """Take the examples, and make the class where the code is one.

        Raises:
            ProbeError: it cannot be made.
        """
        self._info = PROBES.get(spec.name, "probe")
        self._declared: Declared = self._info.code.kick_declared
        self._spec, self._examples = spec, tuple(examples)
        self._own = {key: spec.param(key) for key in self._declared.own}
        self.name, self.version = spec.name, self._declared.version
        self._call: Callable[..., Any] = self._info.code
        if inspect.isclass(self._info.code):
            self._call = self._guarded(lambda: self._info.code(**self._own))
            self._own = {}

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbeScore:
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: number of examples, a sample stratified by group; None for all.
            seed: of that sample.
            batch_size: given on, where the code takes it.
            progress: not told: the code is called once.

        Raises:
            ProbeError: the code raised, changed the model, or returned something else than it declared.
        """
        del progress
        places = sampled([e.id for e in self._examples], [e.group for e in self._examples], limit, seed)
        asked = [self._examples[place] for place in places]
        given = {"batch_size": batch_size} if "batch_size" in self._declared.given else {}
        before = _state(model)
        with isolated():
            found = self._guarded(lambda: self._call(model, list(asked), **self._own, **given))
        if _state(model) != before:
            self._refuse("model", "parameters changed in place", "the model as it was", "Work on copies")
        arrays, kept = self._arrays(found, len(asked))
        asked = [example for example, keep in zip(asked, kept, strict=True) if keep]
        trivial = _trivial(asked, self._examples) if self._declared.closed and asked else {}
        return assembled(
            self._spec,
            version=self.version,
            ids=[example.id for example in asked],
            groups=[example.group for example in asked],
            hashes=[content_hash(e.prompt, e.after, e.answer, e.options, e.aliases) for e in asked],
            arrays=arrays,
            floors=self._floors(model, arrays, max(trivial.values(), default=0.0)),
            trivial=trivial,
            excluded={} if kept.all() else {LEFT_OUT: int((~kept).sum())},
            settings={"examples": self._declared.examples, _CODE: _digest(self._info.code)},
        )

    def _floors(self, model: LoadedModel, arrays: Mapping[str, Array], known: float) -> dict[str, float]:
        """Return what knowing nothing scores: of outcomes `known`, of a loss the nats of a uniform guess."""
        uniform = math.log(model.module.config.get_text_config().vocab_size)
        by_kind = {"score": 0.0, "loss": uniform, "distance": 0.0}
        outcomes = dict.fromkeys((name for name, values in arrays.items() if values.dtype == np.bool_), known)
        return outcomes | {mean.name: by_kind[mean.kind] for mean in self._info.means if mean.name in arrays}

    def _arrays(self, found: object, n: int) -> tuple[dict[str, Array], np.typing.NDArray[np.bool_]]:
        """Return what the code returned as arrays by name, and `(n,)` which examples it could ask."""
        kept = np.ones(n, np.bool_)
        if isinstance(found, list | tuple) and len(found) == n:
            kept = np.asarray([value is not None for value in found], np.bool_)
            found = [value for value in found if value is not None]
        named = found if isinstance(found, dict) else {self._info.metric: found}
        arrays = {str(name): self._array(str(name), values, int(kept.sum())) for name, values in named.items()}
        for name in (*self._info.metrics, *(mean.name for mean in self._info.means)):
            if name not in arrays:
                self._refuse(name, f"none among {', '.join(arrays) or 'nothing'}", "an array of this name", "Return it")
        return arrays, kept

    def _array(self, name: str, values: object, n: int) -> Array:
        if isinstance(values, torch.Tensor):
            values = (values.float() if values.is_floating_point() else values).detach().cpu().numpy()
        try:
            array: Array = np.asarray(values)
        except ValueError:
            self._refuse(name, "lists of several lengths", f"{n} values", "Return one for each example")
        if array.shape != (n,):
            got = f"shape {array.shape}" if array.ndim else type(values).__name__
            self._refuse(name, got, f"{n} values, one for each example", "Return them in the order of the examples")
        if n == 0:
            return array.astype(np.bool_)
        number = name in {mean.name for mean in self._info.means}
        wanted = "biuf" if number else "b" if name in self._info.metrics else "biuf"
        if array.dtype.kind not in wanted:
            rule = "bools" if wanted == "b" else "bools or numbers"
            advice = "Compare them" if wanted == "b" else "Convert them"
            self._refuse(name, f"values like {array[0]!r}", f"{rule}, or `means` in the decorator", advice)
        return array.astype(np.float32 if number or array.dtype.kind == "f" else np.bool_ if array.dtype.kind == "b" else np.int32)

    def _guarded(self, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - a stranger's code
        """Call registered code; whatever it raises is one line that names the line of its file."""
        try:
            return call()
        except KickError:
            raise
        except (Exception, SystemExit) as error:
            file = origin(self._info.code)[0]
            line, text = place_in(error, file), " ".join(str(error).split())[:200]
            place = f" at {Path(file).name}:{line}" if line else ""
            msg = f"probe {self._spec.id}: got {type(error).__name__} ({text}){place}, expected it to run. Correct the probe."
            raise ProbeError(msg) from error

    def _refuse(self, field: str, got: str, expected: str, advice: str) -> None:
        msg = f"probe {self._spec.id}: {field}: got {got} returned, expected {expected}. {advice}."
        raise ProbeError(msg)


def registered_probe(context: ProbeContext) -> RegisteredProbe:
    """Make a registered probe for the facts or questions that a suite names.

    Raises:
        KickError: these cannot be read, or the code cannot be made.
    """
    spec = context.spec
    declared: Declared = PROBES.get(spec.name, "probe").code.kick_declared
    file = spec.named(FILE)
    if declared.examples == "questions":
        return RegisteredProbe(spec, _of_questions(file, DataSource(directory=context.data, offline=context.offline)))
    if file and not file.startswith("path:"):
        msg = f"probe {spec.id}: {FILE}: got {file!r}, expected path:FILE with facts. Correct it."
        raise DataError(msg)
    facts = load_facts(Path(file.removeprefix("path:"))) if file else context.fact_set()
    found = []
    for fact in facts.facts:
        relation = facts.relations[fact.relation]
        prompt, after = relation.prompt(fact.subject)
        found.append(
            Example(
                id=fact.id,
                group=fact.relation,
                prompt=prompt,
                after=after,
                answer=fact.answer,
                options=relation.answers,
                gold=relation.answers.index(fact.answer),
                aliases=fact.aliases,
                subject=fact.subject,
            )
        )
    return RegisteredProbe(spec, found)


def _of_questions(file: str, source: DataSource) -> list[Example]:
    return [
        Example(id=q.id, group=q.group, prompt=q.question, after="", answer=q.options[q.answer], options=q.options, gold=q.answer)
        for q in load_questions(file, source)
    ]


def _trivial(asked: Sequence[Example], among: Sequence[Example]) -> dict[str, float]:
    """Return chance, and what the commonest place scores: of facts within their relation, of questions within all."""
    golds: dict[str, Counter[int]] = {}
    for example in among:
        golds.setdefault(_space(example), Counter())[example.gold] += 1
    common = {space: min(counts, key=lambda place: (-counts[place], place)) for space, counts in golds.items()}
    return {
        "chance": float(np.mean([1 / len(example.options) for example in asked])),
        "majority": float(np.mean([example.gold == common[_space(example)] for example in asked])),
    }


def _space(example: Example) -> str:
    """Return what examples share whose places mean the same answers."""
    return example.group if example.subject else ""


def _state(model: LoadedModel) -> dict[str, tuple[int, float]]:
    """Return what tells that parameters were replaced or written to: torch counts no write through `.data`, a sum sees it."""
    return {
        name: (id(parameter), float(parameter.detach().sum(dtype=torch.float64)) if type(parameter.data) is torch.Tensor else 0.0)
        for name, parameter in model.module.named_parameters()
    }


def _digest(code: Any) -> str:  # noqa: ANN401 - a function or a class
    """Return a digest of source code without its comments and indentation: an edit makes stored runs incomparable."""
    try:
        lines = [line.strip() for line in inspect.getsource(code).splitlines()]
    except (OSError, TypeError):
        return ""
    return hashlib.sha256("\n".join(line for line in lines if line and not line.startswith("#")).encode()).hexdigest()[:16]
