"""Launchpad: one site per process, and the searches that its API offers.

launchpadlib signs the requests and knows, from the service's own description (WADL), which
searches there are. Paging and decoding are ours: its collections give no cursor to resume from,
and know no page size.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
import requests

from temporaletl.errors import CredentialsError, SourceProtocolError
from temporaletl.external.answers import decode_object, reading
from temporaletl.external.exchange import keep_connections
from temporaletl.external.http import HttpClient
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.transport import Signature, Transport, UnreadableError
from temporaletl.external.shared import Shared
from temporaletl.external.threads import Begun, start

if TYPE_CHECKING:
    from temporaletl.external.launchpad.library import Library

#: Versions of the API: questions can be searched for in the development version only.
STABLE, DEVEL = "1.0", "devel"

_TOKEN = "LP_CONSUMER_KEY, LP_ACCESS_TOKEN_KEY and LP_ACCESS_TOKEN_SECRET"  # noqa: S105


class _Linked(msgspec.Struct):
    """The link that every entry of Launchpad has."""

    self_link: str


class LaunchpadSite:
    """One Launchpad as one process sees it: its session, its threads, its description.

    Safe to use from many threads. `concurrency` bounds the requests of all jobs together.
    """

    def __init__(self, settings: LaunchpadSettings) -> None:
        from temporaletl.external.launchpad.library import credentials_of

        self.settings = settings
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="launchpad")
        self._credentials = credentials_of(settings)
        self._session = requests.Session()
        self._session.auth = Signature(self._credentials)
        keep_connections(self._session, settings.concurrency)
        self._named = _TOKEN if not settings.anonymous else f"{_TOKEN} (none is set)"
        client = HttpClient(
            self._session,
            source="launchpad",
            credentials=self._named,
            address="LP_SERVICE_ROOT",
            connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
            read_timeout=timedelta(seconds=settings.read_timeout_seconds),
            # Access tokens cannot be renewed, but a refusal is only believed when repeated.
            renew=lambda: None,
        )
        self._transport = Transport(client, root=settings.service_root, credentials=self._named)
        # launchpadlib's objects are not thread-safe: one thread at a time composes a URL.
        self._guard = threading.Lock()
        self._libraries: dict[str, Library] = {}

    def close(self) -> None:
        """Let go of threads and connections; requests under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def start[T](self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Run a blocking function in one of the site's threads."""
        return start(self._threads, function, *args)

    def begin[T](self, function: Callable[..., T], *args: Any) -> Begun[T]:
        """Run a blocking function in one of the site's threads, beside the caller's."""
        return Begun(self._threads, function, *args)

    def read[T](self, kind: type[T], url: str, *, stop: threading.Event | None = None) -> T:
        """Get and decode. Blocks.

        Raises: as `Transport.get`.
        """
        return self._transport.get(url, reading(kind, source="launchpad"), stop=stop)

    def read_entry(self, url: str, *, stop: threading.Event | None = None) -> msgspec.Raw:
        """Get one entry as it is, be it decodable or not. Blocks.

        Raises: as `Transport.get`.
        """
        read = partial(decode_object, having=_Linked, source="launchpad")
        return self._transport.get(url, read, stop=stop)

    def search_url(self, subject: str, operation: str, version: str, **query: Any) -> str | None:
        """Return the URL of a search, as launchpadlib would request it. Blocks.

        `subject` is `~name` or the path of a target. None where Launchpad offers no such search
        there.

        Raises: as `Transport.get`; UnreadableError where there is no such target.
        """
        with self._guard:
            return self._library(version).search_url(subject, operation, **query)

    def options(self, kind: str, field: str, version: str) -> list[str]:
        """Return the values that a field of a kind of entry can have, as Launchpad describes it.

        Empty where it does not say. Blocks.
        """
        with self._guard:
            return self._library(version).options(kind, field)

    def check_access(self, *, stop: threading.Event | None = None) -> None:
        """Request what everybody may read, to distinguish a private object from a lost permission.

        Raises:
            CredentialsError: not even that may be read.
        """
        try:
            self.read(msgspec.Raw, f"{self.settings.service_root}{STABLE}/", stop=stop)
        except UnreadableError as error:
            host = urlsplit(self.settings.service_root).netloc
            raise CredentialsError(
                f"launchpad: {host} refuses everything (HTTP {error.status}); check {self._named}, "
                "and that they may still be used"
            ) from None

    def _library(self, version: str) -> Library:
        """Return launchpadlib for a version; the guard is held."""
        from temporaletl.external.launchpad.library import Library

        if version not in self._libraries:
            root = self.settings.service_root
            try:
                library = Library(self._transport, root, version, self._credentials)
            except UnreadableError as error:
                if error.may_be_credentials:
                    self.check_access()
                raise SourceProtocolError(
                    f"launchpad: {root} has no API of version {version}: {error}; "
                    "check LP_SERVICE_ROOT"
                ) from None
            except (ValueError, KeyError, SyntaxError) as error:
                raise SourceProtocolError(
                    f"launchpad: {root}{version}/ does not describe itself as Launchpad does "
                    f"({type(error).__name__}); check LP_SERVICE_ROOT"
                ) from None
            self._libraries[version] = library
        return self._libraries[version]


open_site = Shared(LaunchpadSite)
close_sites = open_site.close_all
