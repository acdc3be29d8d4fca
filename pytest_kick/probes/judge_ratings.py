"""What a probe reports of a judge's scores: means, their noise, and how many are missing.

ratings = Ratings(judged={"fluency": judge.rate([...])}, metrics={"fluency": ("fluency",)}, model="m", repeats=3)
kept = ratings.kept(n, "probe summarization", "summaries")    # an error where the judge left out too many
ratings.arrays(), ratings.noise(kept), ratings.work(kept)

The same for every probe that a judge scores, so that reports find it in the same places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.probes.judge_scores import noise_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.probes.judge_scores import Judgement

MOST_MISSING = 0.2
"""Share of examples that may be left out because the judge gave no number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratings:
    """Hold what a judge said of n examples; nothing where nobody judges.

    Attributes:
        judged: what was looked at, such as `fluency` or `judge_turn1` -> n judgements.
        metrics: metric -> which of these it is the mean of.
        model: the judge's name.
        repeats: how often each was judged.
        scale: what it was asked for in double brackets.
    """

    judged: Mapping[str, Sequence[Judgement]] = field(default_factory=dict)
    metrics: Mapping[str, Sequence[str]] = field(default_factory=dict)
    model: str = ""
    repeats: int = 1
    scale: str = "numbers"

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return metric -> `(n,)` float32 scores, NaN where a number is missing."""
        read = {
            name: np.asarray([np.nan if judgement.score is None else judgement.score for judgement in judgements], np.float32)
            for name, judgements in self.judged.items()
        }
        return {metric: np.mean([read[name] for name in names], axis=0, dtype=np.float32) for metric, names in self.metrics.items()}

    def kept(self, n: int, where: str, what: str) -> NDArray[np.bool_]:
        """Return `(n,)` whether every score of an example could be read at least once; all where nobody judges.

        Args:
            n: number of examples.
            where: the probe, for the message.
            what: the examples, likewise.

        Raises:
            ProbeError: so many could not that those left are no sample: a judge says nothing of the answers that are odd.
        """
        rows = [[judgement.score is not None for judgement in judgements] for judgements in self.judged.values()]
        kept = np.all(rows, axis=0) if rows else np.ones(n, np.bool_)
        missing, most = int((~kept).sum()), max(1, int(MOST_MISSING * n))
        if missing > most:
            msg = (
                f"{where}: judge {self.model!r}: got no rating for {missing} of {n} {what}, expected {self.scale} in double brackets "
                f"for all but {most}. Take another judge."
            )
            raise ProbeError(msg)
        return kept

    def noise(self, kept: NDArray[np.bool_]) -> dict[str, float]:
        """Return the noise of each metric over the examples that count; see `noise_metrics`."""
        found: dict[str, float] = {}
        for metric, names in self.metrics.items():
            counted = [judgement for name in names for judgement, keep in zip(self.judged[name], kept, strict=True) if keep]
            found |= noise_metrics(metric, counted)
        return found

    def work(self, kept: NDArray[np.bool_]) -> dict[str, float]:
        """Return how often the judge was asked, and what it left out.

        Returns:
            `judge_repeats`; `judge_answers`, the texts it gave; `judge_unparsable`, how many times no number could be read;
            `judge_missing`, examples left out for it; and `unparsable_<metric>` for each. Nothing where nobody judges.
        """
        if not self.judged:
            return {}
        unread = {name: sum(judgement.unparsable for judgement in judgements) for name, judgements in self.judged.items()}
        texts = sum(len(judgement.texts) for judgements in self.judged.values() for judgement in judgements)
        counts = {
            "judge_repeats": self.repeats,
            "judge_answers": texts,
            "judge_unparsable": sum(unread.values()),
            "judge_missing": int((~kept).sum()),
            **{f"unparsable_{metric}": sum(unread[name] for name in names) for metric, names in self.metrics.items()},
        }
        return {name: float(value) for name, value in counts.items()}
