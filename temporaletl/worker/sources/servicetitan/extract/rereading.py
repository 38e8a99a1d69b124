"""Second attempts at records that an earlier run could not read."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from temporaletl import PageRequest, RecordError, Reject, Reread, Unread, reread_method
from temporaletl.external.servicetitan.resources import RESOURCES
from temporaletl.external.servicetitan.settings import ServiceTitanSettings
from temporaletl.external.servicetitan.site import open_site
from temporaletl.worker.sources.servicetitan.extract.client import (
    FAILURES,
    FEW_ATTEMPTS,
    ListAnswer,
    ServiceTitanClient,
    Span,
)
from temporaletl.worker.sources.servicetitan.extract.keyset import KeysetPagination
from temporaletl.worker.sources.servicetitan.extract.list_position import ListPosition
from temporaletl.worker.sources.servicetitan.extract.passes import row_of
from temporaletl.worker.sources.servicetitan.query import ServiceTitanQuery
from temporaletl.worker.sources.servicetitan.record import Record, bare_of, timestamp

_BAD_REQUEST = 400
#: Where nothing but a span of time is known of a record, so many records of it are read.
_MOST_RECORDS = 5_000
_MOST_ANSWERS = 20


class _Gap(msgspec.Struct, forbid_unknown_fields=True):
    """A reject's payload: a record's location in a list, and a part of the feed."""

    stream: str
    #: The list counted more in this span of time than it gave.
    shortfall: bool = False
    position: int | None = None
    modified_on_or_after: datetime | None = None
    modified_before: datetime | None = None
    behind_id: int | str | None = None
    followed_by_id: int | str | None = None
    #: Where that part of the feed begins; empty for its beginning, None where none is missing.
    export_from: str | None = None


async def reread_record(unread: Unread, request: PageRequest[ServiceTitanQuery]) -> Reread | None:
    """Read a record by its id; where only its location is known, all records of its span of time.

    One that has changed since is no longer in that span, and was read where it is. A part of the
    feed is followed, for what it alone reports. None where nothing is known.
    """
    settings = ServiceTitanSettings.load()
    query = request.query
    client = ServiceTitanClient(open_site(settings), RESOURCES[request.job.stream])
    read: Callable[[], Reread]
    if (gap := _gap(unread)) is not None:
        size = query.page_size or settings.page_size
        read = lambda: _gap_again(client, gap, size)  # noqa: E731
    elif (id_ := _id_of(unread)) is not None:
        read = lambda: _record_again(client, id_)  # noqa: E731
    else:
        return None
    try:
        return await client.site.start(read)
    except FAILURES as error:
        return Reread(fault=f"it cannot be read yet: {error}")
    finally:
        client.stop.set()


for _stream in RESOURCES:
    reread_method(f"servicetitan-{_stream}")(reread_record)


def _gap(unread: Unread) -> _Gap | None:
    try:
        return msgspec.convert(unread.payload, _Gap)
    except msgspec.ValidationError:
        return None


def _id_of(unread: Unread) -> int | None:
    payload: Any = unread.payload
    if isinstance(payload, str):
        found: Any = bare_of(msgspec.Raw(payload.encode())).id
    else:
        found = payload.get("id") if isinstance(payload, dict) else None
    return found if isinstance(found, int) else None


def _record_again(client: ServiceTitanClient, id_: int) -> Reread:
    params = {"active": "Any", "ids": id_, "page": 1, "pageSize": 1}
    answer = client.read(client.resource.stream, params, ListAnswer, attempts=FEW_ATTEMPTS)
    rows = [row_of(client, raw) for raw in answer.data] if answer is not None else []
    ours = [row.read for row in rows if row.id == id_]
    return _reread(ours, [])


def _gap_again(client: ServiceTitanClient, gap: _Gap, size: int) -> Reread:
    found: list[Record[Any] | Reject] = []
    faults: list[str] = []
    if gap.position is not None or gap.shortfall:
        _read_span(client, gap, size, found, faults)
    if gap.export_from is not None and not faults:
        _read_feed(client, gap, gap.export_from, found, faults)
    return _reread(found, faults)


def _read_span(
    client: ServiceTitanClient,
    gap: _Gap,
    size: int,
    found: list[Record[Any] | Reject],
    faults: list[str],
) -> None:
    since, before = gap.modified_on_or_after, gap.modified_before
    cursor = msgspec.to_builtins(ListPosition(way="all", at=since))
    pagination = KeysetPagination(client, Span(since, None, modified_before=before), size, cursor)
    while (page := pagination.next()) is not None:
        found += page.records
        # Those that came and cannot be decoded are rejects of the run that met them.
        faults += [reject.reason for reject in page.rejects if isinstance(reject.payload, dict)]
        if len(found) > _MOST_RECORDS:
            faults.append(f"more than {_MOST_RECORDS} were modified then: a full run reads them")
            return
    if not faults and not gap.shortfall and _is_not_shown(gap, found):
        faults.append(
            "the list shows nothing between the records around it any more; the next full run that "
            "does not meet it forgets it"
        )


def _is_not_shown(gap: _Gap, found: Sequence[Record[Any] | Reject]) -> bool:
    """Whether the two records that it stood between are neighbours now."""
    ids = [item.body.id if isinstance(item, Record) else None for item in found]
    try:
        before = -1 if gap.behind_id is None else ids.index(gap.behind_id)
        behind = len(ids) if gap.followed_by_id is None else ids.index(gap.followed_by_id)
    except ValueError:
        return False  # one of them has changed, and is elsewhere
    return behind == before + 1


def _read_feed(
    client: ServiceTitanClient,
    gap: _Gap,
    begin: str,
    found: list[Record[Any] | Reject],
    faults: list[str],
) -> None:
    for _ in range(_MOST_ANSWERS):
        answer = client.export(begin, accept=(_BAD_REQUEST,), attempts=FEW_ATTEMPTS)
        if answer is None:
            faults.append("its place in the export is no longer known: a full run reads it")
            return
        records = [item for item in map(client.record, answer.data) if isinstance(item, Record)]
        found += records
        if not answer.has_more or not answer.continue_from:
            return
        if any(_is_behind(record, gap) for record in records):
            return
        begin = answer.continue_from
    faults.append("more of the export was not told: a full run reads it")


def _is_behind(record: Record[Any], gap: _Gap) -> bool:
    """Whether a record is one of those that were read when the feed had been begun anew."""
    if gap.position is None or gap.modified_before is None:
        return False
    try:
        time = timestamp(record.body.modified_on, "modifiedOn")
    except RecordError:
        return False
    return time is not None and time >= gap.modified_before


def _reread(found: list[Record[Any] | Reject], faults: list[str]) -> Reread:
    faults = faults + [item.reason for item in found if isinstance(item, Reject)]
    records = [item for item in found if isinstance(item, Record)]
    return Reread(records, "; ".join(dict.fromkeys(faults)) or None)
