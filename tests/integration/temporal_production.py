"""Temporal's production server, of the version that docker-compose.yml names, built by Go once.

`python -m tests.integration.temporal_production` builds it, and prints where it is.
"""

import fcntl
import json
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg

from temporaletl.embedded.ports import HOST, claim_port
from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.embedded.temporal_command import cache_folder, ensure_temporal
from tests.documentation import ROOT

_MODULE = "go.temporal.io/server"
#: The programs by the names that Temporal's images give them.
_PROGRAMS = {"temporal-server": "cmd/server", "temporal-sql-tool": "cmd/tools/sql"}
#: Much of it waits for other processes of a busy machine: it takes four minutes of CPU.
_BUILT_WITHIN_SECONDS = 3000
_READY_WITHIN = timedelta(minutes=5)
_SHARDS = 512
#: The server keeps its ports as PostgreSQL's smallint: most free ones are too large.
_FIRST_PORT = 17_000
#: Each part of the server listens twice, and its front a third time.
_PORTS = (
    "FRONTEND_HTTP_PORT",
    *(
        f"{part}_{kind}_PORT"
        for part in ("FRONTEND", "MATCHING", "HISTORY", "WORKER")
        for kind in ("GRPC", "MEMBERSHIP")
    ),
)
_DATABASES = {"temporal": "temporal", "visibility": "temporal_visibility"}


@dataclass(frozen=True)
class RunningTemporal:
    """A production server: its address, the URL of its PostgreSQL, and their first processes."""

    address: str
    postgres: str
    pids: dict[str, int]


def version() -> str:
    """The version in docker-compose.yml."""
    found = re.search(r"image: temporalio/server:(\S+)", (ROOT / "docker-compose.yml").read_text())
    assert found is not None
    return found[1]


def production_temporal() -> Path:
    """A folder with `temporal-server`, `temporal-sql-tool` and `schema`.

    Built where it has not been, which takes Go; of two processes that need it one waits.
    """
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _build(folder)
    return folder


def find_postgres() -> Path | None:
    """The programs of a PostgreSQL that has btree_gin, which Temporal's schema takes."""
    extensions = sorted(Path("/usr/share/postgresql").glob("*/extension/btree_gin.control"))
    versions = [path.parts[-3] for path in extensions]
    found = [Path(f"/usr/lib/postgresql/{version}/bin") for version in versions]
    return next((folder for folder in reversed(found) if (folder / "initdb").exists()), None)


@contextmanager
def running_temporal(folder: Path, programs: Path | None = None) -> Iterator[RunningTemporal]:
    """The server with a PostgreSQL of its own, as docker-compose.yml runs it; below `folder`.

    `programs`: of that PostgreSQL. The namespace is `default`.
    """
    server, programs = production_temporal(), programs or find_postgres()
    assert programs is not None, "no PostgreSQL with the extension btree_gin"
    logs = folder / "temporal-logs"
    logs.mkdir()
    with ExitStack() as exits:
        stop, watchdog = Stop(), Watchdog()
        exits.callback(stop.close)
        exits.callback(watchdog.close)
        ports = {name: claim_port(_FIRST_PORT) for name in ("POSTGRES", *_PORTS)}
        for claimed in ports.values():
            exits.callback(claimed.release)
        postgres, url = _postgres(
            programs, folder / "temporal-postgresql", ports["POSTGRES"].number, logs, watchdog
        )
        exits.callback(postgres.end)
        postgres.wait_until(lambda: _answers(url), within=_READY_WITHIN, stop=stop)
        _set_up(server, ports["POSTGRES"].number)
        temporal = Child(
            "temporal-server",
            [server / "temporal-server", "start"],
            logs=logs,
            watchdog=watchdog,
            environment={
                "DB": "postgres12",
                "DB_PORT": str(ports["POSTGRES"].number),
                "POSTGRES_SEEDS": HOST,
                "POSTGRES_USER": "postgres",
                "POSTGRES_PWD": "trusted",
                "NUM_HISTORY_SHARDS": str(_SHARDS),
                "BIND_ON_IP": HOST,
                "LOG_LEVEL": "warn",
                "DYNAMIC_CONFIG_FILE_PATH": str(ROOT / "deploy/temporal.yaml"),
                **{name: str(ports[name].number) for name in _PORTS},
            },
        )
        exits.callback(temporal.end)
        temporal.start()
        address = f"{HOST}:{ports['FRONTEND_GRPC_PORT'].number}"
        temporal.wait_until(lambda: _has_namespace(address), within=_READY_WITHIN, stop=stop)
        pids = {"temporal-postgresql": postgres.pid, "temporal-server": temporal.pid}
        yield RunningTemporal(address, url, pids)


def _postgres(
    programs: Path, cluster: Path, port: int, logs: Path, watchdog: Watchdog
) -> tuple[Child, str]:
    """A new cluster's server, started: whoever reaches its port, of this machine alone, may in."""
    owner = None
    cluster.mkdir()
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        owner = user.pw_uid, user.pw_gid
        os.chown(cluster, *owner)
    made = subprocess.run(
        [programs / "initdb", "-D", cluster, "-U", "postgres", "-A", "trust", "-E", "UTF8"],
        user=owner and owner[0],
        cwd="/",
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr.decode()
    postgres = Child(
        "temporal-postgresql",
        [
            *(programs / "postgres", "-D", cluster, "-p", str(port), "-k", cluster),
            *("-c", f"listen_addresses={HOST}"),
        ],
        logs=logs,
        watchdog=watchdog,
        owner=owner,
    )
    postgres.start()
    return postgres, f"postgresql://postgres@{HOST}:{port}/postgres"


def _answers(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=5):
            return True
    except psycopg.OperationalError:
        return False


def _set_up(server: Path, port: int) -> None:
    for part, database in _DATABASES.items():
        schema = server / "schema/postgresql/v12" / part / "versioned"
        for words in (
            ("create",),
            ("setup-schema", "--version", "0.0"),
            ("update-schema", "--schema-dir", str(schema)),
        ):
            done = subprocess.run(
                [server / "temporal-sql-tool", *words],
                env={
                    "SQL_PLUGIN": "postgres12",
                    "SQL_HOST": HOST,
                    "SQL_PORT": str(port),
                    "SQL_USER": "postgres",
                    "SQL_PASSWORD": "trusted",
                    "SQL_DATABASE": database,
                },
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr


def _has_namespace(address: str) -> bool:
    """Whether the namespace is known by now; it is made where it is not."""
    temporal = ensure_temporal()

    def says(*words: str) -> bool:
        asked = [str(temporal), *words, "--address", address, "--namespace", "default"]
        return subprocess.run(asked, capture_output=True, check=False).returncode == 0

    if says("workflow", "count"):
        return True
    says("operator", "namespace", "create", "--retention", "72h")
    return False


def _folder() -> Path:
    return cache_folder() / f"temporal-server-{version()}"


def _build(folder: Path) -> None:
    module = f"{_MODULE}@v{version()}"
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        whole = Path(name) / "whole"
        whole.mkdir()
        packages = [f"{_MODULE}/{path}@v{version()}" for path in _PROGRAMS.values()]
        _go("install", "-ldflags=-s -w", *packages, programs=whole)
        for program, path in _PROGRAMS.items():
            (whole / Path(path).name).rename(whole / program)
        source = json.loads(_go("mod", "download", "-json", module, programs=whole))["Dir"]
        # Go write-protects its modules: the copy is nobody else's.
        shutil.copytree(Path(source) / "schema", whole / "schema", copy_function=shutil.copyfile)
        for below in whole.rglob("*/"):
            below.chmod(0o755)
        whole.rename(folder)


def _go(*arguments: str, programs: Path) -> str:
    # Static, so that they run in any container.
    environment = {**os.environ, "GOBIN": str(programs), "CGO_ENABLED": "0"}
    environment.pop("GOMAXPROCS", None)  # the tests' servers have one, to build takes all
    done = subprocess.run(
        ["go", *arguments],
        env=environment,
        cwd=programs,
        capture_output=True,
        text=True,
        timeout=_BUILT_WITHIN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


if __name__ == "__main__":
    print(production_temporal())  # noqa: T201
