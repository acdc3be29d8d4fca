"""Stored runs: what a cell measured when it was accepted, and whether it may be compared with what is measured now.

See `docs/baselines.md` for the files.
"""

from __future__ import annotations

from pytest_kick.baseline.fingerprint import Difference, build_fingerprint, differences, examples_digest
from pytest_kick.baseline.record import SCHEMA, Baseline, check_fresh
from pytest_kick.baseline.store import BaselineStore

__all__ = [
    "SCHEMA",
    "Baseline",
    "BaselineStore",
    "Difference",
    "build_fingerprint",
    "check_fresh",
    "differences",
    "examples_digest",
]
