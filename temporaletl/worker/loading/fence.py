"""The fence of a page: its job's row is locked, and says whether the page is the job's next."""

from datetime import datetime
from typing import NamedTuple

from temporaletl.errors import RetryableError
from temporaletl.messages import ETLInput
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.detached import LOADED_FROM


class PageSupersededError(RetryableError):
    """Another attempt has committed this page or ended the job; nothing of ours is kept.

    The next attempt reads the job's cursor and goes on behind it.
    """


class Fence(NamedTuple):
    """What a page must know when it has passed.

    `wrote_since` is when the job began, if it has written rows; `keeps_missing` says that its batch
    deletes nothing; of before `loaded_from`, if there is such a time, no event is loaded.
    """

    now: datetime
    wrote_since: datetime | None
    keeps_missing: bool
    loaded_from: datetime | None


# The row's lock is the fence: a second attempt at the same page waits here, and then sees the
# first one's.
_FENCE = f"""
    SELECT pages, state, now(), CASE WHEN inserted + updated > 0 THEN started_at END,
        (SELECT keeps_missing FROM etl_batches AS b WHERE b.batch_id = etl_jobs.batch_id),
        {LOADED_FROM}
    FROM etl_jobs
    WHERE batch_id = %(batch_id)s AND seq = %(seq)s FOR NO KEY UPDATE
"""  # noqa: S608 - a constant


def pass_fence(connection: Connection, job: ETLInput, number: int) -> Fence:
    """Lock the job's row and check that its next page has this number.

    Raises:
        PageSupersededError: it has not.
    """
    name = f"job {job.job_id} (batch {job.batch_id}, number {job.seq})"
    values = {"batch_id": job.batch_id, "seq": job.seq, "source": job.source}
    found = connection.execute(_FENCE.encode(), values).fetchone()
    if found is None:
        raise PageSupersededError(f"{name} is no longer in the ledger")
    pages, state, now, wrote_since, keeps_missing, loaded_from = found
    if pages != number:
        raise PageSupersededError(
            f"{name} has {pages} pages committed, so that this one, number {number}, "
            "was loaded by another attempt"
        )
    if state != "running":
        raise PageSupersededError(f"{name} is {state}, so that its page is not loaded")
    return Fence(now, wrote_since, bool(keeps_missing), loaded_from)  # type: ignore[arg-type]
