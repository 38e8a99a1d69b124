"""The export feeds: everything that changed, followed by opaque tokens."""

import base64
import binascii
from bisect import bisect_right
from typing import TYPE_CHECKING

import msgspec
import xxhash

from tests.fakes.exchange import Request, Response
from tests.fakes.servicetitan.moments import parse
from tests.fakes.servicetitan.refusal import RefusedError, flag
from tests.fakes.servicetitan.tenant import Collection, Row

if TYPE_CHECKING:
    from tests.fakes.servicetitan.service import ServiceTitanService

#: A place in the feed: behind the record with this feed time and id.
Place = tuple[int, int]

_KEY = 20_231
_BEGINNING: Place = (-1, 0)


def page(service: "ServiceTitanService", request: Request, collection: Collection) -> Response:
    """Answer what follows a token, a date, or the beginning."""
    faults = service.faults
    recent = flag(request, "includeRecentChanges")
    asked = request.first("from")
    place, since = _place(service, collection.stream, asked)
    if asked and since is None and faults.draw("expired-feed-token", request):
        service.expired_feed_tokens.add(asked)
        raise _unknown(asked)
    rows = _following(service, collection, place, recent=recent)
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
        place = (some[-1].feed, some[-1].id)
    elif since is not None:
        # Before the first record that the date lets through.
        place = (rows[0].feed, rows[0].id - 1) if rows else (since - 1, 0)
    token = _token(service, collection.stream, place)
    if more and asked and faults.draw("repeated-token", request):
        token = asked
    response = _render(collection, some, token, more=more)
    if more and some and faults.draw("changing-rows", request):
        service.tenant.change(collection.stream, some[0])
    return response


def _following(
    service: "ServiceTitanService", collection: Collection, place: Place, *, recent: bool
) -> list[Row]:
    rows = collection.sorted("feed")
    rows = rows[bisect_right(rows, place, key=lambda row: (row.feed, row.id)) :]
    if recent:
        return rows
    settled = service.tenant.clock() - service.tenant.withheld
    return rows[: bisect_right(rows, settled, key=lambda row: row.feed)]


def _render(collection: Collection, rows: list[Row], token: str, *, more: bool) -> Response:
    head = f'{{"hasMore":{"true" if more else "false"},"continueFrom":"{token}","data":['
    return Response(200, head.encode() + b",".join(map(collection.render, rows)) + b"]}")


def _token(service: "ServiceTitanService", stream: str, place: Place) -> str:
    payload = msgspec.json.encode([stream, *place, next(service.salts)])
    sealed = xxhash.xxh3_64_digest(payload, _KEY) + payload
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _place(service: "ServiceTitanService", stream: str, asked: str) -> tuple[Place, int | None]:
    """Where to begin, and the date since which records count, where one was given."""
    if not asked:
        return _BEGINNING, None
    try:
        return _BEGINNING, parse(asked)
    except ValueError:
        pass
    try:
        sealed = base64.urlsafe_b64decode(asked + "=" * (-len(asked) % 4))
        seal, payload = sealed[:8], sealed[8:]
        of, feed, id_, _ = msgspec.json.decode(payload, type=tuple[str, int, int, int])
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise _unknown(asked) from None
    genuine = seal == xxhash.xxh3_64_digest(payload, _KEY) and of == stream
    if not genuine or asked in service.expired_feed_tokens or service.feed_tokens_expired:
        raise _unknown(asked)
    return (feed, id_), None


def _unknown(asked: str) -> RefusedError:
    return RefusedError(400, "from", f"The continuation token '{asked}' is not valid.")
