"""Building blocks of sources over REST: settings, a session, pagination, decoding.

    @rest_source("shop", streams=("orders",))
    class ShopSettings(TokenSettings, alias_generator=variables("SHOP")): ...

    api = open_api("shop", ShopSettings.load())
    by_time(api, "orders", request, time="updated_at", since="updated_from", ...)

Every paginator yields `Page`s of `Record`s, goes on from any of their cursors, and reports a list
that ends from one that breaks off. A record may come again, never not at all.
"""

from temporaletl.connections.source_settings import variables
from temporaletl.external.rest.api import (
    RestApi,
    RestSettings,
    TokenSettings,
    close_apis,
    open_api,
)
from temporaletl.external.rest.counting import by_offset
from temporaletl.external.rest.following import by_link, by_token
from temporaletl.external.rest.keyset import by_time, iso_utc, utc_from_iso
from temporaletl.external.rest.narrowing import reread
from temporaletl.external.rest.numbering import by_number
from temporaletl.external.rest.planning import rest_source
from temporaletl.external.rest.records import Record, decoded

__all__ = [
    "Record",
    "RestApi",
    "RestSettings",
    "TokenSettings",
    "by_link",
    "by_number",
    "by_offset",
    "by_time",
    "by_token",
    "close_apis",
    "decoded",
    "iso_utc",
    "open_api",
    "reread",
    "rest_source",
    "utc_from_iso",
    "variables",
]
