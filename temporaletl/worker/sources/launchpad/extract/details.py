"""The lists of entries, read for several entries at once, and the people in them."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from temporaletl import Json, RecordError, Reject
from temporaletl.errors import ETLError
from temporaletl.external.answers import DECODE_FAULTS, decode_record
from temporaletl.external.launchpad.site import STABLE, LaunchpadSite
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.external.threads import abandon
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.launchpad.entries import (
    Activity,
    Comment,
    Entry,
    Message,
    Person,
    Task,
    Vote,
    name_of,
    readable,
)
from temporaletl.worker.sources.launchpad.extract.client import (
    ITEM_FAULTS,
    Collected,
    LaunchpadClient,
)
from temporaletl.worker.sources.launchpad.extract.subjects import Hidden
from temporaletl.worker.sources.launchpad.record import RawRecord

_MOST_PEOPLE = 20_000
#: People move to other time zones now and then.
_GOOD_FOR = timedelta(days=1)

#: What the lists of an entry hold.
_KINDS: Mapping[str, type[Entry]] = {
    "activity": Activity,
    "messages": Message,
    "tasks": Task,
    "comments": Comment,
    "votes": Vote,
}

log = get_logger("temporaletl.worker.sources.launchpad")

#: The links of all people that a record names.
PeopleIn = Callable[[RawRecord], Iterable[str | None]]
#: Whether another item's part of that kind can be read just now; blocks.
Neighbour = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Failure:
    """A part of an item that Launchpad could not give, after all attempts.

    `collection` is its link, where it is one.
    """

    kind: str
    of: str
    key: str
    error: ETLError
    payload: Json
    collection: str | None = None

    @property
    def reject(self) -> Reject:
        what = self.of if self.collection is None else f"the {self.kind} of {self.of}"
        reason = f"Launchpad cannot give {what}: {self.error}"
        return Reject(stage="extract", reason=reason, key=self.key, payload=self.payload)


@dataclass(slots=True)
class Gathered:
    """One entry with its lists, the rejects of its parts, and the parts that are hidden.

    `refused` says whether a loss of all access would look the same. `failures` are its parts
    that did not come, `answered` the kinds of those that did.
    """

    record: RawRecord | None = None
    rejects: list[Reject] = field(default_factory=list)
    hidden: list[Reject] = field(default_factory=list)
    refused: bool = False
    failures: list[Failure] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)

    def lacks(self, what: str, key: str, error: UnreadableError, payload: Json) -> None:
        """Note that something may not be read."""
        self.refused = self.refused or error.may_be_credentials
        self.hidden.append(
            Reject(
                stage="extract",
                reason=f"{what} may not be read, or is not there (HTTP {error.status})",
                key=key,
                payload=payload,
            )
        )

    def read(
        self, client: LaunchpadClient, names: Mapping[str, str | None], of: str, key: str
    ) -> None:
        """Read collections whole, by their names and links, into the record. Blocks.

        One that may not be read is empty, and noted; so is one that does not come.
        """
        assert self.record is not None  # noqa: S101 - there is a record by now
        parts, payload = self.record.parts, dict(self.record.parts)
        parts["complete"] = []
        for name, link in names.items():
            followed = readable(link)
            if followed is None:
                reason = f"the link to the {name} of {of} is missing or hidden from us"
                reject = Reject(stage="extract", reason=reason, key=key, payload=payload)
                self.hidden.append(reject)
                continue
            try:
                collected = client.read_whole(followed)
            except UnreadableError as error:
                self.lacks(f"the {name} of {of}", key, error, payload)
                continue
            except ITEM_FAULTS as error:
                if client.stop.is_set():
                    raise
                self.failures.append(Failure(name, of, key, error, payload, followed))
                continue
            self.answered.append(name)
            self.take(name, collected, of, key)

    def take(self, name: str, collected: Collected, of: str, key: str) -> None:
        """Put a collection into the record: the entries of it that can be read."""
        assert self.record is not None  # noqa: S101 - as above
        entries, complete = [], collected.complete
        for entry in collected.entries:
            try:
                decode_record(_KINDS[name], entry)
            except RecordError as error:
                complete = False
                reason = f"one of the {name} of {of} is not as Launchpad describes it: {error}"
                self.rejects.append(Reject(stage="extract", reason=reason, key=key, payload=entry))
            else:
                entries.append(entry)
        for gap in collected.gaps:
            reason = f"Launchpad cannot give entry {gap.start} of the {name} of {of}: {gap.reason}"
            payload = {name: gap.start, "of": key}
            self.rejects.append(Reject(stage="extract", reason=reason, key=key, payload=payload))
        self.record.parts[name] = entries
        if complete:
            self.record.parts["complete"] = [*self.record.parts["complete"], name]


async def gather[T](
    client: LaunchpadClient, read: Callable[..., T], calls: Iterable[tuple[Any, ...]]
) -> list[T]:
    """Make many blocking calls in the site's threads; the first failure ends them all."""
    tasks = [asyncio.ensure_future(client.site.start(read, client, *call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await abandon(tasks)


async def finish(
    client: LaunchpadClient,
    gathered: Sequence[Gathered],
    people_in: PeopleIn,
    hidden: Hidden,
    neighbour: Neighbour,
) -> tuple[list[RawRecord], list[Reject]]:
    """Add the people to records; return these, and the rejects to put on a page with them.

    An item that Launchpad cannot give while it gives its neighbours becomes a reject.

    Raises:
        CredentialsError: what could not be read is not private: nothing may be read any more.
        ETLError: parts did not come, of one item and of others alike.
    """
    await client.site.start(_resolve_failures, client, gathered, neighbour)
    if any(item.refused for item in gathered):
        await client.site.start(lambda: client.site.check_access(stop=client.stop))
    records = [item.record for item in gathered if item.record is not None]
    strangers = await add_people(client, records, people_in)
    for item in gathered:
        hidden.note(*item.hidden)
    rejects = [reject for item in gathered for reject in item.rejects]
    return records, [*rejects, *strangers, *(hidden.release() if records else ())]


def _resolve_failures(
    client: LaunchpadClient, gathered: Sequence[Gathered], neighbour: Neighbour
) -> None:
    """Resolve each failure: an outage is raised, an unreadable item becomes a reject. Blocks.

    Raises:
        ETLError: it may as well be an outage.
    """
    came = Counter(kind for item in gathered for kind in item.answered)
    failed = Counter(failure.kind for item in gathered for failure in item.failures)
    for item in gathered:
        for failure in item.failures:
            kind = failure.kind
            if failed[kind] > _MOST_FAILED and failed[kind] > came[kind]:
                raise failure.error
            if not came[kind] and not neighbour(kind):
                raise failure.error
            log.warning("not_given", key=failure.key, kind=kind, error=str(failure.error))
            if failure.collection is None:
                item.rejects.append(failure.reject)
                continue
            try:
                collected = client.read_whole(failure.collection, around=True)
            except ITEM_FAULTS:
                item.rejects.append(failure.reject)
            else:
                item.take(kind, collected, failure.of, failure.key)


#: So many items of a page may be at fault though most of the page is.
_MOST_FAILED = 2


async def add_people(
    client: LaunchpadClient, records: Sequence[RawRecord], people_in: PeopleIn
) -> list[Reject]:
    """Add to each record the people that it names.

    Returns the rejects of those whom Launchpad cannot give, though it gives others.
    """
    named: list[tuple[RawRecord, set[str]]] = []
    for record in records:
        try:
            names = {name for link in people_in(record) if (name := name_of(link))}
        except RecordError:
            continue  # the transform says what is wrong with it
        named.append((record, names))
    wanted = sorted({name for _, names in named for name in names})
    seen = await gather(client, _cached_person, ((name,) for name in wanted))
    people: dict[str, Person | None] = {}
    rejects = []
    failed = [found for found in seen if isinstance(found, Failure)]
    for name, found in zip(wanted, seen, strict=True):
        if not isinstance(found, Failure):
            people[name] = found
            continue
        if len(failed) > _MOST_FAILED or not await client.site.start(client.is_answered):
            raise found.error
        people[name] = None
        rejects.append(found.reject)
    for record, names in named:
        record.parts["people"] = {
            name: person for name in sorted(names) if (person := people[name]) is not None
        }
    return rejects


class _PersonCache:
    """Cache of the people of one site. Safe to use from many threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._people: dict[str, Person | None] = {}
        self._since = time.monotonic()

    def get(self, client: LaunchpadClient, name: str) -> Person | None:
        with self._guard:
            old = time.monotonic() - self._since > _GOOD_FOR.total_seconds()
            if old or len(self._people) >= _MOST_PEOPLE:
                self._people, self._since = {}, time.monotonic()
            if name in self._people:
                return self._people[name]
        person = _fetch_person(client, name)
        with self._guard:
            self._people[name] = person
        return person


_person_caches: WeakKeyDictionary[LaunchpadSite, _PersonCache] = WeakKeyDictionary()
_person_caches_guard = threading.Lock()


def _cached_person(client: LaunchpadClient, name: str) -> Person | Failure | None:
    """Return a person, cached; None where the account may not read them. Blocks."""
    with _person_caches_guard:
        cache = _person_caches.setdefault(client.site, _PersonCache())
    try:
        return cache.get(client, name)
    except ITEM_FAULTS as error:
        if client.stop.is_set():
            raise
        return Failure("person", f"~{name}", f"~{name}", error, {"person": name})


def _fetch_person(client: LaunchpadClient, name: str) -> Person | None:
    url = f"{client.site.settings.service_root}{STABLE}/~{name}"
    try:
        raw = client.read_entry(url)
    except UnreadableError as error:
        if error.may_be_credentials:
            client.site.check_access(stop=client.stop)
        return None
    try:
        found = decode_record(Person, raw)
    except RecordError as error:
        log.warning("person_not_as_described", name=name, error=str(error))
        found = _named_in(raw, name)
    return Person(
        name=name,
        display_name=found.display_name,
        time_zone=found.time_zone,
        is_team=found.is_team,
    )


def _named_in(raw: msgspec.Raw, name: str) -> Person:
    """A person with as much of a partly undecodable entry as can be decoded."""
    try:
        members = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except DECODE_FAULTS:
        members = {}
    known: dict[str, Any] = {"name": name}
    for member in ("display_name", "time_zone", "is_team"):
        try:
            known[member] = msgspec.json.decode(members[member])
        except (KeyError, *DECODE_FAULTS):
            continue
    try:
        return msgspec.convert(known, Person)
    except msgspec.ValidationError:
        return Person(name=name)
