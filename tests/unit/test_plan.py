from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from made_measurements import make_examples, make_measurement, make_score
from made_settings import settings_with
from suite_files import CELL, HEAD, read

from pytest_kick import plan
from pytest_kick.infos import MeanInfo
from pytest_kick.selection import select
from pytest_kick.session import Session

if TYPE_CHECKING:
    from pathlib import Path

BUDGETS = "[[budgets]]\nretention = 0.9\n'drop:free_p1' = 0.05\nflips = 0.1\n"


def session_on(tmp_path: Path, text: str, **options: Any) -> Session:
    """Return the session of a run on one suite."""
    read(tmp_path, text)
    settings = settings_with(rootdir=tmp_path, baselines=tmp_path / "baselines", **options)
    return Session(settings, [tmp_path / "suites"])


def plan_lines(session: Session) -> list[str]:
    """Return the plan of all cells that the filters leave."""
    return plan.plan_lines(session, select(session.settings, session.suites))


def record(session: Session, n: int, seconds: float) -> None:
    """Record a dense run of `n` examples that took so long."""
    right = np.arange(n) % 10 != 0
    measurement = make_measurement(right)
    object.__setattr__(measurement.timing, "seconds", {"evaluate": seconds})
    session.store.write(measurement, model="tiny-decoder")


def test_nothing_recorded(tmp_path: Path) -> None:
    """Without a stored run the plan lists the cells and says what is not known."""
    lines = plan_lines(session_on(tmp_path, HEAD + CELL + BUDGETS))
    unknown = "(no dense baseline yet)"
    assert lines == [
        "a--tiny-decoder--dense: no budget",
        f"a--tiny-decoder--l1_global--overall--s0.2: drop:free_p1 0.05 {unknown}, flips:p1 0.1 {unknown}, retention:p1 0.9 {unknown}",
        "kick: 2 cells, time unknown: nothing recorded yet, 2 never recorded",
    ]


def test_what_a_budget_can_detect(tmp_path: Path) -> None:
    """With a dense baseline each budget says the smallest loss it can tell; fewer examples tell less."""
    text = HEAD + CELL + BUDGETS
    session = session_on(tmp_path, text)
    record(session, 400, 30.0)

    def detected(text: str = text, **options: Any) -> tuple[float, int]:
        found = re.search(
            r"retention:p1 0\.9 \(detects a loss of ([0-9.]+) at n=(\d+)\)", plan_lines(session_on(tmp_path, text, **options))[1]
        )
        assert found is not None
        return float(found[1]), int(found[2])

    whole, sampled = detected(), detected(limit=100)
    assert whole[1] == 400
    assert sampled[1] == 100
    assert 0 < whole[0] < sampled[0] < 1
    assert detected(limit=1000) == whole
    first = detected(f"first_look = 100\n{text}")
    assert first == sampled
    assert detected(confidence=0.99)[0] > whole[0]
    line = plan_lines(session)[1]
    assert "flips:p1 0.1 (n=400)" in line
    drop = re.search(r"drop:free_p1 0\.05 \(detects a drop of ([0-9.]+) at n=400\)", line)
    assert drop is not None
    assert float(drop[1]) == pytest.approx(whole[0] * (0.9 - 0.05), abs=1e-3)  # the dense model knows .9, the floor is .05


def test_time_counts_cells_never_recorded_at_the_mean(tmp_path: Path) -> None:
    """Cells without a stored run are expected to take as long as the others; workers share the time."""
    text = HEAD + CELL
    record(session_on(tmp_path, text), 40, 60.0)
    assert plan_lines(session_on(tmp_path, text))[-1].startswith("kick: 2 cells, about 2.0 min of work")
    assert plan_lines(session_on(tmp_path, text))[-1].endswith("1 never recorded")
    assert "about 1.0 min" in plan_lines(session_on(tmp_path, text, n_workers=2))[-1]


@pytest.mark.parametrize("level", ["0.2"])
def test_the_plan_follows_the_filters(tmp_path: Path, level: str) -> None:
    """The plan lists what would run, no more."""
    lines = plan_lines(session_on(tmp_path, HEAD + CELL.replace("0.2", "[0.1, 0.2]"), level=(level,)))
    assert [line.partition(":")[0] for line in lines[:-1]] == ["a--tiny-decoder--dense", "a--tiny-decoder--l1_global--overall--s0.2"]


def test_a_budget_on_a_mean_is_planned_too(tmp_path: Path) -> None:
    """What a mean can detect hangs on its spread: the plan says on how many examples it is taken, and does not fail."""
    text = 'probes = ["facts", "perplexity"]\n' + HEAD + CELL + '[[budgets]]\nprobe = "perplexity"\nratio = 1.1\n'
    session = session_on(tmp_path, text)
    name = "nats_per_token"
    read = make_examples(np.ones(40, dtype=bool), nats_per_token=np.full(40, 3.0))
    score = make_score(read, probe="perplexity", metric=name, means=(MeanInfo(name=name, kind="loss"),))
    score = replace(score, floors={name: 10.8}, metrics={name: 3.0})
    session.store.write(make_measurement(scores=(score,)), model="tiny-decoder")
    assert plan_lines(session)[1].endswith("ratio:nats_per_token 1.1 (n=40)")


def test_a_baseline_that_does_not_read_is_not_called_missing(tmp_path: Path) -> None:
    """A plan tells a damaged dense baseline from none."""
    session = session_on(tmp_path, HEAD + CELL + BUDGETS)
    record(session, 40, 1.0)
    session.store.path("tiny-decoder", "float32", "dense").write_text("{", encoding="utf-8")
    assert "(a dense baseline that does not read)" in plan_lines(session)[1]
