"""The probe `lm_eval:TASK`: lm-eval's tasks, asked of our models; its own prompts, filters and metrics.

See `docs/probes.md` for which of its metrics are kept per document and what is held against them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.examples import Examples
from pytest_kick.infos import MeanInfo
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.lm_eval_asked import Questions, evaluate
from pytest_kick.probes.lm_eval_model import KickLM
from pytest_kick.probes.lm_eval_outcomes import arrays_of, choice_arrays, choices_of, floors_of, metrics_of
from pytest_kick.probes.lm_eval_tasks import load_tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.lm_eval_asked import Asked, Samples
    from pytest_kick.result import ProbeScore


class LmEvalProbe:
    """Ask tasks of lm-evaluation-harness.

    Tasks are loaded at the first cell, and what they ask is built once for all cells of a sample and a tokenizer.

    Attributes:
        name: `lm_eval`.
        version: of what is kept of a task's samples; a change makes stored scores incomparable.
    """

    name: ClassVar[str] = "lm_eval"
    version: ClassVar[int] = 1

    def __init__(self, context: ProbeContext) -> None:
        """Take the task's name, shots, limit and seed, and what the run allows."""
        self._context = context
        self._where = f"lm_eval:{context.spec.param('task')}"
        self._questions: Questions | None = None

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
            limit: documents, a sample stratified by task; None for all.
            seed: of that sample.
            batch_size: rows per pass; None for the engine's own.
            progress: called with the numbers of requests done and asked.

        Raises:
            ProbeError: the task cannot be asked, or logits are NaN or infinite.
            DataError: its data cannot be had.
        """
        if self._questions is None:
            self._questions = self._load()
        asked = self._questions.asked(model, limit, seed)
        if not asked.parts:
            msg = f"{self._where}: model {model.name!r}: got no document that can be asked ({dict(asked.excluded)}), expected one."
            msg += " Raise the limit, or choose another model."
            raise ProbeError(msg)
        lm = KickLM(model, asked.encoder, batch_size=batch_size, progress=progress)
        return self._score(asked, evaluate(lm, asked.parts), lm)

    def _load(self) -> Questions:
        spec = self._context.spec
        tasks = load_tasks(spec.named("task"), self._context)
        shots, seed, limit = (int(spec.param(name)) for name in ("shots", "seed", "limit"))
        return Questions(self._where, tasks, shots=shots, seed=seed, limit=limit)

    def _score(self, asked: Asked, samples: Samples, lm: KickLM) -> ProbeScore:
        assert self._questions is not None
        blank = metrics_of(asked, asked.nothing)
        arrays, means = arrays_of(metrics_of(asked, samples), blank)
        if not arrays:
            msg = f"{self._where}: metrics: got none that a single document has, expected one. Choose another task."
            raise ProbeError(msg)
        choices = choices_of(asked, samples)
        knowing_nothing = arrays_of(blank, blank)
        floors, trivial = floors_of(knowing_nothing, self._examples(asked, knowing_nothing[0]), choices)
        metric = next(
            iter([name for name, values in arrays.items() if values.dtype == np.bool_] or [mean.name for mean in means] or ["acc"])
        )
        if len(asked.parts) > 1 and metric in arrays and not any(mean.weights for mean in means if mean.name == metric):
            means = (*means, MeanInfo(name=f"macro_{metric}", kind="score", array=metric, macro=True))
            floors[f"macro_{metric}"] = floors.get(metric, 0.0)
        return assembled(
            self._context.spec,
            version=self.version,
            ids=asked.ids,
            groups=asked.groups,
            hashes=asked.hashes,
            arrays=arrays | choice_arrays(choices),
            floors=floors,
            trivial=trivial.get(metric, {}),
            excluded=asked.excluded,
            settings=self._questions.settings(),
            work=lm.work,
            metric=metric,
            means=means,
        )

    def _examples(self, asked: Asked, arrays: dict[str, Array]) -> Examples:
        return Examples(ids=np.asarray(asked.ids), groups=np.asarray(asked.groups), hashes=np.asarray(asked.hashes), arrays=arrays)
