"""What one extraction asks its Launchpad: entries, and collections to their very end."""

import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
import structlog

from temporaletl import SourceUnavailableError
from temporaletl.external.launchpad.site import LaunchpadSite

log = structlog.get_logger("worker.sources.launchpad")

#: What Launchpad gives at most.
_LARGEST_PAGE = 300
_MOST_READINGS = 8
_MOST_REPEATS = 5


class CollectionPage(msgspec.Struct):
    """A page of a collection. Some versions give a link in place of the total."""

    entries: list[msgspec.Raw] = []
    total_size: int | None = None
    start: int | None = None
    next_collection_link: str | None = None


class Collected(NamedTuple):
    """The entries of a collection, and whether they are as many as it counts."""

    entries: list[msgspec.Raw]
    complete: bool


class LaunchpadClient:
    """A site, for as long as one extraction wants it."""

    def __init__(self, site: LaunchpadSite) -> None:
        self.site = site
        #: Set when nobody waits for answers any more.
        self.stop = threading.Event()

    def read[T](self, kind: type[T], url: str) -> T:
        """Get and decode. Blocks.

        Raises: as `LaunchpadSite.read`.
        """
        return self.site.read(kind, url, stop=self.stop)

    def page(self, url: str, known: set[str]) -> CollectionPage:
        """Get a page whose link to the next one is none that is `known`, and add that. Blocks.

        Raises:
            SourceUnavailableError: it keeps leading back to where we were.
            Others as `LaunchpadSite.read`.
        """
        known.add(url)
        for _ in range(_MOST_REPEATS):
            page = self.read(CollectionPage, url)
            following = page.next_collection_link
            if following is None or following not in known:
                return page
            # Following it would go round in circles; the same question may get another answer.
        raise SourceUnavailableError(
            f"launchpad: {urlsplit(url).path} repeats the link of a page we were on"
        )

    def read_whole(
        self, link: str, key: Callable[[msgspec.Raw], Any] = bytes, *, patience: int = 1
    ) -> Collected:
        """Return every entry of a collection, each `key` once. Blocks.

        Reads it again where entries moved between its pages, or where it counts more than came,
        until `patience` readings bring nothing new: some totals count what nobody may see.

        Raises: as `page`.
        """
        found: dict[Any, msgspec.Raw] = {}
        fruitless = 0
        complete = False
        for reading in range(_MOST_READINGS):
            known = len(found)
            totals = self._read_pages(link, key, found)
            total = min(totals, default=None)
            complete = len(totals) <= 1 and (total is None or len(found) >= total)
            if complete:
                break
            fruitless = fruitless + 1 if reading and len(found) == known else 0
            if fruitless == patience:
                if total is not None and len(found) < total:
                    path = urlsplit(link).path
                    log.warning("list_shorter_than_its_total", path=path, found=known, total=total)
                break
        return Collected(list(found.values()), complete)

    def _read_pages(
        self, link: str, key: Callable[[msgspec.Raw], Any], found: dict[Any, msgspec.Raw]
    ) -> set[int]:
        """Add each entry; return the totals that the pages told."""
        totals: set[int] = set()
        known: set[str] = set()
        url: str | None = with_query(link, {"ws.size": _LARGEST_PAGE})
        while url is not None:
            page = self.page(url, known)
            for entry in page.entries:
                found[key(entry)] = entry
            if page.total_size is not None:
                totals.add(page.total_size)
            url = page.next_collection_link
        return totals


def with_query(link: str, query: Mapping[str, object]) -> str:
    """Return a link with some parameters set, in place of those it had."""
    parts = urlsplit(link)
    kept = [pair for pair in parse_qsl(parts.query) if pair[0] not in query]
    return urlunsplit(parts._replace(query=urlencode([*kept, *query.items()])))
