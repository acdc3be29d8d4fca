from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from made_measurements import make_examples, make_measurement, make_score

from pytest_kick import journal as journal_module
from pytest_kick.errors import KickError, ProbeError
from pytest_kick.journal import KEPT_RUNS, Journal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_kick.result import Measurement

RIGHT = np.array([True, False, True])


def never(_: object = None) -> NoReturn:
    """Fail when something is measured again."""
    raise AssertionError


def work(scratch: str, marks: str) -> None:
    """Measure one cell as a worker does, leaving a mark for each time it is really measured."""

    def measure(_: object) -> Measurement:
        (Path(marks) / str(os.getpid())).touch()
        time.sleep(0.2)
        return make_measurement(RIGHT)

    got = Journal(Path(scratch), "run").measure_once("m", "float32", "dense", ("facts",), measure)
    assert got.scores[0].examples.outcome("p1").tolist() == RIGHT.tolist()


def test_a_cell_is_measured_once(tmp_path: Path) -> None:
    """What was measured is read the second time, equal in all that is judged; other cells are not mixed up."""
    journal = Journal(tmp_path, "run")
    first = journal.measure_once("m", "float32", "dense", ("facts",), lambda _: make_measurement(RIGHT))
    again = Journal(tmp_path, "run").measure_once("m", "float32", "dense", ("facts",), never)
    assert again.to_json() == first.to_json()
    for key in (("m", "bfloat16", "dense"), ("n", "float32", "dense"), ("m", "float32", "l1_global--ffn--s0.2")):
        with pytest.raises(AssertionError):
            journal.measure_once(*key, ("facts",), never)
    with pytest.raises(AssertionError):
        Journal(tmp_path, "another run").measure_once("m", "float32", "dense", ("facts",), never)


def test_a_probe_that_is_missing_is_asked_alone(tmp_path: Path) -> None:
    """Where another suite wants one probe more of a cell, that one is asked, and each gets what it wants."""
    journal = Journal(tmp_path, "run")
    journal.measure_once("m", "float32", "dense", ("facts",), lambda _: make_measurement(RIGHT))
    asked: list[str] = []

    def more(probes: Sequence[str]) -> Measurement:
        asked.extend(probes)
        return make_measurement(scores=(make_score(make_examples(~RIGHT), probe="other"),))

    both = journal.measure_once("m", "float32", "dense", ("facts", "other"), more)
    assert (asked, both.probes) == (["other"], ("facts", "other"))
    assert {"facts.version", "other.version"} <= both.fingerprint["blocking"].keys()
    alone = journal.measure_once("m", "float32", "dense", ("other",), never)
    assert (alone.probes, "facts.version" in alone.fingerprint["blocking"]) == (("other",), False)


def test_workers_measure_a_cell_once(tmp_path: Path) -> None:
    """Of several processes that need a cell at the same time one measures it, and all get it."""
    marks = tmp_path / "marks"
    marks.mkdir()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(str(tmp_path / "scratch"), str(marks))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len(list(marks.iterdir())) == 1


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    """A cell that could not be measured is tried again, and its lock is free."""
    journal = Journal(tmp_path, "run")

    def fail(_: object) -> NoReturn:
        msg = "x"
        raise ProbeError(msg)

    for _ in range(2):
        with pytest.raises(ProbeError):
            journal.measure_once("m", "float32", "dense", ("facts",), fail)
    assert journal.measure_once("m", "float32", "dense", ("facts",), lambda _: make_measurement(RIGHT)).cell == "dense"
    assert next(iter(journal.measured()))[0] == "m"


def test_everything_measured_is_listed(tmp_path: Path) -> None:
    """The measurements of a run are listed by shelf, dtype and cell; a chain's long id is no trouble."""
    journal = Journal(tmp_path, "run")
    assert list(journal.measured()) == []
    long = "+".join(["random_unstructured--overall--s0.2--seed-1"] * 5)[:240]
    for shelf, cell in (("m", "dense"), ("m", long), ("a", "dense")):
        journal.measure_once(shelf, "float32", cell, ("facts",), lambda _: make_measurement(RIGHT))
    assert [shelf for shelf, _ in journal.measured()] == ["a", "m", "m"]


def test_scratch_is_ignored_by_git(tmp_path: Path) -> None:
    """The scratch directory holds its own `.gitignore`."""
    Journal(tmp_path / "s", "run").measure_once("m", "float32", "dense", ("facts",), lambda _: make_measurement(RIGHT))
    assert (tmp_path / "s" / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_a_scratch_that_cannot_be_made(tmp_path: Path) -> None:
    """A file in the place of the scratch directory is one line, before anything is measured."""
    (tmp_path / "s").touch()
    rule = r"^.*s: scratch: got .*, expected a writable directory with room\. Free it, or run elsewhere\.$"
    with pytest.raises(KickError, match=rule):
        Journal(tmp_path / "s", "run").measure_once("m", "float32", "dense", ("facts",), never)


def test_a_disk_that_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when the measurement is written is one line; the lock is free afterwards."""

    def full(_: object) -> NoReturn:
        raise OSError(28, os.strerror(28))

    journal = Journal(tmp_path, "run")
    with monkeypatch.context() as patch:
        patch.setattr(journal_module, "replace_all", full)
        with pytest.raises(KickError, match=r"scratch: got No space left on device, expected a writable directory with room"):
            journal.measure_once("m", "float32", "dense", ("facts",), lambda _: make_measurement(RIGHT))
    assert journal.measure_once("m", "float32", "dense", ("facts",), lambda _: make_measurement(RIGHT)).cell == "dense"


def test_old_runs_are_removed(tmp_path: Path) -> None:
    """The latest runs stay, older ones go unless one may still be running; a file among them is left alone."""
    for i in range(KEPT_RUNS + 3):
        (tmp_path / "runs" / f"2026010{i}-000000-1").mkdir(parents=True)
        if i:  # the first was written to a moment ago
            os.utime(tmp_path / "runs" / f"2026010{i}-000000-1", (0, 0))
    (tmp_path / "runs" / "note").touch()
    Journal(tmp_path, "x").prune()
    kept = sorted(path.name for path in (tmp_path / "runs").iterdir() if path.is_dir())
    assert kept == [f"2026010{i}-000000-1" for i in (0, *range(3, KEPT_RUNS + 3))]
    assert (tmp_path / "runs" / "note").is_file()
