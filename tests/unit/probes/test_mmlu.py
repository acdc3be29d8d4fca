"""The probes `mmlu` and `questions`: what is asked, and that the format of an answer is no part of its being right."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from pytest_kick.asking import read_probes
from pytest_kick.catalog import find_model
from pytest_kick.data_sets.mmlu import LETTERS
from pytest_kick.errors import DataError, SuiteError
from pytest_kick.models.cache import ModelCache
from pytest_kick.probe_spec import ProbeSpec
from pytest_kick.probes import choice
from pytest_kick.probes.context import ProbeContext
from pytest_kick.probes.mmlu import mmlu_probe
from pytest_kick.probes.questions import questions_probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

SUBJECTS = ("anatomy", "astronomy", "world_religions")
PLACES = ("France", "Italy", "Spain", "Norway", "Egypt", "Cuba")
CAPITALS = ("Paris", "Rome", "Madrid", "Oslo", "Cairo", "Havana")


def row(number: int) -> list[str]:
    """Return a question with the capitals of four countries, the right one in any place."""
    options = [CAPITALS[(number + k) % 6] for k in range(4)]
    return [f"What is the capital of {PLACES[(number + number % 4) % 6]}?", *options, LETTERS[number % 4]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with three subjects: five questions to show, eight to ask."""
    root = tmp_path_factory.mktemp("data")
    for place, subject in enumerate(SUBJECTS):
        for split, numbers in (("dev", range(5)), ("test", range(place, place + 8))):
            path = root / "mmlu" / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file).writerows([row(number) for number in numbers])
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    """Return what loads the shipped models."""
    return ModelCache(tmp_path_factory.mktemp("cache"), offline=True)


@pytest.fixture
def model(models: ModelCache) -> Iterator[LoadedModel]:
    """Return the shipped decoder."""
    loaded = models.get(find_model("tiny-decoder", "here"))
    loaded.fresh_()
    yield loaded
    loaded.fresh_()


@pytest.fixture(autouse=True)
def three_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `all` mean the three subjects."""
    monkeypatch.setattr("pytest_kick.probes.mmlu.subjects_of", lambda _, chosen: SUBJECTS if chosen == "all" else (chosen,))


def made(data: Path, **params: Any) -> Any:
    """Return the probe with parameters."""
    return mmlu_probe(ProbeContext(spec=ProbeSpec(name="mmlu", params=tuple(params.items())), data=data))


def test_letters_are_asked_as_the_authors_do(data: Path) -> None:
    """A heading with the subject, the shown questions with their letters, and the question up to `Answer:`."""
    question = made(data, subjects="world_religions", shots=1)._questions[0]
    assert question.prompt == (
        "The following are multiple choice questions (with answers) about world religions.\n\n"
        "What is the capital of France?\nA. Paris\nB. Rome\nC. Madrid\nD. Oslo\nAnswer: A\n\n"
        "What is the capital of Egypt?\nA. Madrid\nB. Oslo\nC. Cairo\nD. Havana\nAnswer:"
    )
    assert (question.options, question.gold, question.group) == (LETTERS, 2, "world_religions")


def test_texts_are_asked_without_the_options(data: Path) -> None:
    """A continuation is ranked by its own text: no letters, and no options to copy from."""
    question = made(data, subjects="anatomy", shots=1, score="continuation")._questions[1]
    assert question.prompt == (
        "The following are questions (with answers) about anatomy.\n\n"
        "Question: What is the capital of France?\nAnswer: Paris\n\n"
        "Question: What is the capital of Spain?\nAnswer:"
    )
    assert question.options == ("Rome", "Madrid", "Oslo", "Cairo")


@pytest.mark.parametrize("shots", range(6))
def test_as_many_questions_are_shown_as_asked(data: Path, shots: int) -> None:
    """Each is one of the subject's own, in the order of the file."""
    prompt = made(data, shots=shots)._questions[-1].prompt
    assert prompt.count("Answer: ") == shots
    assert prompt.startswith("The following are multiple choice questions (with answers) about world religions.\n\n")


def test_letters_are_right_whatever_the_model_would_write(data: Path, monkeypatch: pytest.MonkeyPatch, model: LoadedModel) -> None:
    """A model that ranks the letters right is right, though it would write another token first: that is counted apart.

    Reading the last character of what it generates instead gave .050 where guessing gives .250.
    """

    class Ranker:
        """Know every answer, and write something else."""

        def __init__(self, model: LoadedModel) -> None:
            self.work, self.model = SimpleNamespace(tokens=0, padding=0, passes=0), model

        def score(self, pairs: Any, **_: Any) -> Any:
            golds = [number % 4 for place in range(3) for number in range(place, place + 8)]
            right = np.asarray([letter == gold for gold in golds for letter in range(4)])
            n = len(pairs)
            return SimpleNamespace(
                logprob=np.where(right, -9.0, -11.0), greedy=np.zeros(n, np.bool_), n_tokens=np.ones(n), truncated=np.zeros(n, np.bool_)
            )

    monkeypatch.setattr(choice, "Likelihood", Ranker)
    score = made(data, shots=0).run(model)
    assert score.metrics["acc"] == 1.0
    assert score.metrics["letter_first"] == 0.0
    assert score.floors["letter_first"] == 0.0


@torch.inference_mode()
def first_tokens(model: LoadedModel, probe: Any) -> list[int]:
    """Return the likeliest token after each prompt, cut from the left as far as the model reads."""
    prompts = [model.prompt_ids(question.prompt)[-128:] for question in probe._questions]
    return [int(model.module(torch.tensor([ids])).logits[0, -1].argmax()) for ids in prompts]


def test_letter_first_is_whether_the_next_token_is_a_letter(data: Path, model: LoadedModel) -> None:
    """It is the share of questions whose likeliest next token, over the whole vocabulary, is one of the letters."""
    probe = made(data, shots=0)
    letters = [model.tokenizer.encode(f" {letter}", add_special_tokens=False)[-1] for letter in LETTERS]
    rare = min(found := first_tokens(model, probe), key=found.count)
    name = model.untie_head_()
    model.touch([name])
    head = model.module.get_parameter(name)
    head[[letters[1], rare]] = head[[rare, letters[1]]]  # what the model would have written is now a letter
    first = [token in letters for token in first_tokens(model, probe)]
    assert 0 < sum(first) < len(first)
    score = probe.run(model)
    assert score.examples.outcome("letter_first").tolist() == first
    assert "acc_norm" not in score.metrics


def test_disciplines_and_subjects_stand_beside(data: Path, model: LoadedModel) -> None:
    """Accuracy by discipline is over its questions, the macro mean over subjects; groups are the subjects."""
    score = made(data, shots=0, score="continuation").run(model, limit=20)
    right, groups = score.examples.outcome("acc"), score.examples.groups
    assert set(groups) == set(SUBJECTS)
    assert score.metrics["acc_stem"] == right[groups == "astronomy"].mean()
    assert score.metrics["acc_humanities"] == right[groups == "world_religions"].mean()
    assert score.metrics["acc_other"] == right[groups == "anatomy"].mean()
    assert score.metrics["macro_acc"] == pytest.approx(np.mean([right[groups == subject].mean() for subject in SUBJECTS]))
    assert {"acc", "acc_norm", "macro_acc"} == set(score.floors)
    assert score.trivial["chance"] == 0.25
    assert score.floors["acc"] == max(score.trivial.values())


def test_a_sample_scores_its_questions_as_the_whole_does(data: Path, model: LoadedModel) -> None:
    """A limit asks fewer questions, stratified by subject, with equal outcomes, the second time from what was kept."""
    probe = made(data, shots=0)
    part, whole, again = probe.run(model, limit=6), probe.run(model), probe.run(model, limit=6)
    assert [list(part.examples.groups).count(subject) for subject in SUBJECTS] == [2, 2, 2]
    inside = whole.examples.subset(part.examples.ids)
    for name, values in part.examples.arrays.items():
        np.testing.assert_allclose(values.astype(float), inside.arrays[name].astype(float), atol=1e-3)
        assert np.array_equal(values, again.examples.arrays[name])
    assert part.examples.hashes.tolist() == inside.hashes.tolist()


def test_long_prompts_are_cut_and_counted(data: Path, model: LoadedModel) -> None:
    """Five shots do not fit the 128 tokens of the shipped model: each question says so."""
    assert made(data, shots=5).run(model).work["truncated"] == 24
    assert made(data, shots=0, score="continuation").run(model).work["truncated"] == 0


def test_options_alike_are_left_out_where_texts_are_ranked(model: LoadedModel, tmp_path: Path) -> None:
    """Two options of one text cannot be told apart: the question is counted, not scored; their letters can."""
    path = tmp_path / "mmlu" / "test" / "anatomy_test.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([row(0), ["Which?", "Oslo", "Rome", "Oslo", "Paris", "A"], row(1)])
    score = made(tmp_path, subjects="anatomy", shots=0, score="continuation").run(model)
    assert score.excluded == {"an option without tokens of its own": 1}
    assert list(score.examples.ids) == ["anatomy/test/0", "anatomy/test/2"]
    assert made(tmp_path, subjects="anatomy", shots=0).run(model).excluded == {}
    with pytest.raises(DataError, match=r"got no mmlu/dev/anatomy_dev\.csv"):
        made(tmp_path, subjects="anatomy", shots=2)
    (tmp_path / "mmlu" / "dev").mkdir()
    (tmp_path / "mmlu" / "dev" / "anatomy_dev.csv").write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(DataError, match=r"^probe mmlu:anatomy--shots-4: mmlu/dev: got 3 questions of anatomy, expected 4\."):
        made(tmp_path, subjects="anatomy", shots=4)


def test_both_families_are_asked(data: Path, models: ModelCache) -> None:
    """The encoder-decoder reads the question and scores the letters in its decoder."""
    loaded = models.get(find_model("tiny-encoder-decoder", "here"))
    score = made(data, shots=0).run(loaded)
    assert score.n == 24
    assert np.isfinite(score.examples.arrays["margin"]).all()


@pytest.mark.parametrize("name", ["tiny-decoder", "tiny-encoder-decoder", "tiny-encoder"])
def test_questions_of_ones_own(models: ModelCache, tmp_path: Path, name: str) -> None:
    """A trained model of any family knows the capitals it was trained on; the other way of asking, and the norm, are in the id."""
    lines = [
        {"question": f"The capital of {place} is", "options": [*CAPITALS[:k], *CAPITALS[k + 1 :], right], "answer": right}
        for k, (place, right) in enumerate(zip(PLACES, CAPITALS, strict=True))
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    model = find_model(name, "here")
    entry = {"probe": "questions:path:mine.jsonl", "prompt": "plain", "norm": "bytes"}
    (asked,) = read_probes("here", [entry], tmp_path, [model])
    score = questions_probe(ProbeContext(spec=asked.spec)).run(models.get(model))
    assert score.probe == "questions:mine--prompt-plain--norm-bytes"
    assert score.metrics["acc"] > (0.5 if name == "tiny-decoder" else 0.0)
    assert score.trivial == {"chance": pytest.approx(1 / 6), "majority": 1.0}
    with pytest.raises(SuiteError, match=r"probes\[0\]: questions: got no file, expected one, such as `questions:\.\.\.`"):
        read_probes("here", ["questions"], tmp_path, [model])
