"""`python -m worker`: the service that turns jobs into rows."""

import argparse
from datetime import timedelta

from temporaletl import names
from temporaletl.cores import number_of_processes
from temporaletl.service.process import Service, main
from temporaletl.settings.platform import WorkerSettings
from temporaletl.worker.activities import WorkerActivities
from temporaletl.worker.flow import ETLFlow
from temporaletl.worker.pipelines.activities import PipelineActivities
from temporaletl.worker.pipelines.flow import WorkflowExecution, WorkflowValidation
from temporaletl.worker.pipelines.retention import keep_books
from temporaletl.worker.pipelines.settings import PipelineSettings


def service_of(settings: WorkerSettings) -> Service:
    """The worker as a service, with its settings."""
    return Service(
        name="worker",
        sources="temporaletl.worker.sources",
        task_queue=lambda temporal: temporal.worker_queue,
        workflows=[ETLFlow, WorkflowExecution, WorkflowValidation],
        activities=lambda warehouse, temporal: [
            *WorkerActivities(warehouse, settings).all,
            *PipelineActivities(warehouse, temporal).all,
        ],
        on_source_queues=frozenset({names.RUN_SEGMENT}),
        graceful_shutdown=timedelta(seconds=settings.graceful_shutdown_seconds),
        beside=lambda client, warehouse, _temporal: keep_books(
            client, warehouse, PipelineSettings.load()
        ),
    )


def run(processes: int | None = None) -> None:
    """Serve in so many processes, ETL_WORKER_PROCESSES where none are given; see `main`."""
    main(
        "worker",
        WorkerSettings,
        service_of,
        processes=lambda settings: processes or settings.processes,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="worker", description=__doc__)
    parser.add_argument(
        "--processes",
        type=number_of_processes,
        metavar="N",
        help="worker processes, or auto: one for each core (ETL_WORKER_PROCESSES)",
    )
    run(parser.parse_args().processes)
