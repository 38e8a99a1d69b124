"""What holds for every test: slow ones on request only, no skip unnoticed, nobody's `.env`.

A test whose part cannot be had here (`pytest.skip("no Temporal server: ...")`) is named at the end
of the run; with `CI=true` it fails the run. Only recorded data, which is no part of the project,
may be missing everywhere (`pytest.skip("no recorded data ...")`, or the fixture `recorded`).
"""

import contextlib
import gc
import logging
import os
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
import structlog

from temporaletl import accounts
from temporaletl.queuer import beside
from temporaletl.secrets import forget_secrets
from temporaletl.telemetry.logs import Logger

_NO_RECORDS = "no recorded data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run also the tests that take minutes")


#: The groups that take longest.
_CHAINS = ("trino", "dashboard")
#: In the names of tests that take long, or belong to many of one process.
_LONG = (
    *("tests/acceptance/", "test_standard_suite", "test_new_source", "test_installed", "trino"),
    *("test_benchmarks", "test_outages", "/web/"),
)


@pytest.hookimpl(
    wrapper=True, tryfirst=True
)  # before the groups are read, and behind the shuffling
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group_of(item)))
    if not config.getoption("--slow") and not config.getoption("markexpr"):
        slow = {item for item in items if item.get_closest_marker("slow")}
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=[*slow])
    yield
    # Begun last, they would keep one process busy while the others have nothing left.
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    if _group_of(item) in _CHAINS:
        return 0
    return 1 if any(name in item.nodeid.lower() for name in _LONG) else 2


@pytest.hookimpl(tryfirst=True)
def pytest_collection() -> None:
    gc.disable()  # all that is imported and collected stays


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    # To look through thousands of tests and all modules again and again takes a tenth of a run.
    gc.freeze()
    gc.set_threshold(10_000, 10, 20)
    gc.enable()


def _group_of(item: pytest.Item) -> str:
    """What runs in one process: tests of one class or module, of the dashboard, and of Trino."""
    needed = {item.nodeid.lower(), *getattr(item, "fixturenames", ())}
    if "dashboard" in needed:
        return "dashboard"
    if any("trino" in each for each in needed):
        return "trino"
    return item.nodeid.partition("[")[0].rpartition("::")[0]


class MissingParts:
    """The reasons for skips, except for recorded data, with how many tests each skipped."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.fatal = os.environ.get("CI", "").lower() in ("1", "true", "yes")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._count(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._count(report)

    def _count(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        told = report.longrepr
        reason = str(told[2] if isinstance(told, tuple) else told).removeprefix("Skipped: ")
        if _NO_RECORDS not in reason:
            self.reasons[reason] += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        passing = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if self.reasons and self.fatal and session.exitstatus in passing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.reasons:
            return
        terminalreporter.section("missing parts")
        for reason, count in self.reasons.most_common():
            terminalreporter.line(f"{count} skipped: {reason}")
        if self.fatal:
            terminalreporter.line("With CI=true nothing may be missing: this run fails.", red=True)


class OwnFolder:
    """A temporary folder of this session alone, removed when all its tests passed.

    Each session of pytest that begins closes the folder that a user's sessions share to everybody
    else, also to a PostgreSQL that another session runs in there as another user.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._path = config.option.basetemp = mkdtemp(prefix="temporaletl-tests-")

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None]:
        yield
        if session.exitstatus == pytest.ExitCode.OK:
            shutil.rmtree(self._path, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before pytest makes its own folder
def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Of a shell that runs us in the background; the commands under test would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Temporal's servers, of which each process has its own: a quarter less of the processor.
    os.environ.setdefault("GOMAXPROCS", "1")
    os.environ.setdefault("GOGC", "400")
    config.pluginmanager.register(MissingParts(), "missing-parts")
    if config.option.basetemp is None:
        config.pluginmanager.register(OwnFolder(config), "own-folder")


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The folder of recorded data, for tests that also run on it where it is."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{_NO_RECORDS} beside the project")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run in an empty folder: the `.env` of the folder where one is, is read."""
    with contextlib.chdir(tmp_path_factory.mktemp("without-dotenv")):
        yield


@pytest.fixture(autouse=True)
def _no_logs_of_other_tests() -> Iterator[None]:
    """Leave logs as a test found them: `capture_logs` leaves structlog configured, to print.

    A command that a test runs in this process quiets them.
    """
    configured, quiet, level = structlog.is_configured(), Logger.quiet, logging.getLogger().level
    yield
    Logger.quiet = quiet
    logging.getLogger().setLevel(level)
    if structlog.is_configured() and not configured:
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _no_logins_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without a login that was accepted, or jobs that were found, in another test."""
    monkeypatch.setattr(accounts, "_accepted", set())
    monkeypatch.setattr(beside, "_with_jobs", set())


@pytest.fixture(autouse=True)
def _no_secrets_of_other_tests() -> Iterator[None]:
    yield
    forget_secrets()
