"""The extract method of rows: keyset pagination by REST, or many at once by the Bulk API."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl import (
    ConfigurationError,
    NotReadyError,
    Page,
    PageRequest,
    RecordError,
    Reject,
    SourceProtocolError,
    SourceUnavailableError,
    Window,
    extract_method,
)
from temporaletl.clock import utc_now
from temporaletl.external.ahead import in_order
from temporaletl.external.answers import DECODE_FAULTS
from temporaletl.external.headway import Headway
from temporaletl.external.salesforce.account import salesforce_account
from temporaletl.external.salesforce.counts import count
from temporaletl.external.salesforce.narrowing import read_around
from temporaletl.external.salesforce.org import SalesforceOrg, open_org
from temporaletl.external.salesforce.query import (
    Keyset,
    QueryPage,
    Selection,
    Unreadable,
    keyset_of,
)
from temporaletl.external.salesforce.refusals import (
    GoneError,
    InvalidTypeError,
    NotInBulkError,
    QueryTimeoutError,
)
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.salesforce.streams import MAY_BE_ABSENT, STREAMS
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.salesforce.bulk import (
    BulkJobBrokeError,
    BulkQueries,
    Piece,
    UnreadableRow,
)
from temporaletl.worker.sources.salesforce.query import SalesforceQuery
from temporaletl.worker.sources.salesforce.records import KINDS, SalesforceRecord, fields_of

log = get_logger("salesforce")

#: Importing it registers it.
ACCOUNT = salesforce_account

#: Reads rows as records; `read_rows` where there is no other.
Read = Callable[[Iterable[Any]], tuple[list[Any], list[Reject]]]

_FIRST_POLL_SECONDS = 0.5
_LONGEST_POLL_SECONDS = 5.0
#: A bulk job is looked at for so long at a time; between looks, it waits longer and longer.
_LOOK = timedelta(seconds=5)
_LONGEST_REST = timedelta(minutes=1)
_MOST_BULK_JOBS = 4
#: Pages decoded or waiting to be loaded; each has thousands of rows.
_AHEAD = 2


class Position(msgspec.Struct, omit_defaults=True):
    """The state of an extraction; as JSON it is a page's cursor.

    By REST it is the keyset behind the last row. Of a bulk query it is the job with the locator
    of the next piece, and how many rows came before that.
    """

    after: Keyset | None = None
    job: str | None = None
    began: str | None = None  # the bulk job
    locator: str | None = None
    rows: int = 0
    looks: int = 0
    jobs: int = 0  # begun so far: results may be gone before they are read
    ended: bool = False


async def rows_of(request: PageRequest[SalesforceQuery]) -> AsyncGenerator[Page]:
    """Yield the job's rows as records.

    An object that the org does not have yields nothing, where an org may do without it.

    Raises:
        ConfigurationError: the job is of an object that no stream has.
        ETLError: as `pages_of`.
    """
    query = request.query
    selection = selection_of(query, request.job.window)
    org = open_org(SalesforceSettings.load())

    def read(rows: Iterable[Any]) -> tuple[list[Any], list[Reject]]:
        return read_rows(rows, query.object)

    try:
        async with contextlib.aclosing(pages_of(org, selection, request, read)) as pages:
            async for page in pages:
                yield page
    except InvalidTypeError as error:
        if query.object not in MAY_BE_ABSENT:
            raise
        if query.object not in org.absent:
            org.absent.add(query.object)
            log.warning("salesforce_object_absent", object=query.object, reason=str(error))


for _stream in STREAMS:
    extract_method(f"salesforce-{_stream}")(rows_of)


def selection_of(query: SalesforceQuery, window: Window) -> Selection:
    """Return the selection of a job, within a window.

    Raises:
        ConfigurationError: no stream is of that object.
    """
    kind = KINDS.get(query.object)
    if kind is None:
        raise ConfigurationError(
            f"{query.object} is no object of source 'salesforce': {', '.join(sorted(KINDS))}"
        )
    needed, others = fields_of(kind)
    return Selection(
        object=query.object,
        fields=needed,
        optional=others,
        stamp=query.stamp,
        start=window.start,
        end=window.end if query.bounded else None,
        deleted=query.deleted,
    )


async def pages_of(
    org: SalesforceOrg, selection: Selection, request: PageRequest[SalesforceQuery], read: Read
) -> AsyncGenerator[Page]:
    """Yield a selection's rows from the request's cursor on; above so many rows in bulk.

    Raises:
        BulkJobFailedError: Salesforce gave up a bulk query.
        ETLError: as `temporaletl.external.salesforce.query.read_page`.
    """
    try:
        position = msgspec.convert(request.cursor or {}, Position)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"no cursor of source 'salesforce': {error}") from None
    if position.ended:
        return
    stop = threading.Event()
    extraction = _Extraction(org, selection, request, read, stop)
    try:
        if request.cursor is None and not request.query.counted:
            limit = request.query.bulk_above_rows or org.settings.bulk_above_rows
            rows = await extraction.count(at_most=limit)
            if rows == 0:
                return
            if rows > limit and (begun := await extraction.try_bulk()):
                position = begun
                # Committed before the job is waited for: whoever goes on, goes on with it.
                yield Page([], _cursor(position))
        pages = extraction.bulk(position) if position.job else extraction.rest(position.after)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page
    finally:
        stop.set()


class _Extraction:
    def __init__(
        self,
        org: SalesforceOrg,
        selection: Selection,
        request: PageRequest[SalesforceQuery],
        read: Read,
        stop: threading.Event,
    ) -> None:
        self._org = org
        self._selection = selection
        self._read = read
        self._request = request
        self._size = request.query.page_size or org.settings.page_size
        self._stop = stop
        self._queries = BulkQueries(org, stop)

    async def rest(self, after: Keyset | None) -> AsyncGenerator[Page]:
        """Yield pages; the next ones are requested while their predecessors are loaded."""
        ended = False

        async def fetch() -> tuple[QueryPage, datetime] | None:
            nonlocal after, ended
            if ended:
                return None
            requested_at = utc_now()
            page = await self._fetch(after)
            after, ended = page.after, page.last
            return page, requested_at

        async def finish(found: tuple[QueryPage, datetime]) -> Page | None:
            page, requested_at = found
            if not (page.rows or page.unreadable):
                return None
            records, rejects = await self._org.start(self._read, page.rows)
            rejects += map(reject_unreadable, page.unreadable)
            behind = Position(after=page.after, ended=page.last)
            return Page(records, _cursor(behind), rejects, requested_at)

        pages = in_order(self._request, fetch, finish, most=_AHEAD)
        try:
            async with contextlib.aclosing(pages):
                async for page in pages:
                    if page is not None:
                        yield page
        finally:
            self._stop.set()

    def _fetch(self, after: Keyset | None) -> "asyncio.Future[QueryPage]":
        return self._org.start(
            read_around, self._org, self._selection, after, self._size, self._stop
        )

    async def count(self, *, at_most: int) -> int:
        """Count the rows; ones too many to be counted in time are more than `at_most`."""
        try:
            return await self._org.start(count, self._org, self._selection, self._stop)
        except QueryTimeoutError:
            return at_most + 1

    async def try_bulk(self) -> Position | None:
        """Begin a bulk query; None where the Bulk API does not have the object."""
        try:
            return await self.begin_bulk(Position())
        except NotInBulkError as error:
            log.warning("salesforce_not_in_bulk", reason=str(error))
            return None

    async def begin_bulk(self, before: Position) -> Position:
        if before.jobs == _MOST_BULK_JOBS:
            raise SourceProtocolError(
                f"salesforce: the results of {before.jobs} bulk queries for "
                f"{self._selection.object} were gone before they were read"
            )
        began = utc_now().isoformat()
        job = await self._org.start(self._queries.create, self._selection)
        log.info("salesforce_bulk_query_begun", job=job, object=self._selection.object)
        return Position(job=job, began=began, jobs=before.jobs + 1)

    async def bulk(self, position: Position) -> AsyncGenerator[Page]:
        while True:
            try:
                async with contextlib.aclosing(self._results(position)) as pages:
                    async for page in pages:
                        yield page
            except GoneError:
                # Its rows come in no order, so there is no position in the middle to go on from.
                position = await self.begin_bulk(position)
                yield Page([], _cursor(position))
            except BulkJobBrokeError as error:
                # Most often at one row, which REST gets around.
                log.warning("salesforce_bulk_query_broke", reason=str(error))
                yield Page([], _cursor(Position()))
                async with contextlib.aclosing(self.rest(None)) as pages:
                    async for page in pages:
                        yield page
                return
            else:
                return

    async def _results(self, position: Position) -> AsyncGenerator[Page]:
        job, began = str(position.job), datetime.fromisoformat(str(position.began))
        while not await self._completes(job, began):
            # A page without records is progress: a job that waits for hours does not fail for
            # having been tried too often. Behind it, Temporal waits instead of the worker.
            position = msgspec.structs.replace(position, looks=position.looks + 1)
            yield Page([], _cursor(position))
            raise NotReadyError(
                f"salesforce: bulk query {job} is still being worked at",
                delay=min(_LONGEST_REST, position.looks * _LOOK),
            )
        headway = Headway(f"salesforce: bulk query {job}", begin=position.locator)

        async def fetch() -> tuple[Piece, Position] | None:
            nonlocal position
            while not position.ended:
                piece = await self._org.start(
                    self._queries.piece,
                    job,
                    self._selection.object,
                    position.locator,
                    self._org.settings.bulk_page_rows,
                )
                if piece.locator is not None and not headway.leads_on(
                    piece.locator, rows=len(piece.rows)
                ):
                    continue
                rows = position.rows + len(piece.rows)
                if piece.locator is None:
                    expected = await self._org.start(self._queries.rows_in, job)
                    if rows < expected:
                        raise SourceUnavailableError(
                            f"salesforce: bulk query {job} gave {rows} of its {expected} rows"
                        )
                position = msgspec.structs.replace(
                    position, locator=piece.locator, rows=rows, ended=piece.locator is None
                )
                return piece, position
            return None

        async def finish(found: tuple[Piece, Position]) -> Page:
            piece, behind = found
            records, rejects = await self._org.start(self._read, piece.rows)
            return Page(records, _cursor(behind), rejects, began)

        pages = in_order(self._request, fetch, finish, most=_AHEAD)
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page

    async def _completes(self, job: str, began: datetime) -> bool:
        """Wait a while for the bulk job; return whether it is complete."""
        limit = timedelta(minutes=self._org.settings.bulk_timeout_minutes)
        loop = asyncio.get_running_loop()
        patience, pause = loop.time() + _LOOK.total_seconds(), _FIRST_POLL_SECONDS
        while not await self._org.start(self._queries.is_complete, job):
            if utc_now() - began > limit:
                await self._org.start(self._queries.abort, job)
                raise ConfigurationError(
                    f"salesforce: bulk query {job} for {self._selection.object} was aborted after "
                    f"SF_BULK_TIMEOUT_MINUTES={limit.total_seconds() / 60:g}: raise it, or load "
                    "shorter windows"
                )
            if loop.time() + pause > patience:
                return False
            await asyncio.sleep(pause)
            pause = min(_LONGEST_POLL_SECONDS, pause * 2)
        return True


def _cursor(position: Position) -> JsonValue:
    cursor: JsonValue = msgspec.to_builtins(position)
    return cursor


def read_rows(rows: Iterable[Any], object_name: str) -> tuple[list[SalesforceRecord], list[Reject]]:
    """Return the rows as records, and rejects of those that cannot be read."""
    records: list[SalesforceRecord] = []
    rejects: list[Reject] = []
    for row in rows:
        if isinstance(row, UnreadableRow):
            rejects.append(reject_of(row, row.reason))
            continue
        try:
            records.append(SalesforceRecord.read(row, object_name))
        except RecordError as error:
            rejects.append(reject_of(row, str(error)))
    return records, rejects


def reject_of(row: Any, reason: str) -> Reject:
    """The reject of a row that cannot be read, under the best name it has."""
    if isinstance(row, UnreadableRow):
        return Reject(stage="extract", reason=reason, payload=row.line)
    try:
        payload = row if isinstance(row, dict) else msgspec.json.decode(row)
    except DECODE_FAULTS:
        keyset = keyset_of(row, "CreatedDate")
        key = keyset.id if keyset else None
        return Reject(stage="extract", reason=reason, key=key, payload=bytes(row))
    row_fields = payload if isinstance(payload, dict) else {}
    names: Sequence[Any] = [row_fields.get(name) for name in ("CaseNumber", "Id")]
    key = next((name for name in names if isinstance(name, str)), None)
    return Reject(stage="extract", reason=reason, key=key, payload=payload)


def reject_unreadable(row: Unreadable) -> Reject:
    """The reject of a row that Salesforce cannot render, by what is known of it."""
    return Reject(
        stage="extract",
        reason=row.reason,
        key=row.known.get("Id"),
        payload={"attributes": {"type": row.object}, **row.known},
    )
