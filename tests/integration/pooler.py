"""A real PgBouncer in transaction mode in front of the tests' PostgreSQL."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_READY_WITHIN_SECONDS = 180

_SETTINGS = """
[databases]
* = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 100
"""


def require_pgbouncer() -> str:
    """The `pgbouncer` command; where there is none the test is skipped."""
    found = shutil.which(
        "pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    )
    if found is None:
        pytest.skip("no PgBouncer: no `pgbouncer` command on PATH")
    return found


@contextmanager
def pooler(target: str, *, size: int) -> Iterator[str]:
    """The URL of a pooler that shares `size` connections among all its clients."""
    command = require_pgbouncer()
    parts = {k: str(v) for k, v in conninfo_to_dict(target).items() if v is not None}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="etl-pooler-") as folder:
        settings = Path(folder) / "pgbouncer.ini"
        kept = ("host", "port", "user", "password")
        onward = " ".join(f"{k}={v}" for k, v in parts.items() if k in kept)
        settings.write_text(_SETTINGS.format(target=onward, port=port, size=size))
        Path(folder).chmod(0o755)
        process = subprocess.Popen(
            [command, "-q", str(settings)], stdout=subprocess.DEVNULL, **_owner(parts)
        )
        url = make_conninfo(
            host="127.0.0.1",
            port=str(port),
            dbname=parts.get("dbname", "postgres"),
            user=parts.get("user", "postgres"),
            sslmode="disable",
        )
        try:
            _wait(url, process)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=120)


def _owner(parts: dict[str, str]) -> dict[str, Any]:
    """Whom to run as: it refuses root, and the embedded server's socket is its owner's alone."""
    if os.geteuid() != 0:
        return {}
    host = parts.get("host", "")
    if host.startswith("/"):
        status = Path(host).stat()
        return {"user": status.st_uid, "group": status.st_gid, "extra_groups": []}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + _READY_WITHIN_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            if process.poll() is not None or monotonic() > deadline:
                raise
        else:
            return
