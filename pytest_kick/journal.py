"""What a run has measured so far, on disk: shared by its workers, and kept when the run dies.

A cell is measured once in a run: by the first worker that needs it, under a file lock; everyone else reads it.
"""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

from filelock import FileLock

from pytest_kick.baseline.files import replace_all
from pytest_kick.errors import KickError
from pytest_kick.result import Measurement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEPT_RUNS = 5
A_DAY = 86_400.0  # seconds


class Journal:
    """Hold the measurements of one run under `<scratch>/runs/<run id>/`."""

    def __init__(self, scratch: Path, run_id: str) -> None:
        """Use a directory that need not exist yet; `scratch` is ignored by git."""
        self.scratch = scratch
        self.directory = scratch / "runs" / run_id

    def measure_once(
        self, shelf: str, dtype: str, cell: str, probes: Sequence[str], measure: Callable[[Sequence[str]], Measurement]
    ) -> Measurement:
        """Return what this run has measured for a cell, measuring with the probes that no worker has asked.

        Args:
            shelf: directory of the model's baselines.
            dtype: of the forward pass.
            cell: id of the cell.
            probes: ids of those wanted.
            measure: measures with the probes that it is given.

        Raises:
            KickError: the scratch directory cannot be written or is full, or `measure` fails.
        """
        path = self.directory / shelf / dtype / f"{cell}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            (self.scratch / ".gitignore").write_text("*\n", encoding="utf-8")
            lock = FileLock(path.with_suffix(".lock"))
            lock.acquire()
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            known = Measurement.from_json(json.loads(path.read_bytes())) if path.is_file() else None
            missing = [probe for probe in probes if known is None or probe not in known.probes]
            if missing or known is None:
                measured = measure(missing)
                known = known.joined(measured) if known else measured
                self._write(path, known)
            return known.only(probes)
        finally:
            lock.release()

    def _write(self, path: Path, measurement: Measurement) -> None:
        try:
            replace_all([(path, json.dumps(measurement.to_json()).encode())])
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> KickError:
        got = error.strerror or " ".join(str(error).split())
        return KickError(f"{self.scratch}: scratch: got {got}, expected a writable directory with room. Free it, or run elsewhere.")

    def measured(self) -> Iterator[tuple[str, Measurement]]:
        """Iterate over (shelf, measurement) of everything this run has measured, in the order of the paths."""
        for path in sorted(self.directory.glob("*/*/*.json")):
            yield path.parent.parent.name, Measurement.from_json(json.loads(path.read_bytes()))

    def prune(self) -> None:
        """Remove the journals of all but the latest runs, and none that may still be running."""
        runs = sorted((path for path in self.directory.parent.glob("*") if path.is_dir()), key=lambda path: path.name)
        for path in runs[:-KEPT_RUNS]:
            if time.time() - path.stat().st_mtime > A_DAY:
                shutil.rmtree(path, ignore_errors=True)
