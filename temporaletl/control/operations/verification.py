"""Verification: a source's rows, extracted anew, beside those that the warehouse has."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from temporaletl.bound_connection import bound
from temporaletl.connections.providers import provided
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.preview import numbered_jobs, pages_of, unwritten_batch
from temporaletl.control.operations.sources import find_source, strategies_of
from temporaletl.messages import ETLInput, QueuerInput
from temporaletl.queuer.planning import check_request
from temporaletl.rows import Event, Identity, Row
from temporaletl.settings.fields import load_field_rules
from temporaletl.strategies import Strategies
from temporaletl.transformation import TransformContext, is_wanted
from temporaletl.warehouse.clock import warehouse_now
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.identities import known_people
from temporaletl.warehouse.state import read_states
from temporaletl.worker.loading.comparison import Comparison, Difference
from temporaletl.worker.loading.scans import kept_items
from temporaletl.worker.transforming import Transformed, transform_record

#: Differences that are listed; the others are counted.
LISTED = 100


@dataclass(frozen=True, slots=True)
class Month:
    """Rows of a stream in a month, or without a time, in the source and in the warehouse."""

    stream: str  # empty: of rows that no job of the connection wrote
    table: str
    month: str
    source: int
    warehouse: int


@dataclass(frozen=True, slots=True)
class Explained:
    """A difference, and why it is there where that is known: then nothing is wrong."""

    difference: Difference
    reason: str | None


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found: counts by month, differences, and what was not compared."""

    months: list[Month]
    #: By kind, and the reason where there is one.
    counts: dict[tuple[str, str | None], int]
    #: The unexplained ones first.
    listed: list[Explained]
    notes: list[str]

    @property
    def holds(self) -> bool:
        """Whether every difference is explained."""
        return all(reason is not None for _, reason in self.counts)


async def verify_source(
    platform: Platform,
    request: QueuerInput,
    *,
    notice: Callable[[str, int], None] = lambda _stream, _rows: None,
) -> Verification:
    """Extract a source's streams anew, and compare each row with the warehouse; write nothing.

    Costs the requests of a run of the same mode and window. `notice` gets each stream, and how
    many rows of it were compared so far.

    Raises:
        ETLError: as a run of the request does; nothing is known then.
    """
    find_source(request.source)
    warehouse = await platform.current_warehouse()
    with provided(await platform.stored_connections(request.connection)):
        planner = check_request(request)
        with bound(request.source, request.connection):
            streams = request.streams or tuple(planner.streams)
            run = _Verification(platform, warehouse, request, streams)
            await run.begin()
            for stream in streams:
                await run.read(stream, notice)
            return await asyncio.to_thread(run.finish, all_streams=planner.streams)


class _Verification:
    def __init__(
        self,
        platform: Platform,
        warehouse: Warehouse,
        request: QueuerInput,
        streams: Collection[str],
    ) -> None:
        self._platform = platform
        self._warehouse = warehouse
        self._request = request
        self._streams = streams
        self._comparisons: dict[type[Row], Comparison] = {}
        self._people: dict[str, str] = {}
        self._began: datetime | None = None
        self._watermarks: dict[str, datetime | None] = {}
        self._versions: dict[str, str] = {}
        self._rejects: Counter[str] = Counter()
        self._kept: set[str] = set()
        self._stale_items: set[str] = set()

    async def begin(self) -> None:
        source, connection = self._request.source, self._request.connection
        self._began = await asyncio.to_thread(warehouse_now, self._warehouse)
        self._people = await asyncio.to_thread(known_people, self._warehouse, source, connection)
        self._kept = await asyncio.to_thread(kept_items, self._warehouse, source, connection)
        self._watermarks = {
            state.stream: state.watermark
            for state in await asyncio.to_thread(read_states, self._warehouse, source)
            if state.connection == connection
        }

    async def read(self, stream: str, notice: Callable[[str, int], None]) -> None:
        strategies = strategies_of(self._request.source, stream)
        self._versions[stream] = strategies.query.specific_version()
        batch = unwritten_batch(self._request, [stream], self._platform.settings)
        compared = 0
        async with contextlib.aclosing(numbered_jobs(batch)) as jobs:
            async for job in jobs:
                if not job.scan and not job.reread:
                    compared = await self._read_job(strategies, job, compared, notice)
        notice(stream, compared)

    async def _read_job(
        self,
        strategies: Strategies,
        job: ETLInput,
        compared: int,
        notice: Callable[[str, int], None],
    ) -> int:
        query = strategies.query.from_dict(job.params)
        context = TransformContext(
            job=job,
            query=query,
            identities=self._people,
            field_rules=load_field_rules(job.source, strategies.rows),
        )
        async with contextlib.aclosing(pages_of(strategies, job, query)) as pages:
            async for page in pages:
                output = Transformed()
                output.add_extracted(page.rejects, context)
                for record in page.records:
                    transform_record(strategies, context, record, output)
                self._rejects[job.stream] += output.rejected_records
                await asyncio.to_thread(self._compare, job, output.rows)
                compared += len(output.rows)
                notice(job.stream, compared)
        return compared

    def _compare(self, job: ETLInput, rows: Collection[Row]) -> None:
        by_class: dict[type[Row], list[Row]] = {}
        for row in rows:
            if is_wanted(job, row) and not isinstance(row, Identity):
                by_class.setdefault(type(row), []).append(row)
        for kind, some in by_class.items():
            self._of(kind).add(job.stream, some)

    def _of(self, kind: type[Row]) -> Comparison:
        if kind not in self._comparisons:
            self._comparisons[kind] = Comparison(
                self._warehouse, kind, self._request.source, self._request.connection
            )
        return self._comparisons[kind]

    def finish(self, *, all_streams: Collection[str]) -> Verification:
        """Look for rows that the source does not have, and explain the differences."""
        for stream in self._streams:
            for kind in strategies_of(self._request.source, stream).rows:
                if kind is not Identity:
                    self._of(kind)
        counts: Counter[tuple[str, str | None]] = Counter()
        kept: dict[bool, list[Explained]] = {True: [], False: []}
        for difference in self._differences(whole=set(all_streams) <= {*self._streams}):
            reason = self._reason(difference)
            counts[difference.kind, reason] += 1
            some = kept[reason is not None]
            if len(some) < LISTED:
                some.append(Explained(difference, reason))
        listed = [*kept[False], *kept[True]][:LISTED]
        return Verification(self._months(), dict(counts), listed, self._notes())

    def _differences(self, *, whole: bool) -> Iterator[Difference]:
        request = self._request
        for comparison in self._comparisons.values():
            self._stale_items = {
                one.item for one in comparison.differences if self._is_late(one) and one.item
            }
            yield from comparison.differences
            dated = request.date_start is not None or request.date_end is not None
            if dated and not issubclass(comparison.layout.row, Event):
                continue
            for one in comparison.surplus(request.date_start, request.date_end):
                if whole or one.stream in self._streams:
                    yield one

    def _is_late(self, one: Difference) -> bool:
        """Whether an event happened behind the watermark, up to which everything is loaded."""
        watermark = self._watermarks.get(one.stream)
        if one.kind != "missing" or one.happened_at is None:
            return False
        return watermark is None or one.happened_at >= watermark

    def _reason(self, one: Difference) -> str | None:
        reasons = {
            "loaded meanwhile": (
                one.extracted_at is not None
                and self._began is not None
                and one.extracted_at >= self._began
            ),
            "not loaded yet: newer than the watermark": self._is_late(one),
            "not loaded yet: its item changed since the watermark": (
                one.kind == "changed" and one.item in self._stale_items
            ),
            "loaded by another version: a full run loads it anew": (
                one.kind == "changed" and one.specific_version != self._versions.get(one.stream)
            ),
            "people became known since: etl identities fill": (
                one.kind == "changed" and one.columns == ("employee_id",)
            ),
            "kept: a narrower filter no longer covers its item": (
                one.kind == "surplus" and not self._kept.isdisjoint(str(one.key[0]).split(":")[:2])
            ),
        }
        return next((reason for reason, holds in reasons.items() if holds), None)

    def _months(self) -> list[Month]:
        return [
            Month(stream, comparison.layout.table, month, extracted, stored)
            for comparison in self._comparisons.values()
            for stream, month in sorted({*comparison.extracted, *comparison.stored})
            if stream in self._streams or not stream
            for extracted in [comparison.extracted[stream, month]]
            for stored in [comparison.stored[stream, month]]
        ]

    def _notes(self) -> list[str]:
        notes = [
            f"{stream}: {number:,} records are rejected, and not compared"
            for stream, number in self._rejects.items()
            if number
        ]
        dated = self._request.date_start is not None or self._request.date_end is not None
        return notes + [
            f"{comparison.layout.table}: rows that the source does not have are looked for "
            "without dates alone"
            for comparison in self._comparisons.values()
            if dated and not issubclass(comparison.layout.row, Event)
        ]
