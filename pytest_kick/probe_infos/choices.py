"""Probes that choose among given options."""

from __future__ import annotations

from pytest_kick.infos import MeanInfo, ProbeInfo

_MACRO = MeanInfo(name="macro_acc", kind="score", array="acc", macro=True)

CHOICES = (
    ProbeInfo(
        name="mmlu",
        target="pytest_kick.probes.mmlu:mmlu_probe",
        summary="57 subjects of MMLU: the likeliest of four options, by letter or by its text",
        metric="acc",
        metrics=("acc", "acc_norm", "letter_first"),
        means=(_MACRO,),
        families=("encoder-decoder", "decoder"),
        params=(("subjects", "all"), ("shots", 5), ("score", "letter"), ("split", "test")),
        variant="subjects",
        choices=(("shots", (0, 1, 2, 3, 4, 5)), ("score", ("letter", "continuation")), ("split", ("test", "val"))),
        data=("mmlu",),
    ),
    ProbeInfo(
        name="questions",
        target="pytest_kick.probes.questions:questions_probe",
        summary="multiple-choice questions of your own, a JSONL file or a data set of the hub",
        metric="acc",
        metrics=("acc", "acc_norm"),
        means=(_MACRO,),
        params=(("file", ""), ("prompt", "question"), ("norm", "sum")),
        variant="file",
        choices=(("prompt", ("question", "plain")), ("norm", ("sum", "bytes"))),
        refers=("file",),
    ),
)
