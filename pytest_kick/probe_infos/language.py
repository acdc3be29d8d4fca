"""Probes of the language model itself: perplexity, and the distance from the dense model."""

from __future__ import annotations

from dataclasses import replace

from pytest_kick.infos import MeanInfo, ProbeInfo
from pytest_kick.probe_infos.choices import CHOICES
from pytest_kick.probe_infos.relations import RELATIONS

PERPLEXITY = ProbeInfo(
    name="perplexity",
    target="pytest_kick.probes.perplexity:make",
    summary="how well the model predicts running text: nats per token, held against dense as a ratio",
    metric="nats_per_token",
    means=(MeanInfo(name="nats_per_token", kind="loss", weights="tokens"),),
    params=(("text", "shipped"), ("length", 128), ("windows", 16), ("seed", 0)),
    variant="text",
    choices=(("text", ("shipped", "statements", "wikitext-2")),),
    least=(("length", 8),),
    refers=("text",),
    data=("wikitext-2",),
)
_OWN_WAY = ("norm", "a_compat")
"""Parameters of how right and wrong are told, which nothing is here."""


def _examples_of(info: ProbeInfo) -> ProbeInfo:
    """Return a probe with the parameters that say which examples it asks, and how."""
    return replace(
        info,
        params=tuple(pair for pair in info.params if pair[0] not in _OWN_WAY),
        choices=tuple(pair for pair in info.choices if pair[0] not in _OWN_WAY),
    )


_BY_NAME = {info.name: info for info in (*CHOICES, *RELATIONS)}
PARTS = (
    ProbeInfo(name="facts", target="", summary="", metric="", params=(("options", "first"),)),
    *(_examples_of(_BY_NAME[name]) for name in ("mmlu", "questions", "bear", "lama")),
)
DIVERGENCE = ProbeInfo(
    name="divergence",
    target="pytest_kick.probes.divergence:make",
    summary="how far the predictions at the answers of a probe's examples are from the dense model's: KL in nats, agreement",
    metric="kl",
    metrics=("top1_agrees", "option_agrees"),
    means=(
        MeanInfo(name="kl", kind="distance"),
        MeanInfo(name="kl_options", kind="distance"),
        MeanInfo(name="kl_full", kind="distance"),
    ),
    params=(("of", "facts"), ("sample", 256), *(pair for part in PARTS for pair in part.params)),
    variant="of",
    choices=(("of", tuple(part.name for part in PARTS)), ("options", ("first", "whole")), *(c for part in PARTS for c in part.choices)),
    least=(("sample", 1),),
    refers=("file", "dataset"),
    dense=True,
    data=tuple(folder for part in PARTS for folder in part.data),
    licence="with bear or lama: theirs",
    parts=PARTS,
)
LANGUAGE = (PERPLEXITY, DIVERGENCE)
