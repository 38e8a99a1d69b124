"""What hangs on an entry, several entries at once, and the people in it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

from temporaletl import Json, RecordError, Reject
from temporaletl.external.launchpad.site import STABLE, LaunchpadSite
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.external.threads import abandon
from worker.sources.launchpad.entries import Person, name_of, readable
from worker.sources.launchpad.extract.client import LaunchpadClient
from worker.sources.launchpad.extract.subjects import Hidden
from worker.sources.launchpad.record import Found

_MOST_PEOPLE = 20_000
#: People move to other time zones now and then.
_GOOD_FOR = timedelta(days=1)

#: The links of all people that a record names.
PeopleIn = Callable[[Found], Iterable[str | None]]


@dataclass(slots=True)
class Gathered:
    """One entry with what hangs on it, what cannot be used of it, and what may not be read.

    `refused` tells whether a loss of all access would look the same.
    """

    found: Found | None = None
    rejects: list[Reject] = field(default_factory=list)
    hidden: list[Reject] = field(default_factory=list)
    refused: bool = False

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

        One that may not be read is empty, and noted.
        """
        assert self.found is not None  # noqa: S101 - there is a record by now
        parts, payload = self.found.parts, dict(self.found.parts)
        complete: list[str] = []
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
            parts[name] = collected.entries
            if collected.complete:
                complete.append(name)
        parts["complete"] = complete


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
    client: LaunchpadClient, gathered: Sequence[Gathered], people_in: PeopleIn, hidden: Hidden
) -> tuple[list[Found], list[Reject]]:
    """Add the people to records; return these, and the rejects to put on a page with them.

    Raises:
        CredentialsError: what could not be read is not private: nothing may be read any more.
    """
    if any(each.refused for each in gathered):
        await client.site.start(lambda: client.site.check_access(stop=client.stop))
    records = [each.found for each in gathered if each.found is not None]
    await add_people(client, records, people_in)
    for each in gathered:
        hidden.note(*each.hidden)
    rejects = [reject for each in gathered for reject in each.rejects]
    return records, [*rejects, *(hidden.release() if records else ())]


async def add_people(
    client: LaunchpadClient, records: Sequence[Found], people_in: PeopleIn
) -> None:
    """Put what is known of the people that a record names into it."""
    named: list[tuple[Found, set[str]]] = []
    for record in records:
        try:
            names = {name for link in people_in(record) if (name := name_of(link))}
        except RecordError:
            continue  # the transform says what is wrong with it
        named.append((record, names))
    wanted = sorted({name for _, names in named for name in names})
    people = dict(
        zip(wanted, await gather(client, _person, ((name,) for name in wanted)), strict=True)
    )
    for record, names in named:
        record.parts["people"] = {
            name: person for name in sorted(names) if (person := people[name]) is not None
        }


class _Acquaintances:
    """The people of one site whom this process has looked at. Safe to use from many threads."""

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
        person = _look_at(client, name)
        with self._guard:
            self._people[name] = person
        return person


_acquaintances: WeakKeyDictionary[LaunchpadSite, _Acquaintances] = WeakKeyDictionary()
_acquaintances_guard = threading.Lock()


def _person(client: LaunchpadClient, name: str) -> Person | None:
    """Look at a person; None where that is not allowed. Blocks."""
    with _acquaintances_guard:
        known = _acquaintances.setdefault(client.site, _Acquaintances())
    return known.get(client, name)


def _look_at(client: LaunchpadClient, name: str) -> Person | None:
    url = f"{client.site.settings.service_root}{STABLE}/~{name}"
    try:
        found = client.read(Person, url)
    except UnreadableError as error:
        if error.may_be_credentials:
            client.site.check_access(stop=client.stop)
        return None
    return Person(
        name=name,
        display_name=found.display_name,
        time_zone=found.time_zone,
        is_team=found.is_team,
    )
