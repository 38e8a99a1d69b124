"""The shop's REST API: one list of orders, paged in five ways."""

import itertools
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.shop.orders import Order, Orders

OWN_FAULTS: dict[str, str] = {
    "short-page": "a page with fewer orders than requested, though more follow",
    "empty-page": "an empty page in the middle, though more follow",
    "repeated-page-token": "a page repeats the token of its request",
    "expired-page-token": "a page token has expired: 410",
    "changing-rows": "an order listed already changes between two pages",
    "total-too-large": "a total that counts orders which never come",
}
_LARGEST_PAGE = 50


class ShopService:
    """The service of one shop; see `tests.fakes.server.Service`."""

    own_faults = OWN_FAULTS

    def __init__(self, orders: Orders, *, token: str | None = None) -> None:
        self.orders = orders
        self.token = token
        #: Orders whose time of placing is missing.
        self.corrupted: set[int] = set()
        self.faults = Faults(known=OWN_FAULTS)
        self.url = ""
        self._walks = itertools.count(1)

    def bind(self, base_url: str, faults: Faults) -> None:
        self.url, self.faults = base_url, faults

    def refuse(self, status: int) -> Response:
        return Response.of({"error": {401: "unknown token", 429: "slow down"}[status]}, status)

    def answer(self, request: Request) -> Response:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return self.refuse(401)
        way = {
            "/v1/orders": self._by_time,
            "/v1/orders/by-number": self._by_number,
            "/v1/orders/by-offset": self._by_offset,
            "/v1/orders/by-token": self._by_token,
            "/v1/orders/by-link": self._by_link,
        }.get(request.path)
        if way is None or request.method != "GET":
            return Response.of({"error": "there is nothing here"}, 404)
        try:
            return way(request)
        except ValueError as error:
            return Response.of({"error": str(error)}, 400)

    def _by_time(self, request: Request) -> Response:
        since = request.first("updated_from")
        found = self.orders.by_update(datetime.fromisoformat(since) if since else None)
        size = _size(request, "per_page")
        start = (int(request.first("page", "1")) - 1) * size
        rows = self._cut(request, found[start : start + size])
        self._change(request, rows)
        return self._page(rows, more=start + size < len(found) or len(rows) < len(found[start:]))

    def _by_number(self, request: Request) -> Response:
        found = self.orders.listed()
        size = _size(request, "per_page")
        start = (int(request.first("page", "1")) - 1) * size
        return self._page(found[start : start + size], total=self._total(request, found))

    def _by_offset(self, request: Request) -> Response:
        found = self.orders.listed()
        start = int(request.first("offset", "0"))
        rows = self._cut(request, found[start : start + _size(request, "limit")])
        return self._page(rows, total=self._total(request, found))

    def _by_token(self, request: Request) -> Response:
        token = request.first("after")
        if token and self.faults.draw("expired-page-token", request):
            return Response.of({"error": "this token has expired"}, 410)
        rows, following = self._from(int(token.partition("-")[0]) if token else 0, request)
        if token and following is not None and self.faults.draw("repeated-page-token", request):
            return self._page(rows, meta={"next": token})
        if following is None:
            return self._page(rows, meta={})
        return self._page(rows, meta={"next": f"{following}-{next(self._walks)}"})

    def _by_link(self, request: Request) -> Response:
        rows, following = self._from(int(request.first("start", "0")), request)
        size = _size(request, "limit")
        # As seen from behind a proxy.
        link = f"https://shop.internal/v1/orders/by-link?start={following}&limit={size}"
        answer = self._page(rows, links={"next": None if following is None else link})
        if following is not None:
            answer.headers = {"Link": f'<{link}>; rel="next"'}
        return answer

    def _from(self, after: int, request: Request) -> tuple[Sequence[Order], int | None]:
        """Orders behind an id, and the id to go on from."""
        found = [order for order in self.orders.listed() if order.id > after]
        rows = self._cut(request, found[: _size(request, "limit")])
        last = rows[-1].id if rows else after
        return rows, last if len(rows) < len(found) else None

    def _cut(self, request: Request, rows: Sequence[Order]) -> Sequence[Order]:
        if self.faults.draw("empty-page", request):
            return ()
        if len(rows) > 1 and self.faults.draw("short-page", request):
            return rows[: len(rows) // 2]
        return rows

    def _change(self, request: Request, rows: Sequence[Order]) -> None:
        if rows and self.faults.draw("changing-rows", request):
            self.orders.touch(rows[0].id)

    def _total(self, request: Request, found: Sequence[Order]) -> int:
        return len(found) + 5 * self.faults.draw("total-too-large", request)

    def _page(self, rows: Sequence[Order], **more: Any) -> Response:
        shown = msgspec.to_builtins(list(rows))
        for order in shown:
            if order["id"] in self.corrupted:
                order["placed_at"] = None
        return Response.of({"orders": shown, **more})


def _size(request: Request, name: str) -> int:
    return min(int(request.first(name, "20")), _LARGEST_PAGE)
