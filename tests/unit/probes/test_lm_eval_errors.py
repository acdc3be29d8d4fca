"""What is wrong with a task of lm-eval, each in one line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("lm_eval")

import datasets
from made_lm_eval import CHOICE, WRITTEN, context_of, model_of, probe_of, write_index, write_task

from pytest_kick.errors import DataError, KickError, ProbeError
from pytest_kick.probes import lm_eval_tasks
from pytest_kick.probes.lm_eval_probe import LmEvalProbe
from pytest_kick.probes.lm_eval_task import make
from pytest_kick.probes.lm_eval_tasks import load_tasks

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_kick.probes.context import ProbeContext

pytestmark = pytest.mark.filterwarnings("ignore")
INDEX = {"boolq": "super_glue/boolq/default.yaml", "arc_easy": "arc/arc_easy.yaml", "humaneval": "humaneval/humaneval.yaml"}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what the library makes of data files inside the test's own folder, and start with an index of three tasks."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    write_index(tmp_path, INDEX)


def refused(context: ProbeContext, kind: type[KickError] = ProbeError) -> str:
    """Return the one line that loading ends in."""
    with pytest.raises(kind) as caught:
        load_tasks(context.spec.named("task"), context)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_unknown_task_gets_near_matches(tmp_path: Path) -> None:
    """A name that lm-eval does not have is answered with those that resemble it."""
    said = refused(context_of("arc_esay", tmp_path))
    assert said.startswith("lm_eval:arc_esay: task: got no such task of lm-eval ")
    assert "arc_easy" in said


def test_a_task_that_runs_code_is_refused_unless_allowed(tmp_path: Path) -> None:
    """A task that executes what a model wrote is refused before anything of it is fetched; a user's own too, once it says so."""
    said = refused(context_of("humaneval", tmp_path, offline=True))
    assert said.startswith("lm_eval:humaneval: unsafe_code: got 'humaneval', which runs code that a model wrote")
    path = write_task(tmp_path, CHOICE, unsafe_code=True)
    assert "unsafe_code" in refused(context_of(f"path:{path}", tmp_path))
    assert list(load_tasks(f"path:{path}", context_of(f"path:{path}", tmp_path, unsafe_code=True))) == ["made_choice"]


def test_a_task_that_needs_the_network_says_so_offline(tmp_path: Path) -> None:
    """Offline, a task whose data are not in the cache is a data error, at once; the switches are put back."""
    said = refused(context_of("boolq", tmp_path, offline=True), DataError)
    assert said.startswith("lm_eval:boolq: network: got --kick-offline, expected the task's data.")
    assert not datasets.config.HF_HUB_OFFLINE


def test_without_lm_eval_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where lm-eval is not installed, one line says what to install."""
    monkeypatch.delitem(sys.modules, "lm_eval")
    monkeypatch.setattr("pytest_kick.probes.lm_eval_task.find_spec", lambda _: None)
    with pytest.raises(ProbeError, match=r"^lm_eval:boolq: extra: got no module 'lm_eval', .*pip install 'pytest-kick\[lm-eval\]'$"):
        make(context_of("boolq", tmp_path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "got no such file"),
        ("task: [made\noutput_type: x", "got no YAML"),
        ("- task\n- made", "got no table of keys"),
        ("output_type: multiple_choice", "task: got none, expected a name"),
        ("task: made\ndoc_to_txt: a", "doc_to_txt"),
        ("task: made\noutput_type: guess\ndataset_path: json", "guess"),
    ],
)
def test_a_malformed_yaml_is_named(content: str | None, said: str, tmp_path: Path) -> None:
    """A user's file that is missing, no YAML or no task is answered with the file and what is wrong."""
    path = tmp_path / "made.yaml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    message = refused(context_of(f"path:{path}", tmp_path))
    assert message.startswith("lm_eval:made: ")
    assert said in message


def test_missing_data_files_are_named(tmp_path: Path) -> None:
    """Data files lie beside the YAML, and one that does not is named."""
    path = write_task(tmp_path, CHOICE)
    (tmp_path / "test.jsonl").unlink()
    assert "test.jsonl" in refused(context_of(f"path:{path}", tmp_path), DataError)


def test_a_template_over_a_field_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A prompt that reads a field that the rows lack is an error of the task."""
    path = write_task(tmp_path, CHOICE, doc_to_text="{{asked}}")
    assert "asked" in refused(context_of(f"path:{path}", tmp_path))


@pytest.mark.parametrize(
    ("field", "value", "got"),
    [("options", None, "TypeError"), ("options", [], "ValueError"), ("gold", None, "TypeError")],
    ids=["no options", "empty options", "no gold"],
)
@pytest.mark.parametrize("sample", [None, 11])
def test_a_row_that_lacks_a_field_is_named(field: str, value: Any, got: str, sample: int | None, tmp_path: Path) -> None:
    """One row among many without its options or its target is told by its task and its number in the split, in one line."""
    path = write_task(tmp_path, CHOICE)
    lines = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    lines[7][field] = value
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    with pytest.raises(ProbeError) as caught:
        probe_of(path).run(model_of("gpt2"), limit=sample, seed=1)
    assert str(caught.value).startswith(f"lm_eval:made_choice: document 7 of 'test' (counted from 0): got {got} (")
    assert str(caught.value).endswith("expected every field that the task reads. Correct the row, or the task.")
    assert "\n" not in str(caught.value)


def test_a_shot_that_lacks_a_field_is_told_as_one(tmp_path: Path) -> None:
    """Where the prompt of a document cannot be built for its shots' sake, the message does not blame the document alone."""
    path = write_task(tmp_path, CHOICE)
    lines = [json.loads(line) | {"options": None} for line in (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    with pytest.raises(ProbeError, match=r"^lm_eval:made_choice: document \d+ of 'test' \(counted from 0\), or one of its shots: got "):
        probe_of(path, shots=2).run(model_of("gpt2"))


def test_shots_that_a_task_fixes_cannot_be_asked_for(tmp_path: Path) -> None:
    """lm-eval ignores shots for a task that fixes none; here that is an error, not another measurement."""
    with pytest.raises(ProbeError, match=r"^lm_eval:made_choice: shots: got 3, expected 0, which made_choice fixes"):
        probe_of(write_task(tmp_path, CHOICE, num_fewshot=0), shots=3).run(model_of("gpt2"))


def test_sampling_is_refused(tmp_path: Path) -> None:
    """A task that draws its answers is no measurement that another run can repeat."""
    config: dict[str, Any] = {**WRITTEN, "generation_kwargs": {"until": ["w3"], "do_sample": True, "temperature": 0.7}}
    with pytest.raises(ProbeError, match="do_sample: got true, expected greedy generation"):
        probe_of(write_task(tmp_path, config)).run(model_of("gpt2"))


def test_the_index_is_read_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval's own reading of its files runs where no index is kept, and never for a task in a file."""
    path = write_task(tmp_path, CHOICE)
    built: list[bool] = []
    own = lm_eval_tasks.lm_eval.tasks.TaskManager

    def counted(*, include_defaults: bool = True) -> Any:
        built.append(include_defaults)
        return own(include_defaults=False)  # an index of nothing

    monkeypatch.setattr(lm_eval_tasks.lm_eval.tasks, "TaskManager", counted)
    load_tasks(f"path:{path}", context_of(f"path:{path}", tmp_path))
    assert built == [False]
    fresh = tmp_path / "fresh"
    for _ in range(2):
        refused(context_of("boolq", fresh))
    assert built == [False, True, False]
    assert len(list((fresh / "cache" / "lm_eval").glob("index-*.json"))) == 1


def test_making_the_probe_reads_nothing(tmp_path: Path) -> None:
    """A suite that names a task pays for it when the first cell asks, not when it is collected."""
    assert isinstance(make(context_of("nothing_like_it", tmp_path)), LmEvalProbe)
