"""The probe `summarization` on made-up documents: ROUGE from its definition, what fits the context, and a judge on this machine."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from judge_server import JudgeServer, said
from plain_scorer import decoder, span_model

from pytest_kick.errors import ProbeError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes import summarization
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.generation import Generated, encoded_prompt, room_for
from pytest_kick.probes.summarization import TEMPLATES, Rouge, first_paragraph, fitted, make

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.result import ProbeScore

SCORES = ("coherence", "consistency", "fluency", "relevance")
WORDS = ("kalo", "miren", "rentu", "zivo")
DOCUMENTS = [
    {"id": f"d{n}", "document": f"{word} one. {word} two. {word} three. {word} four. " * 50 * n, "summary": f"{word} {n} is here"}
    for n, word in enumerate(WORDS, start=1)
]


def context(folder: Path, **params: Any) -> ProbeContext:
    """Write the documents and return what the probe is made from."""
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS), "utf-8")
    judge = params.pop("judge", ())
    asked = ProbeSpec(name="summarization", params=(("documents", "own"), *params.items()), outside=(("documents", f"path:{path}"),))
    return ProbeContext(spec=asked, judge=judge, cache=folder / "cache")


def write(monkeypatch: pytest.MonkeyPatch, texts: list[str]) -> None:
    """Let the probe have its summaries from a list."""
    found = Generated(
        texts=texts,
        lengths=np.full(len(texts), 3),
        margins=np.full(len(texts), 0.5, np.float32),
        truncated=np.zeros(len(texts), np.bool_),
        max_new_tokens=32,
        work={},
    )
    monkeypatch.setattr(summarization, "generated", lambda *_, **__: found)


def plain_rouge(summary: str, gold: str) -> dict[str, float]:
    """Return ROUGE-1, ROUGE-2 and ROUGE-L without a stemmer, from their definitions."""
    a, b = (re.findall(r"[a-z0-9]+", text.lower()) for text in (summary, gold))
    scores = {}
    for n in (1, 2):
        grams = [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (a, b)]
        scores[f"rouge{n}"] = _f(sum((grams[0] & grams[1]).values()), *(sum(each.values()) for each in grams))
    longest = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, left in enumerate(a):
        for j, right in enumerate(b):
            longest[i + 1, j + 1] = longest[i, j] + 1 if left == right else max(longest[i, j + 1], longest[i + 1, j])
    scores["rouge_l"] = _f(int(longest[-1, -1]), len(a), len(b))
    return scores


def _f(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if common else 0.0


@pytest.mark.parametrize(
    ("summary", "gold"),
    [("kalo is red", "red is kalo"), ("", "kalo"), ("a b c d e", "a x c y e b"), ("1 2 1 2 1", "1 2 1"), ("kalo", "kalo"), ("x", "y")],
)
def test_rouge_is_what_its_definition_says(summary: str, gold: str) -> None:
    """Words that no stemmer changes: the library and plain code agree."""
    assert Rouge.load().score(summary, [gold]) == pytest.approx(plain_rouge(summary, gold))


def test_rouge_sees_through_endings() -> None:
    """The library's stemmer is on, as published figures have it."""
    assert Rouge.load().score("rivers running", ["river runs"])["rouge1"] == 1.0


def test_summaries_are_scored_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ROUGE, variety and groups per document; other documents' summaries are the floor, the first sentences a trivial baseline."""
    write(monkeypatch, ["kalo 1 is here", "", "rentu rentu rentu rentu rentu", "kalo 1 is here\n\nThe next story"])
    score = make(context(tmp_path)).run(decoder())
    texts = ["kalo 1 is here", "", "rentu rentu rentu rentu rentu", "kalo 1 is here"]
    for name in ("rouge1", "rouge2", "rouge_l"):
        expected = [plain_rouge(text, row["summary"])[name] for text, row in zip(texts, DOCUMENTS, strict=True)]
        np.testing.assert_allclose(score.examples.arrays[name], expected, rtol=1e-6)
        assert score.metrics[name] == pytest.approx(np.mean(expected))
    assert score.metric == "rouge_l"
    assert score.floors == {"rouge1": pytest.approx(0.5), "rouge2": pytest.approx(1 / 3), "rouge_l": pytest.approx(0.5)}
    lead = np.mean(
        [
            plain_rouge(f"{word} one. {word} two. {word} three.", row["summary"])["rouge_l"]
            for word, row in zip(WORDS, DOCUMENTS, strict=True)
        ]
    )
    assert score.trivial == {"shuffled": pytest.approx(0.5), "lead": pytest.approx(lead), "empty": 0.0}
    assert score.examples.groups.tolist() == ["short", "medium", "long", "long"]
    np.testing.assert_allclose(score.examples.arrays["distinct_4grams"], [1, 0, 0.5, 1])
    assert score.examples.arrays["words"].tolist() == [4, 0, 5, 4]
    assert score.examples.arrays["predicted"][1] == -1
    assert score.settings["judge"] == "none"
    assert not set(SCORES) & set(score.metrics)


def judged(folder: Path, monkeypatch: pytest.MonkeyPatch, reply: Any, repeats: int = 1) -> tuple[ProbeScore, list[dict[str, Any]]]:
    """Return the score of four summaries, one of them empty, by a judge on this machine, and what it was asked."""
    write(monkeypatch, ["kalo 1 is here", "", "rentu", "zivo"])
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with JudgeServer(reply) as server:
        asked = replace(context(folder, judge=(server.url, "made-up")), judge_repeats=repeats)
        score = make(asked).run(decoder())
        return score, server.requests


def test_a_judge_gives_four_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each summary is shown with its document; an empty one has the lowest score and is not shown."""

    def reply(request: dict[str, Any], _: int) -> Any:
        prompt = request["messages"][-1]["content"]
        return said(f"So. [[{next(n for n, name in enumerate(SCORES, start=2) if f'Score the {name} ' in prompt)}]]")

    score, requests = judged(tmp_path, monkeypatch, reply)
    assert len(requests) == 12
    assert all(DOCUMENTS[1]["document"] not in request["messages"][-1]["content"] for request in requests)
    for value, name in enumerate(SCORES, start=2):
        assert score.examples.arrays[name].tolist() == [value, 1, value, value]
        assert score.floors[name] == 1.0
    assert score.settings["judge"] == "made-up"
    assert score.n == 4


def test_what_the_judge_does_not_say_is_missing_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A summary without a readable score is left out of every metric; no number stands in for it."""

    def reply(request: dict[str, Any], _: int) -> Any:
        bad = "rentu one" in request["messages"][-1]["content"] and "fluency" in request["messages"][-1]["content"]
        return said("I cannot say." if bad else "[[5]]")

    score, _ = judged(tmp_path, monkeypatch, reply)
    assert score.examples.ids.tolist() == ["d1", "d2", "d4"]
    assert score.excluded == {"the judge gave no score that can be read": 1}
    assert score.metrics["fluency"] == pytest.approx((5 + 1 + 5) / 3)


def test_repeats_give_the_noise_of_each_of_the_four_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plain loop finds it in the raw answers on disk, the empty summary's unmoved 1 included; asked once there is none."""
    values = iter([1, 3, 2, 5, 4, 4, 1, 2, 5, 3, 3, 1] * 3)
    score, requests = judged(tmp_path, monkeypatch, lambda *_: said(f"[[{next(values)}]]"), repeats=3)
    assert len(requests) == 4 * 3 * 3
    kept = [json.loads(path.read_text()) for path in (tmp_path / "cache").rglob("*.json")]
    for name in SCORES:
        of_score = [each for each in kept if f"Score the {name} " in each["question"]["prompt"]]
        times = [[int(each["answer"][2]) for each in of_score if each["question"]["repeat"] == repeat] for repeat in range(3)]
        assert [len(time) for time in times] == [3, 3, 3]
        assert score.metrics[f"{name}_noise"] == pytest.approx(stdev([fmean([*time, 1]) for time in times]))
        assert score.metrics[name] == pytest.approx(fmean([fmean([*time, 1]) for time in times]))
    assert (score.work["judge_repeats"], score.work["judge_missing"]) == (3, 0)
    once, _ = judged(tmp_path, monkeypatch, lambda *_: said("[[4]]"))
    assert not [name for name in once.metrics if "noise" in name]


@pytest.mark.parametrize("says", ["No.", "[[6]]", "[[9]]", "[[0]]"])
def test_a_judge_that_leaves_out_many_is_an_error(says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four summaries without a score, or with one outside of the scale, which is named: what is left would be the judge's choice."""

    def reply(request: dict[str, Any], _: int) -> Any:
        prompt = request["messages"][-1]["content"]
        return said(says if "fluency" in prompt and ("rentu one" in prompt or "zivo one" in prompt) else "[[5]]")

    expected = r"got no rating for 2 of 4 summaries, expected numbers from 1 to 5 in double brackets for all but 1\. Take another judge\.$"
    with pytest.raises(ProbeError, match=rf"^probe summarization:own: judge 'made-up': {expected}"):
        judged(tmp_path, monkeypatch, reply)


@pytest.mark.parametrize("make_model", [decoder, span_model])
def test_documents_are_cut_at_their_end_to_fit(make_model: Any) -> None:
    """As much of a document's beginning as the context holds is asked, with the whole instruction; a short one is not touched."""
    model = make_model()
    model.module.config.n_positions = 256
    if model.family == "decoder":
        model.module.config.max_position_embeddings = 256
    long, short = "red blue " * 300 + "city", "red blue"
    shown = fitted(model, [long, short], 40, chat=False)
    assert shown[1] == short
    assert long.startswith(shown[0])
    prompt = encoded_prompt(model, TEMPLATES[False].format(document=shown[0]), chat=False)
    room, _ = room_for(model, 40)
    assert room - 10 <= len(prompt) <= room


def test_a_text_ends_at_the_first_blank_line() -> None:
    """Line breaks before the first word end nothing."""
    assert first_paragraph("\n\n One.\nTwo. \n \nThree.\n\nFour") == "One.\nTwo."
    assert first_paragraph(" \n ") == ""


@pytest.mark.parametrize("make_model", [decoder, span_model])
def test_real_and_dead_models_are_asked(make_model: Any, tmp_path: Path) -> None:
    """Batches do not matter, a sample is part of the whole; with all weights 0 nothing scores; NaN is an error."""
    model = make_model()
    model.module.config.n_positions = 64  # T5 has no bound of its own
    probe = make(context(tmp_path, max_new_tokens=6))
    whole, one = probe.run(model), probe.run(model, batch_size=1)
    assert whole.examples.arrays["predicted"].tolist() == one.examples.arrays["predicted"].tolist()
    some = probe.run(model, limit=2)
    assert whole.examples.subset(some.examples.ids).hashes.tolist() == some.examples.hashes.tolist()
    names = [name for name, _ in model.module.named_parameters()]
    model.touch(names)
    for parameter in model.module.parameters():
        parameter.data.zero_()
    dead = probe.run(model)
    assert {name: dead.metrics[name] for name in ("rouge1", "rouge2", "rouge_l")} == {"rouge1": 0, "rouge2": 0, "rouge_l": 0}
    for parameter in model.module.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(ProbeError, match="NaN or infinite"):
        probe.run(model)


def test_without_the_library_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ROUGE is a library's: where it is missing, one line names the extra."""

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(summarization, "import_module", missing)
    with pytest.raises(ProbeError, match=r"pip install 'pytest-kick\[rouge\]'"):
        make(context(tmp_path))
