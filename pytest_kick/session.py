"""The state of one run: which cells, what was measured of them, how it was judged, and what is recorded at the end."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from pytest_kick.baseline import BaselineStore, check_fresh
from pytest_kick.errors import BaselineError, MissingBaselineError, StaleBaselineError, UnjudgeableError, UnknownNameError, UsageError
from pytest_kick.extras import lacking, lacking_of_probes
from pytest_kick.freshness import foreseen
from pytest_kick.journal import Journal
from pytest_kick.newcomers import recordable, with_newcomers
from pytest_kick.outcome import Outcome
from pytest_kick.recording import absence, record_command
from pytest_kick.registry import did_you_mean
from pytest_kick.selection import check_filters, filtered, left_out, read_suites, select
from pytest_kick.spec import DTYPES, Case, CompressionSpec
from pytest_kick.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_kick.baseline import Baseline
    from pytest_kick.config import Settings
    from pytest_kick.examples import Examples
    from pytest_kick.result import Measurement
    from pytest_kick.suite import Suite


class Session:
    """Hold the suites and results of a run; the same class serves the controller and the workers."""

    def __init__(self, settings: Settings, directories: Iterable[Path], late: Collection[Path] = ()) -> None:
        """Read the suites of `directories` and select the cells.

        What a suite among `late` may not know yet, a `conftest.py` may register before its tests are collected: it is judged then.

        Raises:
            UsageError: a suite is malformed, or a filter matches nothing.
        """
        self.settings = settings
        self.suites: list[Suite] = []
        self.cases: list[Case] = []
        self.by_id: dict[str, Case] = {}
        self._by_directory: dict[Path, tuple[Suite, ...]] = {}
        self.collected: tuple[Case, ...] = ()
        self.n_comparisons = 1
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.store = BaselineStore(settings.baselines)
        self.journal = Journal(settings.scratch, settings.run_id)
        self.progress: Callable[[str], None] = lambda _: None
        open_names = bool(late and (settings.method or settings.level))
        for directory in directories:
            try:
                self.add_directory(directory)
            except UnknownNameError:
                if directory not in late:
                    raise
                open_names = True
        if self.suites and not open_names:
            check_filters(settings, self.suites)

    def add_directory(self, directory: Path) -> tuple[Suite, ...]:
        """Read the suites of a directory once, and return them, with the cells of methods that were registered since."""
        directory = directory.resolve()
        if directory not in self._by_directory:
            self._by_directory[directory] = read_suites(directory)
        self.suites = with_newcomers(self.settings, [suite for suites in self._by_directory.values() for suite in suites])
        self.by_id = {case.id: case for suite in self.suites for case in suite.cases}
        return tuple(suite for suite in self.suites if suite.path.parent == directory)

    def cases_of(self, directory: Path, name: str | None = None) -> tuple[Case, ...]:
        """Return the cells that a test module in `directory` runs: of all suites beside it, or of the one called `name`.

        Raises:
            UsageError: no such suite, a malformed one, or filters that leave nothing of all suites known so far.
        """
        known = self.add_directory(directory)
        suites = [suite for suite in known if name in (None, suite.name)]
        if not suites:
            got, names = ("no *.toml", "") if name is None else (repr(name), did_you_mean(name, [suite.name for suite in known]))
            msg = f"{directory}: suite: got {got}, expected a suite beside the test module. {names or 'Write one with `kick init`.'}"
            raise UsageError(msg)
        check_filters(self.settings, self.suites)
        settings = self.settings if name is None or self.settings.suite else replace(self.settings, suite=(name,))
        cases = select(settings, suites)
        if not cases and not filtered(settings):
            msg = f"{directory}: suites: got none that runs by default, expected at least one. Name one with --kick-suite."
            raise UsageError(msg)
        taken = {case.id for case in self.cases}
        self.cases += [case for case in cases if case.id not in taken]
        return cases

    def case_of(self, nodeid: str) -> Case | None:
        """Return the cell that a test item runs, None for an ordinary test."""
        return self.by_id.get(nodeid.partition("[")[2].removesuffix("]"))

    def dtype_of(self, case: Case) -> str:
        """Return the dtype a cell runs in: what its method or its suite fixes, else the run's."""
        return "float32" if case.compression.float32_only else case.dtype or self.settings.dtype

    def cost_of(self, nodeid: str) -> float:
        """Return the seconds a cell took when it was recorded, 1 where nothing is known."""
        case = self.case_of(nodeid)
        return self.recorded_seconds(case) or 1.0 if case else 1.0

    def recorded_seconds(self, case: Case) -> float | None:
        """Return the seconds a cell took when it was recorded."""
        asked = self.settings.limit or (0 if self.settings.updating else case.first_look)
        seconds = self.store.seconds(case.shelf, self.dtype_of(case), case.cell, probes=case.probes, asked=asked)
        # What measures the noise asks a dense model again as often as it is told.
        return seconds * (1 + self.settings.noise) if seconds is not None and case.is_dense else seconds

    @property
    def read_all(self) -> bool:
        """Return whether every directory of suites was read, not just those the command line names."""
        directories = ((self.settings.rootdir / name).resolve() for name in self.settings.suites)
        return all(directory in self._by_directory for directory in directories if directory.is_dir())

    @property
    def left_out(self) -> str:
        """Return one line on the suites that are not run by default."""
        return left_out(self.settings, self.suites)

    @cached_property
    def runner(self) -> Any:  # noqa: ANN401 - importing its type imports torch
        """Return the runner of this process; torch is imported here and not before."""
        from pytest_kick.runner import Runner, RunSettings  # noqa: PLC0415

        named = {field.name: getattr(self.settings, field.name) for field in fields(RunSettings) if field.name != "alone"}
        return Runner(RunSettings(**named, alone=self.settings.n_workers == 1), progress=self.progress)

    def measure(self, case: Case, *, first_look: bool = False) -> Measurement:
        """Measure a cell, or read what this run has measured of it.

        Raises:
            KickError: it cannot be measured.
        """
        dtype = self.dtype_of(case)
        name = f"{case.cell}@{case.first_look}" if first_look else case.cell
        measure = partial(self._run, case, dtype, first_look)
        return self.journal.measure_once(case.shelf, dtype, name, case.probes, measure)

    def _run(self, case: Case, dtype: str, first_look: bool, probes: Sequence[str]) -> Measurement:
        measurement: Measurement = self.runner.run_case(case.asking(probes), dtype, first_look=first_look)
        return measurement

    def judged(self, case: Case, nodeid: str) -> Outcome:
        """Measure and judge a cell.

        Returns:
            The outcome; its `problem` is a baseline that is missing, stale or damaged, an extra that is not installed, or why what was
            measured cannot be judged.

        Raises:
            KickError: it cannot be measured.
        """
        if reason := lacking(case.compression) or lacking_of_probes(case.probe_specs):
            return Outcome(case=case, nodeid=nodeid, problem=reason, skipped=True)
        absent = "" if self.settings.updating else absence(self, case)
        if absent and self.settings.missing != "warn":
            return Outcome(case=case, nodeid=nodeid, problem=absent, missing=True)
        if known := foreseen(self, case, nodeid):
            return known
        if self._looks_first(case):
            outcome = self._judged(case, nodeid, first_look=True)
            if outcome.problem or (outcome.verdict and outcome.verdict.settled):
                return outcome
        outcome = self._judged(case, nodeid)
        return replace(outcome, missing=outcome.missing or bool(absent))

    def _looks_first(self, case: Case) -> bool:
        """Return whether a part of the facts can decide: there is a stored run to hold it against, and nothing is recorded."""
        settings = self.settings
        looks = case.first_look and not settings.limit and not settings.updating
        return bool(looks) and self.store.has(case.shelf, self.dtype_of(case), case.cell)

    def _judged(self, case: Case, nodeid: str, *, first_look: bool = False) -> Outcome:
        measurement = self.measure(self._unrecorded(case), first_look=first_look)
        sampled = first_look or bool(self.settings.limit)
        outcome = Outcome(case=case, nodeid=nodeid, measurement=measurement, first_look=first_look)
        try:
            dense = None if case.is_dense else self._dense(case, measurement, nodeid, sampled=sampled)
            stored = self._stored(case, measurement, nodeid, sampled=sampled)
        except BaselineError as error:
            missing, stale = (isinstance(error, kind) for kind in (MissingBaselineError, StaleBaselineError))
            return replace(outcome, problem=self.near(str(error)), missing=missing, stale=stale)
        try:
            verdict = judge(
                measurement,
                dense=dense[0] if dense else None,
                stored=stored.examples if stored else None,
                budgets=[budget for budget in case.budgets if budget.probe in measurement.probes],
                confidence=self.settings.confidence,
                n_comparisons=self.n_comparisons,
                noise_floors=dense[1] if dense else stored.noise_floor if stored else None,
            )
        except UnjudgeableError as error:
            return replace(outcome, problem=str(error), unjudgeable=True)
        if stored is None:
            return replace(outcome, verdict=verdict, new=case.unlisted and not self.settings.updating)
        noted = tuple(map(str, stored.noted_differences(measurement)))
        return replace(outcome, verdict=verdict, recorded=stored.recorded, noted=noted)

    def command(self, case: Case, nodeid: str) -> str:
        """Return the command that records a cell, with the options without which it would record another one, or none."""
        return record_command(self, case, nodeid)

    def near(self, text: str) -> str:
        """Return a text with the paths below the root as node ids have them: short enough for a table."""
        return text.replace(f"{self.settings.rootdir}{os.sep}", "")

    def _dense(self, case: Case, measurement: Measurement, nodeid: str, *, sampled: bool) -> tuple[dict[str, Examples], Any]:
        """Return probe -> examples of the dense model, and the noise floors stored with it."""
        dtype = self.dtype_of(case)
        command = self.command(case, nodeid)
        measured = {}
        if self._records(case.shelf, dtype, "dense", measurement.probes):
            dense_case = self._unrecorded(replace(case, compression=CompressionSpec(), budgets=(), dtype=dtype))
            dense = self.measure(dense_case)
            measured = {score.probe: score.examples for score in dense.scores}
            if measured.keys() >= set(measurement.probes):
                return measured, None
        baseline = self.store.read(case.shelf, dtype, "dense", command=command)
        check_fresh(baseline, measurement, sampled=sampled, command=command)
        return {**baseline.examples, **measured}, baseline.noise_floor

    def _stored(self, case: Case, measurement: Measurement, nodeid: str, *, sampled: bool) -> Baseline | None:
        """Return the stored run of a cell, None where there is none; one that this run replaces need not be usable."""
        dtype, command = self.dtype_of(case), self.command(case, nodeid)
        if not self.store.has(case.shelf, dtype, case.cell):
            return None
        try:
            baseline = self.store.read(case.shelf, dtype, case.cell, command=command)
            check_fresh(baseline, measurement, sampled=sampled, command=command)
        except BaselineError:
            if self.settings.update:
                return None
            raise
        return baseline

    def _records(self, shelf: str, dtype: str, cell: str, probes: Iterable[str]) -> bool:
        """Return whether this run records some of these probes of a cell, and so has nothing to hold them against."""
        return self.settings.update or (self.settings.update_new_only and bool(self.store.lacking(shelf, dtype, cell, probes)))

    def _unrecorded(self, case: Case) -> Case:
        """Return a cell with the probes that its stored run lacks, where only those are recorded; else as it is."""
        lacking = self.store.lacking(case.shelf, self.dtype_of(case), case.cell, case.probes) if self.settings.update_new_only else ()
        return case.asking(lacking) if lacking else case

    def record(self) -> tuple[int, int]:
        """Write what this run measured as stored runs: the cells that were judged, and their dense models.

        Returns:
            Number of cells whose files changed, and of cells whose files stay as they are.

        Raises:
            BaselineError: the directory cannot be written.
        """
        judged, wrong = set(), set()
        for outcome in self.outcomes.values():
            case = self.by_id[outcome["id"]]
            if outcome["problem"]:  # of a dense cell too, whatever else was measured against it
                wrong.add((case.shelf, self.dtype_of(case), case.cell))
            elif outcome["verdict"] is not None:
                judged |= {(case.shelf, self.dtype_of(case), cell) for cell in ("dense", case.cell)}
        judged -= wrong
        written = kept = 0
        for shelf, measurement in self.journal.measured():
            key = (shelf, measurement.dtype, measurement.cell)
            if key in judged and self._records(*key, measurement.probes) and self.store.write(measurement, model=shelf):
                written += 1
            else:
                kept += key in judged
        return written, kept

    def expected(self) -> set[tuple[str, str, str]]:
        """Return the (model, dtype, cell) of every baseline that some suite has a use for, whatever was selected."""
        keys = set()
        for case in [*(case for suite in self.suites for case in suite.cases), *recordable(self.suites)]:
            fixed = "float32" if case.compression.float32_only else case.dtype
            for dtype in (fixed,) if fixed else DTYPES:
                keys |= {(case.shelf, dtype, case.cell), (case.shelf, dtype, "dense")}
        return keys

    def finished(self) -> Iterator[dict[str, Any]]:
        """Iterate over the outcomes in the order of the suites."""
        order: Sequence[str] = [case.id for case in self.cases] or list(self.by_id)
        rank = {name: i for i, name in enumerate(order)}
        yield from sorted(self.outcomes.values(), key=lambda outcome: rank.get(outcome["id"], len(rank)))
