"""The probes `factoid_qa` and `retrieval_qa` on made-up data: what is asked, what counts as right, and what dead models score."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from plain_scorer import decoder, span_model

from pytest_kick.errors import DataError, ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes import answers_probe
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.factoid_qa import make as factoid_qa
from pytest_kick.probes.generation import Generated
from pytest_kick.probes.retrieval_qa import make as retrieval_qa

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

CITIES = ("kalo", "miren", "rentu", "zivo", "shakalo", "vomi")
QUESTIONS = [(f"the city of {city} is red or blue ? it is {city}", f"{city} tutu") for city in CITIES]
CONTEXT = "the city of kalo is red . " * 3


def spec(name: str, **params: Any) -> ProbeSpec:
    """Return a probe with parameters."""
    return ProbeSpec(name=name, params=tuple(params.items()))


def context(folder: Path, asked: ProbeSpec) -> ProbeContext:
    """Write made-up data in the published layouts, and return what probes are made from."""
    files = {
        "freebaseqa/FreebaseQA-eval.txt": [f"{question} | {answer} " for question, answer in QUESTIONS],
        "squad_open_book/made.jsonl": [
            json.dumps({"id": f"s{n}", "question": question, "answer": answer, "context": CONTEXT * (n + 1)})
            for n, (question, answer) in enumerate(QUESTIONS)
        ],
        "nq_open/NQ-open.dev.jsonl": [json.dumps({"question": question, "answer": [answer, "!!"]}) for question, answer in QUESTIONS]
        + [json.dumps({"question": "red ?", "answer": ["!!"]})],
    }
    for name, lines in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("\n".join(lines) + "\n", "utf-8")
    return ProbeContext(spec=asked, data=folder)


class Writer:
    """Stand in for a model that writes given texts; keeps the prompts."""

    def __init__(self, *texts: str) -> None:
        """Take the continuations, in the order of the questions."""
        self.texts, self.prompts, self.chat = list(texts), [""], False

    def __call__(self, _: Any, prompts: list[str], *, chat: bool, **__: Any) -> Generated:
        """Return the texts for so many prompts."""
        self.prompts, self.chat = prompts, chat
        n = len(prompts)
        return Generated(
            texts=(self.texts * n)[:n],
            lengths=np.full(n, 3),
            margins=np.full(n, 0.5, np.float32),
            truncated=np.zeros(n, np.bool_),
            max_new_tokens=32,
            work={},
        )


@pytest.fixture
def writer(monkeypatch: pytest.MonkeyPatch) -> Writer:
    """Let probes have their answers from a writer."""
    made = Writer("")
    monkeypatch.setattr(answers_probe, "generated", made)
    return made


def test_the_prompts_are_llm_kicks(tmp_path: Path, writer: Writer) -> None:
    """A line break before the answer, or a space: its two prompts for pruned and for quantized models, as an experiment of their own."""
    question = QUESTIONS[0][0]
    hashes = []
    for prompt, between in (("newline", "\n"), ("space", " ")):
        score = factoid_qa(context(tmp_path, spec("factoid_qa", prompt=prompt))).run(decoder())
        assert writer.prompts[0] == f"Please give answer to this question: {question}{between}The answer is"
        assert score.settings["template"] == f"Please give answer to this question: {{question}}{between}The answer is"
        hashes.append(score.examples.hashes.tolist())
    assert not set(hashes[0]) & set(hashes[1])
    retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="squad", book="open"))).run(decoder())
    assert writer.prompts[1] == f"{(CONTEXT * 2).strip()}\n\nBased on these texts, answer these questions:\n\nQ: {QUESTIONS[1][0]}\nA:"
    retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="squad", chat=True))).run(decoder())
    assert writer.prompts[1] == f"Answer these questions:\n\nQ: {QUESTIONS[1][0]}\nA:"
    assert writer.chat


def test_only_the_continuation_is_searched_and_all_questions_count_once(tmp_path: Path, writer: Writer) -> None:
    """A gold answer in the question is not in the answer; the score is right over n. LLM-KICK searched both, and divided n + 1 by n."""
    path = tmp_path / "freebaseqa/FreebaseQA-eval.txt"
    path.parent.mkdir()
    path.write_text("".join(f"is it kalo {n} ? | kalo\n" for n in range(4)), "utf-8")
    probe = factoid_qa(ProbeContext(spec=spec("factoid_qa"), data=tmp_path))
    writer.texts = ["miren", "It is Kalo.", "kalomi", ""]
    score = probe.run(decoder())
    assert score.examples.arrays["correct"].tolist() == [False, True, False, False]
    assert score.metrics["correct"] == 1 / 4
    assert score.trivial == {"shuffled": 1.0, "echo": 1.0, "empty": 0.0}
    assert score.floors["correct"] == 0.0
    assert score.examples.arrays["margin"].tolist() == [-0.5, 0.5, -0.5, -0.5]
    assert score.examples.arrays["predicted"][3] == -1
    assert len(set(score.examples.arrays["predicted"].tolist())) == 4
    assert score.work["empty"] == 1
    writer.texts = ["it is kalo"]
    assert probe.run(decoder()).metrics["correct"] == 1.0


def test_answers_are_compared_as_squad_does(tmp_path: Path, writer: Writer) -> None:
    """Exact match, F1 and containment of the same answers; one text inside of the other is no match, and nothing is nothing."""
    writer.texts = ["", "The kalo, tutu!", "rentu", "it is zivo tutu", "shakalo tutu tutu", "x"]
    writer.texts[1] = "the miren tutu!"
    score = retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="squad"))).run(decoder())
    assert score.examples.arrays["em"].tolist() == [False, True, False, False, False, False]
    assert score.examples.arrays["contains"].tolist() == [False, True, False, True, True, False]
    np.testing.assert_allclose(score.examples.arrays["f1"], [0, 1, 2 / 3, 2 / 3, 4 / 5, 0], rtol=1e-6)
    assert score.metrics["em"] == pytest.approx(1 / 6)
    assert score.metrics["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3 + 4 / 5) / 6)
    assert score.trivial["empty"] == 0.0


def test_both_books_ask_the_same_questions(tmp_path: Path, writer: Writer) -> None:
    """Ids and groups agree, so that open and closed book can be paired; contexts are cut at so many characters, and counted."""
    books = [
        retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="squad", book=book, characters=100))).run(decoder())
        for book in ("closed", "open")
    ]
    assert books[0].examples.ids.tolist() == books[1].examples.ids.tolist()
    assert books[0].examples.groups.tolist() == books[1].examples.groups.tolist()
    assert [book.work["contexts_cut"] for book in books] == [0, 5]
    assert writer.prompts[5].startswith((CONTEXT * 6)[:100] + "\n\nBased")
    whole = retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="squad", book="open", characters=0))).run(decoder())
    assert whole.work["contexts_cut"] == 0
    assert (CONTEXT * 6).strip() in writer.prompts[5]


def test_gold_answers_without_a_word_are_left_out_and_counted(tmp_path: Path, writer: Writer) -> None:
    """A question that nothing could answer right is excluded; beside a good one such an answer is dropped."""
    writer.texts = ["!!"]
    score = retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="nq_open"))).run(decoder())
    assert score.n == len(QUESTIONS)
    assert score.excluded == {"gold answer without a word": 1}
    assert not score.examples.arrays["contains"].any()


def test_what_has_no_text_cannot_be_asked_open_book(tmp_path: Path) -> None:
    """NQ-open, and a file of one's own with a line that lacks its context, are refused before a model is asked."""
    with pytest.raises(DataError, match="nq_open has no texts"):
        retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="nq_open", book="open")))
    path = tmp_path / "own.jsonl"
    path.write_text('{"question": "who ?", "answers": ["kalo"]}\n', "utf-8")
    own = ProbeSpec(name="retrieval_qa", params=(("dataset", "own"), ("book", "open")), outside=(("dataset", f"path:{path}"),))
    with pytest.raises(DataError, match="line-1: context: got nothing"):
        retrieval_qa(ProbeContext(spec=own))


@pytest.mark.parametrize("make", [decoder, span_model])
def test_real_models_are_asked_whole_or_in_samples(make: Any, tmp_path: Path) -> None:
    """On models of both families: batches do not matter, a sample is part of the whole, another seed draws another one."""
    model: LoadedModel = make()
    for name, params in (("factoid_qa", {}), ("retrieval_qa", {"dataset": "squad", "book": "open"})):
        probe = {"factoid_qa": factoid_qa, "retrieval_qa": retrieval_qa}[name](context(tmp_path, spec(name, **params)))
        whole = probe.run(model)
        one = probe.run(model, batch_size=1)
        assert whole.examples.arrays["predicted"].tolist() == one.examples.arrays["predicted"].tolist()
        np.testing.assert_allclose(whole.examples.arrays["margin"], one.examples.arrays["margin"], atol=1e-2)
        some = probe.run(model, limit=3, seed=1)
        part = whole.examples.subset(some.examples.ids)
        assert some.n == 3
        assert part.hashes.tolist() == some.examples.hashes.tolist()
        assert part.arrays["predicted"].tolist() == some.examples.arrays["predicted"].tolist()
        assert {tuple(probe.run(model, limit=3, seed=seed).examples.ids) for seed in range(5)} != {tuple(some.examples.ids)}


@pytest.mark.parametrize("make", [decoder, span_model])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_dead_models_score_nothing(make: Any, value: float, tmp_path: Path) -> None:
    """All weights the same: every metric of knowledge is 0, whatever constant text comes out."""
    model: LoadedModel = make()
    model.touch([name for name, _ in model.module.named_parameters()])
    for parameter in model.module.parameters():
        parameter.data.fill_(value)
    for score in (
        factoid_qa(context(tmp_path, spec("factoid_qa"))).run(model),
        retrieval_qa(context(tmp_path, spec("retrieval_qa", dataset="squad", book="open"))).run(model),
    ):
        assert {name: score.metrics[name] for name in score.floors} == dict.fromkeys(score.floors, 0.0)


def test_logits_that_are_no_numbers_end_the_probe(tmp_path: Path) -> None:
    """NaN weights are an error, never a score."""
    model = decoder()
    name = next(name for name, _ in model.module.named_parameters() if "norm" in name)
    model.touch([name])
    dict(model.module.named_parameters())[name].data.fill_(torch.nan)
    with pytest.raises(ProbeError, match="NaN or infinite"):
        factoid_qa(context(tmp_path, spec("factoid_qa"))).run(model)
