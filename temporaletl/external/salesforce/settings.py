"""Settings of source `salesforce`: the org, its login, its rate."""

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr, model_validator

from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import (
    HttpSettings,
    RateSettings,
    RequestRate,
    SourceSettings,
    variables,
)
from temporaletl.credentials import HeaderText, PlainText
from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.strategies import rate_budget

#: How Salesforce lets a program in.
Way = Literal["password", "jwt", "client credentials"]

_IDENTIFIER = re.compile(r"[A-Za-z](?:_?[A-Za-z0-9]|__[A-Za-z0-9])*")
_SOURCE = re.compile(r"[a-z][a-z0-9_-]*")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*")
_COMMON_DOMAINS = frozenset({"login", "test"})


def check_name(text: str) -> str:
    """Return the name of an object that can stand in SOQL as it is.

    Raises:
        ValueError: it is no identifier.
    """
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError(f"{text!r} is no name of Salesforce's API, such as User or Employee__c")
    return text


def check_field(text: str) -> str:
    """Return the name of a field, of the object or of one it leads to, that can stand in SOQL.

    Raises:
        ValueError: it is neither an identifier nor several joined by dots.
    """
    if not all(_IDENTIFIER.fullmatch(part) for part in text.split(".")):
        raise ValueError(
            f"{text!r} is no field's API name, such as EmployeeNumber, Staff_Number__c or "
            "Contact.Staff_Number__c"
        )
    return text


def _domain(text: str) -> str:
    host = text.strip().lower().removeprefix("https://").rstrip("/")
    host = host.removesuffix(".salesforce.com")
    if not _HOST.fullmatch(host) or ("." not in host and host not in _COMMON_DOMAINS):
        raise ValueError(
            f"{text!r} is neither login, nor test, nor a My Domain such as example.my or "
            "example--trial.sandbox.my (what stands before .salesforce.com)"
        )
    return host


def _instance_url(text: str) -> str:
    address = site_address(text, example="https://example.my.salesforce.com")
    parts = urlsplit(address)
    if parts.path:
        raise ValueError("must be the bare address, without a path")
    check_encrypted(address, "SF_INSTANCE_URL")
    return address


def _private_key(key: SecretStr) -> SecretStr:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    # Environments often carry a PEM text on one line, its line ends written as \n.
    text = key.get_secret_value().strip().strip('"').replace("\\n", "\n").strip()
    try:
        loaded = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        loaded = None
    if not isinstance(loaded, RSAPrivateKey):
        # Without the cause, which might repeat some of the key.
        raise ValueError(  # noqa: TRY004 - pydantic's way to say that a value is wrong
            "must be an RSA private key in PEM, without a passphrase (-----BEGIN PRIVATE "
            "KEY-----…), on several lines or with \\n between them"
        )
    return SecretStr(text)


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [pair.strip() for pair in text.split(",") if pair.strip()]
    found: list[tuple[str, str]] = []
    for pair in pairs:
        source, colon, field = (part.strip() for part in pair.partition(":"))
        if not colon or not _SOURCE.fullmatch(source):
            raise ValueError(
                f"{pair!r} is not SOURCE:FIELD; write launchpad:Launchpad_ID__c,jira:Jira_ID__c"
            )
        found.append((source, check_field(field)))
    named = [source for source, _ in found]
    if len(set(named)) < len(named):
        raise ValueError("names a source twice: keep one field for each")
    return tuple(found)


def _identity_fields(text: str) -> str:
    _pairs(text)
    return text


class _Login(SourceSettings, alias_generator=variables("SF")):
    """The variables of every way in, not yet looked at together."""

    # It travels in the body of a login; tokens and secrets are made of what headers hold.
    free_secrets = frozenset({"password"})
    key_secrets = frozenset({"private_key"})

    username: PlainText | None = Field(None, description="the user's name, like jane@example.com")
    password: SecretStr | None = Field(None, description="of the login with SF_USERNAME")
    token: SecretStr | None = Field(
        None,
        description="the security token that goes with SF_PASSWORD",
    )
    consumer_key: HeaderText | None = Field(None, description="the connected app's consumer key")
    consumer_secret: SecretStr | None = Field(None, description="for client credentials")
    private_key: SecretStr | None = Field(None, description="the JWT bearer login's RSA key, PEM")

    def given(self) -> list[str]:
        """Return the variables that are set."""
        return [
            str(type(self).model_fields[name].validation_alias)
            for name in _Login.model_fields
            if getattr(self, name) is not None
        ]


class _Rate(RateSettings, alias_generator=variables("SF")):
    """Rate settings of Salesforce; read also where no login is set."""

    requests_per_second: RequestRate = Field(10, description="of all workers together")


class SalesforceSettings(_Login, _Rate, HttpSettings, alias_generator=variables("SF")):
    """Settings of source `salesforce`: the org, and its login.

    An explicit SF_INSTANCE_URL is where both logins and queries go; else a login goes to
    SF_DOMAIN, and queries to the instance that the login names.
    """

    library = ("simple_salesforce", "salesforce")
    logins = MappingProxyType(
        {
            "client credentials": ("domain", "consumer_key", "consumer_secret"),
            "JWT bearer": ("domain", "username", "consumer_key", "private_key"),
            "password and security token": ("domain", "username", "password", "token"),
            "password, from a trusted network": ("domain", "username", "password"),
        }
    )

    private_key: Annotated[SecretStr, AfterValidator(_private_key)] | None = Field(
        None,
        description="the RSA key, as PEM, of the JWT bearer login",
    )
    domain: Annotated[str, AfterValidator(_domain)] = Field(
        "login",
        description="where to log in: login, test (sandboxes) or a My Domain such as example.my",
    )
    instance_url: Annotated[str, AfterValidator(_instance_url)] | None = Field(
        None,
        description="the org's own address, e.g. https://example.my.salesforce.com",
    )
    api_version: str = Field(
        "59.0",
        pattern=r"^[0-9]{2,3}\.0$",
        description="the version of Salesforce's API, like 59.0",
    )
    page_size: int = Field(
        2_000,
        ge=1,
        le=2_000,
        description="rows in one page of REST",
    )
    bulk_above_rows: PositiveInt = Field(
        50_000,
        description="a job of more rows is read by the Bulk API 2.0",
    )
    bulk_page_rows: PositiveInt = Field(
        5_000,
        description="rows of a bulk result fetched at once",
    )
    bulk_timeout_minutes: PositiveFloat = Field(
        240,
        description="a bulk query that takes longer is aborted and fails its job",
    )
    api_usage_limit: float = Field(
        0.9,
        gt=0,
        le=1,
        description="the share of the org's daily API requests above which the source pauses",
    )
    lag_seconds: PositiveFloat = Field(
        120,
        description="how far a window's end stays behind now, for what is committed late",
    )
    #: Salesforce itself gives a query two minutes.
    read_timeout_seconds: PositiveFloat = 130

    employee_object: Annotated[str, AfterValidator(check_name)] = Field(
        "User",
        description="the object that lists the employees",
    )
    employee_user_field: Annotated[str, AfterValidator(check_field)] | None = Field(
        None,
        description="the field of SF_EMPLOYEE_OBJECT with the Id of the person's User",
    )
    employee_id_field: Annotated[str, AfterValidator(check_field)] = Field(
        "EmployeeNumber",
        description="the field of SF_EMPLOYEE_OBJECT with the employee's id",
    )
    employee_email_field: Annotated[str, AfterValidator(check_field)] = Field(
        "Email",
        description="the field of SF_EMPLOYEE_OBJECT with the e-mail address",
    )
    identity_fields: Annotated[str, AfterValidator(_identity_fields)] | None = Field(
        None,
        description="fields with a person's ids elsewhere, like launchpad:Launchpad_ID__c",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        given = set(self.given())
        if not given:
            raise ValueError(
                "no credentials for Salesforce: set SF_CONSUMER_KEY and SF_CONSUMER_SECRET (client "
                "credentials), or SF_CONSUMER_KEY, SF_PRIVATE_KEY and SF_USERNAME (JWT bearer), or "
                "SF_USERNAME, SF_PASSWORD and SF_TOKEN"
            )
        wanted = _WAYS[self.way]
        missing = [name for name in wanted.needs if name not in given]
        excess = sorted(given - {*wanted.needs, *wanted.takes})
        if excess:
            raise ValueError(
                f"{' and '.join(excess)} cannot go with "
                f"{' and '.join(sorted(given.intersection(wanted.needs)))}: keep the variables of "
                f"one login; that by {self.way} wants {', '.join(wanted.needs)}{wanted.hint}"
            )
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} not set, though {' and '.join(sorted(given))} is: the "
                f"login by {self.way} wants {', '.join(wanted.needs)}{wanted.hint}"
            )
        if (
            self.way == "client credentials"
            and self.domain in _COMMON_DOMAINS
            and not self.instance_url
        ):
            raise ValueError(
                "the login by client credentials goes to the org's own address: set SF_DOMAIN to "
                "its My Domain (such as example.my), or SF_INSTANCE_URL"
            )
        return self

    @property
    def way(self) -> Way:
        """The kind of login, by the variables that are set."""
        if self.private_key is not None:
            return "jwt"
        if self.consumer_secret is not None:
            return "client credentials"
        if self.password is not None or self.token is not None or self.consumer_key is None:
            return "password"
        return "client credentials" if self.username is None else "jwt"

    @property
    def credentials(self) -> str:
        """The variables to correct when the login is refused."""
        names = [name for name in self.given() if name in {*_WAYS[self.way].needs, "SF_TOKEN"}]
        return f"{', '.join(names[:-1])} and {names[-1]}"

    @property
    def identities(self) -> tuple[tuple[str, str], ...]:
        """Other sources, each with the field that holds a person's id there."""
        return _pairs(self.identity_fields or "")

    @classmethod
    def is_configured(cls) -> bool:
        """Whether any variable of a login is set, rightly or not."""
        return bool(_Login.load().given())


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The variables of one way in: those it needs, and those it takes beside them."""

    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()
    hint: str = ""


_WAYS: dict[Way, _Wanted] = {
    "password": _Wanted(
        ("SF_USERNAME", "SF_PASSWORD"),
        takes=("SF_TOKEN",),
        hint=" (and SF_TOKEN, unless the network is trusted)",
    ),
    "jwt": _Wanted(("SF_CONSUMER_KEY", "SF_PRIVATE_KEY", "SF_USERNAME")),
    "client credentials": _Wanted(
        ("SF_CONSUMER_KEY", "SF_CONSUMER_SECRET"),
        hint="; for a JWT bearer login set SF_PRIVATE_KEY and SF_USERNAME",
    ),
}


connection_settings("salesforce", SalesforceSettings)
salesforce_budget = rate_budget("salesforce")(_Rate.budget)
