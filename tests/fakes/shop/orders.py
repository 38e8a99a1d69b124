"""The orders of the fake shop, and changes to them."""

import random
import threading
from datetime import UTC, datetime, timedelta

import msgspec

_OPENED = datetime(2025, 1, 1, 8, tzinfo=UTC)


class Order(msgspec.Struct):
    id: int
    number: str
    clerk: str | None
    placed_at: datetime
    updated_at: datetime
    paid_at: datetime | None
    total: float


class Orders:
    """All orders. Safe to change while they are listed."""

    def __init__(self, orders: list[Order]) -> None:
        self.lock = threading.RLock()
        self.by_id = {order.id: order for order in orders}

    def listed(self) -> list[Order]:
        """Orders by creation."""
        with self.lock:
            return [self.by_id[number] for number in sorted(self.by_id)]

    def by_update(self, since: datetime | None) -> list[Order]:
        """Orders by time of the latest change, from a timestamp on, inclusive."""
        with self.lock:
            found = [o for o in self.by_id.values() if since is None or o.updated_at >= since]
        return sorted(found, key=lambda order: (order.updated_at, order.id))

    def place(self, at: datetime, clerk: str | None = "ann") -> Order:
        with self.lock:
            number = max(self.by_id, default=0) + 1
            self.by_id[number] = Order(number, f"S-{1000 + number}", clerk, at, at, None, 9.5)
            return self.by_id[number]

    def pay(self, number: int, at: datetime) -> None:
        with self.lock:
            order = self.by_id[number]
            self.by_id[number] = msgspec.structs.replace(order, paid_at=at, updated_at=at)

    def touch(self, number: int) -> None:
        """Move an order to the end of the list by change, without any event."""
        with self.lock:
            latest = max(order.updated_at for order in self.by_id.values())
            order = self.by_id[number]
            self.by_id[number] = msgspec.structs.replace(
                order, updated_at=latest + timedelta(seconds=1)
            )

    def remove(self, number: int) -> None:
        with self.lock:
            del self.by_id[number]

    @property
    def events(self) -> set[str]:
        """The ids of all events there are."""
        with self.lock:
            placed = {f"order:{order.id}:placed" for order in self.by_id.values()}
            paid = {f"order:{order.id}:paid" for order in self.by_id.values() if order.paid_at}
        return placed | paid


def generate(count: int, *, seed: int = 0) -> Orders:
    """The same orders for the same seed; many share a time, some runs of them are long."""
    chance = random.Random(seed)  # noqa: S311 - data, no secrets
    orders = []
    for number in range(1, count + 1):
        # Imports and price changes touch a dozen orders in the same second.
        placed = _OPENED + timedelta(hours=number // 3)
        paid = placed + timedelta(minutes=chance.randrange(60)) if chance.random() < 0.6 else None
        updated = max(placed, paid or placed)
        if 20 <= number < 32:
            updated = _OPENED + timedelta(days=30)
        clerk = chance.choice(["ann", "bob", None])
        total = round(chance.uniform(1, 500), 2)
        orders.append(Order(number, f"S-{1000 + number}", clerk, placed, updated, paid, total))
    return Orders(orders)
