"""Reprocessing of rejects: a job that reads stored rejects in place of its source.

Each record goes through the present transform with the query of the job that once extracted it;
what the source could not give is requested once more, see `temporaletl.rereading`. A reject that
becomes rows leaves the table in the transaction that holds them; one that fails again stays, with
the new reason.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec

from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    PermanentError,
    RecordError,
)
from temporaletl.external.threads import abandon
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rereading import Reread, RereadMethod, Unread, reread_method_of
from temporaletl.rows import CompleteSet, Reject, Row
from temporaletl.strategies import Strategies
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.stored_rejects import Rejected, RejectPosition, read_rejects

_REREADS_PER_PAGE = 20
_REREADS_AT_ONCE = 4
#: In one run; the others follow in the next.
_REREADS_PER_JOB = 200


_NOT_FOUND = (
    "the source did not show it when it was requested again; the next full run that does not meet "
    "it forgets it"
)


class ReprocessQuery(Query):
    """Query of a reprocessing job: each record brings its own job's parameters.

    `rejects` are the ids of those it is about; none named: all of its stream.
    """

    rejects: tuple[int, ...] = ()


def reprocessing(warehouse: Warehouse, job: ETLInput, strategies: Strategies) -> Strategies:
    """Strategies of a job whose records are stored rejects of its stream."""
    reread = reread_method_of(job.source, job.stream)

    def transform(
        record: Any, context: TransformContext[Any]
    ) -> Sequence[Row | Reject | CompleteSet]:
        return _transform(strategies, record, context)

    class Versioned(ReprocessQuery):
        VERSION = strategies.query.version()
        SPECIFIC_VERSION = strategies.query.specific_version()

    extract = partial(_pages, warehouse, strategies.query, reread)
    return Strategies(Versioned, extract, transform, strategies.rows)


async def _pages(
    warehouse: Warehouse,
    query: type[Query],
    reread: RereadMethod[Any] | None,
    request: PageRequest[Any],
) -> AsyncGenerator[Page]:
    position = RejectPosition.of(request.cursor)
    rereads_only = request.job.reread
    if rereads_only and reread is None:
        return
    at_once = None if reread is None else _REREADS_PER_PAGE
    while not rereads_only or position.count < _REREADS_PER_JOB:
        found = await asyncio.to_thread(
            read_rejects,
            warehouse,
            request.job,
            position,
            only=request.query.rejects,
            unread_at_once=at_once,
        )
        if found is None:
            return
        position = found.position
        page = Page(found.records, msgspec.to_builtins(position), extracted_at=found.extracted_at)
        if reread is not None and found.records[0].stage == "extract":
            # Its rows are as new as the request.
            records = await _reread_all(reread, query, request, found.records)
            page = replace(page, records=records, extracted_at=None)
        yield page


async def _reread_all(
    reread: RereadMethod[Any],
    query: type[Query],
    request: PageRequest[Any],
    records: Sequence[Rejected],
) -> list[Rejected]:
    slots = asyncio.Semaphore(_REREADS_AT_ONCE)

    async def with_result(record: Rejected) -> Rejected:
        async with slots:
            return replace(record, reread=await _reread(reread, query, request, record))

    tasks = [asyncio.ensure_future(with_result(record)) for record in records]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await abandon(tasks)


async def _reread(
    reread: RereadMethod[Any], query: type[Query], request: PageRequest[Any], record: Rejected
) -> Reread | None:
    try:
        its_query = _query_of(query, record)
    except RecordError as error:
        return Reread(fault=str(error))
    try:
        again = await reread(Unread(record.key, record.payload), replace(request, query=its_query))
    except CredentialsError:
        raise
    except PermanentError as error:
        # What nothing else requests, such as a deleted target, must not fail every run.
        return Reread(fault=str(error))
    if again is None and request.job.reread:
        return Reread(fault=record.reason)
    if again is not None and not (again.records or again.fault or again.complete):
        return Reread(fault=_NOT_FOUND)
    return again


def _query_of(query: type[Query], record: Rejected) -> Query:
    if record.params is None:
        raise RecordError("the ledger no longer knows the job that extracted it, nor its query")
    try:
        return query.from_dict(record.params)
    except ConfigurationError as error:
        raise RecordError(f"its job's parameters are no longer valid: {error}") from None


def _transform(
    strategies: Strategies, record: Rejected, context: TransformContext[Any]
) -> Sequence[Row | Reject | CompleteSet]:
    if record.reread is not None:
        return _rows_of_reread(strategies, record, record.reread, context)
    if record.cut is not None:
        raise RecordError(record.cut)
    if record.stage == "load":
        return [_row(strategies.rows, record)]
    context = replace(context, query=_query_of(strategies.query, record))
    return list(strategies.transform(record.payload, context))


def _rows_of_reread(
    strategies: Strategies, record: Rejected, reread: Reread, context: TransformContext[Any]
) -> Sequence[Row | Reject | CompleteSet]:
    rows: list[Row | Reject | CompleteSet] = []
    if reread.records:
        context = replace(context, query=_query_of(strategies.query, record))
        rows += [row for one in reread.records for row in strategies.transform(one, context)]
    if reread.fault is not None:
        rows.append(Reject(stage=record.stage, reason=reread.fault, key=record.key))
    return rows


def _row(classes: Sequence[type[Row]], record: Rejected) -> Row:
    """Restore a row that the load refused."""
    payload = record.payload
    if not isinstance(payload, dict):
        raise RecordError("what is kept of it is no row")
    for kind in classes:
        if {field.name for field in msgspec.structs.fields(kind)} >= payload.keys():
            try:
                return msgspec.convert(payload, kind, strict=False)
            except msgspec.ValidationError as error:
                raise RecordError(f"as {kind.__name__}: {error}") from None
    names = " or ".join(kind.__name__ for kind in classes)
    raise RecordError(f"what is kept of it is no {names}")
