"""Tasks of lm-evaluation-harness."""

from __future__ import annotations

from pytest_kick.infos import ProbeInfo

TASKS = (
    ProbeInfo(
        name="lm_eval",
        target="pytest_kick.probes.lm_eval_task:make",
        summary="any task of lm-evaluation-harness, or a YAML of yours: its own prompts, filters and metrics",
        metric="acc",
        metrics=("acc",),
        open_metrics=True,
        families=("encoder-decoder", "decoder"),
        params=(("task", ""), ("shots", -1), ("limit", 0), ("seed", 1234)),
        variant="task",
        least=(("shots", -1),),
        refers=("task",),
        extra="lm-eval",
        needs="lm_eval",
    ),
)
