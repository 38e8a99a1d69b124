"""Lists that Launchpad cannot filter by time: read whole, then worked through by number.

Numbers grow, so what is new comes last; the number of the last entry worked through is all that
a cursor needs, whatever order the server lists in, and whatever moves in its lists.
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
from temporaletl.worker.sources.launchpad.extract.memory import recall
from temporaletl.worker.sources.launchpad.extract.subjects import (
    Hidden,
    Searches,
    pick_up,
    subjects_of,
)
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery

#: A list read that recently is not read again to go on with a job.
_GOOD_FOR = timedelta(minutes=30)
_MOST_LISTS = 16
_FEW = 5


class Position(msgspec.Struct, omit_defaults=True):
    """Where reading stands; as JSON it is a page's cursor. `after` is an entry's number."""

    subject: str | None = None
    after: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """The entries of one subject by number, lowest first, and when they were asked for."""

    entries: Sequence[tuple[int, msgspec.Raw]]
    rejects: Sequence[Reject]
    asked: datetime


@dataclass(frozen=True, slots=True)
class Kind:
    """What is listed: its searches, which entries matter, how one is read.

    Ids of its events begin with its name; `version` is that of the API which knows it.
    """

    name: str
    version: str
    searches: Searches
    wanted: Callable[[PageRequest[LaunchpadQuery], msgspec.Raw], bool]
    read: Callable[[LaunchpadClient, int, msgspec.Raw], Gathered]
    people_in: PeopleIn


async def pages(kind: Kind, request: PageRequest[LaunchpadQuery]) -> AsyncGenerator[Page]:
    """Yield the entries of the job's people and targets, each with all that hangs on it."""
    settings = LaunchpadSettings.load()
    client = LaunchpadClient(open_site(settings))
    query = request.query
    place = _position(request.cursor)
    if place.ended:
        return
    size = query.page_size or settings.page_size
    hidden = Hidden(resumed=request.cursor is not None)
    memory = recall(client.site, request)
    try:
        subjects = pick_up(subjects_of(query), place.subject)
        for following, subject in enumerate(subjects, 1):
            behind = _cursor(subjects[following] if following < len(subjects) else None)
            resumed = subject == place.subject
            after = place.after if resumed else 0
            listing = await client.site.start(list_subject, client, kind, subject, resumed, hidden)
            rejects = listing.rejects if after == 0 else ()
            todo = [
                (number, entry)
                for number, entry in listing.entries
                if number > after and number not in memory and kind.wanted(request, entry)
            ]
            if rejects and not todo:
                yield Page(records=[], cursor=behind, rejects=rejects, extracted_at=listing.asked)
            for first in range(0, len(todo), size):
                part = todo[first : first + size]
                gathered = await gather(client, kind.read, part)
                others = partial(_other, client, kind, listing, {number for number, _ in part})
                records, missing = await finish(client, gathered, kind.people_in, hidden, others)
                last = first + size >= len(todo)
                cursor = behind if last else _cursor(subject, part[-1][0])
                for number, _ in part:
                    memory.add(number)
                memory.turn(cursor)
                yield Page(
                    records=records,
                    cursor=cursor,
                    rejects=[*rejects, *missing],
                    extracted_at=listing.asked,
                )
                rejects = ()
        hidden.end()
    finally:
        client.stop.set()


def _cursor(subject: str | None, after: int = 0) -> JsonValue:
    place = Position(ended=True) if subject is None else Position(subject, after)
    cursor: JsonValue = msgspec.to_builtins(place)
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
    shelf = _shelf_of(client.site)
    if resumed and (kept := shelf.get(kind.name, subject)) is not None:
        return kept
    asked = utc_now()
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
    listing = Listing(sorted(entries.items(), key=lambda item: item[0]), rejects, asked)
    shelf.put(kind.name, subject, listing)
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


class _Shelf:
    """The latest lists of one site. Safe to use from many threads."""

    def __init__(self) -> None:
        self._lists: OrderedDict[tuple[str, str], Listing] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, stream: str, subject: str) -> Listing | None:
        with self._guard:
            listing = self._lists.get((stream, subject))
        good = listing is not None and timedelta(0) <= utc_now() - listing.asked < _GOOD_FOR
        return listing if good else None

    def put(self, stream: str, subject: str, listing: Listing) -> None:
        with self._guard:
            self._lists[stream, subject] = listing
            self._lists.move_to_end((stream, subject))
            while len(self._lists) > _MOST_LISTS:
                self._lists.popitem(last=False)


_shelves: WeakKeyDictionary[LaunchpadSite, _Shelf] = WeakKeyDictionary()
_shelves_guard = threading.Lock()


def _shelf_of(site: LaunchpadSite) -> _Shelf:
    with _shelves_guard:
        return _shelves.setdefault(site, _Shelf())


def settled(
    request: PageRequest[LaunchpadQuery], moments: Sequence[datetime | None], *, closed: bool
) -> bool:
    """Whether an entry, by its own dates, is to be left out of a job.

    A backfill leaves out what was made after its end; `moments` begin with that date. An
    incremental run leaves out what was closed `closed_days` before its window, if that is set.
    """
    window, mode = request.job.window, request.job.mode
    made = moments[0]
    if mode == "backfill":
        return made is not None and window.end is not None and made >= window.end
    days = request.query.closed_days
    if mode != "incremental" or days is None or window.start is None or not closed:
        return False
    latest = max((moment for moment in moments if moment is not None), default=None)
    return latest is not None and latest < window.start - timedelta(days=days)
