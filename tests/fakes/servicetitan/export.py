"""The export feeds: everything that changed, followed by opaque tokens."""

import base64
import binascii
from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec
import xxhash

from tests.fakes.exchange import Request, Response
from tests.fakes.servicetitan.refusal import RefusedError, flag
from tests.fakes.servicetitan.tenant import Collection, Row
from tests.fakes.servicetitan.timestamps import parse

if TYPE_CHECKING:
    from tests.fakes.servicetitan.service import ServiceTitanService

#: A position in the feed: after the record with this feed time and id.
Position = tuple[int, int]

_KEY = 20_231
_BEGINNING: Position = (-1, 0)


def page(service: "ServiceTitanService", request: Request, collection: Collection) -> Response:
    """Answer the records after a token, a date, or the beginning."""
    faults = service.faults
    recent = flag(request, "includeRecentChanges")
    requested = request.first("from")
    position, since = _position(service, collection.stream, requested)
    if requested and since is None and faults.draw("expired-feed-token", request):
        service.expired_feed_tokens.add(requested)
        raise _unknown(requested)
    rows = _following(service, collection, position, recent=recent)
    if since is not None:
        rows = [row for row in rows if row.modified >= since]
    some = rows[: service.export_rows]
    more = len(rows) > len(some)
    if more and faults.draw("empty-page", request):
        some = []
    elif more and len(some) > 1 and faults.draw("short-page", request):
        some = some[: len(some) // 2]
    elif not more and some and faults.draw("more-at-end", request):
        more = True
    if some:
        position = (some[-1].feed, some[-1].id)
    elif since is not None:
        # Before the first record that the date lets through.
        position = (rows[0].feed, rows[0].id - 1) if rows else (since - 1, 0)
    token = _token(service, collection.stream, position)
    if more and requested and faults.draw("repeated-token", request):
        token = requested
    response = _render(collection, some, token, more=more)
    if more and some and faults.draw("changing-rows", request):
        service.tenant.change(collection.stream, some[0])
    return response


def _following(
    service: "ServiceTitanService", collection: Collection, position: Position, *, recent: bool
) -> list[Row]:
    rows = collection.sorted("feed")
    rows = rows[bisect_right(rows, position, key=lambda row: (row.feed, row.id)) :]
    if recent:
        return rows
    settled = service.tenant.clock() - service.tenant.withheld
    return rows[: bisect_right(rows, settled, key=lambda row: row.feed)]


def _render(collection: Collection, rows: list[Row], token: str, *, more: bool) -> Response:
    head = f'{{"hasMore":{"true" if more else "false"},"continueFrom":"{token}","data":['
    return Response(200, head.encode() + b",".join(map(collection.render, rows)) + b"]}")


def _token(service: "ServiceTitanService", stream: str, position: Position) -> str:
    payload = msgspec.json.encode([stream, *position, next(service.salts)])
    sealed = xxhash.xxh3_64_digest(payload, _KEY) + payload
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _position(
    service: "ServiceTitanService", stream: str, requested: str
) -> tuple[Position, int | None]:
    """The position to begin at, and the given start date, if any."""
    if not requested:
        return _BEGINNING, None
    try:
        return _BEGINNING, parse(requested)
    except ValueError:
        pass
    try:
        sealed = base64.urlsafe_b64decode(requested + "=" * (-len(requested) % 4))
        seal, payload = sealed[:8], sealed[8:]
        of, feed, id_, _ = msgspec.json.decode(payload, type=tuple[str, int, int, int])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise _unknown(requested) from None
    genuine = seal == xxhash.xxh3_64_digest(payload, _KEY) and of == stream
    if not genuine or requested in service.expired_feed_tokens or service.feed_tokens_expired:
        raise _unknown(requested)
    return (feed, id_), None


def _unknown(requested: str) -> RefusedError:
    return RefusedError(400, "from", f"The continuation token '{requested}' is not valid.")
