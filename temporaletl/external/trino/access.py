"""Access to Trino: settings, and a bearer token that is renewed while a query runs."""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import requests
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr, model_validator
from requests.auth import AuthBase

from temporaletl.budget import RateBudget
from temporaletl.connections.source_settings import HttpSettings, variables
from temporaletl.credentials import HeaderText, check_visible
from temporaletl.errors import ConfigurationError, CredentialsError, SourceUnavailableError
from temporaletl.secrets import remember_secret
from temporaletl.settings.addresses import check_encrypted, site_address
from temporaletl.strategies import rate_budget

_SCOPES = ("openid", "https://www.googleapis.com/auth/userinfo.email")
_TOKENS_FROM = "https://oauth2.googleapis.com/token"
_LONGEST_TOKEN_SECONDS = 3600  # Google's own limit
#: A token is renewed when so much of its life is left, or a tenth of it if that is less.
_EARLY = timedelta(minutes=1)


def _host(text: str) -> str:
    text = text.strip()
    check_visible(text, spaces=False)
    if "/" in text or "@" in text or (":" in text and not text.startswith("[")):
        raise ValueError(
            "must be the bare name of the host; TRINO_HTTP_SCHEME and TRINO_PORT hold the rest"
        )
    return text


def _token_uri(text: str) -> str:
    address = site_address(text, example=_TOKENS_FROM)
    check_encrypted(address, "GCP_TOKEN_URI")
    return address


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


File = Annotated[Path, AfterValidator(_file)]


class TrinoSettings(HttpSettings, alias_generator=variables("TRINO")):
    """Settings of Trino: the server, the user, the time-outs."""

    library = ("trino", "trino")
    logins = MappingProxyType(
        {
            "user without password": ("user",),
            "password": ("user", "password"),
            "Google service account": ("key_file",),
        }
    )

    key_secrets = frozenset({"private_key"})

    host: Annotated[str, AfterValidator(_host)] = Field(
        description="the name of Trino's coordinator"
    )
    port: PositiveInt | None = Field(None, description="default 443 for https, 8080 for http")
    http_scheme: Literal["http", "https"] | None = Field(
        None,
        description="http or https; default https with credentials or port 443",
    )
    user: HeaderText | None = Field(None, description="the user's name")
    password: SecretStr | None = Field(None, description="the user's password")
    catalog: HeaderText | None = None
    schema_name: HeaderText | None = Field(None, validation_alias="TRINO_SCHEMA")
    client_cert: File | None = Field(None, description="a client certificate, as PEM file")
    client_key: File | None = Field(None, description="its key, as PEM file")
    ca_file: File | None = Field(None, description="the authority of Trino's certificate")
    account_type: str = Field("service_account", validation_alias="GCP_ACCOUNT_TYPE")
    project_id: HeaderText | None = Field(None, validation_alias="GCP_PROJECT_ID")
    private_key_id: HeaderText | None = Field(None, validation_alias="GCP_PRIVATE_KEY_ID")
    private_key: SecretStr | None = Field(None, validation_alias="GCP_PRIVATE_KEY")
    client_email: HeaderText | None = Field(None, validation_alias="GCP_CLIENT_EMAIL")
    client_id: HeaderText | None = Field(None, validation_alias="GCP_CLIENT_ID")
    token_uri: Annotated[str, AfterValidator(_token_uri)] = Field(
        _TOKENS_FROM, validation_alias="GCP_TOKEN_URI"
    )
    key_file: Path | None = Field(
        None,
        validation_alias="GOOGLE_APPLICATION_CREDENTIALS",
        description="the key file of a Google service account",
    )
    token_kind: Literal["jwt", "id", "access"] = Field(
        "jwt",
        validation_alias="TRINO_GOOGLE_TOKEN",
        description="jwt: signed by ourselves; id, access: fetched from Google",
    )
    audience: HeaderText | None = Field(
        None,
        validation_alias="TRINO_JWT_AUDIENCE",
        description="whom a token is for; default https://TRINO_HOST",
    )
    token_seconds: PositiveInt = Field(
        _LONGEST_TOKEN_SECONDS,
        le=_LONGEST_TOKEN_SECONDS,
        validation_alias="TRINO_JWT_SECONDS",
        description="how long a token that we sign ourselves lives",
    )
    page_size: PositiveInt = Field(
        1000, validation_alias="TRINO_PAGE_ROWS", description="rows of one page"
    )
    query_minutes: PositiveFloat | None = Field(
        None,
        description="the longest a query may run; default a day, and whatever limit Trino has",
    )

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        if self.password is not None and self.private_key is not None:
            raise ValueError(
                "TRINO_PASSWORD and GCP_PRIVATE_KEY are both set: keep the one that Trino takes"
            )
        if self.password is not None and not self.user:
            raise ValueError("TRINO_PASSWORD is set without TRINO_USER")
        if (self.private_key is None) != (self.client_email is None):
            missing = "GCP_PRIVATE_KEY" if self.private_key is None else "GCP_CLIENT_EMAIL"
            raise ValueError(f"{missing} is not set: a service account is its e-mail and its key")
        if self.private_key is not None and self.account_type != "service_account":
            raise ValueError("GCP_ACCOUNT_TYPE is wrong: only service_account has a key to sign")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("TRINO_CLIENT_KEY is set without TRINO_CLIENT_CERT")
        if self.http_scheme == "http" and self._has_own_credentials:
            raise ValueError(
                "TRINO_HTTP_SCHEME is http: credentials are only sent over https, and Trino takes "
                "them over nothing else"
            )
        return self

    @property
    def _has_own_credentials(self) -> bool:
        return bool(self.password or self.private_key or self.client_cert)

    @property
    def scheme(self) -> str:
        if self.http_scheme is not None:
            return self.http_scheme
        return "https" if self.port in {443, 8443} or self._has_own_credentials else "http"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (443 if self.scheme == "https" else 8080)

    @property
    def uses_google(self) -> bool:
        """Whether a token of a Google service account is sent.

        GOOGLE_APPLICATION_CREDENTIALS may stand in the environment for other reasons: it counts
        over https only, and only where nothing says more plainly who we are.
        """
        if self.private_key is not None:
            return True
        other = self.password is not None or self.client_cert is not None
        return self.key_file is not None and self.scheme == "https" and not other

    @property
    def credentials(self) -> str:
        """The settings to correct when Trino refuses the credentials."""
        if self.password is not None:
            return "TRINO_USER and TRINO_PASSWORD"
        if self.uses_google:
            key = (
                "GCP_CLIENT_EMAIL and GCP_PRIVATE_KEY"
                if self.private_key is not None
                else "GOOGLE_APPLICATION_CREDENTIALS"
            )
            return f"{key}, TRINO_JWT_AUDIENCE and TRINO_USER"
        if self.client_cert is not None:
            return "TRINO_CLIENT_CERT and TRINO_USER"
        return "TRINO_USER and TRINO_PASSWORD (no credentials are set)"

    def service_account(self) -> Mapping[str, str]:
        """The service account's key, as Google's key files have it.

        Raises:
            ConfigurationError: there is none, or the file does not hold one.
        """
        if self.private_key is not None:
            return {
                "type": self.account_type,
                "project_id": self.project_id or "",
                "private_key_id": self.private_key_id or "",
                # Environments often hold the key on one line.
                "private_key": self.private_key.get_secret_value().replace("\\n", "\n"),
                "client_email": self.client_email or "",
                "client_id": self.client_id or "",
                "token_uri": self.token_uri,
            }
        try:
            found = json.loads((self.key_file or Path()).read_text("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"GOOGLE_APPLICATION_CREDENTIALS: {self.key_file} cannot be read "
                f"({type(error).__name__})"
            ) from None
        if not isinstance(found, dict) or found.get("type") != "service_account":
            raise ConfigurationError(
                f"GOOGLE_APPLICATION_CREDENTIALS: {self.key_file} is not the key of a service "
                "account"
            )
        remember_secret(str(found.get("private_key") or ""))
        try:
            check_encrypted(str(found.get("token_uri") or ""), "its token_uri")
        except ValueError as error:
            raise ConfigurationError(
                f"GOOGLE_APPLICATION_CREDENTIALS: {self.key_file}: {error}"
            ) from None
        return found


class Bearer(AuthBase):
    """Puts a token on each request: renewed before it expires, and when it is refused.

    Safe to use from many threads.
    """

    def __init__(self, settings: TrinoSettings) -> None:
        from google.auth.transport.requests import Request

        self._names = settings.credentials
        self.account = settings.service_account()
        self._credentials = _credentials(settings, self.account)
        timeout = settings.connect_timeout_seconds + settings.read_timeout_seconds
        session = requests.Session()
        # What is signed is for the one address that is configured.
        session.max_redirects = 0
        self._ask: Callable[..., Any] = partial(Request(session), timeout=timeout)
        self._guard = threading.Lock()
        self._early = timedelta(0)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        with self._guard:
            if not self._is_good():
                self._refresh()
            request.headers["Authorization"] = f"Bearer {_text(self._credentials.token)}"
        return request

    def renew(self) -> None:
        """Get another token, whatever the present one's expiry.

        Raises:
            CredentialsError: Google refuses.
            SourceUnavailableError: Google does not answer.
        """
        with self._guard:
            self._refresh()

    def _is_good(self) -> bool:
        return self._credentials.token is not None and self._remaining() > self._early

    def _remaining(self) -> timedelta:
        expiry: datetime | None = self._credentials.expiry
        if expiry is None:
            return timedelta.max
        return expiry.replace(tzinfo=UTC) - datetime.now(UTC)

    def _refresh(self) -> None:
        from google.auth.exceptions import GoogleAuthError, TransportError

        try:
            self._credentials.refresh(self._ask)
        except GoogleAuthError as error:
            passing = isinstance(error, TransportError) or error.retryable
            kind = SourceUnavailableError if passing else CredentialsError
            # Its own text may hold the answer's body.
            raise kind(
                f"trino: no token from Google ({type(error).__name__}); check {self._names}"
            ) from None
        remember_secret(_text(self._credentials.token))
        # Expiry is given in whole seconds, cut off.
        self._early = min(_EARLY, self._remaining() / 10) + timedelta(seconds=1)


def _text(token: Any) -> str:
    return token.decode() if isinstance(token, bytes) else str(token)


def _credentials(settings: TrinoSettings, account: Mapping[str, str]) -> Any:
    from google.auth import jwt
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import service_account as service

    audience = settings.audience or f"https://{settings.host}"
    try:
        match settings.token_kind:
            case "jwt":
                return jwt.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    account, audience=audience, token_lifetime=settings.token_seconds
                )
            case "id":
                return service.IDTokenCredentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    account, target_audience=audience
                )
            case "access":
                return service.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                    account, scopes=_SCOPES
                )
    except (ValueError, GoogleAuthError) as error:
        # Its text may hold a part of the key.
        raise ConfigurationError(
            f"trino: the service account's key cannot be used ({type(error).__name__}); check "
            f"{settings.credentials}"
        ) from None


@rate_budget("trino")
def trino_budget() -> RateBudget:
    """No limit; its segments have a queue, and so slots, of their own."""
    return RateBudget()
