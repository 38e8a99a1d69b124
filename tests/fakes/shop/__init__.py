"""A web shop whose orders can be listed in every way that REST APIs have of paging."""

from tests.fakes.shop.orders import Order, Orders, generate
from tests.fakes.shop.service import OWN_FAULTS, ShopService

__all__ = ["OWN_FAULTS", "Order", "Orders", "ShopService", "generate"]
