"""Thresholds of a job's rejects and conflicts, above which it fails."""

from collections.abc import Sequence
from dataclasses import dataclass

from temporaletl.errors import TooManyConflictsError, TooManyRejectsError
from temporaletl.messages import ETLInput, JobProgress
from temporaletl.rows import Event, Row

#: Below so many rejects a share says little, unless nothing else came out of the job at all.
_FEW_REJECTS = 10
_FEW_CONFLICTS = 10
#: More than that share of a job's events does not change while the job runs.
_MOST_CHANGING = 0.25


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds of one job, as shares of its records and of its rows."""

    job: ETLInput
    row_classes: Sequence[type[Row]]
    rejects: float
    conflicts: float

    def check(self, progress: JobProgress, *, final: bool) -> None:
        """Compare a job's progress with its thresholds; `final` when nothing more will come.

        Raises:
            TooManyRejectsError: most of the job cannot be used.
            TooManyConflictsError: its rows share keys, and differ.
        """
        self._check_rejects(progress, final=final)
        self._check_conflicts(progress, final=final)

    def _check_rejects(self, progress: JobProgress, *, final: bool) -> None:
        """A few bad records do not fail a job, nor do those of a job that reads rejects."""
        job, rows, records = self.job, progress.rows, progress.records
        rejected = progress.rejected_records
        reprocesses = job.mode == "replay" or job.reread
        if reprocesses or rejected <= self.rejects * records:
            return
        nothing_else = final and not (rows.inserted or rows.updated or rows.unchanged)
        if rejected >= _FEW_REJECTS or nothing_else:
            raise TooManyRejectsError(
                f"of {records} records of {job.source} {job.stream} {rejected} were rejected, "
                f"whole or in part, more than the threshold of {self.rejects:.0%}: "
                f"their reasons are in etl_rejects (etl rejects list {job.source})"
            )

    def _check_conflicts(self, progress: JobProgress, *, final: bool) -> None:
        """A few rows that changed while the job ran do not fail it.

        One page that holds two rows of one key which differ has no key. Rows of different pages
        may have changed in between: only many of them fail the job, and only events, whose ids
        are to stand for one fact each.
        """
        job = self.job
        total = sum(progress.rows.model_dump().values())
        at_once, count = progress.conflicting_at_once, progress.conflicting
        many = at_once > _FEW_CONFLICTS and at_once > self.conflicts * total
        if final and all(issubclass(row, Event) for row in self.row_classes):
            changing = max(self.conflicts, _MOST_CHANGING)
            many = many or (count > 10 * _FEW_CONFLICTS and count > changing * total)
        if many:
            raise TooManyConflictsError(
                f"of {total:,} rows of {job.source} {job.stream} {count:,} had the key of another "
                f"row of the same job, and another content, so that one replaced the other: "
                f"{progress.conflict}. Is the key unique? The threshold is {self.conflicts:.1%} "
                "(ETL_CONFLICT_THRESHOLD)"
            )
