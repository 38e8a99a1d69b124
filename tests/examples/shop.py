"""Source `shop`: the orders of a web shop, over its REST API."""

from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime

import msgspec

import temporaletl as etl
from temporaletl.external import rest


@rest.rest_source("shop", streams=("orders",))
class ShopSettings(rest.TokenSettings, alias_generator=rest.variables("SHOP")):
    """Reads SHOP_URL, SHOP_TOKEN, SHOP_PAGE_SIZE, SHOP_REQUESTS_PER_SECOND, ..."""


class Order(msgspec.Struct):
    id: int
    number: str
    total: float
    placed_at: datetime
    paid_at: datetime | None = None
    clerk: str | None = None


@etl.query_type("shop")
class ShopQuery(etl.Query): ...


@etl.extract_method("shop-orders")
async def pages(request: etl.PageRequest[ShopQuery]) -> AsyncGenerator[etl.Page]:
    async for page in rest.by_time(
        rest.open_api("shop", ShopSettings.load()),
        "orders",
        request,
        records="orders",
        time="updated_at",
        since="updated_from",
        page="page",
        more="more",
    ):
        yield page


@etl.transform_method("shop")
@rest.decoded(Order)
def events(order: Order, context: etl.TransformContext[ShopQuery]) -> Iterator[etl.Event]:
    for what, at in (("placed", order.placed_at), ("paid", order.paid_at)):
        if at is not None:
            yield etl.Event(
                event_id=f"order:{order.id}:{what}",
                event_type=f"order_{what}",
                event_time_utc=at.astimezone(UTC),
                parent_item_id=order.number,
                relation_type="clerk",
                person=order.clerk,
                employee_id=context.employee(order.clerk),
                metrics={"total": order.total},
            )
