"""MT-Bench on tiny models and a judge that plays: what it is shown, what is counted, and what a broken model scores."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from judge_server import JudgeServer, Reply, said
from plain_scorer import decoder

from pytest_kick.data_sets.mt_bench import JUDGE_PROMPTS, Instruction, JudgePrompt, MtBench
from pytest_kick.errors import ProbeError, UnjudgeableError
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.conversation import Conversations, converse, distinct
from pytest_kick.probes.generation import generate
from pytest_kick.probes.instruction_following import InstructionFollowing, _shapes, instruction_following
from pytest_kick.probes.judge import Judge
from pytest_kick.probes.judge_cache import JudgeCache
from pytest_kick.probes.judge_client import JudgeClient
from pytest_kick.registry import PROBES
from pytest_kick.verdict.means import check_mean_known

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

NEW = 6
QUESTIONS = tuple(
    Instruction(
        id=str(number),
        category=("math", "writing")[number % 2],
        turns=(f"the city {number} of kalo", f"has mi{number} colour"),
        references=(f"first{number}", f"second{number}") if number % 2 == 0 else (),
    )
    for number in range(6)
)
PROMPTS = {
    name: JudgePrompt(system=f"be {name}", template="; ".join(f"{gap}={{{gap}}}" for gap in gaps)) for name, gaps in JUDGE_PROMPTS.items()
}
OWN, HUB = MtBench(questions=QUESTIONS, prompts=MappingProxyType(PROMPTS)), MtBench(questions=QUESTIONS, prompts={})


def judge_at(server: JudgeServer, directory: Path, repeats: int = 1) -> Judge:
    """Return a judge behind a server."""
    return Judge(JudgeClient(url=server.url, model="made-up", retries=0), JudgeCache(directory), repeats=repeats)


def probe(judge: Judge | None = None, data: MtBench = OWN, **params: Any) -> InstructionFollowing:
    """Return the probe, with answers of few tokens."""
    spec = ProbeSpec(name="instruction_following", params=tuple({"max_new_tokens": NEW, **params}.items()))
    return InstructionFollowing(data, spec, judge)


def texts_of(body: dict[str, Any]) -> str:
    """Return all that a request says."""
    return "\n".join(turn["content"] for turn in body["messages"])


def by_turn(body: dict[str, Any], _: int) -> Reply:
    """Say 8 of first turns and 4 of second ones, 2 more where a reference is shown, 3 of whatever repeats the question."""
    text = texts_of(body)
    second, reference = "answer_2=" in text, "ref_answer_1=" in text
    echo = any(f"answer={q.turns[0]}" in text or f"answer_1={q.turns[0]}" in text for q in QUESTIONS)
    return said(f"Rating: [[{3 if echo else (4 if second else 8) + 2 * reference}]]")


def talkative(seed: int = 0) -> LoadedModel:
    """Return a random decoder that never ends a text."""
    model = decoder(seed=seed)
    model.tokenizer.chat_template = "{% for m in messages %}[CLS] {{ m['role'] }} {{ m['content'] }} [SEP] {% endfor %}of"
    return model


def test_scores_are_means_over_turns_with_their_categories(tmp_path: Path) -> None:
    """8 and 4, or 10 and 6 with a reference: 6 and 8 per question, on the judge's own scale; the repeated question's 3 is the floor."""
    with JudgeServer(by_turn) as server:
        score = probe(judge_at(server, tmp_path)).run(talkative())
    assert score.metric == "judge"
    assert score.examples.arrays["judge"].tolist() == [8.0, 6.0] * 3
    assert score.examples.groups.tolist() == ["math", "writing"] * 3
    assert {name: score.metrics[name] for name in ("judge", "judge_turn1", "judge_turn2")} == pytest.approx(
        {"judge": 7.0, "judge_turn1": 9.0, "judge_turn2": 5.0}
    )
    assert {score.floors[name] for name in ("judge", "judge_turn1", "judge_turn2")} == {3.0}
    assert score.trivial == {"empty": 1.0, "echo": 3.0}
    assert (score.n, score.excluded, score.work["judge_unparsable"]) == (6, {}, 0.0)
    assert (score.settings["judge"], score.settings["rubric"], score.settings["prompt"]) == ("made-up", "mt_bench", "chat")
    assert {mean.name for mean in score.means} == {"judge", "judge_turn1", "judge_turn2", "distinct_tokens", "distinct_4grams"}


def test_the_judge_sees_what_was_asked_answered_and_known(tmp_path: Path) -> None:
    """First turns alone, then both; references where there are, never elsewhere; each by MT-Bench's prompt for that case."""
    with JudgeServer(by_turn) as server:
        probe(judge_at(server, tmp_path)).run(talkative())
    talk = converse(talkative(), QUESTIONS, NEW)
    asked = {(body["messages"][0]["content"], body["messages"][1]["content"]) for body in server.requests}
    for question, (one, two) in zip(QUESTIONS, talk.answers, strict=True):
        kind = "single-math-v1" if question.references else "single-v1"
        reference = "; ref_answer_1={}" if question.references else ""
        both = "; ref_answer_1={}; ref_answer_2={}" if question.references else ""
        first = f"question={question.turns[0]}; answer={one}" + reference.format(*question.references)
        second = f"question_1={question.turns[0]}; question_2={question.turns[1]}; answer_1={one}; answer_2={two}"
        assert (f"be {kind}", first) in asked
        assert (f"be {kind}-multi-turn", second + both.format(*question.references)) in asked
    assert len(asked) == 4 * len(QUESTIONS)


@pytest.mark.parametrize("chat", [True, False])
def test_the_second_question_follows_the_first_answer(chat: bool) -> None:
    """Answers are those of prompts written out by hand, with a chat template or with headings."""
    model = talkative()
    if not chat:
        model.tokenizer.chat_template = None
    talk = converse(model, QUESTIONS, NEW)
    stop = () if chat else ("\n### User:",)
    for question, answers in zip(QUESTIONS, talk.answers, strict=True):
        one, two = question.turns
        if chat:
            first = f"[CLS] user {one} [SEP] "
            second = f"{first}[CLS] assistant {answers[0]} [SEP] [CLS] user {two} [SEP] "
            ids = [model.tokenizer.encode(f"{prompt}of", add_special_tokens=False) for prompt in (first, second)]
            assert answers == tuple(_plainly(model, prompt) for prompt in ids)
        else:
            first = f"### User:\n{one}\n\n### Assistant:\n"
            second = f"{first}{answers[0].strip()}\n\n### User:\n{two}\n\n### Assistant:\n"
            assert list(answers) == [generate(model, [prompt], max_new_tokens=NEW, stop=stop)[0] for prompt in (first, second)]
    assert talk.convention == ("chat" if chat else "plain")
    assert talk.margins.shape == (len(QUESTIONS), 2)


@torch.inference_mode()
def _plainly(model: LoadedModel, prompt: list[int]) -> str:
    """Return a greedy continuation, one full pass per token."""
    ids = list(prompt)
    for _ in range(NEW):
        ids.append(int(model.module(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == 3:
            break
    return str(model.tokenizer.decode(ids[len(prompt) :], skip_special_tokens=True))


def test_what_the_judge_does_not_rate_is_missing_and_counted(tmp_path: Path) -> None:
    """A conversation without a number is left out of n and of the mean: never -1, never 0."""
    with JudgeServer(lambda body, n: said("<b>I cannot</b>") if "mi2" in texts_of(body) else by_turn(body, n)) as server:
        score = probe(judge_at(server, tmp_path)).run(talkative())
    assert score.examples.ids.tolist() == ["0", "1", "3", "4", "5"]
    assert score.excluded == {"the judge gave no rating that can be read": 1}
    assert score.metrics["judge"] == pytest.approx((8 + 6 + 6 + 8 + 6) / 5)
    assert score.work["judge_unparsable"] == 1.0
    assert score.trivial["echo"] == pytest.approx(3.0)
    assert "<b>" not in json.dumps(score.plain())


@pytest.mark.parametrize("silent", [2, 6])
def test_a_judge_that_leaves_out_many_is_an_error(silent: int, tmp_path: Path) -> None:
    """What is left would be a choice of the judge's, not a sample; nothing left would be no mean at all."""

    def reply(body: dict[str, Any], n: int) -> Reply:
        odd = any(question.turns[1] in texts_of(body) for question in QUESTIONS[:silent])
        return said("no") if odd else by_turn(body, n)

    expected = (
        rf"judge 'made-up': got no rating for {silent} of 6 questions, expected numbers from 1 to 10 in double brackets for all but 1\."
    )
    with JudgeServer(reply) as server, pytest.raises(ProbeError, match=expected):
        probe(judge_at(server, tmp_path)).run(talkative())


def test_a_judge_that_cannot_be_asked_costs_no_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key shows before the model has spent hours on its answers."""
    monkeypatch.setattr("pytest_kick.probes.instruction_following.converse", lambda *_: pytest.fail("the model was asked"))
    with JudgeServer(lambda _, __: Reply(status=401)) as server, pytest.raises(ProbeError, match="HTTP 401"):
        probe(judge_at(server, tmp_path)).run(talkative())


def test_repeats_give_the_judges_noise_beside_the_score(tmp_path: Path) -> None:
    """A judge that says 4 and 6 in turn differs by 2 with itself; its mean over all answers does not move as much as one answer."""
    seen: dict[str, int] = {}

    def reply(body: dict[str, Any], _: int) -> Reply:
        text = texts_of(body)
        seen[text] = seen.get(text, sum(map(ord, text))) + 1
        return said(f"[[{4 + 2 * (seen[text] % 2)}]]")

    with JudgeServer(reply) as server:
        one = probe(judge_at(server, tmp_path / "1")).run(talkative())
        two = probe(judge_at(server, tmp_path / "2", repeats=2)).run(talkative())
    assert "judge_noise" not in one.metrics
    assert two.metrics["judge"] == pytest.approx(5.0)
    assert two.metrics["judge_noise_each"] == pytest.approx(2.0)
    assert two.metrics["judge_sd_each"] == pytest.approx(2**0.5)
    assert 0 <= two.metrics["judge_noise"] < 2**0.5
    assert {name: two.metrics[f"{name}_noise_each"] for name in ("judge_turn1", "judge_turn2")} == pytest.approx(
        {"judge_turn1": 2.0, "judge_turn2": 2.0}
    )
    assert (two.work["judge_answers"], two.work["judge_repeats"], one.work["judge_repeats"]) == (2 * 2 * 6, 2, 1)


def test_without_a_judge_the_other_metrics_are_reported_and_it_says_so() -> None:
    """Whether it answered is then the probe's metric; nothing of a judge's is there."""
    score = probe().run(talkative())
    assert (score.metric, score.settings["judge"], score.n) == ("answered", "none", 6)
    assert {mean.name for mean in score.means} == {"distinct_tokens", "distinct_4grams"}
    assert not {name for name in (*score.metrics, *score.floors, *score.examples.arrays) if name.startswith(("judge", "win"))}
    assert score.trivial == {"empty": 0.0, "echo": 0.0}


@pytest.mark.parametrize("turns", [(2, 2), (7, 7), (1, 9), (10, 1)])
def test_the_floor_is_what_repeating_the_question_scores(turns: tuple[int, int], tmp_path: Path) -> None:
    """By turn, and never below the scale: a judge to whom all answers are alike cannot tell that a model knows anything."""
    with JudgeServer(lambda body, _: said(f"[[{turns['answer_2=' in texts_of(body)]}]]")) as server:
        score = probe(judge_at(server, tmp_path)).run(talkative())
    floors = {"judge": sum(turns) / 2, "judge_turn1": turns[0], "judge_turn2": turns[1]}
    assert {name: score.floors[name] for name in floors} == pytest.approx(floors)
    assert score.trivial == pytest.approx({"empty": 1.0, "echo": sum(turns) / 2})
    for name in floors:
        mean = score.mean(name)
        assert mean is not None
        with pytest.raises(UnjudgeableError, match="COULD NOT MEASURE"):
            check_mean_known(score, mean, 0.95)


def test_where_the_judge_says_nothing_of_the_repeated_question_the_scale_has_the_floor(tmp_path: Path) -> None:
    """A baseline that could not be read is not made up."""

    def reply(body: dict[str, Any], n: int) -> Reply:
        echo = by_turn(body, n).body == said("Rating: [[3]]").body
        return said("no") if echo else by_turn(body, n)

    with JudgeServer(reply) as server:
        score = probe(judge_at(server, tmp_path)).run(talkative())
    assert {score.floors[name] for name in ("judge", "judge_turn1", "judge_turn2")} == {1.0}
    assert score.trivial == {"empty": 1.0}


def test_a_model_of_zeros_scores_at_most_the_floor(tmp_path: Path) -> None:
    """Equal logits give the empty text: the lowest score of the scale, without a question to the judge about it."""
    model = talkative()
    model.touch(name for name, _ in model.module.named_parameters())
    for parameter in model.module.parameters():
        parameter.zero_()
    with JudgeServer(by_turn) as server:
        score = probe(judge_at(server, tmp_path), versus="dense").run(model, reference=probe_reference(tmp_path, server))
    assert (score.metrics["judge"], score.trivial["empty"], score.floors["judge"]) == (1.0, 1.0, 3.0)
    assert score.examples.arrays["predicted"].tolist() == [-1] * 6
    assert (score.metrics["answered"], score.metrics["win"], score.metrics["distinct_tokens"]) == (0.0, 0.0, 0.0)
    assert all("answer" in texts_of(body) and any(q.turns[0] in texts_of(body) for q in QUESTIONS) for body in server.requests)
    assert len(server.requests) == 2 * len(QUESTIONS), "the echo of each question, and nothing else"


def probe_reference(directory: Path, server: JudgeServer) -> dict[str, Any]:
    """Return answers of a dense model."""
    return probe(judge_at(server, directory), versus="dense").reference(talkative())


def test_logits_that_are_no_numbers_are_an_error() -> None:
    """NaN is a broken model, not a bad answer."""
    model = talkative()
    model.touch(name for name, _ in model.module.named_parameters())
    next(model.module.parameters()).fill_(float("nan"))
    with pytest.raises(ProbeError, match="NaN or infinite"):
        probe().run(model)


def test_going_round_in_a_circle_or_repeating_the_question_is_no_answer() -> None:
    """One word for ever, with spaces or without, nothing, and the question itself: none is an answer, whatever its length."""
    answers = [
        ("mi " * 20, "the city"),
        ("the city", "mi tu " * 20),
        ("", "the city"),
        ("the city", " "),
        (QUESTIONS[4].turns[0] + " ", "the city"),
        ("mi" * 40, "the city"),
        ("the city of kalo has the colour red", "a 1"),
    ]
    talk = Conversations(answers=answers, margins=np.ones((7, 2), np.float32), convention="chat", max_new_tokens=NEW, work={})
    found = _shapes(decoder(), [*QUESTIONS, QUESTIONS[0]], talk)
    assert found["answered"].tolist() == [False] * 6 + [True]
    assert found["non_empty"].tolist() == [True, True, False, False, True, True, True]
    assert len(set(found["predicted"].tolist())) == 7
    assert found["length"].tolist()[0] == 22
    assert found["distinct_tokens"][0] == pytest.approx((1 / 20 + 1) / 2)
    assert found["distinct_4grams"][1] == pytest.approx((1 + 2 / 37) / 2)


@pytest.mark.parametrize(
    ("tokens", "size", "expected"), [([], 1, 0.0), ([], 4, 0.0), ([1], 4, 1.0), ([1, 1, 2], 1, 2 / 3), ([1, 2] * 3, 2, 2 / 5)]
)
def test_distinct_counts_each_gram_once(tokens: list[int], size: int, expected: float) -> None:
    """Distinct-n as defined; an empty text has none, a short one repeats nothing."""
    assert distinct(tokens, size) == pytest.approx(expected)


def test_wins_are_against_the_dense_answers_in_both_orders(tmp_path: Path) -> None:
    """Equal answers tie without asking; a judge that goes by place ties all; one that prefers the dense answers gives 0."""
    dense, other = talkative(), talkative(seed=1)

    def biased(body: dict[str, Any], n: int) -> Reply:
        return said("[[A]]") if "be pair" in texts_of(body) else by_turn(body, n)

    with JudgeServer(biased) as server:
        asked = probe(judge_at(server, tmp_path / "biased"), versus="dense")
        reference = asked.reference(dense)
        same = asked.run(dense, reference=reference)
        assert not [body for body in server.requests if "be pair" in texts_of(body)]
        changed = asked.run(other, reference=reference)
    assert same.metrics["win"] == changed.metrics["win"] == 0.5
    known = {text for row in reference["answers"].tolist() for text in row}

    def fond(body: dict[str, Any], n: int) -> Reply:
        gaps = dict(part.partition("=")[::2] for part in body["messages"][-1]["content"].split("; "))
        shown = {name: gaps.get(f"answer_{name}_2", gaps.get(f"answer_{name}")) for name in "ab"}
        best = "A" if shown["a"] in known else "B"
        return said(f"[[{best}]]") if "be pair" in texts_of(body) else by_turn(body, n)

    with JudgeServer(fond) as server:
        lost = probe(judge_at(server, tmp_path / "fond"), versus="dense").run(other, reference=reference)
    assert lost.metrics["win"] == 0.0
    assert lost.floors["win"] == 0.0
    assert lost.examples.arrays["win"].shape == (6,)


def test_without_a_comparison_the_dense_model_is_not_asked(tmp_path: Path) -> None:
    """Its answers cost as much as the cell's own; they are kept under another name than where they are wanted."""
    plain = probe()
    assert plain.reference(talkative()) == {}
    assert probe(versus="dense").key == plain.key
    with JudgeServer(by_turn) as server:
        judge = judge_at(server, tmp_path)
        assert probe(judge, versus="dense").key != plain.key
        with pytest.raises(ProbeError, match="reference: got none"):
            probe(judge, versus="dense")._wins(QUESTIONS, converse(talkative(), QUESTIONS, 1), {})


def test_a_sample_has_the_questions_and_answers_of_the_whole(tmp_path: Path) -> None:
    """Stratified by category; each question is judged as it is without a limit, from the cache."""
    with JudgeServer(by_turn) as server:
        asked = probe(judge_at(server, tmp_path))
        whole = asked.run(talkative())
        before = len(server.requests)
        part = asked.run(talkative(), limit=4, batch_size=1)
        assert len(server.requests) == before
    assert sorted(part.examples.groups.tolist()) == ["math", "math", "writing", "writing"]
    kept = whole.examples.subset(part.examples.ids)
    assert kept.hashes.tolist() == part.examples.hashes.tolist()
    assert kept.arrays["judge"].tolist() == part.examples.arrays["judge"].tolist()


def test_data_of_the_hub_is_judged_with_our_prompts(tmp_path: Path) -> None:
    """They say what is shown, and the settings say whose prompts they are."""
    with JudgeServer(lambda _, __: said("[[5]]")) as server:
        score = probe(judge_at(server, tmp_path), data=HUB).run(talkative(), limit=2)
    assert (score.settings["rubric"], score.metrics["judge"]) == ("kick", 5.0)
    with_reference = [texts_of(body) for body in server.requests if "=== reference ===" in texts_of(body)]
    assert len(with_reference) == len(server.requests) / 2
    assert all("first" in text for text in with_reference)


def test_a_context_makes_it_and_the_table_describes_it(tmp_path: Path) -> None:
    """Every metric that may be judged is declared and has a floor; the maker reads the run's directory, judge and cache."""
    folder = tmp_path / "mt_bench" / "mt_bench"
    (folder / "reference_answer").mkdir(parents=True)
    rows = [{"question_id": int(q.id), "category": q.category, "turns": q.turns} for q in QUESTIONS]
    known = [{"question_id": int(q.id), "choices": [{"turns": q.references}]} for q in QUESTIONS if q.references]
    prompts = [{"name": name, "system_prompt": prompt.system, "prompt_template": prompt.template} for name, prompt in PROMPTS.items()]
    for path, lines in (("question", rows), ("reference_answer/gpt-4", known), ("../judge_prompts", prompts)):
        (folder / f"{path}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    info = PROBES.get("instruction_following", "probe")
    spec = ProbeSpec(name="instruction_following", params=(("max_new_tokens", NEW), ("versus", "dense")))
    with JudgeServer(by_turn) as server:
        made = instruction_following(ProbeContext(spec=spec, data=tmp_path, cache=tmp_path, judge=(server.url, "made-up"), judge_repeats=2))
        score = made.run(talkative(), limit=2, reference=made.reference(talkative(), limit=2))
    assert set(score.examples.arrays) == {*info.metrics, *(mean.name for mean in info.means), "length", "margin", "non_empty", "predicted"}
    assert (info.families, info.data, info.judge, info.dense) == (("decoder",), ("mt_bench",), True, True)
    assert set(score.floors) == {*info.metrics, *(mean.name for mean in info.means)}
    assert list((tmp_path / "judge").rglob("*.json"))
