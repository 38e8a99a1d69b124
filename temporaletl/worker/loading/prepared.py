"""Batches whose tables this process has prepared: not every job of one needs to look."""

from collections.abc import Callable, Sequence

from temporaletl.messages import ETLInput
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.columns import Layout

_prepared: set[tuple[object, ...]] = set()
#: Beyond so many all are forgotten, and prepared once more.
_MOST = 64


def once_for_batch(
    warehouse: Warehouse, job: ETLInput, layouts: Sequence[Layout], prepare: Callable[[], None]
) -> None:
    """Call `prepare`, unless it succeeded for the same tables of the job's batch before."""
    batch = (warehouse, job.batch_id, job.source, job.connection, *layouts)
    if batch in _prepared:
        return
    prepare()
    if len(_prepared) >= _MOST:
        _prepared.clear()
    _prepared.add(batch)
