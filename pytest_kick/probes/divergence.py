"""The probe `divergence`: how far what a model says at the answers of examples is from what the dense model says there.

See `docs/probes.md` for what is compared and why.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from pytest_kick.errors import ProbeError
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.divergence_measures import (
    between_options,
    by_margin,
    divergence,
    knows_nothing,
    restricted,
    strictly_first,
    top_tokens,
    with_tail,
)
from pytest_kick.probes.divergence_read import at
from pytest_kick.probes.divergence_sources import source_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.divergence_ask import Take
    from pytest_kick.probes.divergence_sources import Asked
    from pytest_kick.probes.trie import Ints
    from pytest_kick.result import ProbeScore

FULL = 2**21
"""Numbers kept of whole distributions, 8 MiB: more than small vocabularies need; larger ones are compared by their top alone."""


class Divergence:
    """Compare predictions with the dense model's; what depends on the tokenizer alone is prepared once and kept.

    Attributes:
        name: `divergence`.
        version: of the comparison; a change makes stored scores incomparable.
    """

    name: ClassVar[str] = "divergence"
    version: ClassVar[int] = 1

    def __init__(self, context: ProbeContext) -> None:
        """Take the examples and the parameters."""
        self._spec = context.spec
        self._source = source_for(context)
        self._prepared: dict[tuple[str, str, int | None, int], Asked] = {}

    @property
    def key(self) -> str:
        """Return a digest of the examples compared."""
        return self._source.key

    def reference(
        self, model: LoadedModel, *, limit: int | None = None, seed: int = 0, batch_size: int | None = None
    ) -> dict[str, NDArray[np.generic]]:
        """Return what is kept of the dense model.

        Args:
            model: dense, cast to the dtype and device of the forward pass.
            limit: examples of the sample; None for all.
            seed: of what the limit leaves.
            batch_size: facts, or options, per pass; None for 64.

        Returns:
            `ids` of n examples. Where the next token is read: of the vocabulary `tokens` `(n, K)`, the likeliest first, and `top`
            `(n, K + 1)`, their log-probabilities and that of all others together; `margin` `(n,)`, nats between the two likeliest
            tokens; for small vocabularies `full` `(n, vocabulary)`. Where there are options: `options` `(n, W)`, their
            log-probabilities; of words common to all examples the likeliest and the rest, as of the vocabulary, with `option_tokens`.

        Raises:
            ProbeError: logits are NaN or infinite.
        """
        asked = self._asked(model, limit, seed)
        n, vocabulary = len(asked.ids), 0
        found: dict[str, Array] = {}

        def take(places: Ints, logprobs: torch.Tensor) -> None:
            nonlocal vocabulary
            tokens, vocabulary = top_tokens(logprobs), logprobs.shape[-1]
            best = logprobs.topk(2, -1).values
            part = {"tokens": tokens.int(), "top": with_tail(logprobs, tokens), "margin": best[:, 0] - best[:, 1]}
            if n * vocabulary <= FULL:
                part["full"] = logprobs
            if len(asked.among):
                words = restricted(logprobs, asked.among)
                chosen = top_tokens(words)
                part |= {"option_tokens": chosen.int(), "options": with_tail(words, chosen)}
            _put(found, n, places, {name: value.cpu().numpy() for name, value in part.items()})

        options, _ = _read(asked, model, take, batch_size)
        if options is not None:
            found["options"] = options.astype(np.float32)
        return {"ids": np.asarray(asked.ids), "vocabulary": np.asarray(vocabulary), **found}

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
            limit: examples of the sample; None for all.
            seed: of what the limit leaves.
            batch_size: facts, or options, per pass; None for 64.
            progress: called with the numbers of examples done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or the reference is of other examples or of another vocabulary.
        """
        asked = self._asked(model, limit, seed)
        n = len(asked.ids)
        if reference["ids"].tolist() != list(asked.ids):
            msg = f"probe {self._spec.id}: reference: got other examples, expected these {n}. Measure the dense model again."
            raise ProbeError(msg)
        arrays: dict[str, Array] = {}

        def take(places: Ints, logprobs: torch.Tensor) -> None:
            dense = {name: values[places] for name, values in reference.items() if values.ndim}
            _put(arrays, n, places, _compared(dense, logprobs))
            if len(asked.among):
                tokens = torch.from_numpy(dense["option_tokens"]).long().to(logprobs.device)
                words = restricted(logprobs, asked.among)
                now = with_tail(words, tokens).double().cpu().numpy()
                found = {"kl_options": divergence(dense["options"].astype(np.float64), now)}
                first = strictly_first(words)
                found["option_agrees"] = first == dense["option_tokens"][:, 0]
                _put(arrays, n, places, found | {"option_predicted": first.astype(np.int32)})

        tell = None if progress is None else lambda done: progress(done, n)
        options, work = _read(asked, model, take, batch_size, tell, reference.get("options") if asked.own else None)
        if options is not None:
            arrays |= between_options(reference["options"], options, choices=asked.whole)
        return self._assemble(asked, reference, arrays, work)

    def _asked(self, model: LoadedModel, limit: int | None, seed: int) -> Asked:
        key = (model.tokenizer_hash, model.family, limit, seed)
        if key not in self._prepared:
            self._prepared[key] = self._source.asked(model, limit, seed)
        return self._prepared[key]

    def _assemble(self, asked: Asked, reference: Mapping[str, Array], arrays: dict[str, Array], work: Mapping[str, float]) -> ProbeScore:
        floors = knows_nothing(reference, len(asked.among))
        dense = {"margin": reference["margin"].astype(np.float32)} if "kl" in arrays else {}
        if asked.whole:
            best = np.sort(reference["options"][:, : -1 if len(asked.among) else None].astype(np.float64), 1)
            dense["option_margin"] = (best[:, -1] - best[:, -2]).astype(np.float32)
        if "kl" not in arrays:
            arrays["predicted"] = arrays.pop("option_predicted")
        metric = "kl" if "kl" in arrays else "kl_options"
        score = assembled(
            self._spec,
            version=self.version,
            ids=asked.ids,
            groups=asked.groups,
            hashes=asked.hashes,
            arrays={**arrays, **dense},
            floors={name: value for name, value in floors.items() if name in arrays},
            trivial={"uniform": floors[metric]},
            excluded=asked.excluded,
            settings=asked.settings,
            work=work,
            metric=metric,
        )
        more: dict[str, float] = {}
        if metric == "kl":
            more["dense_tail_mass"] = float(np.exp(reference["top"][:, -1].astype(np.float64)).mean())
            more |= by_margin("top1_agrees", arrays["top1_agrees"], reference["margin"])
        if asked.whole:
            more |= by_margin("option_agrees", arrays["option_agrees"], dense["option_margin"])
        return replace(score, metrics={**score.metrics, **more})


def make(context: ProbeContext) -> Divergence:
    """Make the probe for the examples that a suite names.

    Raises:
        DataError: they cannot be read.
    """
    return Divergence(context)


def _read(
    asked: Asked,
    model: LoadedModel,
    take: Take,
    batch_size: int | None,
    progress: Callable[[int], None] | None = None,
    dense: Array | None = None,
) -> tuple[NDArray[np.float64] | None, dict[str, float]]:
    """Return the sums of the options `(n, W)`, None where words common to all examples are the options, and what was run."""
    parts: list[NDArray[np.float64]] = []
    work: dict[str, float] = {}
    done = 0
    for places, reader in asked.parts:
        scores, ran = reader.read(
            model,
            at(places, take),
            batch_size=batch_size,
            progress=None if progress is None else partial(_further, progress, done),
            dense=None if dense is None else dense[places].astype(np.float64),
        )
        parts.append(scores)
        work = {name: work.get(name, 0.0) + value for name, value in ran.items()}
        done += len(places)
    if not asked.own:
        return None, work
    options = np.full((len(asked.ids), max(part.shape[1] for part in parts)), -np.inf)
    for (places, _), part in zip(asked.parts, parts, strict=True):
        options[places, : part.shape[1]] = part
    return options, work


def _further(progress: Callable[[int], None], before: int, done: int) -> None:
    progress(before + done)


def _put(found: dict[str, Array], n: int, places: Sequence[int] | NDArray[np.int64], part: Mapping[str, Array]) -> None:
    """Write the rows of a batch where they belong."""
    for name, values in part.items():
        if name not in found:
            found[name] = np.zeros((n, *values.shape[1:]), values.dtype)
        found[name][places] = values


def _compared(dense: Mapping[str, Array], logprobs: torch.Tensor) -> dict[str, Array]:
    """Return arrays of length M from log-probabilities `(M, vocabulary)`.

    Both sides are rounded alike, to float32, so that equal predictions have a distance of exactly 0.
    """
    tokens = torch.from_numpy(dense["tokens"]).long().to(logprobs.device)
    first = strictly_first(logprobs)
    found = {
        "kl": divergence(dense["top"].astype(np.float64), with_tail(logprobs, tokens).double().cpu().numpy()),
        "top1_agrees": first == dense["tokens"][:, 0],
        "predicted": first.astype(np.int32),
    }
    if "full" in dense:
        found["kl_full"] = divergence(dense["full"].astype(np.float64), logprobs.double().cpu().numpy())
    return found
