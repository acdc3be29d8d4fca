"""Suites written by tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_kick.suite import Suite, read_suite

if TYPE_CHECKING:
    from pathlib import Path

HEAD = 'schema = 1\nmodels = ["tiny-decoder"]\n'
CELL = '[[compressions]]\nmethod = "l1_global"\nsparsity = 0.2\n'


def write(directory: Path, text: str, name: str = "a") -> Path:
    """Write a suite into `suites/` and return its path."""
    path = directory / "suites" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def read(directory: Path, text: str, name: str = "a") -> Suite:
    """Write a suite and read it."""
    return read_suite(write(directory, text, name))
