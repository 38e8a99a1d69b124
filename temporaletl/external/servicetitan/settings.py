"""Settings of source `servicetitan`: the tenant, the app, and how to read them."""

from datetime import timedelta
from functools import partial
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import (
    HttpSettings,
    RateSettings,
    RequestRate,
    variables,
)
from temporaletl.credentials import HeaderText
from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.strategies import rate_budget

SOURCE = "servicetitan"

#: `export` follows the feed of changes, `list` pages through a search.
Paging = Literal["export", "list"]

#: The most rows that one request to a list may return.
MOST_ROWS = 5_000
#: How far a window that begins by date reaches back behind the watermark.
OVERLAP = timedelta(minutes=30)
#: The feed withholds the latest changes; its documentation says to wait five to ten minutes.
_EXPORT_LAG = timedelta(minutes=10)
_LIST_LAG = timedelta(minutes=1)
_TOKEN_PATH = "/connect/token"  # noqa: S105 - a path


_address = partial(site_address, example="https://api.servicetitan.io")


def _token_address(text: str) -> str:
    address = _address(text)
    return address if urlsplit(address).path else address + _TOKEN_PATH


class _Rate(RateSettings, alias_generator=variables("SERVICETITAN")):
    """Rate settings of ServiceTitan; read also where the rest is not set."""

    requests_per_second: RequestRate = Field(
        50,
        description="requests of all workers together; the vendor allows an app 60 for a tenant",
    )


class ServiceTitanSettings(_Rate, HttpSettings, alias_generator=variables("SERVICETITAN")):
    """Settings of source `servicetitan`: the tenant, the app, and how to read them."""

    url: Annotated[str, AfterValidator(_address)] = Field(
        "https://api.servicetitan.io",
        description="the API's address; https://api-integration.servicetitan.io for integration",
    )
    auth_url: Annotated[str, AfterValidator(_token_address)] = Field(
        f"https://auth.servicetitan.io{_TOKEN_PATH}",
        description="where tokens are given out; https://auth-integration.servicetitan.io for "
        "integration",
    )
    client_id: HeaderText = Field(
        description="the client id that the tenant got when it connected the app",
    )
    client_secret: SecretStr = Field(description="the client id's secret")
    app_key: SecretStr = Field(
        description="the app's key, from the developer portal",
    )
    tenant_id: PositiveInt = Field(description="the number of the tenant to read")
    paging: Paging = Field(
        "export",
        description="export: follow the feed of changes; list: search by time of modification",
    )
    page_size: int = Field(
        1_000,
        ge=1,
        le=MOST_ROWS,
        description=f"records in one page of a list, 1 to {MOST_ROWS}; exports choose their own",
    )
    include_recent_changes: bool = Field(
        default=False,
        description="have exports show the latest changes sooner, some of them twice",
    )
    lag_seconds: NonNegativeFloat | None = Field(
        None,
        description="how far windows end behind now; by default 600 with exports, 60 with lists",
    )
    read_timeout_seconds: PositiveFloat = Field(
        110,
        description="how long an answer may take; the vendor gives up by itself after 100",
    )

    @model_validator(mode="after")
    def _one_environment(self) -> Self:
        hosts = {urlsplit(self.url).hostname or "", urlsplit(self.auth_url).hostname or ""}
        known = [host for host in hosts if host.endswith(".servicetitan.io")]
        check_encrypted(self.url, "SERVICETITAN_URL")
        check_encrypted(self.auth_url, "SERVICETITAN_AUTH_URL")
        if len({"-integration." in host for host in known}) > 1:
            raise ValueError(
                "SERVICETITAN_URL and SERVICETITAN_AUTH_URL name different environments, "
                "production and integration: set both to the one that the app is for"
            )
        return self

    @property
    def site(self) -> str:
        """The environment and tenant that export tokens belong to."""
        return f"{self.url}/tenant/{self.tenant_id}"

    @property
    def lag(self) -> timedelta:
        if self.lag_seconds is not None:
            return timedelta(seconds=self.lag_seconds)
        return _EXPORT_LAG if self.paging == "export" else _LIST_LAG


connection_settings(SOURCE, ServiceTitanSettings)
servicetitan_budget = rate_budget(SOURCE)(_Rate.budget)
