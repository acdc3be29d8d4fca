"""Probes whose answers a judge scores."""

from __future__ import annotations

from pytest_kick.infos import MeanInfo, ProbeInfo

JUDGED = (
    ProbeInfo(
        name="instruction_following",
        target="pytest_kick.probes.instruction_following:instruction_following",
        summary="how well it follows instructions over two turns: MT-Bench, scored 1-10 by a judge",
        metric="judge",
        metrics=("answered",),
        means=(
            MeanInfo(name="judge", kind="score"),
            MeanInfo(name="judge_turn1", kind="score"),
            MeanInfo(name="judge_turn2", kind="score"),
            MeanInfo(name="win", kind="score"),
            MeanInfo(name="distinct_tokens", kind="score"),
            MeanInfo(name="distinct_4grams", kind="score"),
        ),
        families=("decoder",),
        params=(("max_new_tokens", 1024), ("versus", "none")),
        choices=(("versus", ("none", "dense")),),
        least=(("max_new_tokens", 1),),
        dense=True,
        data=("mt_bench",),
        judge=True,
    ),
)
