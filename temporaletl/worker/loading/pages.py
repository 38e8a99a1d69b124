"""Page loader: rows, rejects, ledger and cursor of a page in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby

from psycopg import errors, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.errors import (
    ConfigurationError,
    SchemaConflictError,
    WarehouseUnavailableError,
)
from temporaletl.messages import ETLInput, JobProgress
from temporaletl.rows import CompleteSet, Reject, Row, ScanItems, storable_text
from temporaletl.strategies import transformers
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.tracing import traced
from temporaletl.transformation import is_wanted, undeclared
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.cursors import escaped
from temporaletl.warehouse.ledger import PROGRESS, progress_of
from temporaletl.warehouse.sessions import local_settings, only_row
from temporaletl.worker.loading import rejects, schema
from temporaletl.worker.loading.columns import layout_of
from temporaletl.worker.loading.conflicts import Conflicts, conflicts_of
from temporaletl.worker.loading.copying import Stamp, seed_of
from temporaletl.worker.loading.deletion import delete_events, delete_missing
from temporaletl.worker.loading.detached import without_older
from temporaletl.worker.loading.fence import pass_fence
from temporaletl.worker.loading.measuring import count_page
from temporaletl.worker.loading.merge import SHAPE_FAULTS, Merge, Outcome
from temporaletl.worker.loading.packing import Packed
from temporaletl.worker.loading.prepared import once_for_batch
from temporaletl.worker.loading.rejects import Reprocessed
from temporaletl.worker.loading.scans import write_findings

log = get_logger("temporaletl.worker.loading")

# Deadlocks are rare, as rows are locked in the order of their keys.
_REPETITIONS = 5


@dataclass(frozen=True, slots=True)
class Lineage:
    """The lineage columns and versions of all rows of a job's run."""

    job: ETLInput
    workflow_id: str
    run_id: str
    version: str
    specific_version: str


@dataclass(frozen=True, slots=True)
class PageLoad:
    """Content of one page: rows, rejects, complete sets, and the cursor behind them.

    `rows` may mix the loader's row classes; of rows with one key the later wins.
    `number` is how many pages of the job are committed before this one. An `extracted_at` ahead
    of the warehouse's clock counts as now.
    """

    number: int
    rows: Sequence[Row]
    rejects: Sequence[Reject]
    records: int
    rejected_records: int  # those of which something was rejected before the load
    cursor_before: JsonValue
    cursor: JsonValue
    extracted_at: datetime
    complete_sets: Sequence[CompleteSet] = ()
    scanned: Sequence[ScanItems] = ()
    note: str | None = None
    #: Where among the rows another extracted page begins.
    page_starts: Sequence[int] = ()
    #: Results of reprocessed rejects, by id.
    reprocessed: Mapping[int, Reprocessed] = field(default_factory=dict)


class _DetachedError(Exception):
    """Months were detached since the page was packed: it is packed anew, without their events."""


# The lookup must go through the key's index, whatever statistics say. A table that was just
# filled has none, and the planner then likes to read it whole for every key.
_METHODS = ("material", "seqscan", "bitmapscan", "hashjoin", "mergejoin")
_SETTINGS = sql.SQL("SELECT {}").format(
    local_settings(
        {
            "random_page_cost": "1",
            "jit": "off",
            **{f"enable_{method}": "off" for method in _METHODS},
        }
    )
)
# The jobs of one batch share out what there is: they do not extract the same rows.
_OTHERS_RUNNING = """
    SELECT DISTINCT stream FROM etl_jobs
    WHERE source = %(source)s AND connection = %(connection)s AND state = 'running'
      AND batch_id <> %(batch_id)s
      AND coalesce(touched_at, started_at, now()) > now() - interval '1 hour'
"""
_PAGE = """
    INSERT INTO etl_pages (batch_id, seq, page, job_id, workflow_id, run_id, cursor_before,
                           cursor_after, records, inserted, updated, unchanged, deleted, rejected,
                           extracted_at)
    VALUES (%(batch_id)s, %(seq)s, %(page)s, %(job_id)s, %(workflow_id)s, %(run_id)s,
            %(cursor_before)s, %(cursor)s, %(records)s, %(inserted)s, %(updated)s,
            %(unchanged)s, %(deleted)s, %(rejected)s, %(extracted_at)s)
"""
_ADVANCE = """
    UPDATE etl_jobs
    SET pages = pages + 1, records = records + %(records)s, cursor = %(cursor)s,
        rejected_records = rejected_records + %(rejected_records)s,
        inserted = inserted + %(inserted)s, updated = updated + %(updated)s,
        unchanged = unchanged + %(unchanged)s, deleted = deleted + %(deleted)s,
        rejected = rejected + %(rejected)s, conflicting = conflicting + %(conflicting)s,
        conflicting_at_once = conflicting_at_once + %(conflicting_at_once)s,
        conflict = coalesce(conflict, %(conflict)s), note = coalesce(%(note)s, note),
        touched_at = now()
    WHERE batch_id = %(batch_id)s AND seq = %(seq)s AND pages = %(page)s AND state = 'running'
"""


class Loader:
    """Loader of one job's pages, one after the other.

    Not safe to share between threads; any number of loaders may work at once.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        row_classes: Sequence[type[Row]],
        lineage: Lineage,
        *,
        reject_payload_bytes: int = rejects.PAYLOAD_BYTES,
    ) -> None:
        self._reject_payload_bytes = reject_payload_bytes
        self._warehouse = warehouse
        self._lineage = lineage
        # In one order everywhere, so that two loaders do not wait for each other crosswise.
        self._layouts = sorted(
            (layout_of(row) for row in dict.fromkeys(row_classes)), key=lambda one: one.table
        )
        for table, sharing in groupby(self._layouts, key=lambda one: one.table):
            names = [layout.row.__name__ for layout in sharing]
            if len(names) > 1:
                raise ConfigurationError(
                    f"{' and '.join(names)} both declare table {table}: "
                    "a stream yields one row class for a table"
                )
        self._merges: list[Merge] = []
        self._settings = _SETTINGS
        self._loaded_from: datetime | None = None

    def prepare(self) -> None:
        """Create and extend tables and the source's partition, and check their types.

        Needs the CREATE privilege only while something is missing. Safe to repeat and to run
        from many processes at once.

        Raises:
            SchemaConflictError: a table cannot hold what a row class declares; no row is written.
            CredentialsError: a privilege is missing; says which.
        """
        job = self._lineage.job
        targets = schema.prepare(self._warehouse, self._layouts, job.source, job.connection)
        self._merges = [Merge(target) for target in targets]
        # Who detaches months waits for pages that have begun, and pages see what was detached.
        locks = sql.SQL("").join(
            sql.SQL("; LOCK TABLE ONLY {} IN ROW EXCLUSIVE MODE").format(target.identifier)
            for target in targets
            if target.layout.partitioned
        )
        self._settings = _SETTINGS + locks

    def prepare_for_batch(self) -> None:
        """As `prepare`, once for a batch: the tables of its other jobs are, once a row comes."""
        once_for_batch(self._warehouse, self._lineage.job, self._layouts, self.prepare)

    @traced("load page")
    def load(self, page: PageLoad) -> JobProgress:
        """Load one page in one transaction and return the job's progress, this page included.

        Each row counts once: as inserted, updated, unchanged or rejected. One that is older
        than what is stored, or that a later row of the page with the same key replaces, counts
        as unchanged. In a backfill events outside of the job's window are neither loaded nor
        counted.

        Raises:
            PageSupersededError: another attempt has committed this page, or the job has ended.
            WarehouseUnavailableError: the connection broke; nothing is kept, unless it broke
                while the server committed, and then a repetition is superseded.
            SchemaConflictError: a table was changed and cannot hold the rows any more.
        """
        if page.extracted_at.tzinfo is None:
            raise ConfigurationError("a page's extracted_at must carry a time zone")
        if not self._merges and (page.rows or page.complete_sets):
            self.prepare()
        try:
            return self._load(page)
        except SHAPE_FAULTS as error:
            # Somebody changed a table while the job ran: check it, and try once more.
            self.prepare()
            try:
                return self._load(page)
            except SHAPE_FAULTS:
                raise SchemaConflictError(
                    f"a table of source {self._lineage.job.source} does not take the rows of "
                    f"{', '.join(one.row.__name__ for one in self._layouts)}: {error}"
                ) from error

    def _load(self, page: PageLoad) -> JobProgress:
        packed = self._pack(page.rows)
        for _ in range(_REPETITIONS):
            try:
                return self._commit(page, packed)
            except _DetachedError:
                packed = self._pack(page.rows)
            except WarehouseUnavailableError as error:
                if not isinstance(
                    error.__cause__, errors.DeadlockDetected | errors.SerializationFailure
                ):
                    raise
        return self._commit(page, packed)

    def _pack(self, rows: Sequence[Row]) -> list[tuple[Merge, Packed]]:
        by_class: dict[type[Row], list[Row]] = {layout.row: [] for layout in self._layouts}
        if len(by_class) == 1 and by_class.keys() >= set(map(type, rows)):
            by_class = {layout.row: list(rows) for layout in self._layouts}
        else:
            for row in rows:
                if type(row) not in by_class:
                    raise undeclared(self._lineage.job.source, row, tuple(by_class))
                by_class[type(row)].append(row)
        lineage = self._lineage
        packed = []
        for merge in self._merges:
            layout = merge.target.layout
            some: Sequence[Row] = by_class[layout.row]
            if layout.partitioned and lineage.job.mode == "backfill":
                some = [row for row in some if is_wanted(lineage.job, row)]
            some, older = without_older(self._loaded_from, some)
            seed = seed_of(layout, lineage.job.source, lineage.version, lineage.specific_version)
            packed.append((merge, Packed(layout, some, seed, older)))
        return packed

    def _commit(self, page: PageLoad, packed: Sequence[tuple[Merge, Packed]]) -> JobProgress:
        job = self._lineage.job
        with self._warehouse.connection() as connection:
            if packed:
                connection.execute(self._settings)
            with connection.leased(job.policy.heartbeat_timeout):
                fence = pass_fence(connection, job, page.number)
            if fence.loaded_from != self._loaded_from:
                self._loaded_from = fence.loaded_from
                raise _DetachedError
            # Nothing can have been requested after now, whoever's clock says so.
            page = replace(page, extracted_at=min(page.extracted_at, fence.now))
            stamp = Stamp(
                source=job.source,
                connection=job.connection,
                version=self._lineage.version,
                specific_version=self._lineage.specific_version,
                job_id=job.job_id,
                workflow_id=self._lineage.workflow_id,
                run_id=self._lineage.run_id,
                extracted_at=page.extracted_at,
                now=fence.now,
                wrote_since=fence.wrote_since,
            )
            outcomes = [Outcome() for _ in packed]
            if page.rows:
                outcomes = self._merge(connection, packed, stamp)
            if repaired := sum(outcome.repaired for outcome in outcomes):
                log.warning("times_ahead_repaired", job_id=job.job_id, rows=repaired)
            deleted = self._delete(
                connection, page, packed, stamp, keeps_missing=fence.keeps_missing
            )
            write_findings(connection, job, page.scanned)
            conflicts = conflicts_of(page.rows, page.page_starts, packed, outcomes)
            progress = self._record(connection, page, outcomes, conflicts, deleted)
        count_page(job, page.rejects, packed, outcomes, deleted)
        return progress

    def _merge(
        self, connection: Connection, packed: Sequence[tuple[Merge, Packed]], stamp: Stamp
    ) -> list[Outcome]:
        streams = self._running_streams(connection)
        return [
            merge.run(
                connection,
                some,
                stamp,
                contested=any(_writes(stamp.source, one, merge) for one in streams),
            )
            for merge, some in packed
        ]

    def _delete(
        self,
        connection: Connection,
        page: PageLoad,
        packed: Sequence[tuple[Merge, Packed]],
        stamp: Stamp,
        *,
        keeps_missing: bool,
    ) -> int:
        job, soft = self._lineage.job, self._warehouse.soft_delete
        # A backfill sees a part of what there is.
        sets = () if keeps_missing or job.mode == "backfill" else page.complete_sets
        deleted = 0
        for merge, some in packed:
            target = merge.target
            if target.layout.partitioned:
                deleted += delete_events(
                    connection, target, some.older, stamp, batch_id=job.batch_id, soft=soft
                )
                deleted += delete_missing(
                    connection, target, sets, some, stamp, batch_id=job.batch_id, soft=soft
                )
        return deleted

    def _running_streams(self, connection: Connection) -> list[str]:
        job = self._lineage.job
        found = connection.execute(
            _OTHERS_RUNNING,
            {"source": job.source, "connection": job.connection, "batch_id": job.batch_id},
        )
        return [str(stream) for (stream,) in found]

    def _record(
        self,
        connection: Connection,
        page: PageLoad,
        outcomes: Sequence[Outcome],
        conflicts: Conflicts,
        deleted: int,
    ) -> JobProgress:
        lineage, job = self._lineage, self._lineage.job
        at_load = [one for outcome in outcomes for one in outcome.rejects]
        refused = [*page.rejects, *at_load]
        # Before `keep`: what fails again is entered anew, and must not be taken for the old one.
        rejects.close_reprocessed(connection, page.reprocessed)
        rejects.keep(
            connection,
            refused,
            job,
            workflow_id=lineage.workflow_id,
            run_id=lineage.run_id,
            extracted_at=page.extracted_at,
            payload_bytes=self._reject_payload_bytes,
        )
        again = sum(result.reason is not None for result in page.reprocessed.values())
        values = {
            "batch_id": job.batch_id,
            "seq": job.seq,
            "page": page.number,
            "job_id": job.job_id,
            "workflow_id": lineage.workflow_id,
            "run_id": lineage.run_id,
            "cursor_before": _json(page.cursor_before),
            "cursor": _json(page.cursor),
            "records": page.records,
            # A refused row belongs to some record; to which, is no longer known.
            "rejected_records": min(page.records, page.rejected_records + len(at_load)),
            "inserted": sum(outcome.inserted for outcome in outcomes),
            "updated": sum(outcome.updated for outcome in outcomes),
            "unchanged": sum(outcome.unchanged for outcome in outcomes),
            "deleted": deleted,
            "rejected": len(refused) + again,
            "conflicting": conflicts.count,
            "conflicting_at_once": conflicts.at_once,
            "conflict": None if conflicts.example is None else storable_text(conflicts.example),
            "note": None if page.note is None else storable_text(page.note),
            "extracted_at": page.extracted_at,
        }
        connection.execute(_PAGE, values)
        cursor = connection.cursor(row_factory=dict_row)
        progress = only_row(cursor.execute(f"{_ADVANCE} RETURNING {PROGRESS}", values))
        return progress_of(progress)


def _json(value: JsonValue) -> Jsonb | None:
    return None if value is None else Jsonb(escaped(value))


def _writes(source: str, stream: str, merge: Merge) -> bool:
    """Whether a stream may write the merge's table; what is not known here may."""
    for name in (f"{source}-{stream}", source):
        if name in transformers:
            tables = {row.table for row in transformers.get(name).rows}
            return merge.target.layout.table in tables
    return True
