"""The probe `divergence`: how far what a model says at the answers of facts is from what the dense model says there.

See `docs/probes.md` for what is compared and why.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from pytest_kick.errors import ProbeError
from pytest_kick.identity import content_hash
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.divergence_ask import Predictions
from pytest_kick.probes.divergence_measures import TOP, divergence, from_uniform, normalized, top_tokens, with_tail
from pytest_kick.probes.prepare import Prepared, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.examples import Array
    from pytest_kick.facts import FactSet
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.forward import Work
    from pytest_kick.result import ProbeScore

SAMPLE_SEED = 0
"""Of the facts compared: the same for every run, so that `--kick-limit` can only take some of them away."""
FULL = 2**21
"""Numbers kept of whole distributions, 8 MiB: more than small vocabularies need; larger ones are compared by their top alone."""
OPTIONS = {False: "distinct first tokens", True: "whole answers, sum"}


class Divergence:
    """Compare predictions with the dense model's; what depends on the tokenizer alone is prepared once and kept.

    Attributes:
        name: `divergence`.
        version: of the comparison; a change makes stored scores incomparable.
    """

    name: ClassVar[str] = "divergence"
    version: ClassVar[int] = 1

    def __init__(self, context: ProbeContext) -> None:
        """Take the facts and the parameters."""
        self._spec = context.spec
        self._facts = context.fact_set().sample(int(context.spec.param("sample")), SAMPLE_SEED)
        self._whole = context.spec.param("options") == "whole"
        self._prepared: dict[tuple[str, str, int | None, int], tuple[FactSet, Prepared]] = {}

    @property
    def key(self) -> str:
        """Return a digest of the facts compared."""
        parts = [f"{fact.id} {number}" for fact, number in zip(self._facts.facts, self._facts.hashes(), strict=True)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def reference(
        self, model: LoadedModel, *, limit: int | None = None, seed: int = 0, batch_size: int | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """Return what is kept of the dense model.

        Args:
            model: dense, cast to the dtype and device of the forward pass.
            limit: facts of the sample; None for all.
            seed: of what the limit leaves.
            batch_size: facts per pass; None for 64.

        Returns:
            `ids` of n facts; of the vocabulary `tokens` `(n, K)`, the likeliest first, and `top` `(n, K + 1)`, their log-probabilities
            and that of all others together; `options` `(n, W)`, log-probabilities of the options; `margin` `(n,)`, nats between
            the two likeliest tokens; for small vocabularies `full` `(n, vocabulary)`.

        Raises:
            ProbeError: logits are NaN or infinite.
        """
        facts, prepared = self._prepare(model, limit, seed)
        n, vocabulary = len(prepared), 0
        found: dict[str, Array] = {}
        for places, logprobs, options in Predictions(model, prepared, whole=self._whole).batches(batch_size):
            tokens, vocabulary = top_tokens(logprobs), logprobs.shape[-1]
            best = logprobs.topk(2, -1).values
            part = {"tokens": tokens.int(), "top": with_tail(logprobs, tokens), "margin": best[:, 0] - best[:, 1]}
            if n * vocabulary <= FULL:
                part["full"] = logprobs
            _put(found, n, places, {name: value.cpu().numpy() for name, value in part.items()} | {"options": options.astype(np.float32)})
        ids = np.asarray([facts.facts[number].id for number in prepared.chosen])
        return {"ids": ids, "vocabulary": np.asarray(vocabulary), **found}

    def run(
        self,
        model: LoadedModel,
        *,
        reference: Mapping[str, Array],
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbeScore:
        """Compare a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            reference: of the dense model, with the same limit, seed and batch size.
            limit: facts of the sample; None for all.
            seed: of what the limit leaves.
            batch_size: facts per pass; None for 64.
            progress: called with the numbers of facts done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or the reference is of other facts or of another vocabulary.
        """
        facts, prepared = self._prepare(model, limit, seed)
        ids = [facts.facts[number].id for number in prepared.chosen]
        if reference["ids"].tolist() != ids:
            msg = f"probe {self._spec.id}: reference: got other facts, expected these {len(ids)}. Measure the dense model again."
            raise ProbeError(msg)
        asked = Predictions(model, prepared, whole=self._whole)
        arrays: dict[str, Array] = {}
        done = 0
        for places, logprobs, options in asked.batches(batch_size):
            dense = {name: values[places] for name, values in reference.items() if values.ndim}
            _put(arrays, len(ids), places, _compared(dense, logprobs, options))
            done += len(places)
            if progress:
                progress(done, len(ids))
        return self._assemble(facts, prepared, reference, arrays, asked.work)

    def _prepare(self, model: LoadedModel, limit: int | None, seed: int) -> tuple[FactSet, Prepared]:
        key = (model.tokenizer_hash, model.family, limit, seed)
        if key not in self._prepared:
            facts = self._facts if limit is None or limit >= len(self._facts.facts) else self._facts.sample(limit, seed)
            self._prepared[key] = (facts, prepare(facts, model))
        return self._prepared[key]

    def _assemble(
        self, facts: FactSet, prepared: Prepared, reference: Mapping[str, Array], arrays: dict[str, Array], work: Work
    ) -> ProbeScore:
        chosen = [facts.facts[number] for number in prepared.chosen]
        hashes = facts.hashes()
        knows_nothing = _knows_nothing(reference)
        score = assembled(
            self._spec,
            version=self.version,
            ids=[fact.id for fact in chosen],
            groups=[fact.relation for fact in chosen],
            hashes=[content_hash(hashes[number], TOP, self._whole) for number in prepared.chosen],
            arrays={**arrays, "margin": reference["margin"].astype(np.float32)},
            floors={name: value for name, value in knows_nothing.items() if name in arrays},
            trivial={"uniform": knows_nothing["kl"]},
            excluded=prepared.excluded,
            settings={"template": "scoring", "top": TOP, "prompt": prepared.convention, "options": OPTIONS[self._whole]},
            work={"tokens": float(work.tokens), "padding": float(work.padding), "scored_positions": float(work.scored)},
        )
        more = {"dense_tail_mass": float(np.exp(reference["top"][:, -1].astype(np.float64)).mean())}
        return replace(score, metrics={**score.metrics, **more, **_by_margin(arrays["top1_agrees"], reference["margin"])})


def make(context: ProbeContext) -> Divergence:
    """Make the probe for a suite's facts."""
    return Divergence(context)


def _put(found: dict[str, Array], n: int, places: Sequence[int] | NDArray[np.int64], part: Mapping[str, Array]) -> None:
    """Write the rows of a batch where they belong."""
    for name, values in part.items():
        if name not in found:
            found[name] = np.zeros((n, *values.shape[1:]), values.dtype)
        found[name][places] = values


def _compared(dense: Mapping[str, Array], logprobs: torch.Tensor, options: NDArray[np.float64]) -> dict[str, Array]:
    """Return arrays of length M from log-probabilities `(M, vocabulary)` and options `(M, W)`.

    Both sides are rounded alike, to float32, so that equal predictions have a distance of exactly 0.
    """
    tokens = torch.from_numpy(dense["tokens"]).long().to(logprobs.device)
    now = with_tail(logprobs, tokens).double().cpu().numpy()
    best = logprobs.topk(2, -1)
    single = (best.values[:, 0] > best.values[:, 1]).cpu().numpy()
    first = best.indices[:, 0].cpu().numpy()
    found = {
        "kl": divergence(dense["top"].astype(np.float64), now),
        "kl_options": divergence(*(normalized(values.astype(np.float32).astype(np.float64)) for values in (dense["options"], options))),
        "top1_agrees": single & (first == dense["tokens"][:, 0]),
        "predicted": np.where(single, first, -1).astype(np.int32),
    }
    if "full" in dense:
        found["kl_full"] = divergence(dense["full"].astype(np.float64), logprobs.double().cpu().numpy())
    return found


def _knows_nothing(reference: Mapping[str, Array]) -> dict[str, float]:
    """Return what a guess at random would score, and for the top one the share of the commonest dense answer."""
    top, options = reference["top"].astype(np.float64), reference["options"].astype(np.float64)
    kept = top.shape[1] - 1
    sizes = np.append(np.ones(kept), int(reference["vocabulary"]) - kept)
    _, counts = np.unique(reference["tokens"][:, 0], return_counts=True)
    full = reference.get("full")
    return {
        "kl": float(from_uniform(top, sizes).mean()),
        "kl_full": 0.0 if full is None else float(from_uniform(full.astype(np.float64), np.ones(full.shape[1])).mean()),
        "kl_options": float(from_uniform(normalized(options), np.isfinite(options).astype(np.float64)).mean()),
        "top1_agrees": float(counts.max() / counts.sum()),
    }


def _by_margin(agrees: NDArray[np.bool_], margin: Array) -> dict[str, float]:
    """Return top-1 agreement where the dense margin is at most its median, and where it is larger."""
    small = margin <= np.median(margin)
    parts = {"small": agrees[small], "large": agrees[~small]}
    return {f"top1_agrees_{name}_margin": float(part.mean()) for name, part in parts.items() if len(part)}
