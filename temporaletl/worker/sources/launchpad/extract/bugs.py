"""The extract method for bugs, with their activity, messages and tasks."""

from collections.abc import AsyncGenerator, Collection, Iterator
from datetime import datetime
from functools import partial

import msgspec

from temporaletl import Page, PageRequest, RecordError, Reject, extract_method
from temporaletl.external.answers import decode_record
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import open_site
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.worker.sources.launchpad.entries import Bug, Task, number_of, utc_or_none
from temporaletl.worker.sources.launchpad.extract.client import (
    ITEM_FAULTS,
    LaunchpadClient,
    decoded,
)
from temporaletl.worker.sources.launchpad.extract.details import Failure, Gathered, finish, gather
from temporaletl.worker.sources.launchpad.extract.keyset import KeysetPagination
from temporaletl.worker.sources.launchpad.extract.read_cache import open_read_cache
from temporaletl.worker.sources.launchpad.extract.subjects import Hidden, subjects_of
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import BugWhole, RawRecord


@extract_method("launchpad-bugs")
async def extract_bugs(request: PageRequest[LaunchpadQuery]) -> AsyncGenerator[Page]:
    """Yield the bugs of the job's people and targets that changed since the window's start.

    There is no upper bound: a bug that changes every few minutes would always be above it. A bug
    may come more than once, never not at all; one created after a backfill's end does not come.

    Raises: as `LaunchpadSite.read`; CredentialsError where nothing may be read any more;
        ConfigurationError for a target that is not there.
    """
    settings = LaunchpadSettings.load()
    client = LaunchpadClient(open_site(settings))
    query = request.query
    window = request.job.window
    until = window.end if request.job.mode == "backfill" else None
    size = query.page_size or settings.page_size
    hidden = Hidden(resumed=request.cursor is not None)
    pagination = KeysetPagination(
        client, subjects_of(query), window.start, size, request.cursor, hidden
    )
    # Whatever changes a bug after it was read changes it after the window, too: none is read
    # twice, though it is listed for many people.
    read_cache = open_read_cache(client.site, request)
    try:
        while (page := await client.site.start(pagination.fetch)) is not None:
            unread = [number for number in page.bugs if number not in read_cache]
            calls = ((number, page.bugs[number], until) for number in unread)
            read = await gather(client, read_bug, calls)
            for number, (_, changed) in zip(unread, read, strict=True):
                read_cache.add(number, changed)
            records, rejects = await finish(
                client, [g for g, _ in read], people_in, hidden, partial(_other, pagination, unread)
            )
            known = (read_cache.changed(number) for number in page.bugs)
            pagination.advance(page, [time for time in known if time is not None])
            if records or rejects or page.rejects:
                read_cache.end_page(pagination.cursor)
                yield Page(
                    records=records,
                    cursor=pagination.cursor,
                    rejects=[*page.rejects, *rejects],
                    extracted_at=page.requested_at,
                )
        hidden.end()
    finally:
        client.stop.set()


def read_bug(
    client: LaunchpadClient, number: int, link: str, until: datetime | None
) -> tuple[Gathered, datetime | None]:
    """Read a bug, and when it last changed; nothing of one that was created too late. Blocks."""
    gathered, key = Gathered(), str(number)
    try:
        raw = client.read_entry(link)
    except UnreadableError as error:
        gathered.lacks(f"bug {number}", key, error, {"bug_link": link})
        return gathered, None
    except ITEM_FAULTS as error:
        if client.stop.is_set():
            raise
        payload = {"bug_link": link}
        gathered.failures.append(Failure("bug", f"bug {number}", key, error, payload))
        return gathered, None
    gathered.answered.append("bug")
    try:
        bug = decode_record(Bug, raw)
    except RecordError as error:
        gathered.rejects.append(
            Reject(stage="extract", reason=f"no bug: {error}", key=key, payload={"bug": raw})
        )
        return gathered, None
    changed, created = utc_or_none(bug.date_last_updated), utc_or_none(bug.date_created)
    if until is not None and created is not None and created >= until:
        return gathered, changed

    gathered.record = RawRecord(key, {"bug": raw})
    links = {
        "activity": bug.activity_collection_link,
        "messages": bug.messages_collection_link,
        "tasks": bug.bug_tasks_collection_link,
    }
    gathered.read(client, links, f"bug {number}", key)
    return gathered, changed


def _other(pagination: KeysetPagination, but: Collection[int], kind: str) -> bool:
    """Whether a part of some other bug can be read. Blocks."""
    client = pagination.client
    for number, link in pagination.other_bugs(but).items():
        gathered, _ = read_bug(client, number, link, None)
        if kind in gathered.answered:
            return True
        if gathered.failures:
            return False
    return False


def number_in(entry: msgspec.Raw) -> int | None:
    task = decoded(Task, entry)
    return None if task is None else number_of(task.bug_link)


def people_in(record: RawRecord) -> Iterator[str | None]:
    """Yield the links of the people in a bug: its owner, and authors of changes and messages."""
    whole = RawRecord.whole(BugWhole, record)
    yield whole.bug.owner_link
    for change in whole.activity:
        yield change.person_link
    for message in whole.messages:
        yield message.owner_link
