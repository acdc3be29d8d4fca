"""Probes whose answers are generated."""

from __future__ import annotations

from pytest_kick.infos import MeanInfo, ProbeInfo

GENERATING = ("encoder-decoder", "decoder")
VARIED = (MeanInfo(name="distinct_words", kind="score"), MeanInfo(name="distinct_4grams", kind="score"))
"""How varied what was written is: beside all generations."""

ANSWERS = (
    ProbeInfo(
        name="factoid_qa",
        target="pytest_kick.probes.factoid_qa:make",
        summary="trivia questions: does a gold answer stand in what the model wrote",
        metric="correct",
        metrics=("correct",),
        means=(MeanInfo(name="f1", kind="score"), *VARIED),
        families=GENERATING,
        params=(("split", "eval"), ("prompt", "newline"), ("chat", False)),
        choices=(("split", ("eval", "dev", "train")), ("prompt", ("newline", "space"))),
        data=("freebaseqa",),
    ),
    ProbeInfo(
        name="retrieval_qa",
        target="pytest_kick.probes.retrieval_qa:make",
        summary="questions with (open book) and without (closed) the text that answers them: exact match and F1",
        metric="em",
        metrics=("em", "contains"),
        means=(MeanInfo(name="f1", kind="score"), *VARIED),
        families=GENERATING,
        params=(("dataset", "triviaqa"), ("book", "closed"), ("characters", 3072), ("chat", False)),
        variant="dataset",
        choices=(("dataset", ("triviaqa", "squad", "nq_open")), ("book", ("open", "closed"))),
        refers=("dataset",),
        data=("triviaqa", "squad_open_book", "nq_open"),
    ),
    ProbeInfo(
        name="summarization",
        target="pytest_kick.probes.summarization:make",
        summary="news in less than 150 words: ROUGE, how varied the text is, and a judge's four scores",
        metric="rouge_l",
        means=(
            *(MeanInfo(name=name, kind="score") for name in ("rouge1", "rouge2", "rouge_l")),
            *(MeanInfo(name=name, kind="score") for name in ("coherence", "consistency", "fluency", "relevance")),
            *VARIED,
        ),
        families=GENERATING,
        params=(("documents", "cnn_dailymail"), ("max_new_tokens", 200), ("chat", False)),
        variant="documents",
        choices=(("documents", ("cnn_dailymail",)),),
        least=(("max_new_tokens", 1),),
        refers=("documents",),
        data=("cnn_dailymail",),
        judge=True,
        extra="rouge",
        needs="rouge_score",
    ),
)
