"""The pytest plugin: hooks and fixtures that delegate.

Importing it imports neither torch nor transformers: `pytest --help` and `pytest --collect-only` stay fast.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kick import hookspecs
from pytest_kick.config import Settings, add_options, read_settings
from pytest_kick.errors import KickError, RegressionError, UnjudgeableError, UsageError
from pytest_kick.outcome import Outcome
from pytest_kick.registration import load_plugin
from pytest_kick.registry import METHODS, PROBES
from pytest_kick.session import Session
from pytest_kick.spec import Case

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

KickRun = Callable[[Case], None]
SESSION = pytest.StashKey[Session]()
OUTCOME = pytest.StashKey[Outcome]()
RAISED = pytest.StashKey[list[BaseException]]()
"""What `kick_run` raised in a test; there only where it was called."""


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Declare the hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Turn a plan into a collection, before xdist starts workers for it."""
    if config.getoption("kick_plan"):
        config.option.collectonly = True
        config.option.verbose = min(config.option.verbose, -2)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """See to it that methods which files register in this run are gone after it."""
    early_config.add_cleanup(METHODS.snapshot())
    early_config.add_cleanup(PROBES.snapshot())


def pytest_configure(config: pytest.Config) -> None:
    """Read options and suites; whatever is wrong with them ends the run here, in one line."""
    if config.getoption("dist", "no") != "no" and any(Path(arg.partition("::")[0]).name.startswith("bench_") for arg in config.args):
        msg = "bench_*.py: -n: got several workers, expected one: they share the cores and no latency is worth a thing. Leave -n out."
        raise pytest.UsageError(msg)
    config.addinivalue_line("markers", "kick(suite): run the cells of this suite; a test that asks for `kick_case` runs one cell each.")
    sent = getattr(config, "workerinput", {}).get("kick")
    try:
        settings = Settings.from_json(sent) if sent else read_settings(config, _run_id())
        from pytest_kick.selection import touched_directories  # noqa: PLC0415 - only where there may be suites

        directories = touched_directories(settings, config.args, config.invocation_params.dir)
        late = _late_conftests(config, directories)
        if config.getoption("dist", "no") != "no":  # nothing is collected here: what they register would stay unknown
            for conftest in dict.fromkeys(itertools.chain.from_iterable(late.values())):
                load_plugin(f"{conftest.parent.name}/{conftest.name}: file", conftest)
            late = {}
        config.stash[SESSION] = session = Session(settings, directories, late)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None
    if sent is None:
        from pytest_kick.terminal import Terminal  # noqa: PLC0415 - the workers have none

        config.pluginmanager.register(Terminal(config, session), "kick-terminal")


def _late_conftests(config: pytest.Config, directories: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return directory of suites -> the `conftest.py` files that pytest will only load when it collects there, if any."""
    modules = [module for module in config.pluginmanager.get_plugins() if isinstance(module, ModuleType)]
    loaded = {Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))}
    found = {}
    for directory in directories:
        folders = [folder for folder in (*reversed(directory.parents), directory) if folder.is_relative_to(config.rootpath)]
        found[directory] = [path for folder in folders if (path := folder / "conftest.py").is_file() and path not in loaded]
    return {directory: paths for directory, paths in found.items() if paths}


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Refuse, before workers start, a place for stored runs that cannot be written, and a device that is not there.

    Only a run that names a device and measures imports torch for it.
    """
    config = session.config
    kick = config.stash[SESSION]
    if not kick.suites or config.option.collectonly or hasattr(config, "workerinput"):
        return
    try:
        if kick.settings.updating:
            kick.store.check_writable()
        if kick.settings.device != "cpu":
            from pytest_kick.models.device import check_device  # noqa: PLC0415 - imports torch

            check_device(kick.settings.device)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from None


def _run_id() -> str:
    """Return a name that sorts by time; one process may run pytest twice in a second."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{secrets.token_hex(3)}"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Send a worker what the controller decided."""
    node.workerinput["kick"] = node.config.stash[SESSION].settings.to_json()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the controller which suites this worker's test modules asked for."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["kick"] = sorted({case.suite for case in session.config.stash[SESSION].cases})


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> object | None:
    """Keep the cells of a model together under `--dist load`; leave everything else to xdist."""
    session = config.stash[SESSION]
    if config.getoption("dist", "no") != "load" or not session.suites:
        return None
    from pytest_kick.scheduling import ModelScheduling  # noqa: PLC0415 - needs xdist

    def model_of(nodeid: str) -> str:
        case = session.case_of(nodeid)
        return case.model.name if case else ""

    return ModelScheduling(config, log, model_of, session.cost_of)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `kick_case` once for each cell of the suites beside its file."""
    if "kick_case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("kick")
    if marker is not None and (marker.args or set(marker.kwargs) - {"suite"}):
        got = marker.args or marker.kwargs
        pytest.fail(f"{metafunc.definition.nodeid}: kick: got {got}, expected suite=NAME. Correct it.", pytrace=False)
    directory = Path(metafunc.module.__file__ or "").parent
    try:
        cases = metafunc.config.stash[SESSION].cases_of(directory, marker.kwargs["suite"] if marker else None)
    except UsageError as error:
        pytest.fail(str(error), pytrace=False)
    metafunc.parametrize("kick_case", cases, ids=[case.id for case in cases], scope="function")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort the cells model by model, the dense one first, whatever shuffled them; other tests keep their places."""
    session = config.stash[SESSION]
    slots = [i for i, item in enumerate(items) if _case(item) is not None]
    models = list(dict.fromkeys(case.model.name for case in session.cases))
    order = {case.id: (models.index(case.model.name), not case.is_dense, i) for i, case in enumerate(session.cases)}
    cells = sorted((items[i] for i in slots), key=lambda item: (order[_case(item).id], item.nodeid))  # type: ignore[union-attr]
    for i, item in zip(slots, cells, strict=True):
        items[i] = item


def pytest_collection_finish(session: pytest.Session) -> None:
    """Note which cells the run judges, and by how many probes in all: REGRESSED is corrected over them."""
    kick = session.config.stash[SESSION]
    kick.collected = tuple(case for item in session.items if (case := _case(item)) is not None)
    kick.n_comparisons = max(1, sum(len(case.probes) for case in kick.collected))


def _case(item: pytest.Item) -> Case | None:
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("kick_case") if callspec else None
    return case if isinstance(case, Case) else None


@pytest.fixture
def kick_case(request: pytest.FixtureRequest) -> Case:
    """Return the cell of this test."""
    case: Case = request.param
    return case


@pytest.fixture
def kick_run(request: pytest.FixtureRequest) -> KickRun:
    """Return what judges a cell. It has been measured by then: a cell that cannot be measured is an error, not a failure."""
    config: pytest.Config = request.config
    session = config.stash[SESSION]
    node = request.node
    outcomes: dict[str, Outcome] = {}
    if RAISED in node.stash:  # the test is run a second time
        del node.stash[RAISED]

    def measure(case: Case) -> Outcome:
        node.stash[OUTCOME] = Outcome(case=case, nodeid=node.nodeid)
        outcome = node.stash[OUTCOME] = session.judged(case, node.nodeid)
        if outcome.unjudgeable:
            raise UnjudgeableError(outcome.problem)
        return outcomes.setdefault(case.id, outcome)

    def run(case: Case) -> None:
        from pytest_kick.gate import enforce  # noqa: PLC0415 - needed once something was measured

        raised = node.stash.setdefault(RAISED, [])
        try:
            enforce(session, outcomes.get(case.id) or measure(case))
        except (KickError, RegressionError) as error:
            raised.append(error)
            raise

    if "kick_case" in request.fixturenames:
        measure(request.getfixturevalue("kick_case"))
    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:  # noqa: ANN401 - a generator
    """Put the outcome on the report, where it crosses to the controller; show our own errors without a traceback."""
    report = yield
    outcome = item.stash.get(OUTCOME, None)
    if outcome is not None and (call.when == "call" or (call.when == "setup" and call.excinfo is not None)):
        report.kick = outcome.to_json()
        if call.excinfo is not None and isinstance(call.excinfo.value, KickError):
            report.kick["problem"] = item.config.stash[SESSION].near(str(call.excinfo.value))
        _refuse_silence(item, call, report)
    raised = call.excinfo
    if raised is not None and isinstance(raised.value, KickError | RegressionError) and not item.config.getoption("fulltrace"):
        text = str(raised.value)
        report.longrepr = raised.getrepr(style="value", chain=False)
        report.longrepr.reprcrash.message = text.partition("\n")[0]
    return report


def _refuse_silence(item: pytest.Item, call: pytest.CallInfo[None], report: Any) -> None:  # noqa: ANN401 - it takes what we add
    """Fail a test that passed without its cell having been judged, or although it was judged red."""
    if call.excinfo is not None or "kick_run" not in getattr(item, "fixturenames", ()):
        return
    raised = item.stash.get(RAISED, None)
    if raised is None:
        problem = "test: got no call of kick_run, expected kick_run(kick_case): nothing was judged. Call it, or skip the test."
        report.kick |= {"problem": problem, "state": "UNJUDGED"}
        report.outcome, report.longrepr = "failed", problem
    elif raised:
        report.outcome = "failed"
        report.longrepr = f"test: got a red cell and passed, expected it to fail. Let what kick_run raises through; it said:\n{raised[0]}"
