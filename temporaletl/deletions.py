"""Deletion scans: how a source's stored items that are gone are found.

Few sources tell of deletions. Where one does not, it declares how its items are listed, and how one
is asked for; the platform does the rest. A job of its own lists all there is; what is stored and
not listed is asked for by itself, for a list may be behind or cut short. The job goes on over any
number of segments, and in the next run where its time is over. No watermark waits for it.

Nothing is deleted unless the account sees all that it saw when the rows were loaded. Where a person
knows better, a run with the parameter `accept_deletions` deletes all the same.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import JsonValue, TypeAdapter, ValidationError

from temporaletl.errors import ConfigurationError
from temporaletl.extraction import PageRequest
from temporaletl.messages import Mode
from temporaletl.query import ACCEPT_DELETIONS, Query
from temporaletl.registry import Registry, place_of
from temporaletl.rows import Whole
from temporaletl.strategies import Plan

#: In which runs a deletion scan is made; never in a backfill, which is about its window alone.
FindDeleted = Literal["always", "full", "never"]

_yes_or_no = TypeAdapter(bool)


def scans_for_deletions(find_deleted: FindDeleted, mode: Mode) -> bool:
    """Whether a run of that mode looks for what is gone."""
    if find_deleted == "never":
        return False
    return mode == "full" or (mode == "incremental" and find_deleted == "always")


def accepts_deletions(params: Mapping[str, JsonValue]) -> bool:
    """Whether a person says that whatever a run finds gone is gone.

    Raises:
        ConfigurationError: the parameter is neither true nor false.
    """
    try:
        return _yes_or_no.validate_python(params.get(ACCEPT_DELETIONS, False))
    except ValidationError:
        value = params[ACCEPT_DELETIONS]
        raise ConfigurationError(f"{ACCEPT_DELETIONS} is true or false, not {value!r}") from None


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a stream, by their events' ids.

    These begin with `prefix`, the item's id and a colon; where items are `exact`, that is an
    event's whole id, without the colon.

        assert Items("order:").tombstone("7").covers("order:7:paid")
        assert Items("order:", exact=True).tombstone("7").covers("order:7")
    """

    prefix: str = ""
    exact: bool = False

    def tombstone(self, id_: str) -> Whole:
        """Say that nothing is left of an item."""
        return Whole(f"{self.prefix}{id_}" + ("" if self.exact else ":"), exact=self.exact)


@dataclass(frozen=True, slots=True)
class DeletionScan:
    """How the items that a source shows are listed, and how one is asked for. Both may block.

    `list_ids` yields ids of the items that the source shows, from a position on, each with the
    position behind them; None for a position means that the list cannot be taken up there.
    `is_gone` asks for one item, and without it the list alone decides. Both are safe to repeat, and
    raise as an extract method does: a source that does not answer has shown nothing gone. `noun`
    names the items in messages. `scope` names the parts of what is listed: filters, members,
    projects. Items that a narrower scope covers no more are not gone: they stay. `most_asked`
    limits what one scan asks for, where each costs a request: others of those that are missing are
    asked for in later ones. `start` runs a function in one of the source's own threads.

        def listed(position: JsonValue) -> Iterator[tuple[list[str], JsonValue]]:
            behind = int(str(position or 0))
            while found := shop.orders("north", behind=behind):
                behind += len(found)
                yield [order["id"] for order in found], behind

        scan = DeletionScan("orders", Items("order:"), listed, lambda id_: shop.order(id_) is None)
    """

    noun: str
    items: Items
    list_ids: Callable[[JsonValue], Iterator[tuple[Collection[str], JsonValue]]]
    is_gone: Callable[[str], bool] | None = None
    scope: Collection[str] = ()
    most_asked: int | None = None
    start: Callable[..., Awaitable[Any]] = asyncio.to_thread


class ScanMethod[Q: Query](Protocol):
    """Yields one `DeletionScan`, and afterwards lets go of what it opened for that."""

    def __call__(self, request: PageRequest[Q], /) -> Iterator[DeletionScan]: ...


class ScanInputsMethod(Protocol):
    """Returns the parameters of a stream's scan, with which its job lists everything.

    None where this run reads something else than usual, and most of what is stored is in no list.
    """

    def __call__(
        self, plan: Plan, backlog: Any, stream: str, /
    ) -> Mapping[str, JsonValue] | None: ...


@dataclass(frozen=True, slots=True)
class ScanPlanner:
    """A source's deletion scans as the queuer sees them."""

    inputs: ScanInputsMethod
    find_deleted: Callable[[str], FindDeleted]


scan_planners: Registry[ScanPlanner] = Registry("scan inputs method")
scans: Registry[ScanMethod[Any]] = Registry("deletion scan")


def scan_inputs_method[F: ScanInputsMethod](
    source: str, *, find_deleted: Callable[[str], FindDeleted]
) -> Callable[[F], F]:
    """Register, for the queuer, with which parameters a stream's deletion scan lists everything.

    `find_deleted` tells, by a stream's name, in which runs it is looked for what is gone. In those,
    the platform plans one scan beside the jobs of each stream, unless its window is empty: a
    scan has none, so that a later batch's is the same job, and two never run at once. With it, runs
    of the source take the parameter `accept_deletions`, which no query sees.

        @scan_inputs_method("shop", find_deleted=lambda stream: "always")
        def scan_inputs(plan: Plan, branches: list[str], stream: str) -> dict[str, str] | None:
            region = plan.metadata.params.get("region", "north")
            return {"region": region} if len(branches) > 1 else None

    Raises:
        DuplicateStrategyError: the source has one; the message gives both places.
    """

    def register(function: F) -> F:
        planner = ScanPlanner(function, find_deleted)
        scan_planners.register(source, planner, place=place_of(function))
        return function

    return register


def deletion_scan[F: ScanMethod[Any]](name: str) -> Callable[[F], F]:
    """Register, for the worker, a stream's scan under `<source>-<stream>`, or `<source>-*`.

    A generator that yields one `DeletionScan`; what stands behind its `yield` is done when a
    segment is over, however it ends.

        @deletion_scan("shop-orders")
        def scan(request: PageRequest[ShopQuery]) -> Iterator[DeletionScan]:
            def listed(position: JsonValue) -> Iterator[tuple[list[str], None]]:
                yield [order["id"] for order in shop.orders(request.query.region, behind=0)], None

            try:
                yield DeletionScan("orders", Items("order:"), listed)
            finally:
                shop.close()

    Raises:
        ConfigurationError: it is no generator, or its name is not of that form.
        DuplicateStrategyError: the stream has one; the message gives both places.
    """

    def register(function: F) -> F:
        is_generator: bool = inspect.isgeneratorfunction(function)
        if not is_generator:
            raise ConfigurationError(f"deletion scan {place_of(function)} is not a generator")
        scans.register_for_stream(name, function, place=place_of(function))
        return function

    return register
