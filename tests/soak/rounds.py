"""The rounds of a soak: disturb, let all come to rest, check."""

import asyncio
import contextlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from unittest.mock import patch

from psycopg.conninfo import conninfo_to_dict

from temporaletl.engine import run_batch
from temporaletl.messages import BatchSummary, Mode
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from tests.acceptance.platform import SERVICES, Platform, platform_in, shifted_clock
from tests.integration.tcp_relay import TcpRelay
from tests.soak import invariants
from tests.soak.disturbances import Disturber, Log
from tests.soak.footprint import Bounds, Footprint, take_footprint
from tests.soak.leftovers import open_executions, stray_processes
from tests.soak.plan import KINDS, LINKS, Round, Step, draw_round
from tests.soak.runs import Runs
from tests.soak.sources import Sources, served

_STEPS = 5
_RUNS_END_WITHIN_SECONDS = 400
#: Waits of seconds, where users have minutes: a round shall meet many.
_ENVIRONMENT = {
    "ETL_LONGEST_WAIT_MINUTES": "0.05",
    "ETL_ROWS_PER_PAGE": "20",
    # A single record is much of so little data.
    "ETL_REJECT_THRESHOLD": "1",
    "ETL_GRACEFUL_SHUTDOWN_SECONDS": "10",
    "ETL_RECONCILE_SECONDS": "2",
    "TEMPORAL_WORKFLOW_BACKOFF_COEFFICIENT": "1.2",
    "WPE_DB_NETWORK_TIMEOUT_SECONDS": "5",
    "WPE_DB_IDLE_TRANSACTION_TIMEOUT_SECONDS": "10",
}


@dataclass(frozen=True)
class Outcome:
    """What came of a round; without `problems` everything held."""

    number: int
    seconds: float
    disturbances: Mapping[str, int]
    #: Requests that suffered a fault, by its kind.
    injected: Mapping[str, int]
    #: Of the runs that began in it, by state.
    runs: Mapping[str, int]
    #: How often a run went on as a disturbance began.
    met: int
    footprint: Footprint | None
    problems: Sequence[str]


class Soak:
    """A platform and the sources that it loads; rounds are run one after the other."""

    def __init__(
        self,
        platform: Platform,
        sources: Sources,
        relays: Mapping[str, TcpRelay],
        *,
        seed: int,
        log: Log,
        steps: int = _STEPS,
        longest_hold: float = 12,
        kinds: Sequence[str] | None = None,
    ) -> None:
        self.platform = platform
        self.sources = sources
        self.seed = seed
        self.log = log
        #: What leads around the relays, which are cut.
        self.direct = platform.environment | {
            "DATABASE_URL": platform.postgres.url,
            "TEMPORAL_ADDRESS": platform.temporal.endpoint.address,
        }
        self.runs = Runs(
            partial(platform.etl, environment=self.direct), self.query, platform.stop, log
        )
        self._disturber = Disturber(platform, relays, self.runs, log)
        self._bounds = Bounds()
        self._watermarks: dict[tuple[str, str], Any] = {}
        self._known_runs = 0
        self._draw = partial(
            draw_round,
            seed,
            faults=sources.faults,
            steps=steps,
            longest_hold=longest_hold,
            kinds=[
                kind
                for kind in kinds or KINDS
                if kind != "clock" or shifted_clock("+1d") is not None
            ],
        )

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.platform.rows(statement)

    def run_round(self, number: int) -> Outcome:
        """Disturb the platform as the seed says, let it come to rest, and check it."""
        plan = self._draw(number)
        began, disturbances, met = monotonic(), Counter[str](), 0
        injected = self.sources.injected.copy()
        self.log(
            f"round {number}: {plan.latency_ms} ms latency; deletions: "
            f"{', '.join(plan.deletions) or 'none'}; unservable: "
            f"{', '.join(plan.unservable) or 'none'}"
        )
        self.sources.prepare(plan)
        for step in plan.steps:
            self.log(f"round {number}: {step}")
            met += self._disturb(step, disturbances)
        self.log(f"round {number}: comes to rest")
        self.sources.settle()
        problems = [f"by itself, {died}" for died in self._disturber.restore()]
        problems = problems or self.runs.await_ends(_RUNS_END_WITHIN_SECONDS)
        problems = problems or self._close(plan) or self.broken(plan.closing)
        footprint = None
        if not problems:
            pids = self._pids()
            footprint = take_footprint(self.query, pids)
            problems = self._bounds.exceeded(footprint, len(self.platform.services))
            problems += stray_processes(self.platform.folder, pids.values())
        ended = list(self.runs.ends())
        states = Counter(run.state for run in ended[self._known_runs :])
        self._known_runs = len(ended)
        for problem in problems:
            self.log(f"round {number}: BROKEN: {problem}")
        return Outcome(
            number=number,
            seconds=round(monotonic() - began, 1),
            disturbances=dict(disturbances),
            injected=dict(self.sources.injected - injected),
            runs=dict(states),
            met=met,
            footprint=footprint,
            problems=problems,
        )

    def broken(self, closing: Mapping[str, Mode]) -> list[str]:
        """What does not hold now that these runs have ended; makes a fresh load to compare with."""
        problems = self._load_afresh()
        if problems:
            return problems
        for name, mode in closing.items():
            problems += invariants.differing_rows(self.query, name)
            problems += invariants.unexplained_rejects(self.query, name, mode)
            problems += invariants.untold_rows(self.query, name)
        problems += invariants.wrong_watermarks(self.query)
        problems += invariants.wrong_sums(self.query, list(closing))
        problems += invariants.open_ends(self.query)
        problems += asyncio.run(open_executions(self.platform.temporal.endpoint))
        now = invariants.watermarks(self.query)
        problems += [
            f"{stream}: the watermark went back from {before} to {now.get(stream)}"
            for stream, before in self._watermarks.items()
            if stream not in now or now[stream] < before
        ]
        self._watermarks = now
        return problems

    def _disturb(self, step: Step, counted: Counter[str]) -> int:
        """Do what comes together, and count what struck; how many runs it met."""
        going = {source for source, _ in self.runs.going()}
        self.sources.suffer(step)
        try:
            self.runs.start(
                {source: mode for source, mode in step.modes.items() if source not in going}
            )
            met = len(self.runs.going())
            with contextlib.ExitStack() as exits:
                for each in step.disturbances:
                    if exits.enter_context(self._disturber.disturbed(each)):
                        counted[each.kind] += 1
                    else:
                        self.log(f"nothing was there to {each}")
                for source in step.changes:
                    self.sources.change(source)
                self.platform.stop.wait(timedelta(seconds=step.seconds))
        finally:
            self.sources.relieve()
        return met

    def _close(self, plan: Round) -> list[str]:
        """Run every source once more, undisturbed."""
        self.log(f"round {plan.number}: runs once more")
        closing = self.runs.start(plan.closing)
        problems = [
            f"{source}: no run could be started" for source, run in closing.items() if not run
        ]
        problems += self.runs.await_ends(_RUNS_END_WITHIN_SECONDS)
        if problems:
            return problems
        for source, run in closing.items():
            # What cannot be read is missing until it can, what is deleted until a full run.
            if run and source not in (*plan.deletions, *plan.unservable):
                changed = self.sources.changed_at[source]
                problems += invariants.late_rows(self.query, run, changed)
        return problems + [
            f"{run.source}: an undisturbed {plan.closing[run.source]} run, {run.workflow_id}, "
            f"ended as {run.state}: {run.error}"
            for run in self.runs.ends([run for run in closing.values() if run])
            if run.state != "completed"
        ]

    def _load_afresh(self) -> list[str]:
        """Load all sources into empty tables, in this process; what went wrong."""
        self.log("a fresh load, to compare with")
        self.platform.execute(f"DROP SCHEMA IF EXISTS {invariants.FRESH} CASCADE")
        settings = WarehouseSettings.model_validate(
            {"database_url": self.platform.postgres.url, "schema_name": invariants.FRESH}
        )

        async def load(warehouse: Warehouse) -> list[BatchSummary]:
            return [await run_batch(warehouse, name, mode="full") for name in self.sources.names]

        with patch.dict(os.environ, self.platform.environment), Warehouse(settings) as warehouse:
            loaded = asyncio.run(load(warehouse))
        return [
            f"{summary.source}: a fresh load ended as {summary.state}: {summary.failures}"
            for summary in loaded
            if summary.state != "completed"
        ]

    def _pids(self) -> dict[str, int]:
        names = (*self.platform.services, "temporal", "postgresql")
        return {name: self.platform.child(name).pid for name in names}

    def until(self, deadline: float, *, most: int | None = None) -> Iterator[Outcome]:
        """Run rounds, at least one, until that moment of the monotonic clock, or one that broke."""
        for number in itertools.count(1):
            try:
                outcome = self.run_round(number)
            except Exception as error:
                error.add_note(f"in round {number} of seed {self.seed}")
                raise
            yield outcome
            if outcome.problems or monotonic() > deadline or number == most:
                return


@contextlib.contextmanager
def soaking(
    folder: Path,
    names: Sequence[str],
    *,
    trino: tuple[Path, str] | None = None,
    **options: Any,
) -> Iterator[Soak]:
    """Serve the sources and start the platform below `folder`; both end with the block.

    A second worker, `steady`, is never ended: what it holds tells whether a process grows. The
    `options` are those of `Soak`.
    """
    with contextlib.ExitStack() as exits:
        for package in ("temporaletl.queuer.sources", "temporaletl.worker.sources"):
            import_sources(package)  # what makes a fresh load
        sources, environment = exits.enter_context(served(names, trino=trino))
        relays: dict[str, TcpRelay] = {}

        def relayed(link: str, target: str) -> str:
            relays[link] = exits.enter_context(TcpRelay(target))
            return relays[link].address

        def through(url: str) -> str:
            user, address = conninfo_to_dict(url), relayed(LINKS[0], url)
            return f"postgresql://{user['user']}:a-password@{address}/{user['dbname']}"

        def temporal_through(address: str) -> str:
            host, _, port = address.rpartition(":")
            return relayed(LINKS[1], f"host={host} port={port}")

        platform = exits.enter_context(
            platform_in(
                folder,
                environment | _ENVIRONMENT,
                services={**SERVICES, "steady": "worker"},
                through=through,
                temporal_through=temporal_through,
            )
        )
        soak = Soak(platform, sources, relays, **options)
        yield soak
