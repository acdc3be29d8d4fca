"""Probes of the language model itself: perplexity, and the distance from the dense model."""

from __future__ import annotations

from pytest_kick.infos import MeanInfo, ProbeInfo

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
DIVERGENCE = ProbeInfo(
    name="divergence",
    target="pytest_kick.probes.divergence:make",
    summary="how far the next-token distribution at the answers of facts is from the dense model's: KL in nats, top-1 agreement",
    metric="kl",
    metrics=("top1_agrees",),
    means=(
        MeanInfo(name="kl", kind="distance"),
        MeanInfo(name="kl_options", kind="distance"),
        MeanInfo(name="kl_full", kind="distance"),
    ),
    params=(("of", "facts"), ("sample", 256), ("options", "first")),
    variant="of",
    choices=(("of", ("facts",)), ("options", ("first", "whole"))),
    least=(("sample", 1),),
    dense=True,
)
LANGUAGE = (PERPLEXITY, DIVERGENCE)
