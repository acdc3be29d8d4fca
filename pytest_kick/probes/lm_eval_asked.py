"""The documents and requests of lm-eval's tasks, built once and asked of every cell.

lm-eval's own response cache is never used: its keys do not hold the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lm_eval import evaluator

from pytest_kick.errors import KickError, ProbeError
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.lm_eval_model import Encoder, KickLM, NothingLM
from pytest_kick.probes.lm_eval_tasks import quiet, seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_kick.models.loaded import LoadedModel

    Samples = dict[str, list[dict[str, Any]]]

ELSEWHERE = ("dataset_path", "dataset_name", "dataset_kwargs", "metadata", "tag", "task", "task_alias", "num_fewshot")
"""Keys of a task's configuration that say where its documents come from, or are told apart from it."""
BUILDS, SCORES = ("fewshot_context", "construct_requests"), ("process_results",)
"""What lm-eval calls on a task for each document."""
_SHOWN = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Hold what one task asks of one sample.

    Attributes:
        task: of lm-eval.
        places: of the documents among all that the task evaluates on.
        docs: the documents.
        requests: for each document, those built from it.
    """

    task: Any
    places: tuple[int, ...]
    docs: tuple[Any, ...]
    requests: tuple[tuple[Any, ...], ...]

    def only(self, kept: Sequence[int]) -> Part:
        """Return the documents at `kept` alone."""
        return replace(
            self,
            places=tuple(self.places[i] for i in kept),
            docs=tuple(self.docs[i] for i in kept),
            requests=tuple(self.requests[i] for i in kept),
        )

    def hashes(self) -> list[int]:
        """Return the content hash of each document: its requests, shots included, and its target."""
        return [
            content_hash([repr(request.args) for request in requests], repr(self.task.doc_to_target(doc)))
            for doc, requests in zip(self.docs, self.requests, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Hold what is asked of models with one tokenizer.

    Attributes:
        parts: by name of the task, none empty.
        ids: of the documents: task and place.
        groups: task of each document.
        hashes: content hash of each document: its requests, shots included, and its target.
        encoder: holds the ids of all requests.
        excluded: reason -> documents left out.
        nothing: what a model of constant logits and empty answers gets, see `evaluate`.
    """

    parts: Mapping[str, Part]
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    hashes: tuple[int, ...]
    encoder: Encoder
    excluded: Mapping[str, int]
    nothing: Samples


class Questions:
    """Build what tasks ask."""

    def __init__(self, where: str, tasks: Mapping[str, Any], *, shots: int, seed: int, limit: int) -> None:
        """Take tasks as lm-eval loaded them.

        Args:
            where: opens every error.
            tasks: by name.
            shots: examples in front of each document; below 0 for each task's own number.
            seed: decides which ones.
            limit: documents of each task, 0 for all.

        Raises:
            ProbeError: a task fixes another number of shots.
        """
        self._seed, self._limit = seed, limit
        self.tasks = tasks
        for name, task in tasks.items():
            own = task.get_config("num_fewshot")
            if shots >= 0 and own == 0 != shots:
                msg = f"{where}: shots: got {shots}, expected 0, which {name} fixes. Leave `shots` out."
                raise ProbeError(msg)
            task.set_config(key="num_fewshot", value=shots if shots >= 0 else own or 0)
        with quiet(), seeded():
            self._docs = {name: task.eval_docs for name, task in tasks.items()}
        self._built: dict[tuple[int | None, int], dict[str, Part]] = {}
        self._asked: dict[tuple[int | None, int, str, str], Asked] = {}

    def settings(self) -> dict[str, str | int | float | bool]:
        """Return what fixes the scoring besides the examples: the number of shots, and a digest of versions and configurations."""
        shots = sorted({int(task.get_config("num_fewshot")) for task in self.tasks.values()})
        configs = {name: [str(task.VERSION), _configuration(task)] for name, task in sorted(self.tasks.items())}
        versions = sorted({str(task.VERSION) for task in self.tasks.values()})
        digest = hashlib.sha256(json.dumps(configs).encode()).hexdigest()[:16]
        return {"shots": ",".join(map(str, shots)), "shots_seed": self._seed, "version": ",".join(versions), "configuration": digest}

    def asked(self, model: LoadedModel, limit: int | None, seed: int) -> Asked:
        """Return what is asked of a model: built at the first call for a sample and a tokenizer."""
        key = (limit, seed, model.tokenizer_hash, model.family)
        if key not in self._asked:
            if (limit, seed) not in self._built:
                self._built[limit, seed] = self._build(limit, seed)
            self._asked[key] = _encode(model, self._built[limit, seed])
        return self._asked[key]

    def _build(self, limit: int | None, seed: int) -> dict[str, Part]:
        wanted: list[tuple[str, int]] = []
        for name, docs in self._docs.items():
            ids = [f"{name}/{place}" for place in range(len(docs))]
            wanted.extend((name, int(place)) for place in sampled(ids, [name] * len(ids), self._limit or None, seed))
        chosen: defaultdict[str, list[int]] = defaultdict(list)
        for number in sampled([f"{name}/{place}" for name, place in wanted], [name for name, _ in wanted], limit, seed):
            chosen[wanted[number][0]].append(wanted[number][1])
        with quiet(), seeded():
            return {name: self._part(self.tasks[name], self._docs[name], places) for name, places in chosen.items()}

    def _part(self, task: Any, all_docs: Any, places: list[int]) -> Part:  # noqa: ANN401 - lm-eval ships no types
        docs = tuple(all_docs[place] for place in places)
        task.set_fewshot_seed(seed=self._seed)
        with _asking(task, docs, places):
            task.build_all_requests()
        requests: list[list[Any]] = [[] for _ in docs]
        for request in task.instances:
            requests[request.doc_id].append(request)
        return Part(task=task, places=tuple(places), docs=docs, requests=tuple(map(tuple, requests)))


def evaluate(lm: KickLM, parts: Mapping[str, Part]) -> Samples:
    """Return what lm-eval's own evaluation says of every document, by task: answers, filtered answers and metrics.

    Raises:
        ProbeError: a document cannot be scored, as a field of it is missing.
    """
    with contextlib.ExitStack() as stack:
        for part in parts.values():
            stack.enter_context(_asking(part.task, part.docs, part.places, part.requests))
        stack.enter_context(quiet())
        found = evaluator.evaluate(
            lm=lm,
            task_dict={"tasks": {name: part.task for name, part in parts.items()}, "groups": {}},
            bootstrap_iters=0,
            confirm_run_unsafe_code=True,  # refused when the task was loaded, where it was not allowed
        )
    samples: Samples = found["samples"]
    return samples


@contextlib.contextmanager
def _asking(
    task: Any,  # noqa: ANN401
    docs: Sequence[Any],
    places: Sequence[int],
    requests: Sequence[Sequence[Any]] | None = None,
) -> Iterator[None]:
    """Let a task evaluate on these documents alone, with requests that are built already where they are given."""
    shown: dict[str, Callable[..., Any]] = {"test_docs" if task.has_test_docs() else "validation_docs": lambda: docs}
    numbers = {id(doc): place for doc, place in zip(docs, places, strict=True)}
    shown |= {name: _naming(task, name, numbers) for name in (BUILDS if requests is None else SCORES)}
    if requests is not None:
        fresh = [replace(request, resps=[], filtered_resps={}) for each in requests for request in each]
        task._instances = fresh  # noqa: SLF001 - what `build_all_requests` writes
        shown["build_all_requests"] = lambda **_: None
    try:
        for name, function in shown.items():
            setattr(task, name, function)
        yield
    finally:
        for name in shown:
            delattr(task, name)  # the class's own method shows again


def _naming(task: Any, name: str, numbers: Mapping[int, int]) -> Callable[..., Any]:  # noqa: ANN401
    """Return a method of a task that says which document it could not do: templates and users' functions raise whatever they like."""
    own = getattr(task, name)

    def called(*args: Any, **named: Any) -> Any:  # noqa: ANN401
        try:
            return own(*args, **named)
        except KickError:
            raise
        except Exception as error:
            doc = args[0] if args else named.get("doc")
            split = task.get_config("test_split") if task.has_test_docs() else task.get_config("validation_split")
            shots = ", or one of its shots" if name == BUILDS[0] and task.get_config("num_fewshot") else ""
            reason = " ".join(str(error).split())[:_SHOWN]
            msg = (
                f"lm_eval:{task.get_config('task')}: document {numbers.get(id(doc))} of {split!r} (counted from 0){shots}: got"
                f" {type(error).__name__} ({reason}), expected every field that the task reads. Correct the row, or the task."
            )
            raise ProbeError(msg) from error

    return called


def _encode(model: LoadedModel, parts: Mapping[str, Part]) -> Asked:
    """Encode all requests, and leave out documents that a tokenizer cannot be asked."""
    encoder, excluded = Encoder(model), Counter[str]()
    every = [request.args[:2] for part in parts.values() for each in part.requests for request in each if _scored(request)]
    encoder.pairs(model, every)
    kept = {}
    for name, part in parts.items():
        reasons = [_reason(model, encoder, requests) for requests in part.requests]
        excluded.update(reason for reason in reasons if reason)
        kept[name] = part.only([number for number, reason in enumerate(reasons) if not reason])
    kept = {name: part for name, part in kept.items() if part.docs}
    nothing = evaluate(NothingLM(model, encoder), kept) if kept else {}
    return Asked(
        parts=kept,
        ids=tuple(f"{name}/{place}" for name, part in kept.items() for place in part.places),
        groups=tuple(name for name, part in kept.items() for _ in part.places),
        hashes=tuple(number for part in kept.values() for number in part.hashes()),
        encoder=encoder,
        excluded=dict(excluded),
        nothing=nothing,
    )


def _scored(request: Any) -> bool:  # noqa: ANN401
    return bool(request.request_type == "loglikelihood")


def _reason(model: LoadedModel, encoder: Encoder, requests: Sequence[Any]) -> str:
    """Return why a document cannot be asked, "" where it can."""
    if requests and not _scored(requests[0]):
        rolling = requests[0].request_type == "loglikelihood_rolling"
        return "an empty text" if rolling and not encoder.windows(model, requests[0].args[0]) else ""
    asked = list(dict.fromkeys(request.args[:2] for request in requests))
    pairs = encoder.pairs(model, asked)
    if not all(context and target for context, target in pairs):
        return "an answer without a token"
    return "answers that the tokenizer cuts alike" if len(set(pairs)) < len(pairs) else ""


def _configuration(task: Any) -> str:  # noqa: ANN401
    """Return a task's configuration as text, functions by their source, without places in memory."""
    config = {key: value for key, value in dict(task.dump_config()).items() if key not in ELSEWHERE}
    return re.sub(r" at 0x[0-9a-f]+", "", json.dumps(config, sort_keys=True, default=str))
