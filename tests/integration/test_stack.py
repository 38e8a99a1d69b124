"""The embedded stack with all its processes."""

import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from temporaletl.embedded.postgres import running_postgres
from temporaletl.embedded.running import StackInUseError, read_running, take
from temporaletl.embedded.stack import Address, Stack, StackOptions, hints, up
from temporaletl.embedded.temporal_command import find_temporal

ELSEWHERE = ("TEMPORAL_ADDRESS", "TEMPORAL_HOST", "DATABASE_URL", "WPE_DB_HOST")
WITHIN_SECONDS = 60


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if find_temporal() is None:
        pytest.skip("no Temporal server: no `temporal` command on PATH or in the cache")
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below `tmp_path`: each run of pytest closes those to all but their owner, and as root
    # the server runs as somebody else.
    with tempfile.TemporaryDirectory(prefix="stack with spaces ") as name:
        yield Path(name)


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_stack_is_found_is_alone_and_starts_its_services_again(folder: Path) -> None:
    told: queue.Queue[str] = queue.Queue()
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    options = StackOptions(data=folder, api=Address("127.0.0.1", port))
    with taken, Stack(options, report=told.put) as stack:
        pids = stack.pids()
        assert set(pids) == {"postgresql", "temporal", "queuer", "worker", "api"}
        assert stack.api is not None
        ready = f"API         ready, http://{stack.api}; port {port} is in use"
        assert ready in told.queue
        assert (
            requests.get(f"http://{stack.api}/health", timeout=WITHIN_SECONDS).json()["verdict"]
            == "ok"
        )
        assert read_running(folder) == stack.environment
        [look] = [line for line in hints(stack) if line.startswith("Look at the rows: ")]
        command = f"{look.partition(': ')[2]} -tAc 'SELECT count(*) FROM workplace.etl_batches'"
        shown = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert shown.stdout == "0\n"
        with pytest.raises(StackInUseError), Stack(StackOptions(data=folder)):
            pass
        os.kill(pids["worker"], signal.SIGKILL)
        while "worker was started again" not in told.get(timeout=WITHIN_SECONDS):
            pass
        assert stack.pids()["worker"] != pids["worker"]
    assert read_running(folder) is None
    assert not is_listening(stack.environment["TEMPORAL_ADDRESS"])
    assert not is_listening(str(stack.api))
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(stack.environment["DATABASE_URL"])


def test_a_stack_that_is_killed_leaves_nothing_running(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from temporaletl.embedded.stack import StackOptions, up\n"
        "up(StackOptions(data=Path(sys.argv[1])), report=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = iter(process.stdout.readline, "")
        assert any(line.startswith("Ready") for line in told), "it ended before it was ready"
        environment = read_running(folder)
        process.kill()
    assert environment is not None
    deadline = time.monotonic() + WITHIN_SECONDS
    while True:
        try:
            # The watchdog has the folder until the last process is gone.
            take(folder).close()
        except StackInUseError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            break
    assert not is_listening(environment["TEMPORAL_ADDRESS"])
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(environment["DATABASE_URL"])


def test_a_port_in_use_is_told_in_one_line_before_anything_starts(tmp_path: Path) -> None:
    told: list[str] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        options = StackOptions(data=tmp_path / "data", temporal_port=port)
        assert up(options, report=told.append) == 2
    assert len(told) == 1
    assert str(port) in told[0]


def test_the_warehouse_is_found_again(folder: Path) -> None:
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",), "a stack's data is kept"


def test_a_long_folder_name_is_no_hindrance(folder: Path) -> None:
    folder = folder / ("long" * 30)
    folder.mkdir()
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        assert connection.info.dbname == "warehouse"
        socket_folder = Path(connection.info.host)
    assert not socket_folder.exists()
