"""`python -m queuer`: the service that turns schedules into jobs."""

from datetime import timedelta

from temporaletl.queuer.activities import QueuerActivities
from temporaletl.queuer.dispatch import DispatchFlow
from temporaletl.queuer.flow import QueuerFlow
from temporaletl.queuer.reconciliation import keep_reconciling
from temporaletl.service import Service, main
from temporaletl.settings import NotificationSettings


def service_of(settings: NotificationSettings) -> Service:
    """The queuer as a service, with its notifications."""
    return Service(
        name="queuer",
        sources="temporaletl.queuer.sources",
        task_queue=lambda temporal: temporal.queuer_queue,
        workflows=[QueuerFlow, DispatchFlow],
        activities=lambda warehouse, temporal: QueuerActivities(warehouse, temporal, settings).all,
        graceful_shutdown=timedelta(seconds=10),
        beside=lambda client, warehouse, temporal: keep_reconciling(
            client, warehouse, temporal, settings
        ),
    )


if __name__ == "__main__":
    main("queuer", NotificationSettings, service_of)
