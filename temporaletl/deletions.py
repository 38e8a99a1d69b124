"""Deletion scans: detection of stored items that the source has deleted.

Few sources report deletions. Where one does not, it declares how its items are listed, and how one
is checked; the platform does the rest. A job of its own lists all items; an item that is stored and
not listed is checked by itself, for a list may be behind or cut short. The job goes on over any
number of segments, and in the next run where its time is over. No watermark waits for it.

Nothing is deleted unless the account sees all that it saw when the rows were loaded. Where a person
knows better, a run with the parameter `accept_deletions` deletes all the same.
"""

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import InitVar, dataclass
from typing import Any, Literal, Protocol

from pydantic import JsonValue, TypeAdapter, ValidationError

from temporaletl.errors import ConfigurationError
from temporaletl.extraction import PageRequest
from temporaletl.messages import Mode
from temporaletl.query import ACCEPT_DELETIONS, Query
from temporaletl.registry import Registry, place_of
from temporaletl.rows import CompleteSet
from temporaletl.strategies import Plan

#: In which runs a deletion scan is made; never in a backfill, which is about its window alone.
#: `daily`: in full runs, and in incremental ones until one was finished within the last day.
FindDeleted = Literal["always", "daily", "full", "never"]

_yes_or_no = TypeAdapter(bool)


def scans_for_deletions(find_deleted: FindDeleted, mode: Mode, *, scanned: bool) -> bool:
    """Whether a run of that mode has a deletion scan; `scanned`: one was finished today."""
    if find_deleted == "never":
        return False
    asked = find_deleted == "always" or (find_deleted == "daily" and not scanned)
    return mode == "full" or (mode == "incremental" and asked)


def accepts_deletions(params: Mapping[str, JsonValue]) -> bool:
    """Whether a run's parameters accept all deletions that its scans find.

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

    def tombstone(self, id_: str) -> CompleteSet:
        """The empty set of an item's events: all that are stored are deleted."""
        return CompleteSet(f"{self.prefix}{id_}" + ("" if self.exact else ":"), exact=self.exact)


@dataclass(frozen=True, slots=True)
class DeletionScan:
    """Listing of the items that a source shows, and the check of one item. Both may block.

    `list_ids` yields ids of the items that the source shows, from a position on, and the position
    behind them; None for a position means that the list cannot be resumed there. `is_deleted`
    checks one item, and without it the list alone decides. Both are safe to repeat, and raise as
    an extract method does: without an answer of the source, nothing is deleted. `noun` names the
    items in messages. `scope` names the parts of what is listed: filters, members, projects. Items
    that a narrower scope no longer covers are not deleted: they stay. `max_checks` limits the
    checks of one scan, where a check costs a request: the other missing items are checked in later
    scans. `start` runs a function in one of the source's own threads.

    `is_gone` and `most_asked` are deprecated names of `is_deleted` and `max_checks`.

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
    is_deleted: Callable[[str], bool] | None = None
    scope: Collection[str] = ()
    max_checks: int | None = None
    start: Callable[..., Awaitable[Any]] = asyncio.to_thread
    is_gone: InitVar[Callable[[str], bool] | None] = None
    most_asked: InitVar[int | None] = None

    def __post_init__(self, is_gone: Callable[[str], bool] | None, most_asked: int | None) -> None:
        for old, new, value in (
            ("is_gone", "is_deleted", is_gone),
            ("most_asked", "max_checks", most_asked),
        ):
            if value is not None:
                warnings.warn(f"DeletionScan: {old} is now {new}", DeprecationWarning, stacklevel=3)
                object.__setattr__(self, new, value)


class ScanMethod[Q: Query](Protocol):
    """Yields one `DeletionScan`, and afterwards closes what it opened for that."""

    def __call__(self, request: PageRequest[Q], /) -> Iterator[DeletionScan]: ...


class ScanInputsMethod(Protocol):
    """Returns the job parameters with which a stream's scan lists everything.

    None for a run without scan: it reads something else than usual, and no list holds most of what
    is stored.
    """

    def __call__(
        self, plan: Plan, backlog: Any, stream: str, /
    ) -> Mapping[str, JsonValue] | None: ...


@dataclass(frozen=True, slots=True)
class ScanPlanner:
    """Planning of a source's deletion scans in the queuer."""

    inputs: ScanInputsMethod
    find_deleted: Callable[[str], FindDeleted]


scan_planners: Registry[ScanPlanner] = Registry("scan inputs method")
scans: Registry[ScanMethod[Any]] = Registry("deletion scan")


def scan_inputs_method[F: ScanInputsMethod](
    source: str, *, find_deleted: Callable[[str], FindDeleted]
) -> Callable[[F], F]:
    """Register a function of the queuer: the job parameters of a stream's deletion scan.

    `find_deleted` returns, by a stream's name, which runs have deletion scans. In those, the
    platform plans one scan beside the jobs of each stream, unless its window is empty: a scan has
    none, so that a later batch's is the same job, and two never run at once. With it, runs of the
    source take the parameter `accept_deletions`, which no query sees.

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
    """Register a stream's scan for the worker, under `<source>-<stream>` or `<source>-*`.

    A generator that yields one `DeletionScan`; the code behind its `yield` runs when a
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
