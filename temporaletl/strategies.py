"""The decorators by which a source registers its strategies, and their interfaces.

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
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any, Protocol, get_args, get_origin

from pydantic import JsonValue

from temporaletl.budget import RateBudget
from temporaletl.connections.declarations import declare_owner
from temporaletl.errors import ConfigurationError, StrategyImportError
from temporaletl.extraction import ExtractMethod, PageRequest
from temporaletl.messages import BatchMetadata, ETLInput, Window
from temporaletl.query import Query, name_source
from temporaletl.registry import Registry, place_of
from temporaletl.rereading import reread_method_of
from temporaletl.rows import Event, Identity, Row
from temporaletl.transformation import TransformContext, TransformMethod

ENTRY_POINT_GROUP = "temporaletl.sources"

#: What a generator, plain or async, gives.
type Generated[T] = Iterable[T] | AsyncGenerator[T]
#: Returns a backlog, which only the source's own transform inputs method looks into.
type ParamsMethod = Callable[[Plan], Any | Awaitable[Any]]
type PeopleMethod = Callable[[Plan], Generated[Identity]]
type BudgetMethod = Callable[[], RateBudget]


class TransformInputsMethod(Protocol):
    """Yields a batch's jobs, in the same order each time."""

    def __call__(self, plan: "Plan", backlog: Any, /) -> Generated[ETLInput]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """Plan of a batch: the input of the queuer's strategies.

    `last_cursors` are, by stream, the last cursors of the latest job that completed in a batch
    which was not a backfill: for sources whose own position means more than a time.

        def jobs(plan: Plan, backlog: None) -> Iterator[ETLInput]:
            for stream, window in plan.windows.items():
                yield plan.job(stream, window, region=plan.metadata.params.get("region", "north"))
    """

    metadata: BatchMetadata
    last_cursors: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def windows(self) -> Mapping[str, Window]:
        """The window to cover, by stream; only the requested streams."""
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
        """A deletion scan of a stream; the platform plans it, see `scan_inputs_method`.

        It has no window, so that a later batch's is the same job: two never run at once.
        """
        return self.job(stream, Window(), **params).model_copy(update={"scan": True})


@dataclass(frozen=True, slots=True)
class Planner:
    """The queuer's strategies of a source."""

    describe: ParamsMethod
    #: Read `streams` instead.
    declared_streams: Sequence[str] | Callable[[], Sequence[str]]
    #: How far an incremental window reaches back behind the watermark, for late arrivals.
    overlap: timedelta
    #: How far a window's end stays behind now, for what the source lists late.
    lag: Callable[[], timedelta]
    #: Builds and checks the source's settings; raises ConfigurationError.
    settings: Callable[[], Any] | None
    #: The parameters that leave something out; None: all of them.
    filters: frozenset[str] | None = None
    #: The filters that the settings are, by their names.
    scope: Callable[[], Mapping[str, JsonValue]] = dict
    #: Query class that checks a run's parameters; None: only planning does.
    params: type[Query] | None = None
    listed: bool = True  # people start its runs; else the platform alone does

    @property
    def streams(self) -> tuple[str, ...]:
        """The source's streams; where they depend on its settings, this may raise ETLError."""
        declared = self.declared_streams
        return tuple(declared() if callable(declared) else declared)


@dataclass(frozen=True, slots=True)
class Transformer:
    transform: TransformMethod[Any]
    rows: tuple[type[Row], ...]


planners: Registry[Planner] = Registry("params method")
expanders: Registry[TransformInputsMethod] = Registry("transform inputs method")
people: Registry[PeopleMethod] = Registry("identities method")
rows_only_people: set[str] = set()  # sources; see `identities_method`
budgets: Registry[BudgetMethod] = Registry("rate budget")
queries: Registry[type[Query]] = Registry("query type")
extractors: Registry[ExtractMethod[Any]] = Registry("extract method")
transformers: Registry[Transformer] = Registry("transform method")


def params_method[F: ParamsMethod](
    source: str,
    *,
    streams: Sequence[str] | Callable[[], Sequence[str]],
    overlap: timedelta = timedelta(minutes=5),
    lag: timedelta | Callable[[], timedelta] = timedelta(seconds=30),
    settings: Callable[[], Any] | None = None,
    filters: Collection[str] | None = None,
    scope: Callable[[], Mapping[str, JsonValue]] = dict,
    params: type[Query] | None = None,
    listed: bool = True,
) -> Callable[[F], F]:
    """Register `describe(plan)`, plain or async, which returns the backlog.

    What it returns goes, unseen by the platform, to the source's transform inputs method.
    A lag that depends on the source's settings is a function, called when a batch is planned; so
    are streams that only the settings know. A run's parameters are checked against `params` before
    it is started.

    `filters` are the parameters that leave something out, all of them unless they are named, and
    `scope()` the filters that settings are: a watermark holds for its filters alone. A run with
    others of its own moves none; what settings newly let through is read from the beginning.
    One that is not `listed` is the platform's own: nobody is shown it, to run or to schedule.

        @params_method("shop", streams=("orders",), lag=timedelta(minutes=1))
        def branches(plan: Plan) -> list[str]:
            region = plan.metadata.params.get("region", "north")
            return shop.branches(region)

    Raises:
        DuplicateStrategyError: the source has one; the message gives both places. So does each
            of these decorators.
    """
    lag_now = lag if callable(lag) else lambda: lag

    def register(function: F) -> F:
        named = None if filters is None else frozenset(filters)
        planner = Planner(
            function, streams, overlap, lag_now, settings, named, scope, params, listed
        )
        planners.register(source, planner, place=place_of(function))
        if params is not None:
            name_source(params, source)
        declare_owner(source, settings)
        return function

    return register


def transform_inputs_method[F: TransformInputsMethod](source: str) -> Callable[[F], F]:
    """Register `expand(plan, backlog)`, a generator, plain or async, of `plan.job(...)`.

    Planning may be repeated: the same plan and backlog give the same jobs in the same order.

        @transform_inputs_method("shop")
        def jobs(plan: Plan, branches: list[str]) -> Iterator[ETLInput]:
            for stream, window in plan.windows.items():
                for branch in branches:
                    yield plan.job(stream, window, branch=branch)
    """

    def register(function: F) -> F:
        expanders.register(source, function, place=place_of(function))
        return function

    return register


def identities_method[F: PeopleMethod](source: str, *, rows_only: bool = False) -> Callable[[F], F]:
    """Register `people(plan)`, a generator, plain or async, of `Identity` rows.

    Optional. Called once for each batch, beside the planning of its jobs, which wait for it. Where
    `rows_only` a batch's rows need its people, not for an incremental batch without jobs.

        @identities_method("shop")
        def clerks(plan: Plan) -> Iterator[Identity]:
            for clerk in shop.clerks():
                yield Identity(
                    source_kind_id="shop", person=clerk["id"], email=clerk["email"]
                )
    """

    def register(function: F) -> F:
        people.register(source, function, place=place_of(function))
        rows_only_people.update({source} if rows_only else ())
        return function

    return register


def rate_budget[F: BudgetMethod](source: str) -> Callable[[F], F]:
    """Register a function that returns the source's `RateBudget`, from its settings.

    Optional. Its presence alone gives the source a task queue, so it stands in a module that
    both services import.

        @rate_budget("shop")
        def budget() -> RateBudget:
            return RateBudget(requests_per_second=5)
    """

    def register(function: F) -> F:
        budgets.register(source, function, place=place_of(function))
        declare_owner(source, function)
        return function

    return register


def query_type[Q: type[Query]](source: str) -> Callable[[Q], Q]:
    """Register the class of the source's queries; see `Query`.

        @query_type("shop")
        class ShopQuery(Query):
            region: str = "north"
            branch: str | None = None

    Raises:
        ConfigurationError: the class lacks a method that a query has.
    """

    def register(cls: Q) -> Q:
        for method in ("from_dict", "version", "specific_version"):
            if not callable(getattr(cls, method, None)):
                raise ConfigurationError(f"query type {place_of(cls)} has no {method}()")
        queries.register(source, cls, place=place_of(cls))
        name_source(cls, source)
        return cls

    return register


def extract_method[F: ExtractMethod[Any]](name: str) -> Callable[[F], F]:
    """Register an async generator of pages under `<source>-<stream>`; see `ExtractMethod`.

    `<source>-*` stands for all of the source's streams that have none of their own.

        @extract_method("shop-orders")
        async def orders(request: PageRequest[ShopQuery]) -> AsyncGenerator[Page]:
            behind = int(str(request.cursor or 0))
            while found := shop.orders(request.query.region, behind=behind):
                behind += len(found)
                yield Page(found, cursor=behind)

    Raises:
        ConfigurationError: it is no async generator, or its name is not of that form.
    """

    def register(function: F) -> F:
        if not inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"extract method {place_of(function)} is not an async generator"
            )
        extractors.register_for_stream(name, function, place=place_of(function))
        return function

    return register


def transform_method[F: TransformMethod[Any]](
    name: str, *, rows: Sequence[type[Row]] = (Event,)
) -> Callable[[F], F]:
    """Register a transform under `<source>`, or `<source>-<stream>` which wins.

    `rows` are the row classes it yields: their tables are checked before the first page.

        @transform_method("shop")
        def events(order: dict[str, str], context: TransformContext[ShopQuery]) -> Iterator[Event]:
            yield Event(
                event_id=f"order:{order['id']}:placed",
                event_type="order_placed",
                event_time_utc=datetime.fromisoformat(order["placed_at"]),
                person=order.get("clerk"),
                employee_id=context.employee(order.get("clerk")),
            )
    """

    def register(function: F) -> F:
        transformers.register(name, Transformer(function, tuple(rows)), place=place_of(function))
        return function

    return register


@dataclass(frozen=True, slots=True)
class Strategies:
    """The worker's strategies of a stream."""

    query: type[Query]
    extract: ExtractMethod[Any]
    transform: TransformMethod[Any]
    rows: tuple[type[Row], ...]
    reject_threshold: float | None = None  # of a job's records; None as the settings say


def resolve(source: str, stream: str) -> Strategies:
    """Find the worker's strategies for one stream.

    Raises:
        UnknownSourceError: one of them is not registered; names the known ones.
        ConfigurationError: one takes queries of another class than the source registered.
    """
    name = f"{source}-{stream}"
    query = queries.get(source)
    extract = extractors.get_for_stream(source, stream)
    transformer = transformers.get(name if name in transformers else source)
    for method in (extract, transformer.transform, reread_method_of(source, stream)):
        check_query(method, source, query)
    return Strategies(query, extract, transformer.transform, transformer.rows)


def check_query(method: Any, source: str, query: type[Query]) -> None:
    """Check that a method is annotated for queries of the class that the source registered.

    Raises:
        ConfigurationError: it is; the message gives both places.
    """
    for hint in getattr(inspect.unwrap(method), "__annotations__", {}).values():
        taken = get_args(hint)[0] if get_origin(hint) in (PageRequest, TransformContext) else None
        if isinstance(taken, type) and not issubclass(query, taken):
            raise ConfigurationError(
                f"{place_of(method)} takes queries of {place_of(taken)}, but source {source!r} "
                f"registered {queries.place(source)}"
            )


def import_sources(package: str, source: str | None = None) -> None:
    """Import every module below `package` and every entry point, so that they register.

    With a `source`, only the module and the entry points of its name, which may be none: nothing
    says that a module registers what it is called after. Safe to repeat.

    Raises:
        StrategyImportError: a module fails to import; names the module and the cause.
        DuplicateStrategyError: two modules claim one name.
    """
    _import_tree(package, source)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if source in (None, entry.name):
            _import(entry.module)


def _import_tree(package: str, only: str | None = None) -> None:
    # `pkgutil.walk_packages` would import packages itself and swallow their errors.
    for found in pkgutil.iter_modules(_import(package).__path__, prefix=f"{package}."):
        if only is None or found.name == f"{package}.{only}":
            _import_tree(found.name) if found.ispkg else _import(found.name)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ConfigurationError:
        raise
    except Exception as error:
        raise StrategyImportError(
            f"source module {name} cannot be imported: {type(error).__name__}: {error}"
        ) from error
