"""What makes a stored run unusable and is seen before anything is measured: a damaged file, a newer schema, facts that changed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_kick.errors import BaselineError, StaleBaselineError
from pytest_kick.facts import load_facts, shipped_facts
from pytest_kick.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_kick.baseline import Baseline
    from pytest_kick.session import Session
    from pytest_kick.spec import Case


def foreseen(session: Session, case: Case, nodeid: str) -> Outcome | None:
    """Return how a cell ends that need not be measured since its stored runs cannot be used; None where nothing is known yet.

    What only the model tells (weights, tokenizer, compression) is compared after the measurement, and so is a sample.

    Raises:
        KickError: the facts cannot be read.
    """
    if session.settings.update:
        return None
    dtype = session.dtype_of(case)
    try:
        for cell in dict.fromkeys(("dense", case.cell)):
            if session.store.has(case.shelf, dtype, cell):
                baseline = session.store.read(case.shelf, dtype, cell)
                if "facts" in baseline.examples and "facts" in case.probes and not session.settings.limit:
                    _check_facts(baseline, _hashes_of(case.facts), session.command(case, nodeid))
    except BaselineError as error:
        return Outcome(case=case, nodeid=nodeid, problem=session.near(str(error)), stale=isinstance(error, StaleBaselineError))
    return None


def _check_facts(baseline: Baseline, known: Mapping[str, int], command: str) -> None:
    examples = baseline.examples["facts"]
    changed = [(name, old) for name, old in zip(examples.ids.tolist(), examples.hashes.tolist(), strict=True) if known.get(name) != old]
    if changed:
        name, old = changed[0]
        new = f"{known[name]:08x}" if name in known else "(none)"
        more = f"; {len(changed) - 1} more" if len(changed) > 1 else ""
        what = f"facts.examples.{name}: {old:08x} -> {new}{more}"
        fix = f"It measured something else; if the change is meant, record it again: {command}."
        msg = f"baseline {baseline.name} ({baseline.recorded}): {what}. {fix}"
        raise StaleBaselineError(msg)


def _hashes_of(path: str) -> Mapping[str, int]:
    """Return fact id -> content hash of a facts file, or of the shipped facts for ""."""
    return _read_hashes(path, Path(path).stat().st_mtime_ns if path and Path(path).is_file() else 0)


@lru_cache(maxsize=8)
def _read_hashes(path: str, stamp: int) -> Mapping[str, int]:  # noqa: ARG001 - a file that was written anew is read anew
    facts = load_facts(Path(path)) if path else shipped_facts()
    return dict(zip((fact.id for fact in facts.facts), facts.hashes(), strict=True))
