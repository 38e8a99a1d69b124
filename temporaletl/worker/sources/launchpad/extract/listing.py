"""Pages of merge proposals and questions: lists without a filter by time, read completely.

They are worked through by number. Numbers grow, so what is new comes last; the number of the last
entry worked through is all that a cursor needs, whatever order the server lists in, and whatever
moves in its lists.
"""

import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from weakref import WeakKeyDictionary

import msgspec
from pydantic import JsonValue

from temporaletl import ConfigurationError, Page, PageRequest, Reject
from temporaletl.clock import utc_now
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import LaunchpadSite, open_site
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.worker.sources.launchpad.entries import Entry, number_of
from temporaletl.worker.sources.launchpad.extract.client import Gap, LaunchpadClient, decoded
from temporaletl.worker.sources.launchpad.extract.details import Gathered, PeopleIn, finish, gather
from temporaletl.worker.sources.launchpad.extract.read_cache import open_read_cache
from temporaletl.worker.sources.launchpad.extract.subjects import (
    Hidden,
    Searches,
    pick_up,
    subjects_of,
)
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery

#: A list that was read so recently comes from the cache when a job goes on.
_GOOD_FOR = timedelta(minutes=30)
_MOST_LISTS = 16
_FEW = 5


class Position(msgspec.Struct, omit_defaults=True):
    """The state of the extraction; as JSON it is a page's cursor. `after` is an entry's number."""

    subject: str | None = None
    after: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of one subject by number, lowest first, and when they were requested."""

    entries: Sequence[tuple[int, msgspec.Raw]]
    rejects: Sequence[Reject]
    requested_at: datetime


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of listed entries: its searches, the filter of its entries, and how one is read.

    Ids of its events begin with its name; `version` is that of the API which knows it.
    """

    name: str
    version: str
    searches: Searches
    wanted: Callable[[PageRequest[LaunchpadQuery], msgspec.Raw], bool]
    read: Callable[[LaunchpadClient, int, msgspec.Raw], Gathered]
    people_in: PeopleIn


async def pages(kind: Kind, request: PageRequest[LaunchpadQuery]) -> AsyncGenerator[Page]:
    """Yield pages of the entries of the job's people and targets, with their lists."""
    settings = LaunchpadSettings.load()
    client = LaunchpadClient(open_site(settings))
    query = request.query
    position = _position(request.cursor)
    if position.ended:
        return
    size = query.page_size or settings.page_size
    hidden = Hidden(resumed=request.cursor is not None)
    read_cache = open_read_cache(client.site, request)
    try:
        subjects = pick_up(subjects_of(query), position.subject)
        for following, subject in enumerate(subjects, 1):
            behind = _cursor(subjects[following] if following < len(subjects) else None)
            resumed = subject == position.subject
            after = position.after if resumed else 0
            listing = await client.site.start(list_subject, client, kind, subject, resumed, hidden)
            rejects = listing.rejects if after == 0 else ()
            todo = [
                (number, entry)
                for number, entry in listing.entries
                if number > after and number not in read_cache and kind.wanted(request, entry)
            ]
            if rejects and not todo:
                requested = listing.requested_at
                yield Page(records=[], cursor=behind, rejects=rejects, extracted_at=requested)
            for first in range(0, len(todo), size):
                part = todo[first : first + size]
                gathered = await gather(client, kind.read, part)
                others = partial(_other, client, kind, listing, {number for number, _ in part})
                records, missing = await finish(client, gathered, kind.people_in, hidden, others)
                last = first + size >= len(todo)
                cursor = behind if last else _cursor(subject, part[-1][0])
                for number, _ in part:
                    read_cache.add(number)
                read_cache.end_page(cursor)
                yield Page(
                    records=records,
                    cursor=cursor,
                    rejects=[*rejects, *missing],
                    extracted_at=listing.requested_at,
                )
                rejects = ()
        hidden.end()
    finally:
        client.stop.set()


def _cursor(subject: str | None, after: int = 0) -> JsonValue:
    position = Position(ended=True) if subject is None else Position(subject, after)
    cursor: JsonValue = msgspec.to_builtins(position)
    return cursor


def _position(cursor: JsonValue) -> Position:
    try:
        return msgspec.convert(cursor or {}, Position)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"no cursor of a Launchpad list: {error}") from None


def list_subject(
    client: LaunchpadClient,
    kind: Kind,
    subject: str,
    resumed: bool,  # noqa: FBT001 - called through a thread
    hidden: Hidden,
) -> Listing:
    """Return all of a subject's entries. Blocks.

    Raises: as `LaunchpadClient.read_whole` and `Hidden.note_subject`.
    """
    cache = _listing_cache_of(client.site)
    if resumed and (kept := cache.get(kind.name, subject)) is not None:
        return kept
    requested_at = utc_now()
    entries: dict[int, msgspec.Raw] = {}
    rejects: list[Reject] = []
    try:
        for url in kind.searches(client.site, subject):
            collected = client.read_whole(url, _identity, patience=2, around=True)
            rejects += [_skipped(kind, subject, gap) for gap in collected.gaps]
            for raw in collected.entries:
                number = _identity(raw)
                if isinstance(number, int):
                    entries[number] = raw
                else:
                    reason = "the entry's self_link has no number"
                    rejects.append(Reject(stage="extract", reason=reason, payload=raw))
    except UnreadableError as error:
        hidden.note_subject(client.site, subject, error)
    else:
        hidden.shown = True
    listing = Listing(sorted(entries.items(), key=lambda item: item[0]), rejects, requested_at)
    cache.put(kind.name, subject, listing)
    return listing


def _identity(entry: msgspec.Raw) -> int | bytes:
    """An entry's number; the entry itself where it has none."""
    number = number_in(entry)
    return bytes(entry) if number is None else number


def number_in(entry: msgspec.Raw) -> int | None:
    found = decoded(Entry, entry)
    return None if found is None else number_of(found.self_link)


def _skipped(kind: Kind, subject: str, gap: Gap) -> Reject:
    what = f"{subject}'s {kind.name.replace('_', ' ')}s"
    return Reject(
        stage="extract",
        reason=f"Launchpad cannot give entry {gap.start} of {what}: {gap.reason}",
        key=subject,
        payload={"subject": subject, "kind": kind.name, "entry": gap.start},
    )


def _other(
    client: LaunchpadClient, kind: Kind, listing: Listing, but: Collection[int], part: str
) -> bool:
    """Whether a part of some other entry can be read. Blocks."""
    others = [entry for entry in listing.entries if entry[0] not in but]
    for number, entry in others[-_FEW:]:
        gathered = kind.read(client, number, entry)
        # What superseded a proposal is one, too.
        if part in gathered.answered or (part == "superseding" and gathered.answered):
            return True
    return False


class _ListingCache:
    """Cache of the latest lists of one site. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str], Listing] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, stream: str, subject: str) -> Listing | None:
        with self._guard:
            listing = self._lists.get((stream, subject))
        good = listing is not None and timedelta(0) <= utc_now() - listing.requested_at < _GOOD_FOR
        return listing if good else None

    def put(self, stream: str, subject: str, listing: Listing) -> None:
        with self._guard:
            self._lists[stream, subject] = listing
            self._lists.move_to_end((stream, subject))
            while len(self._lists) > _MOST_LISTS:
                self._lists.popitem(last=False)


_listing_caches: WeakKeyDictionary[LaunchpadSite, _ListingCache] = WeakKeyDictionary()
_listing_caches_guard = threading.Lock()


def _listing_cache_of(site: LaunchpadSite) -> _ListingCache:
    with _listing_caches_guard:
        return _listing_caches.setdefault(site, _ListingCache())


def is_excluded(
    request: PageRequest[LaunchpadQuery], timestamps: Sequence[datetime | None], *, closed: bool
) -> bool:
    """Whether an entry is excluded from a job, by the dates of the entry.

    A backfill leaves out what was created after its end; `timestamps` begin with that date. An
    incremental run leaves out what was closed `closed_days` before its window, if that is set.
    """
    window, mode = request.job.window, request.job.mode
    created = timestamps[0]
    if mode == "backfill":
        return created is not None and window.end is not None and created >= window.end
    days = request.query.closed_days
    if mode != "incremental" or days is None or window.start is None or not closed:
        return False
    latest = max((time for time in timestamps if time is not None), default=None)
    return latest is not None and latest < window.start - timedelta(days=days)
