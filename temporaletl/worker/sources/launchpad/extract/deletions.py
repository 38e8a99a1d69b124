"""Deletion scans: Launchpad does not report what was deleted or became private."""

from collections.abc import Callable, Collection, Iterator
from functools import partial
from urllib.parse import urlsplit

import msgspec
from pydantic import JsonValue

from temporaletl import DeletionScan, Items, PageRequest, deletion_scan
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import STABLE, open_site
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.launchpad.extract import bugs, merge_proposals, questions
from temporaletl.worker.sources.launchpad.extract.client import LaunchpadClient
from temporaletl.worker.sources.launchpad.extract.listing import Kind, number_in
from temporaletl.worker.sources.launchpad.extract.subjects import (
    Searches,
    bug_searches,
    subjects_of,
)
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery

log = get_logger("temporaletl.worker.sources.launchpad")

#: Each costs a request; people who are no longer loaded leave many behind.
_MOST_REQUESTED = 500

#: The number that an entry of a list stands for, None where it is hidden from us.
NumberIn = Callable[[msgspec.Raw], int | None]


@deletion_scan("launchpad-bugs")
def scan_bugs(request: PageRequest[LaunchpadQuery]) -> Iterator[DeletionScan]:
    """List the bugs of all subjects, whenever they changed."""
    yield from _scan(request, "bug", partial(bug_searches, since=None), bugs.number_in, STABLE)


@deletion_scan("launchpad-merge_proposals")
def scan_merge_proposals(request: PageRequest[LaunchpadQuery]) -> Iterator[DeletionScan]:
    """List the merge proposals of all subjects."""
    yield from _scan_listed(request, merge_proposals.KIND)


@deletion_scan("launchpad-questions")
def scan_questions(request: PageRequest[LaunchpadQuery]) -> Iterator[DeletionScan]:
    """List the questions of all subjects."""
    yield from _scan_listed(request, questions.KIND)


def _scan_listed(request: PageRequest[LaunchpadQuery], kind: Kind) -> Iterator[DeletionScan]:
    yield from _scan(request, kind.name, kind.searches, number_in, kind.version)


def _scan(
    request: PageRequest[LaunchpadQuery],
    kind: str,
    searches: Searches,
    number_of_entry: NumberIn,
    version: str,
) -> Iterator[DeletionScan]:
    """Declare the scan of a kind, which is what the ids of its events begin with."""
    client = LaunchpadClient(open_site(LaunchpadSettings.load()))
    try:
        yield DeletionScan(
            f"{kind.replace('_', ' ')}s",
            Items(f"{kind}:"),
            partial(_listed, client, request, searches, number_of_entry),
            partial(_is_gone, client, request, kind, version),
            scope=subjects_of(request.query),
            max_checks=_MOST_REQUESTED,
            start=client.site.start,
        )
    finally:
        client.stop.set()


def _listed(
    client: LaunchpadClient,
    request: PageRequest[LaunchpadQuery],
    searches: Searches,
    number_of_entry: NumberIn,
    position: JsonValue,
) -> Iterator[tuple[Collection[str], JsonValue]]:
    """List one subject after the other; a position is the number of subjects behind it."""
    subjects, done = subjects_of(request.query), int(str(position or 0))
    for following, subject in enumerate(subjects[done:], done + 1):
        listed: set[str] = set()
        try:
            for url in searches(client.site, subject):
                entries = client.read_whole(url).entries
                numbers = map(number_of_entry, entries)
                listed.update(str(number) for number in numbers if number is not None)
        except UnreadableError as error:
            # Those who are renamed or gone leave items behind that exist; these are requested.
            log.warning("not_listed", subject=subject, reason=str(error))
        yield listed, following


def _is_gone(
    client: LaunchpadClient,
    request: PageRequest[LaunchpadQuery],
    kind: str,
    version: str,
    number: str,
) -> bool:
    if kind == "bug":
        path = f"/bugs/{number}"
    else:
        # Only its page on the web has its path, which is the same in the API.
        stored = request.stored.properties(f"{kind}:{number}:created") or {}
        path = urlsplit(str(stored.get("web_link") or "")).path
        if not path:
            return False
    return all(_unreadable(client, f"{version}{path}") for _ in range(2))


def _unreadable(client: LaunchpadClient, path: str) -> bool:
    try:
        client.read(msgspec.Raw, f"{client.site.settings.service_root}{path}")
    except UnreadableError as error:
        if error.may_be_credentials:
            client.site.check_access(stop=client.stop)
        return True
    return False
