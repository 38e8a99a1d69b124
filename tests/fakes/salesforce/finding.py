"""REST queries and what goes with them: cursors, deleted and updated rows, descriptions."""

import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from tests.fakes.exchange import Request, Response
from tests.fakes.salesforce.refusal import RefusedError, SoqlError, no_column
from tests.fakes.salesforce.row_tests import Row
from tests.fakes.salesforce.soql import SoqlQuery, stamp_of

if TYPE_CHECKING:
    from tests.fakes.salesforce.service import SalesforceService

#: Open cursors of one user; the oldest is let go for one more.
_MOST_CURSORS = 10
_OF_PERMISSIONS = re.compile(r"SELECT (.*) FROM UserPermissionAccess(?: LIMIT 1)?")
_SMALLEST, _LARGEST = 200, 2_000


@dataclass(slots=True)
class Cursor:
    query: SoqlQuery
    rows: list[Row]
    size: int


class Cursors:
    """The open queries, whose later pages can still be requested."""

    def __init__(self, most: int = _MOST_CURSORS) -> None:
        self._most = most
        self._open: OrderedDict[str, Cursor] = OrderedDict()
        self._numbers = 0

    def keep(self, cursor: Cursor) -> str:
        self._numbers += 1
        name = f"01g5g0{self._numbers:012d}AAA"
        self._open[name] = cursor
        while len(self._open) > self._most:
            self._open.popitem(last=False)
        return name

    def find(self, name: str) -> Cursor:
        if name not in self._open:
            raise RefusedError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self._open[name]

    def drop(self, name: str) -> None:
        self._open.pop(name, None)


def query(service: "SalesforceService", request: Request, *, everything: bool) -> Response:
    """Answer the first page of a query."""
    soql = request.first("q")
    if not soql:
        raise SoqlError("MALFORMED_QUERY", "unexpected token: '<EOF>'")
    if service.faults.draw("query-timeout", request):
        raise RefusedError(400, "QUERY_TIMEOUT", "Your query request was running for too long.")
    if (requested := _OF_PERMISSIONS.fullmatch(soql.strip())) is not None:
        return _permissions(service, soql, [name.strip() for name in requested[1].split(",")])
    understood = service.org.understand(soql)
    rows = service.org.select(understood, everything=everything)
    if understood.columns is None:
        return Response.of({"totalSize": len(rows), "done": True, "records": []})
    if understood.aggregates:
        return _groups(understood, rows)
    size = _size(request)
    if service.faults.draw("short-page", request):
        size = max(1, min(len(rows), size) // 2)
    if service.faults.draw("empty-page", request) and rows:
        name = service.cursors.keep(Cursor(understood, rows, size))
        return _page(service, understood, [], len(rows), f"{name}-0")
    if len(rows) <= size:
        return _page(service, understood, rows, len(rows), None)
    name = service.cursors.keep(Cursor(understood, rows, size))
    return _page(service, understood, rows[:size], len(rows), f"{name}-{size}")


def _groups(understood: SoqlQuery, rows: list[Row]) -> Response:
    """Answer the values of each group; without GROUP BY, all rows are one, be there any or none."""
    groups: dict[tuple[Any, ...], list[Row]] = {} if understood.groups else {(): []}
    for row in rows:
        groups.setdefault(tuple(get(row) for get in understood.groups), []).append(row)
    if len(groups) > _LARGEST:
        # There is no second answer.
        raise RefusedError(
            400, "EXCEEDED_ID_LIMIT", "Aggregate query does not support queryMore()."
        )
    records = [
        {"attributes": {"type": "AggregateResult"}}
        | {each.alias: each.of(group) for each in understood.aggregates}
        for group in groups.values()
    ]
    return Response.of({"totalSize": len(records), "done": True, "records": records})


def _permissions(service: "SalesforceService", soql: str, names: list[str]) -> Response:
    """Answer the user's permissions: an object of one row, without stamps."""
    for name in names:
        if name not in service.permissions:
            raise no_column(name, "UserPermissionAccess", soql, soql.index(name))
    row: Row = {"attributes": {"type": "UserPermissionAccess"}}
    row |= {name: service.permissions[name] for name in names}
    return Response.of({"totalSize": 1, "done": True, "records": [row]})


def query_more(service: "SalesforceService", request: Request, locator: str) -> Response:
    """Answer a later page: the rows found at first, with their present values."""
    name, _, offset = locator.rpartition("-")
    if service.faults.draw("locator-evicted", request):
        service.cursors.drop(name)
    cursor = service.cursors.find(name)
    if not offset.isdigit():
        raise RefusedError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
    start = int(offset)
    if service.faults.draw("empty-page", request):
        return _page(service, cursor.query, [], len(cursor.rows), locator)
    if service.faults.draw("repeated-locator", request):
        following: str | None = locator
    else:
        end = start + cursor.size
        following = f"{name}-{end}" if end < len(cursor.rows) else None
    rows = cursor.rows[start : start + cursor.size]
    return _page(service, cursor.query, rows, len(cursor.rows), following)


def _page(
    service: "SalesforceService",
    understood: SoqlQuery,
    rows: list[Row],
    total: int,
    locator: str | None,
) -> Response:
    with service.org.lock:
        records = [service.org.render(understood, row, service.api) for row in rows]
        body: dict[str, Any] = {"totalSize": total, "done": locator is None}
        if locator is not None:
            body |= {"nextRecordsUrl": f"{service.api}/query/{locator}"}
        return Response(200, msgspec.json.encode({**body, "records": records}))


def _size(request: Request) -> int:
    found = re.search(r"batchSize=(\d+)", request.headers.get("sforce-query-options", ""))
    return max(_SMALLEST, min(_LARGEST, int(found[1]))) if found else _LARGEST


def deleted(service: "SalesforceService", request: Request, name: str) -> Response:
    """Answer which rows were deleted in a span of at most 30 days; the bin keeps 15."""
    start, end = _span(request)
    rows = [
        {"id": row["Id"], "deletedDate": row["SystemModstamp"]}
        for row in service.org.all(name)
        if row.get("IsDeleted") and start <= str(row["SystemModstamp"]) < end
    ]
    return Response.of(
        {
            "deletedRecords": rows,
            "earliestDateAvailable": stamp_of(datetime.now(UTC) - timedelta(days=15)),
            "latestDateCovered": end,
        }
    )


def updated(service: "SalesforceService", request: Request, name: str) -> Response:
    start, end = _span(request)
    ids = [
        row["Id"]
        for row in service.org.all(name)
        if not row.get("IsDeleted") and start <= str(row["LastModifiedDate"]) < end
    ]
    return Response.of({"ids": ids, "latestDateCovered": end})


def _span(request: Request) -> tuple[str, str]:
    try:
        start, end = (
            stamp_of(datetime.fromisoformat(request.first(name).replace(" ", "+")))
            for name in ("start", "end")
        )
    except ValueError:
        raise RefusedError(400, "INVALID_PARAMETER", "start and end must be times") from None
    return start, end


def describe(service: "SalesforceService", name: str) -> Response:
    of = service.org.types[name]
    relations = {key: relation for relation, (key, _) in of.relations.items()}
    return Response.of(
        {
            "name": name,
            "keyPrefix": of.prefix,
            "queryable": True,
            "fields": [
                {"name": each, "type": kind, "relationshipName": relations.get(each)}
                for each, kind in of.fields.items()
                if (name, each) not in service.org.hidden
            ],
        }
    )


def describe_all(service: "SalesforceService") -> Response:
    return Response.of(
        {
            "encoding": "UTF-8",
            "maxBatchSize": 200,
            "sobjects": [
                {
                    "name": name,
                    "keyPrefix": of.prefix,
                    "custom": name.endswith("__c"),
                    "queryable": name not in service.org.locked,
                }
                for name, of in service.org.types.items()
                if name not in service.org.absent
            ],
        }
    )
