"""Source fixtures: how the standard suite serves a source, changes its data and injects faults."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol, runtime_checkable

from pydantic import JsonValue

from temporaletl.testing.fakes.exchange import Request, Traffic
from temporaletl.testing.fakes.faults import ANSWERS, TRANSPORT, Faults
from temporaletl.testing.former_names import adopt_former_names, warn_of

#: Shorter than the read timeout of any source fixture.
_DRIP = timedelta(milliseconds=100)
#: A part of a path that is an id.
_ID = re.compile(r"[^/]*\d[^/]*|~[^/]+")
#: A version of the API holds digits, too, but is no id.
_VERSION = re.compile(r"v\d+(\.\d+)?|\d+\.\d+")


class MissingCapabilityError(Exception):
    """A source fixture lacks a capability that a check needs; the message names its method."""


class SourceFixture(ABC):
    """Test double of a source: serves its data, changes it and injects faults.

    A new one is made for each check, and served once. Only `serve` is required: a check that needs
    another capability is skipped where it is missing, and names it. Some fifty records are enough:
    they should fill several pages.
    """

    #: The name the source registers under.
    source: ClassVar[str]
    #: Parameters of each run, as `etl run --param` gives them.
    params: ClassVar[Mapping[str, JsonValue]] = {}
    #: The variable that sets how many records a request asks for, and two page sizes to try.
    page_size_setting: ClassVar[str | None] = None
    page_sizes: ClassVar[tuple[int, int]] = (7, 20)
    #: The variable of the read timeout in seconds; without it no abandoned extraction is checked.
    read_timeout_setting: ClassVar[str | None] = None
    #: Tokens and passwords as they stand in the environment; none may reach logs or the warehouse.
    secrets: ClassVar[Sequence[str]] = ()
    #: Variables that make the source refuse the credentials, with their values.
    wrong_credentials: ClassVar[Mapping[str, str]] = {}
    #: Kinds of faults that can be injected while the source is read.
    faults: ClassVar[Collection[str]] = ()
    #: Those that change the data while it is read, so that rows may hold either state.
    unsettling: ClassVar[Collection[str]] = ()
    #: By table, the column whose time decides which window a row belongs to.
    time_columns: ClassVar[Mapping[str, str]] = {"events": "event_time_utc"}
    #: Whether a backfill brings nothing from outside of its window; of entities it may bring more.
    exact_windows: ClassVar[bool] = True
    #: Whether items are served one by one, so that one that cannot be served costs itself alone.
    #: Otherwise the run fails and says why.
    serves_items_apart: ClassVar[bool] = True
    #: Whether the reject of an unreadable item identifies it, even if the account cannot see it.
    knows_unread: ClassVar[bool] = True
    #: Variables that turn deletion scans on for each run.
    scans: ClassVar[Mapping[str, str]] = {}
    #: A timestamp later than all data that is served.
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adopt_former_names(cls)

    @abstractmethod
    def serve(self) -> Iterator[Mapping[str, str]]:
        """Serve the data; a generator that yields once: the settings under which it is read."""

    def expected(self) -> Mapping[str, int | Collection[str]]:
        """The expected rows of a full load by stream: their number, or their keys.

        The key of an event is its id; of another row, its key columns joined by "/".
        """
        raise MissingCapabilityError("the fixture does not know what a full load holds (expected)")

    def change(self, at: datetime) -> None:
        """Add a record and change one, as if it happened at that time; delete none."""
        raise MissingCapabilityError(f"the fixture cannot change what is served (change, {at})")

    def delete(self, at: datetime) -> None:
        """Delete a record, as if it happened at that time."""
        raise MissingCapabilityError(f"the fixture cannot delete what is served (delete, {at})")

    def corrupt(self) -> None:
        """Corrupt one record: no rows can be made of it."""
        raise MissingCapabilityError("the fixture cannot corrupt a record (corrupt)")

    def inject_fault(self, fault: str) -> None:
        """Inject a fault from now on: `KIND:RATE`, `KIND:RATE:LIMIT` or `KIND:each[:RATE]`."""
        raise MissingCapabilityError(f"the fixture injects no faults (inject_fault {fault})")

    def clear_faults(self) -> int:
        """Stop injecting faults; return how many were injected."""
        return 0

    def endpoints(self) -> Collection[str]:
        """The endpoints requested since it is served: methods and paths, `*` in place of ids."""
        raise MissingCapabilityError("the fixture does not record requests (endpoints)")

    def inject_fault_at(self, endpoint: str, fault: str) -> None:
        """Inject a fault into requests to one of the `endpoints`, and into no other."""
        raise MissingCapabilityError(
            f"the fixture injects no faults into one endpoint (inject_fault_at {endpoint}: {fault})"
        )

    def poison(self, value: bytes) -> None:
        """Put these bytes into one record, as the value of a member that no source reads."""
        raise MissingCapabilityError(f"the fixture cannot put {value[:9]!r} into a record (poison)")

    def break_item(self) -> None:
        """Answer with an internal error (500) whenever a certain item would be served."""
        raise MissingCapabilityError("the fixture cannot break an item (break_item)")

    def see_less(self) -> None:
        """Hide items from the account without deleting them, as reduced permissions would.

        Lists leave them out, and requests for one of them find nothing. Where the source names
        the account, it names another one, or none.
        """
        raise MissingCapabilityError("the fixture cannot hide items from the account (see_less)")

    def restore(self) -> None:
        """Undo `poison`, `break_item` and `see_less`."""
        raise MissingCapabilityError("the fixture cannot undo what it did (restore)")


adopt_former_names(SourceFixture)


class FaultInjector(Protocol):
    """What the suite needs of `Faults`."""

    injected: Counter[str]

    def add(self, spec: str, /) -> None: ...

    def clear(self) -> None: ...


class Server(Protocol):
    """What the suite needs of a `FakeServer`."""

    url: str

    @property
    def faults(self) -> FaultInjector: ...

    def start(self) -> object: ...

    def close(self) -> None: ...


@runtime_checkable
class CorruptibleServer(Server, Protocol):
    """A server whose answers can be rewritten, as a `FakeServer`'s can."""

    traffic: Traffic
    rewrites: list[tuple[bytes, bytes]]
    unservable: set[bytes]


class FakeSourceFixture(SourceFixture):
    """A source fixture that serves the source's own fake, a `FakeServer`."""

    faults: ClassVar[Collection[str]] = (*TRANSPORT, *ANSWERS)

    server: Server

    @abstractmethod
    def make_server(self) -> Server:
        """Create the server with its data, not yet started."""

    @abstractmethod
    def environment(self, url: str) -> Mapping[str, str]:
        """The settings under which the source reads the server, with short timeouts."""

    def close(self) -> None:
        """Close what the source keeps open: sessions, threads."""

    def serve(self) -> Iterator[Mapping[str, str]]:
        self.server = self.make_server()
        if isinstance(self.server.faults, Faults):
            self.server.faults.drip = _DRIP
        self.server.start()
        try:
            yield self.environment(self.server.url)
        finally:
            self.server.close()
            self.close()

    def inject_fault(self, fault: str) -> None:
        self.server.faults.add(fault)

    def clear_faults(self) -> int:
        self.server.faults.clear()
        return self.server.faults.injected.total()

    def endpoints(self) -> Collection[str]:
        requested = self.corruptible.traffic.requested()
        return {self.endpoint_of(exchange.request) for exchange in requested}

    def endpoint_of(self, request: Request) -> str:
        """Return a request's endpoint; override it where names in paths stand for items."""
        return endpoint_of(request)

    def inject_fault_at(self, endpoint: str, fault: str) -> None:
        faults = self.server.faults
        if not isinstance(faults, Faults):
            super().inject_fault_at(endpoint, fault)
            return
        faults.only = lambda request: self.endpoint_of(request) == endpoint
        faults.add(fault)

    def restore(self) -> None:
        if isinstance(self.server, CorruptibleServer):
            self.server.rewrites.clear()
            self.server.unservable.clear()

    @property
    def corruptible(self) -> CorruptibleServer:
        """The server, whose answers can be rewritten.

        Raises:
            MissingCapabilityError: it is no `FakeServer`.
        """
        if not isinstance(self.server, CorruptibleServer):
            raise MissingCapabilityError(f"{type(self.server).__name__} is no FakeServer")
        return self.server

    @property
    def spoilable(self) -> CorruptibleServer:
        """Former name of `corruptible`."""
        warn_of("spoilable", "corruptible")
        return self.corruptible


def endpoint_of(request: Request) -> str:
    """Return the request's method and path, with `*` in place of ids."""
    parts = [
        "*" if _ID.fullmatch(part) and not _VERSION.fullmatch(part) else part
        for part in request.path.split("/")
    ]
    return f"{request.method} {'/'.join(parts)}"
