"""What every probe ends with: outcomes and numbers per example, as a `ProbeScore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.examples import Examples
from pytest_kick.means import value_of
from pytest_kick.registry import PROBES
from pytest_kick.result import ProbeScore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.infos import MeanInfo
    from pytest_kick.probe_spec import ProbeSpec


def assembled(  # noqa: PLR0913 - the fields of a score
    spec: ProbeSpec,
    *,
    version: int,
    ids: Sequence[str],
    groups: Sequence[str],
    hashes: Sequence[int],
    arrays: Mapping[str, Array],
    floors: Mapping[str, float],
    trivial: Mapping[str, float] | None = None,
    excluded: Mapping[str, int] | None = None,
    settings: Mapping[str, str | int | float | bool] | None = None,
    work: Mapping[str, float] | None = None,
    metric: str = "",
    means: Sequence[MeanInfo] | None = None,
) -> ProbeScore:
    """Put a score together: boolean arrays are outcomes, the means of the probe's `ProbeInfo` are computed.

    Args:
        spec: of the probe.
        version: of its scoring.
        ids: of the examples, unique.
        groups: relation, subject or category of each.
        hashes: `content_hash` of each.
        arrays: named arrays of length n: bool for outcomes, floats for numbers (stored in half precision, but in single where a mean of
            theirs is a metric), int for answers.
        floors: what a model that knows nothing scores, for each metric that can be judged: of outcomes and scores a fraction, of a
            loss the nats of a uniform guess.
        trivial: trivial baselines of the probe's own metric.
        excluded: reason -> examples that this model cannot be asked.
        settings: what fixes the scoring besides the examples.
        work: tokens and the like.
        metric: the metric judged when a budget names none, "" for the one of the `ProbeInfo`.
        means: metrics that are means, of a probe whose data decide which it has; None for those of the `ProbeInfo`.

    Raises:
        ProbeError: there is no example, or a number is NaN or infinite.
    """
    info = PROBES.get(spec.name, "probe")
    if not len(ids):
        msg = f"probe {spec.id}: examples: got none that can be asked ({dict(excluded or {})}), expected one. Raise the limit."
        raise ProbeError(msg)
    _check_finite(spec.id, arrays)
    wanted = [mean for mean in (info.means if means is None else means) if (mean.array or mean.name) in arrays]
    examples = Examples(
        ids=np.asarray(ids), groups=np.asarray(groups), hashes=np.asarray(hashes, np.uint32), arrays=_stored(arrays, wanted)
    )
    metrics = {name: float(np.mean(values)) for name, values in arrays.items() if values.dtype == np.bool_}
    return ProbeScore(
        probe=spec.id,
        version=version,
        metric=metric or info.metric,
        metrics=metrics | {mean.name: value_of(mean, examples) for mean in wanted},
        floors=dict(floors),
        trivial=dict(trivial or {}),
        n=len(examples),
        excluded=dict(excluded or {}),
        examples=examples,
        settings={**dict(settings or {}), **{f"param_{key}": value for key, value in spec.params}},
        work=dict(work or {}),
        means=tuple(wanted),
    )


def _stored(arrays: Mapping[str, Array], means: Sequence[MeanInfo]) -> dict[str, Array]:
    """Return arrays with the numbers and weights of means in float64."""
    kept = {name for mean in means for name in (mean.array or mean.name, mean.weights)}
    return {name: values.astype(np.float64) if name in kept and values.dtype.kind == "f" else values for name, values in arrays.items()}


def _check_finite(probe: str, arrays: Mapping[str, Array]) -> None:
    for name, values in arrays.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            msg = f"probe {probe}: {name}: got NaN or an infinite number, expected finite ones. The compression or the dtype broke it."
            raise ProbeError(msg)
