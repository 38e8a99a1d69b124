"""What is registered: the sources as both services see them."""

from dataclasses import dataclass

from temporaletl.errors import UnknownSourceError
from temporaletl.registry import Registry
from temporaletl.strategies import (
    Planner,
    Strategies,
    extractors,
    import_sources,
    planners,
    queries,
    resolve,
)


def known_planners() -> Registry[Planner]:
    """The sources that can be planned."""
    import_sources("queuer.sources")
    return planners


def find_source(name: str) -> Planner:
    """The source of that name as the queuer sees it.

    Raises:
        UnknownSourceError: there is none; names those there are.
    """
    known = known_planners()
    if name not in known:
        raise UnknownSourceError(
            f"there is no source {name!r}; the sources are {', '.join(known) or 'none'}"
        )
    return known.get(name)


@dataclass(frozen=True, slots=True)
class Stream:
    name: str
    tables: tuple[str, ...]
    place: str  # where its records are extracted
    fault: str | None = None  # what is missing for it to run


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    streams: tuple[Stream, ...]
    version: str
    specific_version: str
    place: str  # where its backlog is described


def registered() -> list[Source]:
    """All sources, complete or not.

    Raises:
        StrategyImportError, DuplicateStrategyError: a source cannot be imported.
    """
    import_sources("queuer.sources")
    import_sources("worker.sources")
    extracted = {name.partition("-")[0] for name in extractors}
    return [_source(name) for name in sorted({*planners, *queries, *extracted})]


def strategies_of(source: str, stream: str) -> Strategies:
    """The worker's strategies; raises as `temporaletl.strategies.resolve`."""
    import_sources("worker.sources")
    return resolve(source, stream)


def _source(name: str) -> Source:
    planned = planners.get(name).streams if name in planners else ()
    extracted = [e.removeprefix(f"{name}-") for e in extractors if e.startswith(f"{name}-")]
    query = queries.get(name) if name in queries else None
    place = next((r.place(name) for r in (planners, queries) if name in r), "")
    return Source(
        name=name,
        streams=tuple(_stream(name, s) for s in dict.fromkeys((*planned, *extracted))),
        version=query.version() if query else "",
        specific_version=query.specific_version() if query else "",
        place=place,
    )


def _stream(source: str, name: str) -> Stream:
    method = f"{source}-{name}"
    place = extractors.place(method) if method in extractors else ""
    try:
        found = resolve(source, name)
    except UnknownSourceError as error:
        return Stream(name, (), place, fault=str(error))
    fault = None
    if source not in planners or name not in planners.get(source).streams:
        fault = f"no params method plans stream {name!r}"
    return Stream(name, tuple(row.table for row in found.rows), place, fault)
