"""The extract method of executions, from the list of the visibility store."""

import base64
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from google.protobuf.json_format import Error as JsonError, MessageToDict
from pydantic import JsonValue
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsResponse

from temporaletl import (
    ConfigurationError,
    Page,
    PageRequest,
    Reject,
    SourceProtocolError,
    extract_method,
)
from temporaletl.clock import utc_now
from temporaletl.external.headway import Headway
from temporaletl.external.temporal import (
    RUNNING,
    StaleTokenError,
    Visibility,
    closed_in,
    visibility,
    with_run_ids,
)
from temporaletl.external.threads import start
from temporaletl.rows import TemporalWorkflow
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.temporal.payload import undecodable
from temporaletl.worker.sources.temporal.query import TemporalQuery

log = get_logger("temporal")

#: A listing may show as running what another has already shown closed: the store's replicas
#: refresh at different times. What is listed as running therefore counts as known this much
#: earlier than it was requested, and so never replaces what a listing of that time saw closed.
RUNNING_STALENESS = timedelta(minutes=1)
#: The status of an execution that was running, and that Temporal has no more.
DELETED = "DELETED"
_RUNNING = "RUNNING"
_MOST_RESTARTS = 3
#: Stored executions whose ids one query names: it must not become too long.
_IDS_PER_QUERY = 100
#: Run ids that are remembered from a listing; others are looked up in the store.
_MOST_REMEMBERED = 200_000


class Position(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The state of an extraction; as JSON it is a page's cursor.

    `token` is the next page's, empty behind the last. After a list of the running ones the stored
    ones are looked at that it lacked; `behind` is the key of the last of them.
    """

    token: str
    restarts: int = 0
    behind: tuple[str, ...] | None = None
    #: Executions so far with something that cannot be decoded; and those that are deleted.
    undecodable: int = 0
    deleted: int = 0

    @property
    def note(self) -> str | None:
        notes = []
        if self.undecodable:
            notes.append(
                f"{self.undecodable:,} executions have a memo field or a search attribute that "
                "cannot be decoded (it is encrypted, or no JSON): it is kept as base64, under "
                '"data"'
            )
        if self.deleted:
            notes.append(
                f"{self.deleted:,} executions that were running are deleted from Temporal: their "
                f"status is {DELETED}"
            )
        return "; ".join(notes) or None


@extract_method("temporal-workflows")
async def extract(request: PageRequest[TemporalQuery]) -> AsyncGenerator[Page]:
    """List the job's executions from the cursor's page token on.

    A record is an execution as protobuf's JSON. A token the server no longer takes starts the
    window again from its beginning, which changes nothing that is loaded.

    A job of running executions then looks for those that are stored as running and were not
    listed: they have closed since, or Temporal has them no more.

    Raises:
        SourceProtocolError: the server repeats a page token, or never takes back its own.
        SourceUnavailableError: a thousand pages in a row hold nothing but the next one's token.
        RetryableError, PermanentError: as `temporaletl.external.temporal.Visibility.count`.
    """
    extraction = _Extraction(request, visibility())
    async for page in extraction.listed():
        yield page
    async for page in extraction.missing():
        yield page


class _Extraction:
    def __init__(self, request: PageRequest[TemporalQuery], store: Visibility) -> None:
        self._request = request
        self._store = store
        self._namespace = request.query.namespace
        self._running = request.query.running
        self._position = _position(request.cursor)
        self._remembered: set[str] = set()

    async def listed(self) -> AsyncGenerator[Page]:
        position = self._position
        if self._request.cursor is not None and not position.token:
            return
        query = RUNNING if self._running else closed_in(self._request.job.window)
        resumed = self._request.cursor is not None
        token = base64.b64decode(position.token)
        headway = self._headway(token)
        while True:
            requested_at = utc_now()
            try:
                answer = await self._store.page(self._namespace, query, token)
            except StaleTokenError as error:
                if not resumed:
                    raise
                if position.restarts == _MOST_RESTARTS:
                    raise SourceProtocolError(
                        f"{error}; the window was begun anew {position.restarts} times"
                    ) from None
                # The counts begin anew as well.
                position = self._position = Position("", position.restarts + 1)
                resumed, token, headway = False, b"", self._headway()
                continue
            resumed = False
            token = self._token_behind(answer, headway)
            position.token = base64.b64encode(token).decode()
            if self._running and not token:
                position.behind = ()
            if len(self._remembered) < _MOST_REMEMBERED:
                self._remembered.update(info.execution.run_id for info in answer.executions)
            # A page of nothing but a token is no progress.
            if answer.executions or not token:
                lag = RUNNING_STALENESS if self._running else timedelta(0)
                yield await self._page(answer.executions, requested_at - lag)
            if not token:
                return

    async def missing(self) -> AsyncGenerator[Page]:
        """Yield the present state of executions that are stored as running, and were not listed."""
        position = self._position
        wanted = {"namespace": self._namespace, "status": _RUNNING}
        while position.behind is not None:
            requested_at = utc_now()
            stored = await start(
                self._store.threads,
                partial(
                    self._request.stored.rows,
                    TemporalWorkflow,
                    equal=wanted,
                    behind=position.behind or None,
                    most=_IDS_PER_QUERY,
                ),
            )
            executions, deleted = await self._look_for(
                [row for row in stored if row.run_id not in self._remembered]
            )
            position.deleted += len(deleted)
            position.behind = (
                tuple(str(getattr(stored[-1], name)) for name in TemporalWorkflow.key)
                if len(stored) == _IDS_PER_QUERY
                else None
            )
            if deleted:
                log.warning(
                    "executions_deleted",
                    namespace=self._namespace,
                    count=len(deleted),
                    example=deleted[0].workflow_id,
                )
            yield await self._page(executions, requested_at, deleted)

    def _headway(self, begin: bytes = b"") -> Headway:
        """Watch over the pages of a listing that is read from a token on."""
        return Headway(
            f"temporal: the list of executions in namespace {self._namespace!r}",
            begin=begin.hex() if begin else None,
        )

    def _token_behind(self, answer: ListWorkflowExecutionsResponse, headway: Headway) -> bytes:
        """Return the token of the next page, empty behind the last.

        Raises:
            SourceProtocolError: it is that of a page before.
            SourceUnavailableError: far too many pages held nothing.
        """
        token = answer.next_page_token
        if token and not headway.leads_on(token.hex(), rows=len(answer.executions)):
            raise SourceProtocolError(
                f"Temporal repeats a page token in namespace {self._namespace!r}"
            )
        return token

    async def _look_for(
        self, rows: Sequence[TemporalWorkflow]
    ) -> tuple[list[WorkflowExecutionInfo], list[TemporalWorkflow]]:
        """Return those executions that have closed, and the rows of those that are deleted."""
        if not rows:
            return [], []
        query = with_run_ids([row.run_id for row in rows])
        found: dict[str, WorkflowExecutionInfo] = {}
        token, headway = b"", self._headway()
        while True:
            answer = await self._store.page(self._namespace, query, token)
            found |= {info.execution.run_id: info for info in answer.executions}
            token = self._token_behind(answer, headway)
            if not token:
                break
        deleted = []
        for row in rows:
            if row.run_id in found:
                continue
            # The visibility store may be behind: the execution itself says whether it runs.
            info = await self._store.describe(self._namespace, row.workflow_id, row.run_id)
            if info is None:
                deleted.append(msgspec.structs.replace(row, status=DELETED))
            else:
                found[row.run_id] = info
        return [info for info in found.values() if info.HasField("close_time")], deleted

    async def _page(
        self,
        executions: Collection[WorkflowExecutionInfo],
        extracted_at: datetime,
        rows: Sequence[TemporalWorkflow] = (),
    ) -> Page:
        # A page of a thousand takes a noticeable fraction of a second.
        records, rejects, undecoded = await start(self._store.threads, _records, executions)
        if undecoded:
            self._position.undecodable += len(undecoded)
            log.warning(
                "executions_undecodable",
                namespace=self._namespace,
                count=len(undecoded),
                example=undecoded[0],
            )
        return Page(
            records=[*records, *rows],
            rejects=rejects,
            cursor=msgspec.to_builtins(self._position),
            extracted_at=extracted_at,
            note=self._position.note,
        )


def _position(cursor: JsonValue) -> Position:
    if cursor is None:
        return Position("")
    try:
        return msgspec.convert(cursor, Position)
    except msgspec.ValidationError:
        raise ConfigurationError(f"{cursor!r} is no cursor of source 'temporal'") from None


def _records(
    executions: Iterable[WorkflowExecutionInfo],
) -> tuple[list[dict[str, Any]], list[Reject], list[str]]:
    """The executions as JSON, those that cannot be, and what cannot be decoded of which."""
    records, rejects, undecoded = [], [], []
    for execution in executions:
        key = f"{execution.execution.workflow_id}/{execution.execution.run_id}"
        try:
            record = MessageToDict(execution)
        except (JsonError, ValueError, OverflowError) as error:
            rejects.append(
                Reject(
                    stage="extract",
                    reason=f"the execution is not valid protobuf: {error}",
                    key=key,
                    payload=execution.SerializeToString(),
                )
            )
            continue
        records.append(record)
        for name, reason in undecodable(record).items():
            undecoded.append(f"{key}, {name}: {reason}")
            break
    return records, rejects, undecoded
