"""Secrets are replaced in their files while a run goes on: it is not lost, nothing starts anew."""

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from temporaletl.temporal.payload_keys import generate_key
from tests.acceptance.disturbed_run import assert_same_rows, disturbed, load_undisturbed
from tests.acceptance.platform import Platform, access_to, platform_in
from tests.certificates import Authority, Signed
from tests.fakes.jira import JiraService, Site, generate
from tests.fakes.server import FakeServer
from tests.integration.temporal_tls import TlsEndpoint, terminating
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

_EMAIL = "me@example.com"
_ISSUES = 300
#: How often within one run.
_TIMES = 2
_SETTINGS = ("DATABASE_", "ETL_", "JIRA_", "TEMPORAL_")


class Secrets:
    """The secrets of a platform, in files, and what takes them; each method replaces one.

    What was before is refused from then on.
    """

    def __init__(self, folder: Path, service: JiraService) -> None:
        self._folder = folder
        self._service = service
        self._replaced = 0
        self._api_token: str | None = None
        self._payload_keys: list[str] = []
        self.platform: Platform
        self.door: TlsEndpoint
        self.environment = {
            f"{name}_FILE": str(folder / name)
            for name in ("DATABASE_URL", "TEMPORAL_API_KEY", "ETL_PAYLOAD_KEYS", "JIRA_API_TOKEN")
        }
        #: Of a client of the API, which reaches nothing else.
        self.of_client: dict[str, str] = {}

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """Run `etl serve` until the block ends."""
        own = self.platform.environment
        with (
            (self.platform.folder / "logs/serve.log").open("wb") as log,
            subprocess.Popen(
                [Path(sys.executable).with_name("etl"), "serve", "--port", "0"],
                env=own,
                cwd=self.platform.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            try:
                address = process.stdout.readline().split()[-1]
                self.of_client = {
                    **{k: v for k, v in own.items() if not k.startswith(_SETTINGS)},
                    "ETL_API_URL": address,
                    "ETL_API_TOKEN_FILE": str(self._folder / "ETL_API_TOKEN"),
                    "ETL_DATA_DIR": own["ETL_DATA_DIR"],
                }
                yield
            finally:
                process.terminate()

    def another(self) -> str:
        self._replaced += 1
        return f"secret-number-{self._replaced}"

    def put(self, name: str, text: str) -> str:
        """Write a file, or replace it as deployments do; return its text."""
        written = self._folder / "written"
        written.write_text(f"{text}\n", encoding="utf-8")
        written.replace(self._folder / name)
        return text

    def source_token(self) -> None:
        assert self._service.accepted is not None
        token = self.another()
        self._service.accepted.add(f"{_EMAIL}:{token}")
        self.put("JIRA_API_TOKEN", token)
        self._service.accepted = {f"{_EMAIL}:{token}"}

    def payload_keys(self) -> None:
        self._payload_keys.insert(0, f"k{len(self._payload_keys) + 1}:{generate_key()}")
        self.put("ETL_PAYLOAD_KEYS", "\n".join(self._payload_keys))

    def retire_payload_keys(self) -> None:
        """Give up all payload keys but the one in use."""

        def is_retired() -> bool:
            done = self.platform.etl("key", "retire", key_id)
            # Temporal lists a workflow as open for a while after its end.
            is_needed = "open workflows need" in done.stderr
            # Nothing may have been encrypted by one that was the first for some seconds.
            was_used = f"no payload key '{key_id}' is in use" not in done.stderr
            assert done.returncode == 0 or is_needed or not was_used, done.stderr
            return not is_needed

        while len(self._payload_keys) > 1:
            key_id = self._payload_keys.pop().partition(":")[0]
            asyncio.run(until(is_retired))
        self.put("ETL_PAYLOAD_KEYS", "\n".join(self._payload_keys))

    def api_token(self) -> None:
        name, former = self.another(), self._api_token
        made = self.platform.etl("token", "create", name, "--scope", "operate")
        assert made.returncode == 0, made.stderr
        self.put("ETL_API_TOKEN", made.stdout.strip())
        self._api_token = name
        if former is not None:
            revoked = self.platform.etl("token", "revoke", former)
            assert revoked.returncode == 0, revoked.stderr

    def temporal_key(self) -> None:
        key = self.another()
        assert self.door.keys is not None
        self.door.keys = {*self.door.keys, key}
        self.put("TEMPORAL_API_KEY", key)
        asyncio.run(until(lambda: set(self.door.sent.copy().values()) == {key}))
        self.door.keys = {key}

    def warehouse_password(self) -> None:
        url = self.platform.postgres.loopback_url
        assert url is not None
        given, password = conninfo_to_dict(url), self.another()
        user = str(given["user"])
        with psycopg.connect(self.platform.postgres.url, autocommit=True) as connection:
            change = sql.SQL("ALTER ROLE {} PASSWORD {}")
            connection.execute(change.format(sql.Identifier(user), sql.Literal(password)))
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = %s AND client_addr IS NOT NULL",
                [user],
            )
        place = f"{given['host']}:{given['port']}/{given['dbname']}"
        self.put("DATABASE_URL", f"postgresql://{user}:{password}@{place}")


@contextlib.contextmanager
def door_to(address: str, server: Signed, key: str) -> Iterator[TlsEndpoint]:
    """TLS before Temporal, for those who have the key, in a thread of its own."""
    opened: Future[tuple[TlsEndpoint, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        async with terminating(address, server, keys={key}) as endpoint:
            closing = asyncio.Event()
            opened.set_result((endpoint, asyncio.get_running_loop(), closing))
            await closing.wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    endpoint, loop, closing = opened.result(timeout=60)
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()


@pytest.fixture(scope="module")
def site() -> Site:
    return generate(_ISSUES, seed=13, personality="cloud")


@pytest.fixture(scope="module")
def secrets(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secrets]:
    """Those of a platform that runs, `etl serve` with it, and has loaded nothing."""
    folder = tmp_path_factory.mktemp("rotation")
    authority, service = Authority(folder), JiraService(site, accepted=[])
    with ExitStack() as exits:
        # So slow that a run outlasts what happens to it.
        jira = exits.enter_context(FakeServer(service, latency=timedelta(milliseconds=150)))
        secrets = Secrets(folder, service)
        secrets.source_token()
        secrets.payload_keys()

        def through_door(address: str) -> str:
            server, key = authority.sign("server"), secrets.put("TEMPORAL_API_KEY", "the-first-key")
            secrets.door = exits.enter_context(door_to(address, server, key))
            return secrets.door.address

        def in_file(url: str) -> str:
            secrets.put("DATABASE_URL", url)
            return ""

        environment = {
            **access_to(jira),
            **secrets.environment,
            "JIRA_API_TOKEN": "",
            "JIRA_PAGE_SIZE": "8",
            "TEMPORAL_TLS_SERVER_CA_CERT_PATH": str(authority.certificate),
            "ETL_ROWS_PER_PAGE": "80",
        }
        secrets.platform = exits.enter_context(
            platform_in(
                folder / "platform",
                environment,
                through=in_file,
                temporal_through=through_door,
                port=0,
            )
        )
        secrets.api_token()
        exits.enter_context(secrets.served())
        yield secrets


@pytest.fixture(scope="module")
def platform(secrets: Secrets) -> Platform:
    return secrets.platform


@pytest.fixture(scope="module")
def undisturbed(platform: Platform, site: Site) -> int:
    return load_undisturbed(platform, site)


@pytest.mark.parametrize(
    "replace",
    [
        Secrets.source_token,
        Secrets.api_token,
        Secrets.temporal_key,
        Secrets.warehouse_password,
        Secrets.payload_keys,
    ],
)
def test_a_secret_is_replaced_while_a_run_goes_on(
    platform: Platform, secrets: Secrets, undisturbed: int, replace: Callable[[Secrets], None]
) -> None:
    """Each process takes it up: queuer, worker, API, and the command that follows the run."""
    platform.execute("TRUNCATE events")
    summary = disturbed(
        platform, lambda: replace(secrets), times=_TIMES, environment=secrets.of_client
    )
    assert_same_rows(platform, summary, undisturbed)
    assert not summary.failures
    # What was before is needed no more.
    secrets.retire_payload_keys()
    assert platform.load("jira").state == "completed"
