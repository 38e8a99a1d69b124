"""The servers a command talks to, and their errors in one line each."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from control.running import use_running
from temporaletl.connect import connect
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.logs import configure_logs
from temporaletl.settings import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse

#: How long one question to Temporal may take.
PATIENCE = timedelta(seconds=5)
#: A poll lasts a minute at most, and the server remembers pollers for longer.
_POLLED_WITHIN = timedelta(seconds=70)


def prepare() -> None:
    """Begin a command: use a stack that runs on this machine, and keep logs off the terminal."""
    configure_logs(level=logging.ERROR)
    use_running()


class NoLedgerError(ConfigurationError):
    """The warehouse holds none of the platform's tables."""


def warehouse_is_configured() -> bool:
    settings = WarehouseSettings.load()
    return settings.database_url is not None or settings.host is not None


@contextmanager
def open_warehouse() -> Iterator[Warehouse]:
    """The warehouse, with its ledger there.

    Raises:
        NoLedgerError: no service has ever prepared it.
        ConfigurationError, CredentialsError, WarehouseUnavailableError: as `Warehouse.check`.
    """
    warehouse = Warehouse(WarehouseSettings.load(), max_connections=2)
    warehouse.check()
    with warehouse:
        with warehouse.connection() as connection:
            found = connection.execute("SELECT to_regclass('etl_batches')").fetchone()
        if found is None or found[0] is None:
            raise NoLedgerError(
                f"the warehouse has no tables of the platform in schema {warehouse.schema!r} yet: "
                f"the services make them when they start (`etl up`), or WPE_DB_SCHEMA is wrong"
            )
        yield warehouse


def present() -> datetime:
    """The time by the warehouse's clock, or by this machine's where no warehouse answers."""
    if warehouse_is_configured():
        with (
            suppress(ETLError),
            Warehouse(WarehouseSettings.load(), max_connections=1) as warehouse,
        ):
            warehouse.check()
            with warehouse.connection() as connection:
                row: Any = connection.execute("SELECT clock_timestamp()").fetchone()
            moment: datetime = row[0]
            return moment.astimezone(UTC)
    return datetime.now(UTC)


async def open_temporal() -> tuple[Client, TemporalSettings]:
    """Connect; raises as `temporaletl.connect.connect`."""
    settings = TemporalSettings.load()
    return await connect(settings), settings


@contextmanager
def answered(*, absent: str | None = None) -> Iterator[None]:
    """Raise what Temporal refuses as an error of one line.

    `absent` is that line where Temporal does not have what it was asked about.
    """
    try:
        yield
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND and absent is not None:
            raise ConfigurationError(absent) from None
        status = error.status.name.replace("_", " ").lower()
        raise ConfigurationError(f"Temporal answered {status}: {error.message}") from None


async def is_polled(client: Client, queue: str, *, for_segments: bool = False) -> bool:
    """Whether a service takes tasks from a queue; True where that cannot be told.

    `for_segments` asks of a source's own queue, which has no workflows.
    """
    try:
        answer = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=(
                    TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
                    if for_segments
                    else TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW
                ),
            ),
            timeout=PATIENCE,
        )
    except RPCError:
        return True
    now = datetime.now(UTC)
    return any(
        now - poller.last_access_time.ToDatetime(tzinfo=UTC) < _POLLED_WITHIN
        for poller in answer.pollers
    )
