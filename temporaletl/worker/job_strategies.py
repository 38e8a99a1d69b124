"""The strategies by which one job is run: its source's, or others in their place."""

from datetime import timedelta

from temporaletl.messages import ETLInput
from temporaletl.own_strategies import own_strategies
from temporaletl.strategies import Strategies, resolve
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import JobScan
from temporaletl.worker.reprocessing import reprocessing
from temporaletl.worker.scanning import scanning


def strategies_of(warehouse: Warehouse, job: ETLInput, *, scan_duration: timedelta) -> Strategies:
    """Find a job's strategies. Blocks: those of some sources are declared in the warehouse.

    Raises:
        UnknownSourceError, ConfigurationError: as `temporaletl.strategies.resolve`.
    """
    if job.source in own_strategies:
        strategies = own_strategies.get(job.source)(warehouse, job)
    else:
        strategies = resolve(job.source, job.stream)
    if job.mode == "replay" or job.reread:
        return reprocessing(warehouse, job, strategies)
    if job.scan:
        return scanning(strategies, job, JobScan(warehouse, job, most=scan_duration))
    return strategies
