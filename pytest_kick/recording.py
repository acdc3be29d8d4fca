"""What to say of cells without a usable stored run: which one is missing, and the command that records it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from pytest_kick.report.numbers import count
from pytest_kick.selection import FILTERS
from pytest_kick.spec import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_kick.session import Session
    from pytest_kick.spec import Case

_NODES = 3
"""Up to so many cells are named one by one; the command for more names what the run named."""


def absence(session: Session, case: Case) -> str:
    """Say which stored run a cell lacks: its own, if a suite names it, or that of its dense model; "" where nothing is lacking.

    Returns:
        One line; where the other dtype has been recorded, it says so.
    """
    dtype = session.dtype_of(case)
    cells = ("dense",) if case.unlisted else ("dense", case.cell)
    cell = next((cell for cell in cells if not session.store.has(case.shelf, dtype, cell)), "")
    if not cell:
        return _lacking(session, case)
    other = _recorded_in(session, case)
    where = f"{session.near(str(session.store.path(case.shelf, dtype, cell)))}: baseline: got none (missing)"
    if not other:
        return f"{where}, expected the stored run of this cell. Record it with --kick-update-new-only."
    fix = f"Run with --kick-dtype {other}, or record it with --kick-dtype {dtype} --kick-update-new-only."
    return f"{where}: it is recorded in {other} only, expected the stored run of this cell. {fix}"


def _lacking(session: Session, case: Case) -> str:
    """Say which probes the stored runs of a cell lack, its own or that of its dense model; "" where they have all."""
    dtype = session.dtype_of(case)
    for cell in ("dense",) if case.unlisted else ("dense", case.cell):
        probes = session.store.lacking(case.shelf, dtype, cell, case.probes)
        if probes:
            where = session.near(str(session.store.path(case.shelf, dtype, cell)))
            expected = "expected the stored run of each probe of this cell"
            return f"{where}: baseline: got none of {', '.join(probes)} (missing), {expected}. Record it with --kick-update-new-only."
    return ""


def _recorded_in(session: Session, case: Case) -> str:
    """Return the other dtype, if a cell and its dense model are recorded in that alone and may run in either; else ""."""
    if case.dtype or case.compression.float32_only:
        return ""
    others = (dtype for dtype in DTYPES if dtype != session.dtype_of(case))
    return next((dtype for dtype in others if all(session.store.has(case.shelf, dtype, cell) for cell in ("dense", case.cell))), "")


def options_for(session: Session, cases: Iterable[Case]) -> list[str]:
    """Return the options without which the command that records `cases` would record others, or none."""
    settings, cases = session.settings, list(cases)
    by_default = {suite.name for suite in session.suites if suite.default and not suite.hub}
    suites = dict.fromkeys(case.suite for case in cases)
    options = [f"--kick-suite {name}" for name in suites if not by_default.issuperset(suites)]
    if any(not case.dtype and not case.compression.float32_only for case in cases):  # else they run in one dtype anywhere
        options.append(f"--kick-dtype {settings.dtype}")
    options += [f"--kick-method {step.method}" for case in cases if case.unlisted for step in case.compression.steps]
    if settings.device != "cpu":
        options.append(f"--kick-device {settings.device}")
    if settings.baselines != settings.rootdir / "baselines":
        options.append(f"--kick-baselines {_quoted(session.near(str(settings.baselines)))}")
    return list(dict.fromkeys(options))


def record_command(session: Session, case: Case, nodeid: str) -> str:
    """Return the command that records one cell again."""
    return " ".join([f"pytest {_quoted(nodeid)}", *options_for(session, [case]), "--kick-update"])


def record_lines(session: Session, outcomes: Sequence[Mapping[str, Any]], args: Sequence[str]) -> list[str]:
    """Return one line, with one command, for all cells that have no stored run, and one for all stale and all new ones.

    Args:
        session: of the run.
        outcomes: of its cells.
        args: what the command line names, and the expressions that narrow it, quoted as a shell needs it.
    """
    lines = []
    for state, what, option in (
        ("MISSING", "without a stored run; record: ", "--kick-update-new-only"),
        ("STALE", "with a stored run of something else; where the change is meant, record: ", "--kick-update"),
        ("NEW", "new, judged on retention alone; record: ", "--kick-update-new-only"),
    ):
        found = [outcome for outcome in outcomes if outcome["state"] == state]
        if not found:
            continue
        cases = [session.by_id[outcome["id"]] for outcome in found]
        options = options_for(session, cases)
        if len(found) <= _NODES:
            named = [_quoted(outcome["nodeid"]) for outcome in found]
        else:
            filters = [(name, glob) for name in FILTERS for glob in getattr(session.settings, name)]
            named = [*args, *(f"--kick-{name} {_quoted(glob)}" for name, glob in filters)]
            options = [option for option in options if not any(option.startswith(f"--kick-{name} ") for name, _ in filters)]
        cells = f"{count(len(found))} cell{'' if len(found) == 1 else 's'}"
        elsewhere = {_recorded_in(session, case) for case in cases} if state == "MISSING" else {""}
        if len(elsewhere) == 1 and (other := elsewhere.pop()):
            said = f"recorded in {other} only: run with --kick-dtype {other}, or record: "
        else:
            said = what
        lines.append(f"kick: {cells} {said}{' '.join(['pytest', *named, *options, option])}")
    return lines


def _quoted(text: str) -> str:
    """Return a text as a shell takes it, in double quotes where that is enough: node ids are easier to edit so."""
    return text if shlex.quote(text) == text else shlex.quote(text) if set(text) & set('"$`\\!') else f'"{text}"'
