"""Measures of a segment's pages: logged, and as metrics."""

from temporaletl.messages import ETLInput
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.metrics import page_duration

log = get_logger("temporaletl.worker.segment")


def note_stages(
    job: ETLInput,
    *,
    page: int,
    rows: int,
    rejects: int,
    extract: float,
    transform: float,
    load: float,
) -> None:
    """Log a page that was loaded, and measure its stages, which took so many seconds each."""
    stages = {"extract": extract, "transform": transform, "load": load}
    for stage, seconds in stages.items():
        page_duration.observe(seconds, source=job.source, connection=job.connection, stage=stage)
    took = {f"{stage}_seconds": round(seconds, 4) for stage, seconds in stages.items()}
    log.info("page_loaded", job_id=job.job_id, page=page, rows=rows, rejects=rejects, **took)
