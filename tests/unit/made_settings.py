"""Settings made up for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_kick.config import Settings
from pytest_kick.options import OPTIONS

ROOT = Path("/root-of-tests")


def settings_with(**changes: Any) -> Settings:
    """Return settings of a run without options, with changes."""
    values: dict[str, Any] = {option.name.replace("-", "_"): option.default for option in OPTIONS}
    values |= {
        "rootdir": ROOT,
        "suites": ("suites",),
        "n_workers": 1,
        "run_id": "r",
        "dtype": "float32",
        "threads": 1,
        "json": None,
        "data": None,
    }
    return Settings(**(values | {"cache": ROOT / "c", "baselines": ROOT / "b", "data": None} | changes))
