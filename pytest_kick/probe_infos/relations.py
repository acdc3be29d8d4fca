"""Probes of relational facts in the formats of LAMA, BEAR and ParaRel."""

from __future__ import annotations

from pytest_kick.infos import MeanInfo, ProbeInfo

LICENCE = ("licence", ("cc-by-nc",))
"""What a suite must write to use LAMA's facts."""

AGREEMENT = (
    MeanInfo(name="consistency", kind="score"),
    MeanInfo(name="specific_consistency", kind="score"),
    MeanInfo(name="accuracy", kind="score"),
)
"""How far the answers to paraphrases agree."""

RELATIONS = (
    ProbeInfo(
        name="lama",
        target="pytest_kick.probes.lama:make",
        summary="LAMA: rank the gold word at the blank of each fact, among the words common to all models",
        metric="p1",
        metrics=("p1", "p5", "p10"),
        means=(
            MeanInfo(name="macro_p1", kind="score", array="p1", macro=True),
            MeanInfo(name="macro_p10", kind="score", array="p10", macro=True),
            MeanInfo(name="mrr", kind="score", array="reciprocal_rank", macro=True),
            MeanInfo(name="position_p1", kind="score", weights="positions"),
            MeanInfo(name="position_p5", kind="score", weights="positions"),
        ),
        params=(("dataset", ""), ("scoring", "token"), ("vocabulary", "common"), ("a_compat", False), ("licence", "")),
        variant="dataset",
        choices=(
            ("dataset", ("trex", "google_re", "conceptnet", "squad")),
            ("scoring", ("token", "statement")),
            ("vocabulary", ("common", "whole")),
            LICENCE,
        ),
        refers=("dataset",),
        data=("lama_trex", "lama_google_re", "lama_conceptnet_subset", "lama_squad", "lama_vocab"),
        licence="CC BY-NC 4.0, non-commercial",
    ),
    ProbeInfo(
        name="bear",
        target="pytest_kick.probes.bear:make",
        summary="BEAR: rank whole statements over the closed answer space of each relation",
        metric="p1",
        metrics=("p1", "p5", "p10", "agrees", "consistent_p1"),
        means=(MeanInfo(name="macro_p1", kind="score", array="p1", macro=True), *AGREEMENT),
        params=(("template", 0),),
        words=(("template", ("all",)),),
        data=("bear",),
        licence="CC BY-SA 4.0",
    ),
    ProbeInfo(
        name="paraphrase",
        target="pytest_kick.probes.paraphrase:make",
        summary="does the model give a fact the same answer, however it is asked: kick-facts' paraphrases, or ParaRel's",
        metric="consistent_p1",
        metrics=("p1", "p5", "p10", "agrees", "consistent_p1"),
        means=(MeanInfo(name="macro_p1", kind="score", array="p1", macro=True), *AGREEMENT),
        params=(("data", "facts"), ("licence", "")),
        variant="data",
        choices=(("data", ("facts", "pararel")), LICENCE),
        data=("pararel",),
        licence="ParaRel: patterns MIT, facts CC BY-NC 4.0, non-commercial",
    ),
)
