"""What a source gives the standard suite: how it is served, what it holds, how that changes."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Protocol, runtime_checkable

from pydantic import JsonValue

from temporaletl.testing.fakes.exchange import Request, Traffic
from temporaletl.testing.fakes.faults import ANSWERS, TRANSPORT, Faults

#: Shorter than any silence that a source's settings forbid.
_DRIP = timedelta(milliseconds=100)
#: A part of a path that names one thing of many.
_ID = re.compile(r"[^/]*\d[^/]*|~[^/]+")
#: A version of the interface is the same in all paths.
_VERSION = re.compile(r"v\d+(\.\d+)?|\d+\.\d+")


class MissingMeansError(Exception):
    """The rig does not give what a check needs; the message says what."""


class Rig(ABC):
    """How the suite gets a source to read. Made anew for each check, and served once.

    `serve` alone must be given. A check whose means are not there is skipped, and named.
    Some fifty records are enough: they should fill several pages.
    """

    #: The name the source registers under.
    source: ClassVar[str]
    #: Parameters of each run, as `etl run --param` gives them.
    params: ClassVar[Mapping[str, JsonValue]] = {}
    #: The variable that sets how many records are asked for at once, and two sizes to try.
    page_size_setting: ClassVar[str | None] = None
    page_sizes: ClassVar[tuple[int, int]] = (7, 20)
    #: What must never be told: tokens and passwords as they stand in the environment.
    secrets: ClassVar[Sequence[str]] = ()
    #: Variables that make the source refuse us, with their values.
    wrong_credentials: ClassVar[Mapping[str, str]] = {}
    #: Faults that can strike while it is read.
    faults: ClassVar[Collection[str]] = ()
    #: Faults that change what is served; what was read before may be of before.
    unsettling: ClassVar[Collection[str]] = ()
    #: By table, the column whose time decides which window a row belongs to.
    time_columns: ClassVar[Mapping[str, str]] = {"events": "event_time_utc"}
    #: Whether a backfill brings nothing from outside of its window; of entities it may bring more.
    exact_windows: ClassVar[bool] = True
    #: Whether what the source cannot serve can be gone around: it serves items one by one. Where
    #: it cannot, the run fails and says why.
    serves_items_apart: ClassVar[bool] = True
    #: Whether what is kept of an item that could not be read tells it from one that is not shown.
    knows_unread: ClassVar[bool] = True
    #: Variables that make each run look for what was deleted.
    scans: ClassVar[Mapping[str, str]] = {}
    #: A moment behind everything served.
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    @abstractmethod
    def serve(self) -> Iterator[Mapping[str, str]]:
        """Serve the data; a generator that yields once, the environment that leads to it."""

    def truth(self) -> Mapping[str, int | Collection[str]]:
        """By stream, the rows of a full load: their number, or their keys.

        The key of an event is its id; of another row, its key columns joined by "/".
        """
        raise MissingMeansError("the rig does not tell what is served (truth)")

    def change(self, at: datetime) -> None:
        """Add a record and change one, as if it happened at that time. Nothing is deleted."""
        raise MissingMeansError(f"the rig cannot change what is served (change, {at})")

    def delete(self, at: datetime) -> None:
        """Delete a record, as if it happened at that time."""
        raise MissingMeansError(f"the rig cannot delete what is served (delete, {at})")

    def spoil(self) -> None:
        """Make one record such that no rows can be made of it."""
        raise MissingMeansError("the rig cannot spoil a record (spoil)")

    def strike(self, fault: str) -> None:
        """Let a fault happen from now on, `KIND:RATE` or `KIND:RATE:LIMIT`."""
        raise MissingMeansError(f"the rig has no faults (strike {fault})")

    def calm(self) -> int:
        """Let no fault happen any more; return how many did."""
        return 0

    def endpoints(self) -> Collection[str]:
        """What has been asked since it is served: methods and paths, `*` in place of ids."""
        raise MissingMeansError("the rig does not tell what is asked (endpoints)")

    def strike_at(self, endpoint: str, fault: str) -> None:
        """Let a fault happen where one of the `endpoints` is asked, and nowhere else."""
        raise MissingMeansError(
            f"the rig has no faults of one endpoint (strike_at {endpoint}: {fault})"
        )

    def poison(self, value: bytes) -> None:
        """Have these bytes stand in one record as the value of a member that nobody reads."""
        raise MissingMeansError(f"the rig cannot put {value[:9]!r} into a record (poison)")

    def break_item(self) -> None:
        """Have each answer that would hold one certain item be an internal error (500)."""
        raise MissingMeansError("the rig cannot break an item (break_item)")

    def see_less(self) -> None:
        """Take items from the account's sight, none of them deleted.

        No list shows them any more, asked for one by one they are not found. Where the source
        says who asks, it says that this is nobody, or somebody else.
        """
        raise MissingMeansError("the rig cannot hide items from the account (see_less)")

    def mend(self) -> None:
        """Undo what `poison`, `break_item` and `see_less` did."""
        raise MissingMeansError("the rig cannot undo what it did (mend)")


class _Struck(Protocol):
    injected: Counter[str]

    def add(self, spec: str, /) -> None: ...

    def clear(self) -> None: ...


class Server(Protocol):
    """What the suite needs of a `FakeServer`."""

    url: str

    @property
    def faults(self) -> _Struck: ...

    def start(self) -> object: ...

    def close(self) -> None: ...


@runtime_checkable
class Spoilable(Server, Protocol):
    """What more of a `FakeServer` the checks need that spoil its answers."""

    traffic: Traffic
    rewrites: list[tuple[bytes, bytes]]
    unservable: set[bytes]


class FakeRig(Rig):
    """A rig whose source is read from a `FakeServer`."""

    faults: ClassVar[Collection[str]] = (*TRANSPORT, *ANSWERS)

    server: Server

    @abstractmethod
    def make_server(self) -> Server:
        """Make the server with its data, not yet started."""

    @abstractmethod
    def environment(self, url: str) -> Mapping[str, str]:
        """The settings that lead the source to the server, its timeouts short."""

    def close(self) -> None:
        """Let go of what the source keeps open: sessions, threads."""

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

    def strike(self, fault: str) -> None:
        self.server.faults.add(fault)

    def calm(self) -> int:
        self.server.faults.clear()
        return self.server.faults.injected.total()

    def endpoints(self) -> Collection[str]:
        return {endpoint_of(each.request) for each in self.spoilable.traffic.asked()}

    def strike_at(self, endpoint: str, fault: str) -> None:
        faults = self.server.faults
        if not isinstance(faults, Faults):
            super().strike_at(endpoint, fault)
            return
        faults.only = lambda request: endpoint_of(request) == endpoint
        faults.add(fault)

    def mend(self) -> None:
        if isinstance(self.server, Spoilable):
            self.server.rewrites.clear()
            self.server.unservable.clear()

    @property
    def spoilable(self) -> Spoilable:
        if not isinstance(self.server, Spoilable):
            raise MissingMeansError(f"{type(self.server).__name__} is no FakeServer")
        return self.server


def endpoint_of(request: Request) -> str:
    """Return method and path, with `*` for what names one thing of many."""
    parts = [
        "*" if _ID.fullmatch(part) and not _VERSION.fullmatch(part) else part
        for part in request.path.split("/")
    ]
    return f"{request.method} {'/'.join(parts)}"
