"""Metrics of pages that were committed."""

from collections.abc import Sequence

from temporaletl.messages import ETLInput
from temporaletl.rows import Reject
from temporaletl.telemetry import metrics
from temporaletl.worker.loading.merge import Merge, Outcome
from temporaletl.worker.loading.packing import Packed


def count_page(
    job: ETLInput,
    rejects: Sequence[Reject],
    packed: Sequence[tuple[Merge, Packed]],
    outcomes: Sequence[Outcome],
    deleted: int,
) -> None:
    """Count a page, its rows by outcome, its bytes, and its rejects, once it is committed."""
    stream = {"source": job.source, "connection": job.connection, "stream": job.stream}
    metrics.pages.add(1, **stream)
    metrics.loaded_bytes.add(sum(len(data) for _, some in packed for data in some.data), **stream)
    for outcome in ("inserted", "updated", "unchanged"):
        metrics.rows.add(sum(getattr(one, outcome) for one in outcomes), outcome=outcome, **stream)
    metrics.rows.add(deleted, outcome="deleted", **stream)
    for reject in (*rejects, *(one for outcome in outcomes for one in outcome.rejects)):
        metrics.rejects.add(1, stage=reject.stage, **stream)
