"""Temporal behind TLS: certificates, API keys, and secrets that are replaced under load."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from temporaletl import ConfigurationError, CredentialsError
from temporaletl.errors import ETLError, TemporalUnavailableError
from temporaletl.messages import QueuerInput
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.temporal.connect import connect
from temporaletl.warehouse.connection import Warehouse
from tests.certificates import Authority
from tests.integration.flows.own_postgres import OwnPostgres, own_postgres
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.integration.temporal_tls import TlsEndpoint, terminating
from tests.waiting import until

OLD, NEW = "the-first-canary-key", "the-second-canary-key"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def clear(monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: object) -> None:
    """Have the settings of Temporal say this alone."""
    monkeypatch.chdir(folder)
    for name, value in variables.items():
        monkeypatch.setenv(f"TEMPORAL_{name}", str(value))


async def test_services_reach_temporal_with_certificates_of_both_sides(
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    own, client = authority.sign("server"), authority.sign("client")
    async with terminating(temporal_server.address, own, clients=authority) as endpoint:
        clear(
            monkeypatch,
            tmp_path,
            TLS_SERVER_CA_CERT_PATH=authority.certificate,
            TLS_CLIENT_CERT_PATH=client.certificate,
            TLS_CLIENT_KEY_DATA=client.key.read_text().replace("\n", "\\n"),
        )
        settings = {**temporal_server.settings, "address": endpoint.address}
        connected = await connect(TemporalSettings.model_validate(settings))
        async with running(connected, warehouse) as services:
            summary = await services.run(jobs=2, pages=2)
    assert (summary.state, summary.rows.inserted) == ("completed", 40)


@pytest.mark.parametrize(
    ("variables", "kind", "said"),
    [
        ({"TLS": "true"}, ConfigurationError, "certificate is not trusted.*_SERVER_CA_CERT_"),
        (
            {"TLS_SERVER_CA_CERT_PATH": "{ca}", "TLS_SERVER_NAME": "other.example.com"},
            ConfigurationError,
            "certificate is not trusted.*_SERVER_NAME",
        ),
        ({"TLS": "false"}, TemporalUnavailableError, "TEMPORAL_TLS"),
        ({"TLS_SERVER_CA_CERT_PATH": "{ca}"}, ETLError, "TEMPORAL_TLS_CLIENT_"),
        (
            {
                "TLS_SERVER_CA_CERT_PATH": "{ca}",
                "TLS_CLIENT_CERT_PATH": "{cert}",
                "TLS_CLIENT_KEY_PATH": "{key}",
            },
            ETLError,
            "TEMPORAL_TLS_CLIENT_",
        ),
    ],
    ids=["unknown-ca", "other-name", "plain", "no-client", "foreign-client"],
)
async def test_a_connection_that_tls_refuses_is_told_with_the_setting(
    variables: dict[str, str],
    kind: type[ETLError],
    said: str,
    temporal_server: TemporalServer,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    foreign = Authority(tmp_path, "foreign").sign("foreign-client")
    paths = {"ca": authority.certificate, "cert": foreign.certificate, "key": foreign.key}
    given = {name: value.format(**paths) for name, value in variables.items()}
    server = authority.sign("server")
    async with terminating(temporal_server.address, server, clients=authority) as endpoint:
        clear(monkeypatch, tmp_path, **given)
        settings = {**temporal_server.settings, "address": endpoint.address}
        with pytest.raises(kind, match=said):
            await connect(TemporalSettings.model_validate(settings))


async def test_an_api_key_that_is_refused_is_told_without_it(
    temporal_server: TemporalServer,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    server = authority.sign("server")
    async with terminating(temporal_server.address, server, keys={OLD}) as endpoint:
        clear(monkeypatch, tmp_path, TLS_SERVER_CA_CERT_PATH=authority.certificate, API_KEY=NEW)
        settings = {**temporal_server.settings, "address": endpoint.address}
        with pytest.raises(CredentialsError, match="TEMPORAL_API_KEY") as refused:
            await connect(TemporalSettings.model_validate(settings))
    assert NEW not in str(refused.value)
    assert endpoint.refused > 0


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres(port=0) as own:
        yield own


async def test_an_api_key_and_a_password_are_replaced_while_a_run_goes_on(
    temporal_server: TemporalServer,
    authority: Authority,
    postgres: OwnPostgres,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("temporaletl.temporal.client_credentials._LOOKED_AT_SECONDS", 0.1)
    key, password = tmp_path / "key", tmp_path / "password"
    key.write_text(f"{OLD}\n")
    given = conninfo_to_dict(postgres.loopback_url)
    password.write_text(f"{given['password']}\n")
    for part in ("host", "port", "user"):
        monkeypatch.setenv(f"WPE_DB_{part.upper()}", str(given[part]))
    monkeypatch.setenv("WPE_DB_NAME", str(given["dbname"]))
    monkeypatch.setenv("WPE_DB_SCHEMA", postgres.warehouse.schema)
    monkeypatch.setenv("WPE_DB_PASSWORD_FILE", str(password))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    clear(
        monkeypatch, tmp_path, TLS_SERVER_CA_CERT_PATH=authority.certificate, API_KEY_FILE=str(key)
    )
    server = authority.sign("server")
    async with terminating(temporal_server.address, server, keys={OLD}) as endpoint:
        settings = {**temporal_server.settings, "address": endpoint.address}
        client = await connect(TemporalSettings.model_validate(settings))
        with Warehouse(WarehouseSettings.load(), max_connections=10) as warehouse:
            async with running(client, warehouse, segment_seconds=1, rows_per_page=20) as services:
                params = {"jobs": 4, "pages": 40, "size": 10, "page_seconds": 0.1}
                run = await services.start(
                    QueuerInput(source="numbers", mode="full", params=params)
                )
                await until(lambda: loaded(services) > 0)
                replace_password(postgres, str(given["user"]), password)
                replace_key(endpoint, key)
                await until(lambda: endpoint.accepted.get(NEW, 0) > 0)
                endpoint.keys = {NEW}
                before = loaded(services)
                summary = await run.result()
    assert before < 1600, "the run ended before the secrets were replaced"
    assert (summary.state, summary.jobs.completed, summary.rows.inserted) == ("completed", 4, 1600)
    assert not summary.failures


def loaded(services: Services) -> int:
    [(count,)] = services.rows("SELECT coalesce(sum(inserted), 0)::int FROM etl_jobs")
    return int(count)


def replace_password(postgres: OwnPostgres, user: str, file: Path) -> None:
    """First in the server, where no session is left; who connects meanwhile is refused."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        change = sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(user), sql.Literal("the-second-canary-password")
        )
        connection.execute(change)
        ended: Any = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE usename = %s AND client_addr IS NOT NULL",
            [user],
        ).fetchone()
    assert ended[0] > 0
    file.write_text("the-second-canary-password\n")


def replace_key(endpoint: TlsEndpoint, file: Path) -> None:
    endpoint.keys = {OLD, NEW}
    file.write_text(f"{NEW}\n")
