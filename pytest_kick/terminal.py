"""What the controller shows and writes: header, progress, table, claims, last line, run record, stored runs."""

from __future__ import annotations

import os
import shlex
import sys
import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick import __version__
from pytest_kick.counting import accepted_lines, accepted_note, noise_lines, noted_lines, told, unasked_lines, unjudged_lines, word_of
from pytest_kick.errors import KickError
from pytest_kick.findings import asked_scores, claim_cells
from pytest_kick.hooking import guarded
from pytest_kick.instruments import environment
from pytest_kick.outcome import Outcome
from pytest_kick.recording import record_lines
from pytest_kick.registry import METHODS
from pytest_kick.report import beside_lines, cell_entry, rows_from, run_document, summary_line, table_lines, worth_a_row, write_json
from pytest_kick.report.numbers import count
from pytest_kick.selection import select, takes, without_effect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.workermanage import WorkerController

    from pytest_kick.report import Row
    from pytest_kick.session import Session

_EVERY_SECONDS = 0.5
_STYLES = {"green": "green", "red": "red", "yellow": "yellow", "bold": "bold", "dim": "light"}


class Terminal:
    """Serve pytest's reporting hooks in the controller."""

    def __init__(self, config: pytest.Config, session: Session) -> None:
        """Start the clock."""
        self.config = config
        self.session = session
        self.started = datetime.now(tz=UTC)
        self.clock = time.monotonic()
        self.shown = 0.0
        self.complete = True
        self.interrupted = False
        self.words: dict[str, str] = {}
        self.problems: list[str] = []
        self.asked: set[str] = set()
        self.last: str = ""

    @property
    def live(self) -> bool:
        """Return whether a line of progress may be shown: a person is watching."""
        return sys.stderr.isatty() and self.config.get_verbosity() >= 0 and bool(self.session.suites)

    def pytest_report_header(self) -> list[str]:
        """Say what runs, in one line, and what is left out, in another."""
        session, settings = self.session, self.session.settings
        if not session.suites:
            return []
        names = ", ".join(suite.name for suite in session.suites if takes(settings, suite))
        where = f"{settings.dtype} on {settings.device}, {settings.threads} thread(s) x {settings.n_workers}"
        line = f"kick: {__version__}, suites {names}; {where}"
        idle = [] if settings.plan else without_effect(session.suites)
        return [line, *(f"kick: {note}" for note in [session.left_out, *idle] if note)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the outcome that a report carries."""
        outcome: dict[str, Any] | None = getattr(report, "kick", None) or self._lost(report)
        if outcome is None:
            return
        if outcome["id"] not in self.session.by_id:  # of a directory that only the workers have collected
            self.session.add_directory(self.config.rootpath / Path(report.nodeid.partition("::")[0]).parent)
        skipped = report.skipped and not hasattr(report, "wasxfail")
        self.session.outcomes[outcome["id"]] = {**outcome, "passed": report.passed, "skipped": skipped, "stage": report.when}
        case, ended = self.session.by_id[outcome["id"]], self.session.outcomes[outcome["id"]]
        with guarded("pytest_kick_cell_judged", self._tell):
            self.config.hook.pytest_kick_cell_judged(config=self.config, case=case, outcome=ended)
        if self.live and time.monotonic() - self.shown > _EVERY_SECONDS:
            self.shown = time.monotonic()
            sys.stderr.write(f"\r\x1b[K{self._progress()}")
            sys.stderr.flush()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController) -> None:
        """Keep what a worker's test modules asked for."""
        self.asked |= set(getattr(node, "workeroutput", {}).get("kick", ()))

    def _lost(self, report: pytest.TestReport) -> dict[str, Any] | None:
        """Return the outcome of a cell whose worker died, or whose test ended before it measured anything."""
        case = self.session.case_of(report.nodeid)
        if case is None or case.id in self.session.outcomes:
            return None
        if not report.failed:
            return Outcome(case=case, nodeid=report.nodeid).to_json() if report.skipped or report.when == "call" else None
        crash = getattr(report.longrepr, "reprcrash", None)
        problem = " ".join(str(crash.message if crash else report.longrepr).split()) or "the test ended without a word"
        return Outcome(case=case, nodeid=report.nodeid, problem=problem).to_json()

    def _tell(self, problem: str) -> None:
        """Keep a problem for the end of the run, which it turns red; once, however many cells have it."""
        if (line := self.session.near(problem)) not in self.problems:
            self.problems.append(line)

    def _progress(self) -> str:
        done = self._costs.keys() & self.session.outcomes
        spent, finished = time.monotonic() - self.clock, sum(self._costs[name] for name in done)
        left = spent * (sum(self._costs.values()) - finished) / finished if finished else 0.0
        return f"kick: {len(done)} of {len(self._costs)} cells, about {left / 60:.1f} min left "

    @cached_property
    def _costs(self) -> dict[str, float]:
        """Return what each selected cell took when it was recorded, by id; read once."""
        cases = select(self.session.settings, self.session.suites)
        return {case.id: self.session.recorded_seconds(case) or 1.0 for case in cases}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        """Record, report, and print the last line after everything else; what cannot be written turns a green exit code."""
        if self.live:
            sys.stderr.write("\r\x1b[K")
        broken = exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        self.complete = not (broken or session.shouldstop or session.shouldfail)
        if self.session.outcomes or (broken and self.session.cases):
            self._finish([] if self.complete else ["interrupted" if broken else "stopped early"])
        if self.complete and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            self.problems += [*unjudged_lines(self.session, self.words), *self._unasked()]
        if self.problems and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        result = yield
        if self.interrupted:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            self.last += ", interrupted"
        if self.last:
            reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
            if reporter is not None:
                reporter.write_line(self.last)
        return result

    def _finish(self, notes: list[str]) -> None:
        """Write stored runs and the run record; a place that cannot be written is told and turns the exit code."""
        settings = self.session.settings
        self.words = {
            outcome["id"]: word_of(outcome, updating=settings.updating, accepting=settings.update) for outcome in self.session.finished()
        }
        if settings.updating:
            try:
                written, kept = self.session.record()
                notes += [f"{written} recorded", *([f"{kept} kept"] if kept else []), *accepted_note(self.session)]
            except KickError as error:
                self.problems.append(self.session.near(str(error)))
                notes.append("not all recorded")
        if settings.json:
            try:
                document = self._document()
                with guarded("pytest_kick_update_json", self._tell):
                    self.config.hook.pytest_kick_update_json(config=self.config, document=document)
                write_json(settings.json, document)
            except KickError as error:
                self.problems.append(str(error))
        self.session.journal.prune()
        settled = sum(outcome["first_look"] for outcome in self.session.finished())
        self.last = summary_line(list(self.words.values()), [*notes, *([f"{settled} settled at first look"] if settled else [])])

    def _unasked(self) -> list[str]:
        """Name suites that no test asks for, unless an option kept test modules from being collected."""
        option = self.config.option
        if any(getattr(option, name, None) for name in ("lf", "deselect", "ignore", "ignore_glob")):
            return []
        where = self.config.invocation_params.dir
        targets = [(where / arg).resolve() for arg in self.config.args if "::" not in arg]
        return unasked_lines(self.session, self.asked | {case.suite for case in self.session.cases}, targets)

    def _document(self) -> dict[str, Any]:
        session = self.session
        cells = [
            cell_entry(
                case_id=outcome["id"],
                nodeid=outcome["nodeid"],
                model=session.by_id[outcome["id"]].model.name,
                measurement=outcome["measurement"],
                verdict=outcome["verdict"],
                error=outcome["problem"],
                outcome=self.words[outcome["id"]],
            )
            for outcome in session.finished()
        ]
        compared = {"comparisons": self._comparisons} if self._comparisons else {}
        return compared | run_document(
            cells=cells,
            started=self.started.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self.clock, 3),
            options=session.settings.to_json(),
            environment=environment(session.settings.threads),
            complete=self.complete,
        )

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:  # noqa: ANN401 - pytest names its type in a private module
        """Print the plan, or the table and the claims."""
        if self.session.settings.plan:
            from pytest_kick.plan import plan_lines  # noqa: PLC0415 - only for a plan

            terminalreporter.section("kick plan")
            for line in [
                *(f"note: {note}" for note in without_effect(self.session.suites)),
                *plan_lines(self.session, self.session.collected),
            ]:
                terminalreporter.write_line(line)
            return
        if self.session.outcomes and self.config.get_verbosity() >= 0:
            self._table(terminalreporter)
        commands = record_lines(self.session, list(self.session.finished()), self._named())
        noted = noted_lines(self.session) if self.config.get_verbosity() >= 0 else []
        for line in [*noted, *accepted_lines(self.session), *noise_lines(self.session), *commands]:
            terminalreporter.write_line(line)
        for problem in self.problems:
            terminalreporter.write_line(problem if problem.startswith("kick: ") else f"kick: {problem}", red=True)

    def _named(self) -> list[str]:
        """Return what the command line names and the expressions that narrow it, as a shell takes them."""
        args = self.config.args if self.config.args_source is pytest.Config.ArgsSource.ARGS else []
        expressions = [("-k", self.config.option.keyword), ("-m", self.config.option.markexpr)]
        return [*map(shlex.quote, args), *(f"{flag} {shlex.quote(text)}" for flag, text in expressions if text)]

    def _table(self, reporter: Any) -> None:  # noqa: ANN401 - as above
        width = reporter._tw.fullwidth  # noqa: SLF001 - the only place that knows
        rows: list[Row] = []
        for outcome in self.session.finished():
            case = self.session.by_id[outcome["id"]]
            word, error = told(outcome, self.words[outcome["id"]])
            rows += rows_from(
                case.model.name, case.cell, measurement=outcome["measurement"], verdict=outcome["verdict"], error=error, word=word
            )
        whole, rows = len(rows), rows if self.config.get_verbosity() > 0 else worth_a_row(rows)
        paint = None
        if reporter._tw.hasmarkup and "NO_COLOR" not in os.environ:  # noqa: SLF001

            def paint(text: str, style: str) -> str:
                marked: str = reporter._tw.markup(text, **{_STYLES[style]: True})  # noqa: SLF001
                return marked

        reporter.section("kick")
        for line in table_lines(rows, width=width, paint=paint):
            reporter.write_line(line)
        if len(rows) < whole:
            reporter.write_line(
                f"{count(whole - len(rows))} more rows with -v: further probes, as in their stored runs and without a budget"
            )
        try:
            beside = beside_lines(self._comparisons, self.session.settings.confidence, width)
            lines = [*beside, *self._claims(width), *self._orphans()]
        except KeyboardInterrupt:  # everything is written by now; what is left says nothing of the cells
            self.interrupted, lines = True, ["kick: interrupted before the claims were decided"]
        for line in lines:
            reporter.write_line(line)

    @cached_property
    def _comparisons(self) -> list[dict[str, Any]]:
        """Return registered methods beside stored runs of the usual ones."""
        from pytest_kick.beside import compare  # noqa: PLC0415 - needs scipy

        registered = {info.name for info in METHODS.known()} - METHODS.builtin
        return [comparison.to_json() for comparison in compare(self.session)] if registered else []

    def _claims(self, width: int) -> list[str]:
        """Say what this run shows of the studies' claims, where it ran a suite that is about them."""
        about = {suite.name for suite in self.session.suites if suite.claims}
        if not about & {self.session.by_id[name].suite for name in self.session.outcomes}:
            return []
        from pytest_kick.claims import decide, lines  # noqa: PLC0415 - needs scipy
        from pytest_kick.claims.asked import decide_asked  # noqa: PLC0415 - likewise

        confidence = self.session.settings.confidence
        found = (*decide(claim_cells(self.session), confidence), *decide_asked(asked_scores(self.session), confidence))
        findings = sorted(found, key=lambda finding: int(finding.claim[1:]))
        return ["", "claims of the study, as this run decides them (docs/findings.md):", *lines(findings, width)] if findings else []

    def _orphans(self) -> list[str]:
        """Name stored runs that no suite has a use for, when the whole of the suites was run."""
        session, settings = self.session, self.session.settings
        filtered = settings.suite or settings.model or settings.method or settings.level or settings.limit
        option = self.config.option
        partial = any(getattr(option, name, None) for name in ("keyword", "markexpr", "lf", "failedfirst", "deselect")) or any(
            "::" in arg for arg in self.config.args
        )
        if filtered or partial or not self.complete or not session.read_all:
            return []
        orphans: dict[str, list[str]] = {}
        for path in session.store.orphans(session.expected()):
            orphans.setdefault(session.near(str(path.with_suffix(""))), []).append(path.suffix.removeprefix("."))
        names = {name: suffixes[0] if len(suffixes) == 1 else f"{{{','.join(suffixes)}}}" for name, suffixes in orphans.items()}
        return [f"kick: orphan: {name}.{suffix} belongs to no suite; remove it" for name, suffix in names.items()]
