"""Settings of source `launchpad`: the service, its credentials, members and targets."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PositiveInt,
    SecretStr,
    model_validator,
)
from pydantic_settings import NoDecode

from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import (
    HttpSettings,
    RateSettings,
    RequestRate,
    variables,
)
from temporaletl.credentials import HeaderText
from temporaletl.deletions import FindDeleted
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.settings.addresses import check_encrypted
from temporaletl.strategies import rate_budget

#: As launchpadlib names them, but for "edge", which is long gone.
_ROOTS = {
    "production": "https://api.launchpad.net/",
    "qastaging": "https://api.qastaging.launchpad.net/",
    "staging": "https://api.staging.launchpad.net/",
    "dogfood": "https://api.dogfood.paddev.net/",
    "dev": "https://api.launchpad.test/",
    "test_dev": "http://api.launchpad.test:8085/",
}
_PERSON = re.compile(r"[a-z0-9][a-z0-9+.\-]*")
_TARGET = re.compile(r"[a-z0-9][A-Za-z0-9+.\-]*(/[A-Za-z0-9+.\-]+)*")


def _service_url(text: str, known: Mapping[str, str]) -> str:
    """Return a service root's URL, with the slash, for a name or a URL.

    Raises:
        ValueError: it is neither, or more than the root.
    """
    text = text.strip()
    if text in known:
        return known[text]
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"must be one of {', '.join(sorted(known))}, or an address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be the bare address, without credentials or parameters")
    root = text.rstrip("/")
    if re.search(r"/(\d+\.\d+|beta|devel)$", root):
        raise ValueError("must be the address without the version of the API at its end")
    return f"{root}/"


def _split(value: object) -> object:
    return tuple(re.findall(r"[^,\s]+", value)) if isinstance(value, str) else value


def person_name(text: str) -> str:
    """Return a Launchpad name, given with or without the tilde.

    Raises:
        ValueError: no person or team can be called so.
    """
    name = text.strip().removeprefix("~").lower()
    if not _PERSON.fullmatch(name):
        raise ValueError(f"{text!r} is not a Launchpad name (as in ~name)")
    return name


def _target_name(text: str) -> str:
    name = text.strip().strip("/")
    if not _TARGET.fullmatch(name):
        raise ValueError(f"{text!r} is not a project, distribution or package")
    return name


def _normalized(names: tuple[str, ...], read: Callable[[str], str]) -> tuple[str, ...]:
    return tuple(sorted({read(name) for name in names}))


#: Launchpad names of people and teams, with or without the tilde; sorted, each once.
People = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(partial(_normalized, read=person_name)),
]
#: Projects, distributions, packages (`ubuntu/+source/bash`); sorted, each once.
Targets = Annotated[
    tuple[str, ...],
    BeforeValidator(_split),
    AfterValidator(partial(_normalized, read=_target_name)),
]


class LaunchpadSettings(RateSettings, HttpSettings, alias_generator=variables("LP")):
    """Settings of source `launchpad`: the service, its credentials, members and targets."""

    library = ("launchpadlib", "launchpad")
    logins = MappingProxyType(
        {
            "anonymous": (),
            "OAuth token": ("consumer_key", "access_token_key", "access_token_secret"),
        }
    )
    usual = ("targets", "members")

    consumer_key: HeaderText | None = Field(None, description="the OAuth consumer key")
    access_token_key: SecretStr | None = Field(None, description="the OAuth access token")
    access_token_secret: SecretStr | None = Field(None, description="the access token's secret")
    service_root: Annotated[str, AfterValidator(partial(_service_url, known=_ROOTS))] = Field(
        _ROOTS["production"],
        description="which Launchpad: production, staging, qastaging, dogfood, or an address",
    )
    members: Annotated[People, NoDecode] = Field(
        (), description="Launchpad names, separated by commas"
    )
    targets: Annotated[Targets, NoDecode] = Field(
        (),
        description="projects and distributions to read whole, separated by commas",
    )
    find_deleted: FindDeleted = Field(
        "full",
        description="in which runs everything is listed to find what is gone",
    )
    page_size: int = Field(
        50,
        ge=1,
        le=299,  # what Launchpad gives at most, less one to join pages by
        description="bugs, proposals or questions in one page, 1 to 299",
    )
    concurrency: PositiveInt = Field(6, description="requests at once from one process")
    requests_per_second: RequestRate = Field(
        10,
        description="requests a second of all workers together",
    )

    @model_validator(mode="after")
    def _whole_token(self) -> Self:
        parts = {
            "LP_CONSUMER_KEY": self.consumer_key,
            "LP_ACCESS_TOKEN_KEY": self.access_token_key,
            "LP_ACCESS_TOKEN_SECRET": self.access_token_secret,
        }
        if self.consumer_key is not None:
            check_encrypted(self.service_root, "LP_SERVICE_ROOT")
        missing = [name for name, value in parts.items() if value is None]
        if missing and len(missing) < len(parts):
            given = " and ".join(name for name in parts if name not in missing)
            raise ValueError(
                f"{' and '.join(missing)} missing, though {given} is set: Launchpad wants all "
                "three, or none for anonymous access"
            )
        return self

    @property
    def anonymous(self) -> bool:
        return self.consumer_key is None

    @property
    def instance(self) -> str | None:
        """The name of the Launchpad that has this address; None for an address of no known one."""
        return next((name for name, url in _ROOTS.items() if url == self.service_root), None)


# Salesforce may know whose work is read, and who is who.
connection_settings("launchpad", LaunchpadSettings, SalesforceSettings)
budget = rate_budget("launchpad")(LaunchpadSettings.budget)
