"""Who we are to Trino, and that nothing of it gets out."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import requests

from temporaletl import ConfigurationError, CredentialsError, SourceUnavailableError
from temporaletl.external.trino.access import Bearer, TrinoSettings
from temporaletl.external.trino.server import close_servers, open_trino
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer
from tests.keys import private_pem

Load = Callable[..., TrinoSettings]


@pytest.fixture(scope="module")
def key() -> str:
    return private_pem()


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Load]:
    monkeypatch.chdir(tmp_path)

    def load(**variables: str) -> TrinoSettings:
        monkeypatch.setattr("os.environ", {"TRINO_HOST": "trino.example", **variables})
        return TrinoSettings.load()

    yield load
    close_servers()


@pytest.mark.parametrize(
    ("variables", "scheme", "port"),
    [
        ({}, "http", 8080),
        ({"TRINO_HTTP_SCHEME": "https"}, "https", 443),
        ({"TRINO_PORT": "443"}, "https", 443),
        ({"TRINO_USER": "u", "TRINO_PASSWORD": "p"}, "https", 443),
        ({"TRINO_PORT": "9000", "TRINO_HTTP_SCHEME": "http"}, "http", 9000),
    ],
)
def test_scheme_and_port_follow_from_each_other_and_from_credentials(
    load: Load, variables: dict[str, str], scheme: str, port: int
) -> None:
    settings = load(**variables)
    assert (settings.scheme, settings.address) == (scheme, ("trino.example", port))


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"TRINO_HOST": ""}, "TRINO_HOST is not set"),
        ({"TRINO_HOST": "https://x"}, "TRINO_HOST is wrong: .*bare name"),
        ({"TRINO_HOST": "x:8080"}, "TRINO_HOST is wrong: .*TRINO_PORT"),
        ({"TRINO_PASSWORD": "s3cret"}, "without TRINO_USER"),
        ({"GCP_PRIVATE_KEY": "s3cret"}, "GCP_CLIENT_EMAIL is not set"),
        ({"GCP_CLIENT_EMAIL": "a@b"}, "GCP_PRIVATE_KEY is not set"),
        (
            {"GCP_PRIVATE_KEY": "s3cret", "GCP_CLIENT_EMAIL": "a", "TRINO_PASSWORD": "s3cret"},
            "both set",
        ),
        (
            {"GCP_PRIVATE_KEY": "s3cret", "GCP_CLIENT_EMAIL": "a", "GCP_ACCOUNT_TYPE": "user"},
            "GCP_ACCOUNT_TYPE",
        ),
        (
            {"TRINO_USER": "u", "TRINO_PASSWORD": "s3cret", "TRINO_HTTP_SCHEME": "http"},
            "only sent over https",
        ),
        ({"TRINO_CLIENT_CERT": "none.pem"}, "there is no file none.pem"),
        ({"TRINO_JWT_SECONDS": "7200"}, "TRINO_JWT_SECONDS"),
    ],
)
def test_what_is_missing_or_contradicts_is_named(
    load: Load, variables: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        load(**variables)
    assert "s3cret" not in str(refused.value)


def test_secrets_are_not_shown(load: Load, key: str) -> None:
    shown = repr(load(GCP_PRIVATE_KEY=key, GCP_CLIENT_EMAIL="a@b"))
    assert key[40:80] not in shown


def account(key: str, **changed: str) -> dict[str, str]:
    return {
        "type": "service_account",
        "client_email": "a@b",
        "private_key": key,
        "private_key_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    } | changed


def test_a_key_file_counts_over_https_only_and_gives_way(
    load: Load, key: str, tmp_path: Path
) -> None:
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account(key)))
    named = {"GOOGLE_APPLICATION_CREDENTIALS": str(file)}
    assert not load(**named).uses_google
    assert not load(**named, TRINO_USER="u", TRINO_PASSWORD="p").uses_google
    settings = load(**named, TRINO_HTTP_SCHEME="https")
    assert settings.uses_google
    assert settings.service_account()["client_email"] == "a@b"


@pytest.mark.parametrize("content", ["{", '{"type": "authorized_user"}', None])
def test_a_key_file_that_holds_no_service_account_is_named(
    load: Load, tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "account.json"
    if content is not None:
        file.write_text(content)
    settings = load(GOOGLE_APPLICATION_CREDENTIALS=str(file), TRINO_HTTP_SCHEME="https")
    with pytest.raises(ConfigurationError, match=r"GOOGLE_APPLICATION_CREDENTIALS: .*account.json"):
        open_trino(settings)


def test_a_key_that_is_none_is_not_repeated(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="check GCP_CLIENT_EMAIL") as refused:
        open_trino(load(GCP_PRIVATE_KEY="s3cret", GCP_CLIENT_EMAIL="a@b"))
    assert "s3cret" not in str(refused.value)


def put(bearer: Bearer) -> str:
    request = requests.Request("GET", "https://trino.example/", auth=bearer).prepare()
    return str(request.headers["Authorization"]).removeprefix("Bearer ")


def test_a_token_says_who_for_whom_and_until_when(load: Load, key: str) -> None:
    escaped = key.replace("\n", "\\n")
    named = {"GCP_PRIVATE_KEY": escaped, "GCP_CLIENT_EMAIL": "a@b", "TRINO_JWT_SECONDS": "60"}
    token = put(Bearer(load(**named)))
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["sub"], claims["aud"]) == ("a@b", "https://trino.example")
    assert claims["exp"] - claims["iat"] == 60
    other = put(Bearer(load(**named, TRINO_JWT_AUDIENCE="warehouse")))
    assert jwt.decode(other, options={"verify_signature": False})["aud"] == "warehouse"


def test_a_token_is_kept_while_it_is_good(
    load: Load, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bearer = Bearer(load(GCP_PRIVATE_KEY=key, GCP_CLIENT_EMAIL="a@b"))
    refreshed: list[int] = []
    refresh = bearer._credentials.refresh

    def count_and_refresh(ask: Any) -> None:
        refreshed.append(1)
        refresh(ask)

    monkeypatch.setattr(bearer._credentials, "refresh", count_and_refresh)
    for _ in range(3):
        put(bearer)
    assert len(refreshed) == 1
    # A minute before its end, it is too old for a request that may take long.
    almost = (datetime.now(UTC) + timedelta(seconds=59)).replace(tzinfo=None)
    monkeypatch.setattr(bearer._credentials, "expiry", almost)
    put(bearer)
    assert len(refreshed) == 2


class TokenService:
    """Google's address for tokens: gives the configured answer."""

    own_faults: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        self.status, self.given, self.requests = status, answer, 0

    def bind(self, base_url: str, faults: Faults) -> None: ...

    def answer(self, request: Request) -> Response:
        self.requests += 1
        assert request.form()["assertion"]
        return Response.of(self.given, self.status)

    def refuse(self, status: int) -> Response:
        return Response(status)


@pytest.mark.parametrize("kind", ["id", "access"])
def test_a_token_can_be_fetched_from_google(load: Load, key: str, kind: str) -> None:
    hour = datetime.now(UTC) + timedelta(hours=1)
    token = jwt.encode({"exp": int(hour.timestamp())}, "x" * 32)
    named = "id_token" if kind == "id" else "access_token"
    service = TokenService(200, {named: token, "expires_in": 3600})
    with FakeServer(service) as google:
        bearer = Bearer(
            load(
                GCP_PRIVATE_KEY=key,
                GCP_CLIENT_EMAIL="a@b",
                GCP_TOKEN_URI=f"{google.url}/token",
                TRINO_GOOGLE_TOKEN=kind,
            )
        )
        assert put(bearer) == put(bearer) == token
        assert service.requests == 1
        bearer.renew()
        assert service.requests == 2


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (400, {"error": "invalid_grant", "error_description": "s3cret"}, CredentialsError),
        (503, {"error": "unavailable"}, SourceUnavailableError),
    ],
)
def test_no_token_from_google_is_told_without_its_words(
    load: Load,
    key: str,
    status: int,
    answer: dict[str, Any],
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Google's library sits out troubles for seconds.
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _seconds: None)
    with FakeServer(TokenService(status, answer)) as google:
        bearer = Bearer(
            load(
                GCP_PRIVATE_KEY=key,
                GCP_CLIENT_EMAIL="a@b",
                GCP_TOKEN_URI=f"{google.url}/token",
                TRINO_GOOGLE_TOKEN="id",
            )
        )
        with pytest.raises(error, match=r"no token from Google.*check GCP_CLIENT_EMAIL") as refused:
            put(bearer)
    assert "s3cret" not in str(refused.value)
