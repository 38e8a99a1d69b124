"""Who Trino lets in, for real: tokens over HTTPS that expire, keys that are not ours."""

from datetime import UTC, datetime, timedelta

import pytest

from temporaletl import (
    ConfigurationError,
    CredentialsError,
    ETLInput,
)
from temporaletl.external.trino.access import Bearer, TrinoSettings
from temporaletl.external.trino.server import TrinoServer as Trino, open_trino
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Read, pages_of, read
from tests.integration.trino_reading import SMALL, TPCH, WIDE, Lake, jobs_of, order
from tests.integration.trino_relay import TrinoRelay, over_tls
from tests.integration.trino_server import ACCOUNT, service_account_file
from tests.keys import private_pem
from tests.waiting import until


#: The server takes long to start where the machine is busy.
def secured(lake: Lake, **more: str) -> TrinoSettings:
    """Point the environment at the server's HTTPS side, with a token of our own."""
    if (own := lake.trino.secured) is None:
        pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
    # Where they are set, they would win over what the library is told.
    lake.point_at(REQUESTS_CA_BUNDLE="/nowhere", CURL_CA_BUNDLE="/nowhere")
    variables = {
        "TRINO_PORT": str(own.port),
        "TRINO_HTTP_SCHEME": "https",
        "TRINO_CA_FILE": str(own.certificate),
        "GCP_CLIENT_EMAIL": ACCOUNT,
        "GCP_PRIVATE_KEY": own.private_key.replace("\n", "\\n"),
    }
    lake.point_at(**(variables | more))
    return TrinoSettings.load()


async def test_a_token_is_signed_with_the_accounts_key(lake: Lake) -> None:
    lake.orders(order(1))
    secured(lake)
    assert (await read(jobs_of())).numbers == {1}


async def test_a_key_file_does_as_well(lake: Lake) -> None:
    lake.orders(order(1))
    secured(lake)
    assert lake.trino.secured is not None
    for name in ("GCP_CLIENT_EMAIL", "GCP_PRIVATE_KEY"):
        lake.monkeypatch.delenv(name)
    file = service_account_file(lake.trino.secured, lake.folder)
    lake.point_at(GOOGLE_APPLICATION_CREDENTIALS=str(file))
    assert (await read(jobs_of())).numbers == {1}


async def test_a_token_that_trino_refuses_is_renewed(lake: Lake) -> None:
    """Where the clocks do not agree, Trino is the first to know that a token has expired."""
    lake.streams(SMALL, query="SELECT 1 AS id, current_date AS at")
    settings = secured(lake, TRINO_JWT_SECONDS="3")
    bearer = open_trino(settings)._session.auth
    assert isinstance(bearer, Bearer)
    lake.monkeypatch.setattr(bearer, "_remaining", lambda: timedelta(hours=1))
    tokens = set()
    for _ in range(2):
        await read(jobs_of(stream="small", end=datetime(9999, 1, 1, tzinfo=UTC)))
        tokens.add(bearer._credentials.token)
        expires = bearer._credentials.expiry.replace(tzinfo=UTC)
        # Whole seconds count, and the moment itself is still good.
        await until(lambda: datetime.now(UTC) > expires + timedelta(seconds=1.1))  # noqa: B023
    assert len(tokens) == 2


@pytest.mark.parametrize("gateway_is_ahead", [False, True])
async def test_a_query_outlives_its_token(lake: Lake, *, gateway_is_ahead: bool) -> None:
    """Tokens are renewed in time; and on refusal, in the middle of a query."""
    lake.streams(TPCH, query=WIDE)
    secured(lake)
    assert lake.trino.secured is not None
    folder = lake.trino.secured.certificate.parent
    gateway = TrinoRelay(
        f"https://127.0.0.1:{lake.trino.secured.port}",
        public_key=(folder / "public.pem").read_text(),
        authority=lake.trino.secured.certificate,
    )
    server = over_tls(FakeServer(gateway), folder)
    settings = secured(lake, TRINO_JWT_SECONDS="2", TRINO_PORT=str(server.port))
    bearer = open_trino(settings)._session.auth
    assert isinstance(bearer, Bearer)
    (job,) = jobs_of(stream="tpch", page_rows=1000)
    found = Read()
    with server:
        await outlive(lake, job, found, bearer, ahead=gateway_is_ahead)
        assert len(found.events) == 15_000
        assert bool(gateway.refused) is gateway_is_ahead


async def outlive(lake: Lake, job: ETLInput, found: Read, bearer: Bearer, *, ahead: bool) -> None:
    async with pages_of(job) as pages:
        found.add(job, await anext(pages))
        if ahead:
            lake.monkeypatch.setattr(bearer, "_remaining", lambda: timedelta(hours=1))
        expires = bearer._credentials.expiry.replace(tzinfo=UTC)
        # Whole seconds count, and the moment itself is still good.
        await until(lambda: datetime.now(UTC) > expires + timedelta(seconds=1.1))
        async for page in pages:
            found.add(job, page)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"GCP_CLIENT_EMAIL": "x@example.com", "TRINO_USER": ACCOUNT}, "TRINO_USER"),
        (
            {"TRINO_JWT_AUDIENCE": "x", "TRINO_USER": "somebody"},
            "cannot impersonate.*check .*TRINO_USER",
        ),
    ],
)
async def test_a_refused_account_names_its_settings(
    lake: Lake, changed: dict[str, str], told: str
) -> None:
    lake.orders(order(1))
    settings = secured(lake, **changed)
    with pytest.raises(CredentialsError, match=told) as refused:
        await read(jobs_of())
    assert settings.private_key is not None
    assert settings.private_key.get_secret_value()[40:80] not in str(refused.value)


async def test_a_token_of_another_key_is_refused(lake: Lake, other_key: str) -> None:
    lake.orders(order(1))
    secured(lake, GCP_PRIVATE_KEY=other_key)
    with pytest.raises(CredentialsError, match=r"401 .*check GCP_CLIENT_EMAIL and GCP_PRIVATE_KEY"):
        await read(jobs_of())


async def test_an_unknown_authority_is_a_setting_to_correct(lake: Lake) -> None:
    lake.orders(order(1))
    secured(lake)
    for name in ("TRINO_CA_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        lake.monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=r"certificate cannot be verified.*TRINO_CA_FILE"):
        await read(jobs_of())


def test_settings_of_a_server_are_one_server(lake: Lake) -> None:
    lake.orders(order(1))
    assert isinstance(open_trino(TrinoSettings.load()), Trino)
    assert open_trino(TrinoSettings.load()) is open_trino(TrinoSettings.load())


@pytest.fixture(scope="session")
def other_key() -> str:
    return private_pem()
