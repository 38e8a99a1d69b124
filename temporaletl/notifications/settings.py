"""Settings of notifications: where they go, of what, and how they are signed."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from temporaletl.credentials import check_visible
from temporaletl.secrets import remember_secret
from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.settings.platform import Settings
from temporaletl.warehouse.notifications import Kind
from temporaletl.webhook_signatures import signing_key

#: A comma stands between two addresses only before the next one's scheme.
_BETWEEN = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_WEB = frozenset({"http", "https"})
_KINDS: tuple[Kind, ...] = ("finished", "failed", "late", "recovered")
#: Shorter parts of an address are words, such as `services`.
_SHORTEST_PART = 8


def split_addresses(text: str) -> list[str]:
    """The addresses of a list, in order."""
    return [address for part in _BETWEEN.split(text) if (address := part.strip(" \t\r\n,"))]


def scheme_of(address: str) -> str:
    """The scheme of an address in small letters."""
    return address.partition("://")[0].lower()


def _slack(text: SecretStr, info: ValidationInfo) -> SecretStr:
    return _webhooks(text, info, others=False)


def _any(text: SecretStr, info: ValidationInfo) -> SecretStr:
    return _webhooks(text, info, others=True)


def _webhooks(text: SecretStr, info: ValidationInfo, *, others: bool) -> SecretStr:
    variable = str(info.field_name).upper()
    for address in split_addresses(text.get_secret_value()):
        # Before anything is said of it, and never with it: it is a secret.
        _remember(address)
        scheme = scheme_of(address)
        if "://" not in address or not _SCHEME.fullmatch(scheme):
            raise ValueError("must be an address like https://hooks.example.com/…")
        check_visible(address, spaces=False)
        if scheme in _WEB:
            if not urlsplit(address).hostname:
                raise ValueError("must be an address like https://hooks.example.com/…")
            check_encrypted(address, variable)
        elif not others:
            raise ValueError("must be an address like https://hooks.example.com/…")
    return text


def _remember(address: str) -> None:
    """Keep an address out of all texts, also in the parts that libraries log one by one."""
    remember_secret(address)
    _, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    if slash:
        remember_secret(f"/{path}")
    login, at, place = host.rpartition("@")
    if at:
        remember_secret(login)
    parts = [*re.split("[/?&=]", path), *login.split(":")]
    if "." not in place and ":" not in place:
        parts.append(place)  # where services of Apprise have a token in place of a host
    for part in parts:
        if len(part) >= _SHORTEST_PART:
            remember_secret(part)


def _kinds(text: str) -> str:
    for kind in text.split(","):
        if kind.strip() and kind.strip() not in _KINDS:
            raise ValueError(f"{kind.strip()!r} is none of {', '.join(_KINDS)}")
    return text


def _signing_key(secret: SecretStr) -> SecretStr:
    signing_key(secret.get_secret_value())
    return secret


class NotificationSettings(Settings):
    """Where notifications go, and of which events."""

    free_secrets = frozenset({"slack_webhook_url", "notify_urls", "webhook_secret"})

    slack_webhook_url: Annotated[SecretStr, AfterValidator(_slack)] | None = Field(
        None, validation_alias="SLACK_WEBHOOK_URL", description="Slack's incoming webhook"
    )
    notify_urls: Annotated[SecretStr, AfterValidator(_any)] | None = Field(
        None,
        validation_alias="NOTIFY_URLS",
        description="comma-separated webhooks, and addresses of other services as Apprise has them",
    )
    notify_on: Annotated[str, AfterValidator(_kinds)] = Field(
        ",".join(_KINDS),
        validation_alias="NOTIFY_ON",
        description=f"of which events: some of {', '.join(_KINDS)}",
    )
    webhook_secret: Annotated[SecretStr, AfterValidator(_signing_key)] | None = Field(
        None,
        validation_alias="ETL_WEBHOOK_SECRET",
        description="the secret by which webhooks of NOTIFY_URLS are signed",
    )
    web_address: (
        Annotated[
            str, AfterValidator(lambda text: site_address(text, example="https://etl.example.com"))
        ]
        | None
    ) = Field(
        None,
        validation_alias="ETL_WEB_ADDRESS",
        description="the dashboard's address, for links in notifications",
    )

    @property
    def kinds(self) -> frozenset[Kind]:
        """The events of which there are notifications."""
        wanted = {kind.strip() for kind in self.notify_on.split(",")}
        return frozenset(kind for kind in _KINDS if kind in wanted)

    def signing_key(self) -> bytes | None:
        """The key of the signatures; None where webhooks are not signed."""
        if self.webhook_secret is None:
            return None
        return signing_key(self.webhook_secret.get_secret_value())
