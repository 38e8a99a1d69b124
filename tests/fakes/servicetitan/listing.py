"""The lists: pages by number, filters, and orders."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.fakes.exchange import Request, Response
from tests.fakes.servicetitan.refusal import RefusedError, flag, instant, number
from tests.fakes.servicetitan.tenant import Collection, Order, Row

if TYPE_CHECKING:
    from tests.fakes.servicetitan.service import ServiceTitanService

MOST_ROWS = 5_000
_DEFAULT_ROWS = 50
_MOST_IDS = 50
_SORTED = ("customers", "jobs")
_FIELDS: dict[str, Order] = {"id": "id", "modifiedon": "modified", "createdon": "created"}


def page(service: "ServiceTitanService", request: Request, collection: Collection) -> Response:
    """Answer one page of a list."""
    size = number(request, "pageSize", _DEFAULT_ROWS, most=MOST_ROWS)
    page_number = number(request, "page", 1)
    rows = _found(service, request, collection)
    first = (page_number - 1) * size
    some = rows[first : first + size]
    more = first + size < len(rows)
    faults = service.faults
    if more and faults.draw("empty-page", request):
        some = []
    elif more and len(some) > 1 and faults.draw("short-page", request):
        some = some[: len(some) // 2]
    elif not more and some and faults.draw("more-at-end", request):
        more = True
    head = f'{{"page":{page_number},"pageSize":{size},"hasMore":{"true" if more else "false"},'
    head += f'"totalCount":{len(rows) if flag(request, "includeTotal") else "null"},"data":['
    body = head.encode() + b",".join(map(collection.render, some)) + b"]}"
    if more and some and faults.draw("changing-rows", request):
        service.tenant.change(collection.stream, some[0])
    return Response(200, body)


def _found(service: "ServiceTitanService", request: Request, collection: Collection) -> list[Row]:
    order, descending = _order(service, request, collection.stream)
    salt = next(service.salts) if service.faults.draw("unstable-ties", request) else 0
    tests = _tests(request)
    rows = [row for row in collection.sorted(order, salt=salt) if all(t(row) for t in tests)]
    return rows[::-1] if descending else rows


def _order(service: "ServiceTitanService", request: Request, stream: str) -> tuple[Order, bool]:
    if stream in _SORTED:
        requested = request.first("sort").strip()
        descending, requested = requested.startswith("-"), requested.lstrip("+-").strip()
        name = "sort"
    else:
        name, requested = "orderBy", request.first("orderBy")
        direction = request.first("orderByDirection", "asc").lower()
        if direction not in {"asc", "ascending", "desc", "descending"}:
            raise RefusedError(400, "orderByDirection", f"The value '{direction}' is not valid.")
        descending = direction.startswith("desc")
    if service.order == "ignored" or not requested:
        return "id", False
    if service.order == "refused" or requested.lower() not in _FIELDS:
        raise RefusedError(400, name, f"The field '{requested}' cannot be sorted by.")
    return _FIELDS[requested.lower()], descending


def _tests(request: Request) -> list[Callable[[Row], bool]]:
    tests: list[Callable[[Row], bool]] = [lambda row: not row.deleted]
    active = request.first("active", "true").lower()
    if active not in {"true", "any", "false"}:
        raise RefusedError(400, "active", f"The value '{active}' is not valid.")
    if active != "any":
        wanted = active == "true"
        tests.append(lambda row: row.active is wanted)
    if requested := request.first("ids"):
        some = _ids(requested)
        tests.append(lambda row: row.id in some)
    if (since := instant(request, "modifiedOnOrAfter")) is not None:
        tests.append(lambda row, t=since: row.modified >= t)  # type: ignore[misc]
    if (before := instant(request, "modifiedBefore")) is not None:
        tests.append(lambda row, t=before: row.modified < t)  # type: ignore[misc]
    if (since := instant(request, "createdOnOrAfter")) is not None:
        tests.append(lambda row, t=since: row.created >= t)  # type: ignore[misc]
    if (before := instant(request, "createdBefore")) is not None:
        tests.append(lambda row, t=before: row.created < t)  # type: ignore[misc]
    return tests


def _ids(requested: str) -> set[int]:
    try:
        some = {int(each) for each in requested.split(",")}
    except ValueError:
        raise RefusedError(400, "ids", f"The value '{requested}' is not valid.") from None
    if len(some) > _MOST_IDS:
        raise RefusedError(400, "ids", f"There may be {_MOST_IDS} ids at most.")
    return some
