"""lm-eval's tasks through our probe: held against lm-eval's own model, and against models that know nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("lm_eval")

import datasets
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from made_lm_eval import CHOICE, KINDS, ROLLING, WRITTEN, model_of, probe_of, rows, write_task

from pytest_kick.errors import ProbeError
from pytest_kick.probes.lm_eval_tasks import quiet, seeded
from pytest_kick.result import ProbeScore

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.models.loaded import LoadedModel

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the library makes of data files inside the test's own folder, and its reports short."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(tmp_path)  # lm-eval itself looks for data files there
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _: None)  # it asks other programs about the machine
    monkeypatch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: None)


def peer(model: LoadedModel, path: Path, **options: Any) -> dict[str, Any]:
    """Return what lm-eval says with its own model."""
    with quiet(), seeded():
        lm = HFLM(pretrained=model.module, tokenizer=model.tokenizer, batch_size=3, device="cpu")
        found = simple_evaluate(
            lm, tasks=[str(path)], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0, log_samples=True, **options
        )
    assert found is not None
    return dict(found)


@pytest.mark.parametrize(("shots", "words"), [(0, 40), (3, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_choices_are_those_of_lm_evals_own_model(kind: str, shots: int, words: int, tmp_path: Path) -> None:
    """Outcomes, log-likelihoods and metrics equal those of lm-eval's model, with shots and without, beyond the window too."""
    path, model = write_task(tmp_path, CHOICE, words=words), model_of(kind)
    expected = peer(model, path, num_fewshot=shots)
    samples = expected["samples"]["made_choice"]
    score = probe_of(path, shots=shots).run(model)
    arrays = score.examples.arrays
    answers = [[answer[0] for answer in sample["filtered_resps"]] for sample in samples]
    best = [row[sample["target"]] for row, sample in zip(answers, samples, strict=True)]
    np.testing.assert_allclose(arrays["gold_logprob"], best, atol=1e-3)
    assert arrays["predicted"].tolist() == [row.index(max(row)) for row in answers]
    for metric in ("acc", "acc_norm"):
        assert arrays[metric].tolist() == [bool(sample[metric]) for sample in samples]
        assert score.metrics[metric] == pytest.approx(expected["results"]["made_choice"][f"{metric},none"])
    assert score.examples.ids.tolist() == [f"made_choice/{sample['doc_id']}" for sample in samples]
    assert (score.work["truncated"] > 0) == (words == 40), "of a window of 32"


@pytest.mark.parametrize("kind", KINDS)
def test_generated_answers_are_those_of_lm_evals_own_model(kind: str, tmp_path: Path) -> None:
    """Each filter is a metric of its own, and each outcome is lm-eval's."""
    path, model = write_task(tmp_path, WRITTEN), model_of(kind)
    samples = peer(model, path)["samples"]["made_written"]
    score = probe_of(path).run(model)
    for metric, behind in (("exact_match", "strict-match"), ("exact_match_first_word", "first-word")):
        expected = [bool(sample["exact_match"]) for sample in samples if sample["filter"] == behind]
        assert score.examples.arrays[metric].tolist() == expected
        assert score.floors[metric] == 0.0, "an empty answer is wrong"
    assert score.metric == "exact_match"


@pytest.mark.parametrize("kind", KINDS)
def test_perplexities_are_those_of_lm_evals_own_model(kind: str, tmp_path: Path) -> None:
    """Nats per word, weighted by words, are the logarithm of lm-eval's word perplexity, for texts longer than the window too."""
    path, model = write_task(tmp_path, ROLLING, n=3, words=70), model_of(kind)
    expected = peer(model, path)["results"]["made_rolling"]
    score = probe_of(path).run(model)
    assert score.metrics["nats_per_word"] == pytest.approx(np.log(expected["word_perplexity,none"]), abs=1e-4)
    assert score.metrics["nats_per_byte"] == pytest.approx(np.log(expected["byte_perplexity,none"]), abs=1e-4)
    assert {mean.name: mean.kind for mean in score.means} == {"nats_per_word": "loss", "nats_per_byte": "loss"}
    assert score.metric == "nats_per_word"


def test_a_stored_score_reads_back(tmp_path: Path) -> None:
    """What the probe found survives the way to disk."""
    score = probe_of(write_task(tmp_path, CHOICE)).run(model_of("llama"))
    again = ProbeScore.from_json(score.to_json())
    assert again.plain() == score.plain()
    assert score.settings["version"] == "2.0"
    assert score.settings["shots"] == "0"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [CHOICE, WRITTEN], ids=["choice", "written"])
def test_all_zero_weights_score_no_more_than_knowing_nothing(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    """A model of constant logits is at most at the floor of every metric, and its margins are at most 0 unless options differ in length."""
    model = model_of(kind)
    for parameter in model.module.parameters():
        parameter.data.zero_()
    score = probe_of(write_task(tmp_path, config)).run(model)
    for metric, value in score.metrics.items():
        assert value <= score.floors[metric] + 1e-6, metric


def test_floors_are_the_best_of_what_needs_no_knowledge(tmp_path: Path) -> None:
    """The floor of a closed choice is the best of chance, the commonest answer, and lm-eval's verdict on constant logits."""
    path = write_task(tmp_path, CHOICE, n=12)
    score = probe_of(path).run(model_of("llama"))
    made = rows(12)
    assert score.trivial["chance"] == pytest.approx(np.mean([1 / len(row["options"]) for row in made]))
    assert score.trivial["majority"] == pytest.approx(max(Counter(row["options"][row["gold"]] for row in made).values()) / 12)
    lengths = [[len(option.split()) for option in row["options"]] for row in made]
    shortest = [row.index(min(row)) for row in lengths]
    assert score.trivial["constant"] == pytest.approx(np.mean([a == row["gold"] for a, row in zip(shortest, made, strict=True)]))
    assert score.floors["acc"] == max(score.trivial.values())


def test_a_right_answer_that_always_stands_first_is_no_baseline(tmp_path: Path) -> None:
    """Where the data list the right option first (TruthfulQA), no model sees it: the majority counts answers, not places."""
    path = write_task(tmp_path, CHOICE, n=12, doc_to_target=0)
    score = probe_of(path).run(model_of("llama"))
    firsts = Counter(row["options"][0] for row in rows(12))
    assert score.trivial["majority"] == pytest.approx(max(firsts.values()) / 12)
    assert score.trivial["majority"] < 1.0


def test_broken_logits_end_in_one_line(tmp_path: Path) -> None:
    """NaN weights are an error of the cell, never a score."""
    model = model_of("llama")
    next(iter(model.module.parameters())).data.fill_(float("nan"))
    with pytest.raises(ProbeError, match="NaN or infinite logits"):
        probe_of(write_task(tmp_path, CHOICE)).run(model)


def test_a_second_cell_asks_what_is_built_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a second cell nothing is loaded, drawn, built or encoded again, and it finds the same."""
    probe, model = probe_of(write_task(tmp_path, CHOICE, n=40), shots=2), model_of("llama")
    first = probe.run(model)
    task = next(iter(probe._questions.tasks.values()))  # type: ignore[union-attr]
    monkeypatch.setattr("pytest_kick.probes.lm_eval_probe.load_tasks", None)
    monkeypatch.setattr("pytest_kick.probes.lm_eval_model.encode_pairs", lambda _, asked: [] if not asked else pytest.fail("encoded"))
    monkeypatch.setattr(task, "fewshot_context", lambda *_, **__: pytest.fail("built"))
    again = probe.run(model)
    assert again.examples.hashes.tolist() == first.examples.hashes.tolist()
    assert again.metrics == first.metrics


def test_answers_of_one_model_are_never_anothers(tmp_path: Path) -> None:
    """One probe asks two models in turn, as a run does: each gets the scores that a probe of its own gives it, and they differ."""
    path = write_task(tmp_path, CHOICE, n=40)
    probe, models = probe_of(path), [model_of(kind) for kind in ("llama", "gpt2")]
    shared, alone = [probe.run(model) for model in models], [probe_of(path).run(model) for model in models]
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_array_equal(one.examples.arrays["margin"], other.examples.arrays["margin"])
    assert shared[0].examples.arrays["margin"].tolist() != shared[1].examples.arrays["margin"].tolist()


def test_samples_lie_inside_one_another_and_shots_are_part_of_an_example(tmp_path: Path) -> None:
    """A limit draws a seeded sample, the task's own limit too; other shots or another seed of theirs are other examples."""
    path, model = write_task(tmp_path, CHOICE, n=30), model_of("gpt2")
    whole, small = probe_of(path).run(model), probe_of(path).run(model, limit=8)
    assert set(small.examples.ids) < set(whole.examples.ids)
    assert set(small.examples.ids) < set(probe_of(path).run(model, limit=15).examples.ids)
    assert set(small.examples.ids) != set(probe_of(path).run(model, limit=8, seed=1).examples.ids)
    assert len(probe_of(path, limit=5).run(model).examples) == 5
    shot, other = (probe_of(path, shots=2, seed=seed).run(model) for seed in (1, 2))
    assert not set(shot.examples.hashes) & set(whole.examples.hashes)
    assert set(shot.examples.hashes) != set(other.examples.hashes)
    assert (shot.settings["shots"], shot.settings["shots_seed"]) == ("2", 1)


def test_what_a_tokenizer_cuts_alike_is_left_out_and_counted(tmp_path: Path) -> None:
    """Options that differ in words the tokenizer does not know cannot be told apart."""
    path = write_task(tmp_path, CHOICE, n=4)
    with (tmp_path / "test.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"question": "w1", "options": ["Oslo", "Rome"], "gold": 1}\n{"question": "w1", "options": ["", "w2"], "gold": 1}\n')
    score = probe_of(path).run(model_of("llama"))
    assert score.n == 4
    assert score.excluded == {"answers that the tokenizer cuts alike": 1, "an answer without a token": 1}
