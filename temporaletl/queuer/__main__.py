"""`python -m queuer`: the service that turns schedules into jobs."""

import asyncio
from datetime import timedelta

from temporalio.client import Client

from temporaletl.notifications.delivery import Notifier, keep_delivering
from temporaletl.notifications.destinations import check_destinations
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.queuer.activities import QueuerActivities
from temporaletl.queuer.dispatch import DispatchFlow
from temporaletl.queuer.flow import QueuerFlow
from temporaletl.queuer.reconciliation import keep_reconciling
from temporaletl.queuer.retention import keep_pruning
from temporaletl.service.process import Service, main
from temporaletl.settings.platform import LedgerSettings, TemporalSettings
from temporaletl.warehouse.connection import Warehouse


def service_of(settings: NotificationSettings) -> Service:
    """The queuer as a service, with its notifications, and the ledger's retention.

    Raises:
        ConfigurationError: one of their destinations is none, or a setting of the ledger is wrong.
    """
    check_destinations(settings)
    ledger = LedgerSettings.load()

    async def beside(client: Client, warehouse: Warehouse, temporal: TemporalSettings) -> None:
        await asyncio.gather(
            keep_reconciling(client, warehouse, temporal),
            keep_delivering(Notifier(warehouse, settings)),
            keep_pruning(warehouse, ledger),
        )

    return Service(
        name="queuer",
        sources="temporaletl.queuer.sources",
        task_queue=lambda temporal: temporal.queuer_queue,
        workflows=[QueuerFlow, DispatchFlow],
        activities=lambda warehouse, temporal: (
            QueuerActivities(warehouse, temporal, Notifier(warehouse, settings)).all
        ),
        graceful_shutdown=timedelta(seconds=10),
        beside=beside,
    )


if __name__ == "__main__":
    main("queuer", NotificationSettings, service_of)
