"""What is gone: Launchpad does not tell of what was deleted or made private."""

import contextlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from functools import partial
from urllib.parse import urlsplit

import msgspec
import structlog
from pydantic import JsonValue

from temporaletl import Page, PageRequest
from temporaletl.deletions import DeletionScan, Items
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import STABLE, open_site
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.worker.sources.launchpad.extract.client import LaunchpadClient
from temporaletl.worker.sources.launchpad.extract.subjects import Searches, subjects_of

log = structlog.get_logger("temporaletl.worker.sources.launchpad")

#: Each costs a request; people who are no longer asked for leave many behind.
_MOST_ASKED = 500

#: The number that an entry of a list stands for, None where it is hidden from us.
NumberIn = Callable[[msgspec.Raw], int | None]


async def gone(
    request: PageRequest,
    kind: str,
    searches: Searches,
    number_in: NumberIn,
    version: str = STABLE,
) -> AsyncGenerator[Page]:
    """Yield the stored items of a kind that Launchpad shows no more; see `DeletionScan.pages`.

    A kind is what the ids of events begin with.
    """
    client = LaunchpadClient(open_site(LaunchpadSettings.load()))
    scan = DeletionScan(
        f"{kind.replace('_', ' ')}s",
        Items(f"{kind}:"),
        partial(_listed, client, request, searches, number_in),
        partial(_is_gone, client, request, kind, version),
        scope=subjects_of(request.query),
        most_asked=_MOST_ASKED,
    )
    try:
        async with contextlib.aclosing(scan.pages(request, client.site.start)) as pages:
            async for page in pages:
                yield page
    finally:
        client.stop.set()


def _listed(
    client: LaunchpadClient,
    request: PageRequest,
    searches: Searches,
    number_in: NumberIn,
    position: JsonValue,
) -> Iterator[tuple[Collection[str], JsonValue]]:
    """List one subject after the other; a position is the number of subjects behind it."""
    subjects, done = subjects_of(request.query), int(str(position or 0))
    for following, subject in enumerate(subjects[done:], done + 1):
        listed: set[str] = set()
        try:
            for url in searches(client.site, subject):
                entries = client.read_whole(url).entries
                listed.update(str(n) for entry in entries if (n := number_in(entry)) is not None)
        except UnreadableError as error:
            # Those who are renamed or gone leave items behind that are there; they are asked for.
            log.warning("not_listed", subject=subject, reason=str(error))
        yield listed, following


def _is_gone(
    client: LaunchpadClient, request: PageRequest, kind: str, version: str, number: str
) -> bool:
    if kind == "bug":
        path = f"/bugs/{number}"
    else:
        # Only its page on the web tells where else it is; the API has the same path.
        stored = request.stored_properties(f"{kind}:{number}:created") or {}
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
