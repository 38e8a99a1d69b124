"""Paging of collections in batches, with the faults that can occur between two."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.fakes.exchange import Request
from tests.fakes.launchpad.archive import BASE, Json
from tests.fakes.launchpad.refusal import RefusedError

_BATCH = 50
_LARGEST_BATCH = 300

Draw = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """The requested batch of a collection."""

    start: int
    size: int


def batch_of(request: Request) -> Batch:
    """Parse the requested batch.

    Raises:
        RefusedError: it is no number, or too large.
    """
    try:
        start = int(request.first("ws.start", "0"))
        size = int(request.first("ws.size", str(_BATCH)))
    except ValueError:
        raise RefusedError(400, "ws.start and ws.size must be numbers.") from None
    if size > _LARGEST_BATCH:
        raise RefusedError(400, f"Maximum for ws.size is {_LARGEST_BATCH}.")
    if start < 0 or size < 1:
        raise RefusedError(400, "ws.start and ws.size must not be negative.")
    return Batch(start, size)


def page_of[T](
    request: Request,
    kind: str,
    found: Sequence[T],
    render: Callable[[T], Json],
    draw: Draw,
    *,
    most: int | None = None,
) -> Json:
    """Render one batch of at most `most` rows; `draw` decides which faults it suffers."""
    batch = batch_of(request)
    size = batch.size if most is None else min(most, batch.size)
    rows = found[batch.start : batch.start + size]
    more = batch.start + len(rows) < len(found)
    if more and rows and draw("empty-page"):
        rows = rows[:0]
    elif more and len(rows) > 1 and draw("short-page"):
        rows = rows[: len(rows) // 2]
    page: Json = {
        "start": batch.start,
        "entries": [render(row) for row in rows],
        "resource_type_link": f"{BASE}/#{kind}-page-resource",
    }
    total = len(found) + (7 if draw("total-too-large") else 0)
    if more and draw("repeated-page-link"):
        page["next_collection_link"] = _link(request, batch.start, request.first("memo"))
    elif more:
        page["next_collection_link"] = _link(request, batch.start + len(rows))
    if batch.start > 0:
        page["prev_collection_link"] = _link(request, max(0, batch.start - batch.size))
    requested = request.first("ws.show") == "total_size"
    if more and request.path.startswith("/devel/") and not requested:
        page["total_size_link"] = _link(request, None)
    else:
        page["total_size"] = total
    return page


def _link(request: Request, start: int | None, memo: str | None = None) -> str:
    """The request's address for another batch; without one, for the total."""
    query = [
        (name, value)
        for name, values in request.query.items()
        for value in values
        if name not in {"ws.start", "memo"}
    ]
    if start is None:
        query.append(("ws.show", "total_size"))
    else:
        if memo is None:
            # Behind an empty page follows the same start, by another link.
            memo = f"{start}.{len(request.first('memo'))}"
        query += [("memo", memo), ("ws.start", str(start))]
    path = request.target.partition("?")[0].split("/", 2)[2]
    return f"{BASE}/{path}?{urlencode(query)}"
