"""Registered sources, with the strategies of both services."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.connections.providers import find_connection, provided
from temporaletl.control.operations.platform import Platform
from temporaletl.errors import (
    ConfigurationError,
    ETLError,
    StrategyImportError,
    UnknownSourceError,
)
from temporaletl.messages import QueuerInput
from temporaletl.placement import check_halves, check_placement
from temporaletl.query import ACCEPT_DELETIONS
from temporaletl.registry import ANY_STREAM, Registry
from temporaletl.strategies import (
    Planner,
    Strategies,
    extractors,
    import_sources,
    planners,
    queries,
    resolve,
)
from temporaletl.warehouse.state import knows_connection


def known_planners() -> Registry[Planner]:
    """The sources whose runs people start; not what the platform alone does."""
    import_sources("temporaletl.queuer.sources")
    return planners.where(lambda planner: planner.listed)


def find_source(name: str, connection: str | None = None) -> Planner:
    """The queuer's strategies of the source of that name.

    Where only the `connection` named `default` is of interest, no other source is imported.

    Raises:
        UnknownSourceError: there is none; names those there are.
        StrategyImportError: the queuer would not find it, or it is in the wrong module.
    """
    # Who looks for a connection may find one of another source, whose settings then matter.
    known = know_source(name) if connection == DEFAULT else name in known_planners()
    if not known:
        listed = ", ".join(known_planners()) or "none"
        # What it says of a source that only the worker knows is more than that there is none.
        import_sources("temporaletl.worker.sources")
        check_halves(name)
        raise UnknownSourceError(f"there is no source {name!r}; the sources are {listed}")
    check_placement(name)
    return planners.get(name)


def know_source(name: str) -> bool:
    """Import what the queuer knows of one source; whether there is such a source.

    Raises:
        StrategyImportError, DuplicateStrategyError: what is imported for it is at fault.
    """
    return _import_for(name, "temporaletl.queuer.sources", planners)


def _import_for(source: str, package: str, registry: Registry[Any]) -> bool:
    import_sources(package, source)
    if source not in registry:
        import_sources(package)
    return source in registry


async def check_known(platform: Platform, source: str, connection: str) -> None:
    """Check that the program or the warehouse knows a source's connection.

    One that is no longer there has left its rows and its books in the warehouse.

    Raises:
        UnknownSourceError, UnknownConnectionError: neither does: the name may be misspelt.
        ConfigurationError: the connection's declaration is wrong.
        ETLError: as `Platform.warehouse`.
    """
    warehouse = await platform.warehouse()
    if not await asyncio.to_thread(knows_connection, warehouse, source, connection):
        find_source(source)
        with provided(await platform.stored_connections(connection)):
            find_connection(source, connection)


def check_services(name: str) -> None:
    """Check that both services know the source of that name.

    Raises:
        StrategyImportError: one of them does not; names the module that is missing, or misplaced.
    """
    _import_for(name, "temporaletl.worker.sources", queries)
    check_halves(name)


def check_params(request: QueuerInput) -> None:
    """Check a run's parameters by name, where its planner leaves that to the jobs' query.

    Raises:
        StrategyImportError: as `check_services`.
        ConfigurationError: the query has no such parameter; names those there are.
    """
    check_services(request.source)
    name = request.source
    if name not in planners or planners.get(name).params is not None or name not in queries:
        return
    query = queries.get(name)
    known = {*query.model_fields, ACCEPT_DELETIONS}
    unknown = [param for param in request.params if param not in known]
    if unknown and query.model_config.get("extra") == "forbid":
        refused, listed = ", ".join(map(repr, unknown)), ", ".join(query.model_fields) or "none"
        raise ConfigurationError(f"{name} takes no parameter {refused}; it takes: {listed}")


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of a source, and the tables that it is loaded into."""

    name: str
    tables: tuple[str, ...]
    place: str  # where its records are extracted
    fault: str | None = None  # what is missing for it to run


@dataclass(frozen=True, slots=True)
class Source:
    """A registered source, with the versions of its rows."""

    name: str
    streams: tuple[Stream, ...]
    version: str
    specific_version: str
    place: str  # where its backlog is described


def registered() -> list[Source]:
    """All sources whose runs people start, complete or not.

    Raises:
        StrategyImportError, DuplicateStrategyError: a source cannot be imported.
    """
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
    extracted = {name.partition("-")[0] for name in extractors}
    own = {name for name in planners if not planners.get(name).listed}
    return [_source(name) for name in sorted({*planners, *queries, *extracted} - own)]


async def list_sources(platform: Platform) -> list[Source]:
    """All sources that this process knows; raises as `registered`."""
    del platform  # the registry is of the process
    return await asyncio.to_thread(registered)


def strategies_of(source: str, stream: str) -> Strategies:
    """The worker's strategies; raises as `check_services` and `temporaletl.strategies.resolve`."""
    check_services(source)
    return resolve(source, stream)


def _source(name: str) -> Source:
    extracted = [e.removeprefix(f"{name}-") for e in extractors if e.startswith(f"{name}-")]
    query = queries.get(name) if name in queries else None
    place = next((r.place(name) for r in (planners, queries) if name in r), "")
    try:
        with bound(name, DEFAULT):
            planned = planners.get(name).streams if name in planners else ()
        known = dict.fromkeys((*planned, *extracted))
        streams = tuple(_stream(name, s, planned) for s in known if s != ANY_STREAM or not planned)
    except ETLError as error:
        # Only the source's settings know its streams, and they are not there or wrong.
        streams = (Stream(ANY_STREAM, (), place, fault=str(error)),)
    return Source(
        name=name,
        streams=streams,
        version=query.version() if query else "",
        specific_version=query.specific_version() if query else "",
        place=place,
    )


def _stream(source: str, name: str, planned: Collection[str]) -> Stream:
    methods = (f"{source}-{name}", f"{source}-{ANY_STREAM}")
    place = next((extractors.place(method) for method in methods if method in extractors), "")
    try:
        check_halves(source)
        found = resolve(source, name)
    except (UnknownSourceError, StrategyImportError) as error:
        return Stream(name, (), place, fault=str(error))
    fault = None
    if name not in planned:
        fault = f"no params method plans stream {name!r}"
    return Stream(name, tuple(row.table for row in found.rows), place, fault)
