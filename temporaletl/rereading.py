"""Second readings: items that one run could not read are requested one by one in the next.

A reject of stage `extract` stands for something that the source has and could not give, or gave
so that it could not be decoded. Every incremental run requests the longest untried of them once
more, apart from what it reads anyway, and so does `etl rejects replay`: without that, an item that
recovers unchanged would be loaded by the next full run only, which reads all there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from temporaletl.extraction import PageRequest
from temporaletl.query import Query
from temporaletl.registry import Registry, place_of


@dataclass(frozen=True, slots=True)
class Unread:
    """An item that could not be read: its reject's `key`, and `payload` decoded from JSON.

    Of a payload that was too large only the beginning is left, as a text.

        def number_of(unread: Unread) -> str | None:
            return unread.payload["id"] if isinstance(unread.payload, dict) else unread.key

        assert number_of(Unread(key=None, payload={"id": "7"})) == "7"
    """

    key: str | None
    payload: Any


@dataclass(frozen=True, slots=True)
class Reread:
    """Result of a second reading.

    `records` are loaded as any page's are. With some, and without a `fault`, the reject is closed;
    with a fault it stays, and the fault is its reason. Where nothing came, it stays as well: what
    is not shown now may be shown again, unchanged. Only a full run that does not meet it any more
    forgets it. `complete` says that nothing is missing, though no record came: a list that every
    run reads, and that has no gap any more.

        found = Reread([{"id": "7", "branch": "north"}])
        still = Reread(fault="its lines cannot be read yet: HTTP 500")
        complete = Reread(complete=True)
    """

    records: Sequence[Any] = ()
    fault: str | None = None
    complete: bool = False


class RereadMethod[Q: Query](Protocol):
    """Reads one unread item from the source; None where it cannot be requested by itself.

    `request` has the query of the job that met the reject. Several are awaited at once.

    Raises: as an extract method. What concerns the item alone is a fault; so is any permanent
        error, save refused credentials.
    """

    async def __call__(self, unread: Unread, request: PageRequest[Q], /) -> Reread | None: ...


rereaders: Registry[RereadMethod[Any]] = Registry("reread method")


def reread_method[F: RereadMethod[Any]](name: str) -> Callable[[F], F]:
    """Register how a stream, `<source>-<stream>`, reads single items that a job could not read.

    Optional. Without one, such rejects stay until a full run reads everything without them.

        @reread_method("shop-orders")
        async def reread_order(unread: Unread, request: PageRequest[ShopQuery]) -> Reread | None:
            if unread.key is None:
                return None
            order = shop.order(unread.key)
            return Reread([order] if order else [])
    """

    def register(function: F) -> F:
        rereaders.register(name, function, place=place_of(function))
        return function

    return register


def reread_method_of(source: str, stream: str) -> RereadMethod[Any] | None:
    """The stream's method; None where it has none."""
    name = f"{source}-{stream}"
    return rereaders.get(name) if name in rereaders else None
