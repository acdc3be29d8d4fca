"""What a finished cell is counted as, and what is said of a run that judged too little to be green."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_kick.report import outcome_of
from pytest_kick.report.brief import plain
from pytest_kick.report.numbers import count, flow, fraction
from pytest_kick.selection import select
from pytest_kick.verdict import FORGOT, INCONCLUSIVE, NEW, REGRESSED, UNCHANGED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from pytest_kick.session import Session

_SHOWN = 20
SKIPPED, UNJUDGED, UNRECORDED = "skipped", "unjudged", "new"
"""Words beside those of `report`: a test that skipped its cell, a cell that was held against nothing, and likewise where none can be."""


def word_of(outcome: Mapping[str, Any], *, updating: bool = False, accepting: bool = False) -> str:
    """Return what a cell is counted as: pass, fail, inconclusive, error, skipped, unjudged or new.

    Args:
        outcome: as `Outcome.to_json`, with how its test ended: `passed`, `skipped`, `stage`.
        updating: the run records: a cell that is new is as it should be.
        accepting: the run replaces stored runs: one that was better is accepted.
    """
    verdict = outcome["verdict"]
    if outcome["skipped"]:
        return UNJUDGED if outcome["missing"] else SKIPPED
    if outcome["passed"] and (verdict is None or not (updating or _held(verdict))):
        return UNRECORDED if outcome["state"] == NEW else UNJUDGED
    word = outcome_of(verdict, outcome["problem"])
    if word == "error" and outcome["stage"] == "call":
        return "fail"  # measured, or never recorded: nothing broke
    if accepting and word == "fail":
        words = [check["word"] for check in verdict["checks"]]
        word = "fail" if FORGOT in words else "inconclusive" if INCONCLUSIVE in words else "pass"
    return "fail" if word == "pass" and not outcome["passed"] else word


def told(outcome: Mapping[str, Any], word: str) -> tuple[str, str]:
    """Return what the table says of a cell instead of numbers: its word and why; both "" where it was measured and judged.

    Args:
        outcome: as `word_of` takes it.
        word: what that returns.
    """
    if outcome["problem"] or outcome["measurement"] or word not in {SKIPPED, UNJUDGED}:
        return outcome["state"], outcome["problem"]
    return word.upper(), "by its test" if word == SKIPPED else "its test judged nothing"


def _held(verdict: Mapping[str, Any]) -> bool:
    """Return whether a cell was held against anything: a budget or a stored run."""
    return bool(verdict["checks"]) or any(record["word"] != NEW for record in verdict["regressions"])


def unjudged_lines(session: Session, words: Mapping[str, str]) -> list[str]:
    """Say that a run which should have judged cells judged none, or that tests ran cells and judged nothing of them.

    Args:
        session: of the run.
        words: id -> `word_of` of each cell.
    """
    idle: dict[str, int] = {}
    for outcome in session.outcomes.values():
        if words[outcome["id"]] == UNJUDGED and not outcome["missing"] and not outcome["measurement"]:
            test = outcome["nodeid"].partition("[")[0]
            idle[test] = idle.get(test, 0) + 1
    lines = [
        f"kick: {test}: got {count(n)} cell(s) run and none judged, expected `kick_run(kick_case)` in it. Ask for `kick_run` too."
        for test, n in idle.items()
    ]
    if words and not lines and set(words.values()) <= {SKIPPED, UNJUDGED, UNRECORDED}:
        lines = [f"kick: cells: got 0 judged of {count(len(words))}, expected at least one: a run that judges nothing does not pass."]
    return lines


def unasked_lines(session: Session, asked: Collection[str], targets: Collection[Path]) -> list[str]:
    """Name the suites with cells that this run takes and no test asks for.

    Args:
        session: of the run.
        asked: names of suites whose cells some test module asked for.
        targets: what the command line names, absolute; a suite in none of them may have its test elsewhere.
    """
    lines = []
    for suite in session.suites:
        cells = select(session.settings, [suite])
        if cells and suite.name not in asked and any(suite.path.parent.is_relative_to(target) for target in targets):
            where, n = session.near(str(suite.path)), count(len(cells))
            expected = "expected one that asks for `kick_case` beside it"
            lines.append(f"kick: {where}: test: got none for its {n} cells, {expected}. Write one as `kick init` does.")
    return lines


def accepted_lines(session: Session) -> list[str]:
    """Name what a run that replaces stored runs changed against them, with counts: whatever is neither NEW nor UNCHANGED."""
    lines = []
    for outcome in session.finished() if session.settings.update else ():
        for record in outcome["verdict"]["regressions"] if outcome["verdict"] and not outcome["problem"] else ():
            if record["word"] not in {NEW, UNCHANGED}:
                scores = f"{record['metric']} {fraction(record['p_stored'])} -> {fraction(record['p_now'])}"
                changed = f", {count(record['changed'])} answered otherwise" if record["changed"] else ""
                lines.append(
                    f"kick: accepted: {outcome['id']}: {record['word']}: {scores}, {flow(record['lost'], record['gained'])}{changed}"
                )
    more = [f"kick: accepted: {count(len(lines) - _SHOWN)} more; see `git diff` or --kick-json"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more]


def noted_lines(session: Session) -> list[str]:
    """Say what compressing noted, such as leaks of the calibration or raised damping: once each, with the models and how many cells."""
    cells: dict[str, list[str]] = {}
    for outcome in session.finished():
        steps = ((outcome["measurement"] or {}).get("compression") or {}).get("steps", ())
        for note in dict.fromkeys(note for step in steps for note in step["notes"]):
            cells.setdefault(note, []).append(session.by_id[outcome["id"]].model.name)
    lines = [
        f"kick: noted: {plain(note)} ({count(len(names))} cell{'' if len(names) == 1 else 's'}: {', '.join(dict.fromkeys(names))})"
        for note, names in cells.items()
    ]
    more = [f"kick: noted: {count(len(lines) - _SHOWN)} more; see --kick-json"] if len(lines) > _SHOWN else []
    return [*lines[:_SHOWN], *more]


def noise_lines(session: Session) -> list[str]:
    """Say what a run that measured noise floors found, one line for each dense model: the net change of each probe's own metric."""
    lines = []
    for outcome in session.finished():
        measured = outcome["measurement"] or {}
        floors = measured.get("noise_floor", {})
        own = [(score["probe"], score["metric"], score["n"]) for score in measured.get("scores", ()) if score["probe"] in floors]
        if own:
            parts = [f"{probe} {metric} {floors[probe][metric]:.2g} (n={count(n)})" for probe, metric, n in own if metric in floors[probe]]
            model = session.by_id[outcome["id"]].model.name
            lines.append(f"kick: noise floor: {model} {measured['dtype']}: {', '.join(parts)}")
    return lines


def accepted_note(session: Session) -> list[str]:
    """Say in the last line how many cells were worse than the stored runs that they replaced."""
    recorded = [outcome["verdict"] for outcome in session.outcomes.values() if outcome["verdict"] and not outcome["problem"]]
    n = sum(any(record["word"] == REGRESSED for record in verdict["regressions"]) for verdict in recorded)
    return [f"{count(n)} regressed accepted"] if n and session.settings.update else []
