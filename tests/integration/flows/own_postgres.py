"""A PostgreSQL of a test's own, which goes away and comes back, or runs out of room."""

import contextlib
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from temporaletl.embedded.postgres import EmbeddedPostgres, temporary_folder
from temporaletl.embedded.processes import Stop, Watchdog
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate

#: Room for a new cluster and some rows; the rest is filled.
_DISK_MEGABYTES = 200


class OwnPostgres:
    """A server that a test may end and start as it likes; `warehouse` is on it."""

    def __init__(self, folder: Path, watchdog: Watchdog, stop: Stop, port: int | None) -> None:
        self.folder = folder
        self._stop = stop
        self._server = EmbeddedPostgres(
            folder / "postgresql", logs=folder, watchdog=watchdog, port=port
        )
        self.start()
        settings = WarehouseSettings.model_validate(
            {
                "database_url": self._server.url,
                "schema_name": f"test_{uuid.uuid4().hex[:12]}",
                "network_timeout_seconds": 2,
            }
        )
        self.warehouse = Warehouse(settings, max_connections=10)

    def start(self) -> None:
        self._server.start(self._stop)

    def end(self) -> None:
        self._server.end()

    @property
    def url(self) -> str:
        """Over its socket, where no password is asked for."""
        return self._server.url

    @property
    def loopback_url(self) -> str:
        """Over its port, with the password."""
        return self._server.loopback_url or ""

    @property
    def running(self) -> bool:
        return self._server.child is not None and self._server.child.exit_status is None


@contextmanager
def own_postgres(folder: Path | None = None, port: int | None = None) -> Iterator[OwnPostgres]:
    """Start it, with the warehouse's tables made; it listens on a port where one is given."""
    with ExitStack() as exits:
        if folder is None:
            folder = exits.enter_context(temporary_folder("etl-own-"))
        lock = exits.enter_context((folder / "lock").open("a"))
        watchdog, stop = Watchdog(lock), Stop()
        exits.callback(stop.close)
        exits.callback(watchdog.close)
        server = OwnPostgres(folder, watchdog, stop, port)
        exits.callback(server.end)
        with server.warehouse as warehouse:
            migrate(warehouse)
            yield server


class Disk:
    """A file system of its own; `fill` leaves no room on it, `clear` gives it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while ballast.write(bytes(65_536)):
                pass

    def clear(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk() -> Iterator[Disk | None]:
    """A small file system in memory; None where none may be mounted here."""
    with tempfile.TemporaryDirectory(prefix="etl-disk-") as folder:
        size = f"size={_DISK_MEGABYTES}m"
        mounted = (
            os.geteuid() == 0
            and not subprocess.run(
                ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder],
                check=False,
                capture_output=True,
            ).returncode
        )
        if not mounted:
            yield None
            return
        try:
            yield Disk(Path(folder))
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)
