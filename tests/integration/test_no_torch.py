"""What must be quick: help, collection and lists never import torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "torchao", "lm_eval", "safetensors", "gguf")


def heavy_imports(tmp_path: Path, *command: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    """Run a Python command line; return which heavy packages it imported, and how it ended."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command],
        cwd=ROOT,
        env={**os.environ, "KICK_CACHE": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    named = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in named, "the import log is not what this test reads"
    return named & set(HEAVY), result


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "pytest", "--collect-only", "-q", "suites/"],
        ["-m", "pytest", "--collect-only", "-q", "suites/", "--kick-hub", "--kick-suite", "cost_of_compression"],
        ["-m", "pytest", "--kick-plan", "suites/"],
        ["-m", "pytest", "--help"],
        ["-m", "pytest_kick.cli", "--help"],
        ["-m", "pytest_kick.cli", "list", "models"],
        ["-m", "pytest_kick.cli", "list", "methods"],
        ["-m", "pytest_kick.cli", "list", "probes"],
        ["-m", "pytest_kick.cli", "list", "suites"],
    ],
    ids=" ".join,
)
def test_no_torch(tmp_path: Path, arguments: list[str]) -> None:
    """The command ends well, says something, and imports none of the heavy packages."""
    heavy, result = heavy_imports(tmp_path, *arguments)
    assert result.returncode == 0, result.stdout
    assert result.stdout
    assert heavy == set()


def test_a_bad_suite_is_refused_before_torch(tmp_path: Path) -> None:
    """A mistake is told in one line with pytest's exit code for wrong usage, and no heavy package is imported for it."""
    heavy, result = heavy_imports(tmp_path, "-m", "pytest", "suites/", "--kick-model", "tiny-decodr")
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: --kick-model: model: got 'tiny-decodr'" in result.stderr
    assert heavy == set()


def test_the_check_sees_torch(tmp_path: Path) -> None:
    """The check can fail: a module of a heavy layer is seen."""
    heavy, _ = heavy_imports(tmp_path, "-c", "import argparse, safetensors")
    assert heavy == {"safetensors"}
