"""The source fixture of the example source, served by the fake shop."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar

from temporaletl.external.rest import close_apis
from temporaletl.testing import FakeSourceFixture
from tests.fakes.faults import ANSWERS, TRANSPORT, Faults
from tests.fakes.server import FakeServer
from tests.fakes.shop import OWN_FAULTS, ShopService, generate
from tests.fakes.shop.orders import Order

_TOKEN = "let-me-in-please"


class ShopFixture(FakeSourceFixture):
    source = "shop"
    page_size_setting = "SHOP_PAGE_SIZE"
    read_timeout_setting = "SHOP_READ_TIMEOUT_SECONDS"
    secrets = (_TOKEN,)
    wrong_credentials: ClassVar[Mapping[str, str]] = {"SHOP_TOKEN": "some-other-token"}
    faults = (*TRANSPORT, *ANSWERS, "short-page", "empty-page", "changing-rows")
    knows_unread = False  # the reject of a list knows its location alone
    _unseen: Order | None = None

    def make_server(self) -> FakeServer:
        self.orders = generate(60)
        self.shop = ShopService(self.orders, token=_TOKEN)
        known = {**TRANSPORT, **OWN_FAULTS}
        return FakeServer(self.shop, faults=Faults(known=known, retry_after=timedelta(0)))

    def environment(self, url: str) -> Mapping[str, str]:
        return {
            "SHOP_URL": f"{url}/v1",
            "SHOP_TOKEN": _TOKEN,
            "SHOP_READ_TIMEOUT_SECONDS": "0.5",
        }

    def close(self) -> None:
        close_apis()

    def expected(self) -> Mapping[str, set[str]]:
        return {"orders": self.orders.events}

    def change(self, at: datetime) -> None:
        self.orders.place(at)
        unpaid = next(order.id for order in self.orders.listed() if order.paid_at is None)
        self.orders.pay(unpaid, at)

    def corrupt(self) -> None:
        self.shop.corrupted.add(7)

    def poison(self, value: bytes) -> None:
        self.corruptible.rewrites.append((b'{"id":7,', b'{"id":7,"poison":%b,' % value))

    def break_item(self) -> None:
        self.corruptible.unservable.add(b'{"id":7,')

    def see_less(self) -> None:
        self._unseen = self.orders.by_id.pop(7)

    def restore(self) -> None:
        super().restore()
        if self._unseen is not None:
            self.orders.by_id[7] = self._unseen
