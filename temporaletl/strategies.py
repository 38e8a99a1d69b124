"""The decorators by which a source registers, and what its strategies get and give.

The queuer imports `temporaletl.queuer.sources.*`, the worker `temporaletl.worker.sources.*`; both
import the modules that other wheels name in the entry-point group `temporaletl.sources`.
"""

import importlib
import inspect
import pkgutil
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from temporaletl.budget import RateBudget
from temporaletl.clock import utc_now
from temporaletl.errors import ConfigurationError, StrategyImportError, UnknownSourceError
from temporaletl.messages import BatchMetadata, ETLInput, Window
from temporaletl.registry import AFTER_RESTART, Registry, place_of
from temporaletl.rows import Event, Json, Reject, Row, Whole, person_key, storable_text

if TYPE_CHECKING:
    from temporaletl.deletions import ScanStore

ENTRY_POINT_GROUP = "temporaletl.sources"
#: In an extract method's name: all streams that have no method of their own.
ANY_STREAM = "*"

F = TypeVar("F", bound=Callable[..., Any])
Q = TypeVar("Q", bound="type[Query]")


class Query(BaseModel):
    """What a job asks its source for: the job's parameters, checked and typed.

    Subclasses add fields and raise the two class attributes: `VERSION` when rows change in a
    way their readers must know, `SPECIFIC_VERSION` at any change of the transform.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    VERSION: ClassVar[str] = "1"
    SPECIFIC_VERSION: ClassVar[str] = "1.0"

    @classmethod
    def version(cls) -> str:
        """Stored on every row; changes with breaking changes only."""
        return cls.VERSION

    @classmethod
    def specific_version(cls) -> str:
        """Stored on every row; changes with any change."""
        return cls.SPECIFIC_VERSION

    @classmethod
    def from_dict(cls, params: Mapping[str, JsonValue]) -> Self:
        """Build from a job's parameters.

        Raises:
            ConfigurationError: a parameter is unknown, missing or of the wrong type; it is named.
        """
        try:
            return cls.model_validate(params)
        except ValidationError as error:
            faults = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'query'}: {e['msg']}" for e in error.errors()
            )
            raise ConfigurationError(f"{cls.__name__}: {faults}") from None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the queuer's strategies get: the batch to plan.

    `last_cursors` are, by stream, the last cursors of the latest job that completed in a batch
    which was not a backfill: for sources whose own position means more than a time.
    """

    metadata: BatchMetadata
    last_cursors: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def windows(self) -> Mapping[str, Window]:
        """The window to cover, by stream; only the streams that were asked for."""
        return self.metadata.windows

    def job(self, stream: str, window: Window, **params: JsonValue) -> ETLInput:
        """One job of this batch; the platform numbers it and derives its id."""
        return ETLInput(
            batch_id=self.metadata.batch_id,
            seq=0,
            job_id="",
            source=self.metadata.source,
            stream=stream,
            mode=self.metadata.mode,
            connection=self.metadata.connection,
            window=window,
            params={**self.metadata.params, **params},
            policy=self.metadata.policy,
            segment_queue=self.metadata.segment_queue,
        )

    def deletion_scan(self, stream: str, **params: JsonValue) -> ETLInput:
        """A job that looks for what is gone: see `temporaletl.deletions`.

        It has no window, so that a later batch's is the same job: two never run at once.
        """
        return self.job(stream, Window(), **params).model_copy(update={"scan": True})


async def _nothing_to_wait_for() -> None:
    return


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What an extract strategy gets: where to begin, and for whom.

    `cursor` is None for the job's first page, else the `cursor` of the last page whose rows
    are committed. `scan` is what the warehouse knows of a deletion scan; None without one.
    `stored_properties` takes an event's id, and returns its properties as they are loaded, None
    where there is none. `stored_rows` looks into the tables of other row classes. Both block.
    `now` tells the time by the warehouse's clock: for `Page.extracted_at`.
    """

    job: ETLInput
    query: Any
    cursor: JsonValue = None
    scan: "ScanStore | None" = None
    #: Waits until all pages that were yielded so far are committed.
    committed: Callable[[], Awaitable[object]] = _nothing_to_wait_for
    stored_properties: Callable[[str], Mapping[str, Json] | None] = lambda _event_id: None
    stored_rows: "StoredRows" = lambda _wanted, _equal, _behind, _most: ()
    now: Callable[[], datetime] = utc_now


class StoredRows(Protocol):
    """Reads rows of a row class other than `Event`, as they are loaded.

    They have these values in these columns; they come in the order of their keys from behind a
    key on, at most so many.
    """

    def __call__[R: Row](
        self,
        wanted: type[R],
        equal: Mapping[str, str],
        behind: Sequence[str] | None,
        most: int,
        /,
    ) -> Sequence[R]: ...


@dataclass(frozen=True, slots=True)
class Page:
    """Records, and the position behind them.

    `cursor` is committed in the transaction that holds the records' rows; extraction goes on
    there after any interruption. `rejects` are records that could not even be decoded.
    `extracted_at` is for strategies that read ahead: when the page was asked for, by the
    request's `now`. Others leave it to the platform. `note` is what a person should know of the
    job though nothing failed; the last one stands in its summary.
    """

    records: Sequence[Any]
    cursor: JsonValue
    rejects: Sequence[Reject] = ()
    extracted_at: datetime | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class TransformContext:
    """What a transform strategy gets beside the record."""

    job: ETLInput
    query: Any
    #: The platform's employee ids by `person_key` of the source's own ids of people.
    identities: Mapping[str, str] = field(default_factory=dict)

    def employee(self, person: str | None) -> str | None:
        """Resolve a person by the source's id or an e-mail address.

        One who is unknown keeps the source's id.
        """
        if person is None:
            return None
        key = person_key(person)
        # As a person is stored: whose id holds a NUL is known by another.
        found = self.identities.get(key) or self.identities.get(storable_text(key))
        return found or person


class ExtractMethod(Protocol):
    """Yields pages in order, from the request's cursor to the end of the job's window.

    Raises RetryableError or PermanentError; the pages yielded before stay loaded.
    """

    def __call__(self, request: PageRequest, /) -> AsyncGenerator[Page]: ...


class TransformMethod(Protocol):
    """Turns one record into its rows; an exception rejects the record, whole and alone.

    Takes the record as extracted, or as a reject keeps it: the JSON of its payload, decoded.
    """

    def __call__(
        self, record: Any, context: TransformContext, /
    ) -> Iterable[Row | Reject | Whole]: ...


@dataclass(frozen=True, slots=True)
class Planner:
    """A source as the queuer sees it."""

    describe: Callable[[Plan], Any | Awaitable[Any]]
    #: Read `streams` instead.
    declared_streams: Sequence[str] | Callable[[], Sequence[str]]
    #: How far an incremental window reaches back behind the watermark, for late arrivals.
    overlap: timedelta
    #: How far a window's end stays behind now, for what the source lists late.
    lag: Callable[[], timedelta]
    #: Builds and checks the source's settings; raises ConfigurationError.
    settings: Callable[[], Any] | None

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams there are; a source that asks its settings for them may raise ETLError."""
        declared = self.declared_streams
        return tuple(declared() if callable(declared) else declared)


@dataclass(frozen=True, slots=True)
class Transformer:
    transform: TransformMethod
    rows: tuple[type[Row], ...]


planners: Registry[Planner] = Registry("params method")
expanders: Registry[Callable[[Plan, Any], Any]] = Registry("transform inputs method")
people: Registry[Callable[[Plan], Any]] = Registry("identities method")
budgets: Registry[Callable[[], RateBudget]] = Registry("rate budget")
queries: Registry[type[Query]] = Registry("query type")
extractors: Registry[ExtractMethod] = Registry("extract method")
transformers: Registry[Transformer] = Registry("transform method")


def params_method(
    source: str,
    *,
    streams: Sequence[str] | Callable[[], Sequence[str]],
    overlap: timedelta = timedelta(minutes=5),
    lag: timedelta | Callable[[], timedelta] = timedelta(seconds=30),
    settings: Callable[[], Any] | None = None,
) -> Callable[[F], F]:
    """Register `describe(plan)`, plain or async: what the backlog is.

    What it returns goes, unseen by the platform, to the source's transform inputs method.
    A lag that depends on the source's settings is a function, called when a batch is planned; so
    are streams that only the settings know.
    """
    lag_now = lag if callable(lag) else lambda: lag

    def register(function: F) -> F:
        planner = Planner(function, streams, overlap, lag_now, settings)
        planners.register(source, planner, place=place_of(function))
        return function

    return register


def transform_inputs_method(source: str) -> Callable[[F], F]:
    """Register `expand(plan, backlog)`, a generator, plain or async, of `plan.job(...)`."""

    def register(function: F) -> F:
        expanders.register(source, function, place=place_of(function))
        return function

    return register


def identities_method(source: str) -> Callable[[F], F]:
    """Register `people(plan)`, a generator, plain or async, of `Identity` rows: who is who.

    Optional. Called once for each batch, before its jobs are planned.
    """

    def register(function: F) -> F:
        people.register(source, function, place=place_of(function))
        return function

    return register


def rate_budget(source: str) -> Callable[[F], F]:
    """Register a function that returns the source's `RateBudget`, from its settings.

    Optional. Its presence alone gives the source a task queue, so it stands in a module that
    both services import.
    """

    def register(function: F) -> F:
        budgets.register(source, function, place=place_of(function))
        return function

    return register


def query_type(source: str) -> Callable[[Q], Q]:
    """Register the class of the source's queries; see `Query`."""

    def register(cls: Q) -> Q:
        for method in ("from_dict", "version", "specific_version"):
            if not callable(getattr(cls, method, None)):
                raise ConfigurationError(f"query type {place_of(cls)} has no {method}()")
        queries.register(source, cls, place=place_of(cls))
        return cls

    return register


def extract_method(name: str) -> Callable[[F], F]:
    """Register an async generator of pages under `<source>-<stream>`; see `ExtractMethod`.

    `<source>-*` stands for all of the source's streams that have none of their own.
    """

    def register(function: F) -> F:
        if not inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"extract method {place_of(function)} is not an async generator"
            )
        if "-" not in name:
            raise ConfigurationError(f"extract method {name!r} must be named <source>-<stream>")
        extractors.register(name, function, place=place_of(function))
        return function

    return register


def transform_method(name: str, *, rows: Sequence[type[Row]] = (Event,)) -> Callable[[F], F]:
    """Register a transform under `<source>`, or `<source>-<stream>` which wins.

    `rows` are the row classes it yields: their tables are checked before the first page.
    """

    def register(function: F) -> F:
        transformers.register(name, Transformer(function, tuple(rows)), place=place_of(function))
        return function

    return register


@dataclass(frozen=True, slots=True)
class Strategies:
    """A stream as the worker sees it."""

    query: type[Query]
    extract: ExtractMethod
    transform: TransformMethod
    rows: tuple[type[Row], ...]


def resolve(source: str, stream: str) -> Strategies:
    """Find the worker's strategies for one stream.

    Raises:
        UnknownSourceError: one of them is not registered; names the known ones.
    """
    name = f"{source}-{stream}"
    query = queries.get(source)
    extracted = name if name in extractors else f"{source}-{ANY_STREAM}"
    if extracted not in extractors:
        known = [known for known in extractors if known.startswith(f"{source}-")]
        raise UnknownSourceError(
            f"source {source!r} has no stream {stream!r}; "
            f"its streams: {', '.join(known) or 'none'}{AFTER_RESTART}"
        )
    transformer = transformers.get(name if name in transformers else source)
    return Strategies(query, extractors.get(extracted), transformer.transform, transformer.rows)


def import_sources(package: str) -> None:
    """Import every module below `package` and every entry point, so that they register.

    Safe to repeat.

    Raises:
        StrategyImportError: a module fails to import; names the module and the cause.
        DuplicateStrategyError: two modules claim one name.
    """
    _import_tree(package)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        _import(entry.module)


def _import_tree(package: str) -> None:
    # `pkgutil.walk_packages` would import packages itself and swallow their errors.
    for found in pkgutil.iter_modules(_import(package).__path__, prefix=f"{package}."):
        if found.ispkg:
            _import_tree(found.name)
        else:
            _import(found.name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ConfigurationError:
        raise
    except Exception as error:
        raise StrategyImportError(
            f"source module {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
