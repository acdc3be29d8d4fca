"""A user's repository in a temporary directory: a suite, its facts, its recorded baselines, and ways to run and change them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_kick.facts import shipped_facts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pytest

FACTS_PER_RELATION = {"city_country": 40, "element_symbol": 25, "month": 25, "us_city_state": 30}
BASE = ("-p", "no:randomly", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
COMPRESSIONS = """
[[compressions]]
method = "l1_global"
scope = ["attention", "overall"]
sparsity = [0.1, 0.6]
"""
SUITE = (
    """\
schema = 1
facts = "few.jsonl"
models = ["tiny-decoder"]
"""
    + COMPRESSIONS
)
CELLS = ("dense", "l1_global--attention--s0.1", "l1_global--attention--s0.6", "l1_global--overall--s0.1", "l1_global--overall--s0.6")
MODULE = '''\
"""Run every cell."""


def test_cell(kick_case, kick_run):
    """Judge it."""
    kick_run(kick_case)
'''
INI = "[pytest]\nkick_dtype = float32\n"


def few_facts(sizes: Mapping[str, int] = FACTS_PER_RELATION) -> str:
    """Return a facts file of so many facts in some relations of the shipped ones: 120 in four."""
    facts = shipped_facts()
    lines: list[dict[str, Any]] = [{"kind": "dataset", "schema": 1, "name": "few", "version": "1"}]
    lines += [
        {"kind": "relation", "relation": name, "templates": list(facts.relations[name].templates), "scoring": facts.relations[name].scoring}
        for name in sizes
    ]
    for name, n in sizes.items():
        of_relation = [fact for fact in facts.facts if fact.relation == name][:n]
        lines += [{"kind": "fact", "relation": name, "subject": fact.subject, "answer": fact.answer} for fact in of_relation]
    return "".join(json.dumps(line) + "\n" for line in lines)


def write(root: Path, suite: str = SUITE) -> None:
    """Write the repository, nothing recorded yet."""
    (root / "suites").mkdir(exist_ok=True)
    (root / "suites" / "few.jsonl").write_text(few_facts(), encoding="utf-8")
    (root / "suites" / "mini.toml").write_text(suite, encoding="utf-8")
    (root / "suites" / "test_cells.py").write_text(MODULE, encoding="utf-8")
    (root / "pytest.ini").write_text(INI, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Hold such a repository.

    Attributes:
        pytester: pytest's own fixture, whose directory it is.
    """

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        """Return the root."""
        return self.pytester.path

    def run(self, *args: str, at: str = "suites") -> pytest.RunResult:
        """Run pytest in this process."""
        return self.pytester.runpytest_inprocess(*at.split(), *BASE, *args)

    def run_apart(self, *args: str, timeout: float = 120.0) -> pytest.RunResult:
        """Run pytest in a process of its own."""
        return self.pytester.runpytest_subprocess("suites", *BASE, *args, timeout=timeout)

    def document(self, *args: str, name: str = "run.json", apart: bool = False) -> dict[str, Any]:
        """Run and return the run record."""
        (self.run_apart if apart else self.run)("--kick-json", name, *args)
        return self.read(name)

    def read(self, name: str) -> dict[str, Any]:
        """Return a JSON file."""
        document: dict[str, Any] = json.loads((self.path / name).read_bytes())
        return document

    def suite(self, more: str, old: str = "", new: str = "", name: str = "mini") -> None:
        """Write the suite with `more` at its end, and `old` replaced by `new`."""
        assert not old or old in SUITE
        (self.path / "suites" / f"{name}.toml").write_text(SUITE.replace(old, new) + more, encoding="utf-8")

    def edit_facts(self, old: str, new: str) -> None:
        """Replace a text in the facts file."""
        path = self.path / "suites" / "few.jsonl"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    def baseline(self, cell: str, suffix: str = "json", model: str = "tiny-decoder--few") -> Path:
        """Return a file of a stored run."""
        return self.path / "baselines" / model / "float32" / f"{cell}.{suffix}"

    def baselines(self) -> dict[str, tuple[bytes, int]]:
        """Return content and time of change of every stored file."""
        root = self.path / "baselines"
        return {str(p.relative_to(root)): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(root.rglob("*")) if p.is_file()}

    def node(self, cell: str) -> str:
        """Return the id of the test item of a cell."""
        return f"suites/test_cells.py::test_cell[mini--tiny-decoder--{cell}]"

    def narrow(self, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """Set the width of the terminal."""
        monkeypatch.setenv("COLUMNS", str(columns))


def last_line(result: pytest.RunResult) -> str:
    """Return the last line that a run printed."""
    return [line for line in result.outlines if line.strip()][-1]


def scores(document: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on how a run was spread: cell -> metrics, words and flips."""
    found = {}
    for cell in document["cells"]:
        verdict = cell["verdict"] or {}
        found[cell["id"]] = (
            cell["outcome"],
            # Shares of right answers are exact; sums of log-probabilities depend on the order of summation.
            [{name: round(value, 4) for name, value in score["metrics"].items()} for score in cell["measurement"]["scores"]]
            if cell["measurement"]
            else cell["error"],
            [(check["word"], check["low"], check["high"]) for check in verdict.get("checks", ())],
            [(entry["word"], entry["lost"], entry["gained"], entry["threshold"]) for entry in verdict.get("regressions", ())],
        )
    return found


def lines_wider(result: pytest.RunResult, columns: int) -> list[str]:
    """Return the lines of our own part of a run's output that are wider than the terminal."""
    start = next(i for i, line in enumerate(result.outlines) if line.strip("=").strip() == "kick")
    end = next(i for i, line in enumerate(result.outlines[start + 1 :], start + 1) if line.startswith("==="))
    return [line for line in result.outlines[start:end] if len(line) > columns]


def is_root() -> bool:
    """Return whether permissions do not bind this process."""
    return os.geteuid() == 0
