"""C9 and C19 on tasks: eight bits, and knowledge against reasoning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_measurements import make_examples, make_score

from pytest_kick.claims import tasks
from pytest_kick.claims.asked import PROBES, decide_asked
from pytest_kick.claims.probed import Probed
from pytest_kick.spec import CompressionSpec, CompressionStep

if TYPE_CHECKING:
    from pytest_kick.claims.finding import Finding

N = 500
RIGHT = np.arange(N) < 350  # .70, above a floor of .25
EIGHT = CompressionStep(method="rtn", scope="overall", level=8)
PRUNED = CompressionStep(method="l1_global", scope="overall", level=0.3)
REASONING = ("arc_easy", "arc_challenge", "piqa", "winogrande", "openbookqa")
KNOWLEDGE = ("facts", "bear", "mmlu", "factoid_qa", "lm_eval:nq_open")


def cell(probe: str, right: np.ndarray, step: CompressionStep | None = None, dtype: str = "float32", **arrays: Any) -> Probed:
    """Return a score of a probe whose metric `acc` is `right`, of the dense model or after a step."""
    examples = make_examples(right, acc=np.asarray(right, np.bool_), **arrays)
    score = make_score(examples, probe=probe, metric="acc", floors={"acc": 0.25, "acc_norm": 0.25})
    return Probed(model="m", family="decoder", compression=CompressionSpec(steps=(step,) if step else ()), dtype=dtype, score=score)


def losing(share: float) -> np.ndarray:
    """Return outcomes of which a share of what is known above the floor is lost: the retention is 1 less that share."""
    return np.arange(N) < round(350 - share * (350 - 0.25 * N))


def asked(lost: dict[str, float], step: CompressionStep = PRUNED) -> list[Probed]:
    """Return dense and compressed scores of tasks, lm-eval's by their short names."""
    names = {name: f"lm_eval:{name}" if name in REASONING else name for name in lost}
    return [one for name, share in lost.items() for one in (cell(names[name], RIGHT), cell(names[name], losing(share), step))]


def found(cells: list[Probed], claim: str) -> dict[str, Finding]:
    """Return the findings of a claim by arm, as a run comes to them."""
    scores: dict[str, list[Probed]] = {probe: [] for probe in PROBES}
    for one in cells:
        scores[one.score.probe.split("--")[0].split(":")[0]].append(one)
    return {finding.arm: finding for finding in decide_asked(scores) if finding.claim == claim}


def spread(middle: float) -> list[float]:
    """Return losses of five tasks around a mean."""
    return [middle - 0.04, middle - 0.02, middle, middle + 0.02, middle + 0.04]


@pytest.mark.parametrize(("reasoning", "knowledge", "word"), [(0.1, 0.6, "holds"), (0.6, 0.1, "does not hold"), (0.5, 0.55, "undecided")])
def test_knowledge_against_reasoning(reasoning: float, knowledge: float, word: str) -> None:
    """C19: the means of two kinds of tasks are compared; which is lost more decides, with an interval around the difference."""
    lost = dict(zip(REASONING, spread(reasoning), strict=True)) | dict(zip(KNOWLEDGE, spread(knowledge), strict=True))
    arms = found(asked(lost), "C19")
    assert list(arms) == ["", "without ARC"]
    shown = arms[""]
    assert shown.word == word
    assert shown.estimate == pytest.approx(knowledge - reasoning, abs=2 / N)
    assert shown.low is not None
    assert shown.high is not None
    assert shown.low < shown.estimate < shown.high
    assert shown.n == 10 * N


def test_tasks_that_disagree_decide_nothing() -> None:
    """C19: a kind is known from its tasks: where they scatter, many examples do not narrow it to a finding."""
    lost = dict(zip(REASONING, (0.0, 0.0, 0.9, 0.1, 0.8), strict=True)) | dict.fromkeys(KNOWLEDGE, 0.6)
    shown = found(asked(lost), "C19")[""]
    assert shown.word == "undecided"
    values = 1 - np.array([0.0, 0.0, 0.9, 0.1, 0.8])
    reach = 2.1318 * values.std(ddof=1) / math.sqrt(5)  # Student's t of 4 degrees of freedom, one-sided 5%
    assert shown.low is not None
    assert shown.estimate is not None
    assert shown.estimate - shown.low >= reach - 0.01


def test_too_few_tasks_say_so() -> None:
    """C19: nine tasks, or ten of which the dense model cannot do one, are not applicable, and the tasks that count are named."""
    lost = dict.fromkeys((*REASONING, *KNOWLEDGE[:4]), 0.4)
    assert found(asked(lost), "C19")[""].word == "not applicable"
    blind = [cell("lm_eval:nq_open", np.arange(N) % 4 == 0, step) for step in (None, PRUNED)]
    shown = found([*asked(lost), *blind], "C19")[""]
    assert shown.word == "not applicable"
    assert shown.detail.startswith("9 of 10 tasks can be judged (arc_challenge, arc_easy, bear")
    assert not found(asked(dict.fromkeys(KNOWLEDGE, 0.4)), "C19")


def test_what_is_shown_in_the_text_is_no_knowledge() -> None:
    """An open book, and a task of neither kind, are left out; MMLU's subjects of lm-eval are one task with our probe's."""
    names = ["retrieval_qa:squad--book-open", "retrieval_qa:nq_open", "lm_eval:mmlu_anatomy", "mmlu--shots-0", "lm_eval:gsm8k"]
    assert [tasks.task_of(cell(name, RIGHT)) for name in names] == ["", "retrieval_qa", "mmlu", "mmlu", "gsm8k"]
    assert "gsm8k" not in tasks.KNOWLEDGE | tasks.REASONING


@pytest.mark.parametrize(("share", "word"), [(0.0, "holds"), (0.3, "does not hold"), (0.05, "undecided")])
def test_eight_bits_on_tasks(share: float, word: str) -> None:
    """C9: each task is an arm of the quantizer; other widths and dtypes have none."""
    arms = found(asked({"arc_easy": share, "piqa": share}, EIGHT), "C9")
    assert arms["rtn, arc_easy"].word == word
    assert arms["rtn, piqa"].estimate == pytest.approx(1 - share, abs=2 / N)
    four = CompressionStep(method="rtn", scope="overall", level=4)
    assert not found(asked({"arc_easy": share}, four), "C9")
    half = [cell("lm_eval:arc_easy", RIGHT, step, dtype="bfloat16") for step in (None, EIGHT)]
    assert not found(half, "C9")


@pytest.mark.parametrize(("differ", "word"), [(0, "holds"), (25, "undecided"), (100, "does not hold")])
def test_agreement_of_choices(differ: int, word: str) -> None:
    """C9: choices are compared one by one, over all tasks together, right or wrong."""
    before = np.zeros(N, np.int32)
    now = np.where(np.arange(N) < differ, 1, before).astype(np.int32)
    cells = [
        one
        for name in ("arc_easy", "piqa")
        for one in (cell(f"lm_eval:{name}", RIGHT, predicted=before), cell(f"lm_eval:{name}", RIGHT, EIGHT, predicted=now))
    ]
    shown = found(cells, "C9")["rtn, choice agreement"]
    assert (shown.word, shown.n) == (word, 2 * N)
    assert shown.estimate == pytest.approx(1 - differ / N)
    assert shown.detail.endswith(f"{2 * differ} of {2 * N} choices differ, over 2 tasks")


def test_options_of_unlike_lengths_are_judged_by_length() -> None:
    """The metric is `acc_norm` where a task has it, else the probe's own."""
    cells = [cell("lm_eval:arc_easy", RIGHT, acc_norm=RIGHT), cell("lm_eval:arc_easy", RIGHT, EIGHT, acc_norm=losing(0.5))]
    assert found(cells, "C9")["rtn, arc_easy"].estimate == pytest.approx(0.5, abs=2 / N)


def test_other_examples_are_not_compared() -> None:
    """A cell whose examples the dense model was not asked, or was asked in other words, has no finding."""
    dense, now = cell("lm_eval:arc_easy", RIGHT), cell("lm_eval:arc_easy", RIGHT, EIGHT)
    now.score.examples.hashes[0] += 1
    assert not found([dense, now], "C9")
