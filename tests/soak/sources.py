"""The sources of a soak, served at once, and their data's changes."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporaletl.testing.fakes.faults import Faults
from temporaletl.testing.source_fixture import (
    FakeSourceFixture,
    MissingCapabilityError,
    SourceFixture,
)
from tests.fakes.server import FakeServer
from tests.integration.trino_server import running_trino
from tests.soak.plan import Round, Step
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.temporal import TemporalFixture
from tests.source_fixtures.trino import TrinoFixture

#: Longer than windows end behind now, shorter than their overlap: every run that begins reads it.
_AGO = timedelta(seconds=90)
_ENVIRONMENT = {
    # Their budgets are measured elsewhere.
    "LP_REQUESTS_PER_SECOND": "1000",
    "SF_REQUESTS_PER_SECOND": "1000",
    "SF_LAG_SECONDS": "1",
    "SERVICETITAN_LAG_SECONDS": "0",
}
#: How long an answer may take: the machine may be busy.
_READ_TIMEOUT = "3"


class _TrinoFixture(TrinoFixture):
    more = "lag_minutes = 0\noverlap_minutes = 10"


FIXTURES: Mapping[str, type[SourceFixture]] = {
    kind.source: kind
    for kind in (
        JiraFixture,
        LaunchpadFixture,
        SalesforceFixture,
        ServiceTitanFixture,
        TemporalFixture,
        _TrinoFixture,
    )
}


class Sources:
    """Fixtures by source; what they are made to do is undone by `settle`."""

    def __init__(self, fixtures: Mapping[str, SourceFixture]) -> None:
        self._fixtures = fixtures
        self.faults = {
            name: sorted(set(fixture.faults) - set(fixture.unsettling))
            for name, fixture in fixtures.items()
        }
        #: Requests that suffered a fault, by its kind, where the fixture tells.
        self.injected = Counter[str]()
        self.changed_at = dict.fromkeys(fixtures, datetime.now(UTC))
        self._records = dict.fromkeys(fixtures, 0)

    @property
    def names(self) -> list[str]:
        return sorted(self._fixtures)

    def corrupt(self, source: str) -> None:
        """Corrupt a record for good."""
        self._fixtures[source].corrupt()

    def change(self, source: str) -> None:
        self._fixtures[source].change(datetime.now(UTC) - _AGO)
        self.changed_at[source] = datetime.now(UTC)
        self._records[source] += 1

    def prepare(self, plan: Round) -> None:
        """Delete records, withhold others, and answer more slowly."""
        for source in plan.deletions:
            # No more than were added: the data does not shrink.
            if self._records[source]:
                with contextlib.suppress(MissingCapabilityError):
                    self._fixtures[source].delete(datetime.now(UTC) - _AGO)
                    self._records[source] -= 1
        for source in plan.unservable:
            with contextlib.suppress(MissingCapabilityError):
                self._fixtures[source].break_item()
        for server in self._servers():
            server.latency_seconds = plan.latency_ms / 1000

    def suffer(self, step: Step) -> None:
        for source, spec in step.faults.items():
            fixture = self._fixtures[source]
            if isinstance(fixture, FakeSourceFixture) and isinstance(fixture.server.faults, Faults):
                fixture.server.faults.seed = step.fault_seed
            fixture.inject_fault(spec)

    def relieve(self) -> None:
        """Answer without faults again."""
        for fixture in self._fixtures.values():
            fixture.clear_faults()
            if isinstance(fixture, FakeSourceFixture):
                self.injected.update(fixture.server.faults.injected)
                fixture.server.faults.injected.clear()  # limits count anew

    def settle(self) -> None:
        self.relieve()
        for fixture in self._fixtures.values():
            if isinstance(fixture, FakeSourceFixture):
                fixture.restore()
        for server in self._servers():
            server.latency_seconds = 0

    def _servers(self) -> Iterator[FakeServer]:
        for fixture in self._fixtures.values():
            if isinstance(fixture, FakeSourceFixture) and isinstance(fixture.server, FakeServer):
                yield fixture.server


@contextlib.contextmanager
def served(
    names: Sequence[str], *, trino: tuple[Path, str] | None = None
) -> Iterator[tuple[Sources, dict[str, str]]]:
    """Serve these sources until the block ends; with the settings under which they are read.

    `trino` is the launcher of a server and the Java that runs it, for the source of that name.
    """
    with contextlib.ExitStack() as exits:
        environment = dict(_ENVIRONMENT)
        fixtures = {}
        for name in names:
            if name == "trino":
                assert trino is not None
                TrinoFixture.use(exits.enter_context(running_trino(*trino)))
            fixture = fixtures[name] = FIXTURES[name]()
            environment |= exits.enter_context(contextlib.contextmanager(fixture.serve)())
            environment |= fixture.scans
            if fixture.page_size_setting is not None:
                environment[fixture.page_size_setting] = str(fixture.page_sizes[0])
            if isinstance(fixture, FakeSourceFixture) and fixture.read_timeout_setting is not None:
                environment[fixture.read_timeout_setting] = _READ_TIMEOUT
        yield Sources(fixtures), environment
