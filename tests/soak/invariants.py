"""What must hold of the warehouse once all runs have ended: each function finds what does not."""

from collections.abc import Sequence
from datetime import datetime

from temporaletl.messages import Mode
from tests.acceptance.stored_rows import TABLES, Query, content_columns, differences, part_of

#: The schema of a fresh load, beside the platform's own.
FRESH = "fresh"
_COUNTS = ("records", "inserted", "updated", "unchanged", "rejected", "deleted")


def differing_rows(query: Query, source: str) -> list[str]:
    """Where the rows are not those of a fresh load of the same data, into the schema `FRESH`."""
    return [
        f"{table}: a row differs from a fresh load: {row}"
        for table in TABLES[source]
        for row in differences(
            query,
            ", ".join(content_columns(query, table)),
            part_of(table, source),
            part_of(table, source, FRESH),
        )
    ]


def unexplained_rejects(query: Query, source: str, mode: Mode) -> list[str]:
    """Rejects of records that a fresh load could use, after a run of that mode.

    Of items that could not be read and have no name to request them by, only a full run knows that
    they can be read again.
    """
    stages = "" if mode == "full" else "AND stage <> 'extract' "
    found = query(
        "SELECT stage, stream, key, reason FROM workplace.etl_rejects AS ours "
        f"WHERE source = '{source}' {stages}AND NOT EXISTS ("
        f"SELECT FROM {FRESH}.etl_rejects AS theirs "
        "WHERE (theirs.source, theirs.stream) = (ours.source, ours.stream) "
        "AND theirs.key IS NOT DISTINCT FROM ours.key) LIMIT 5"
    )
    return [f"{source}: a reject that the data does not explain: {row}" for row in found]


def untold_rows(query: Query, source: str) -> list[str]:
    """Rows of which the ledger has no page that wrote them."""
    found: list[str] = []
    for table in TABLES[source]:
        if table == "etl_identities":  # the planning of a run enters them, too
            continue
        known = {
            name
            for (name,) in query(
                "SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped "
                f"AND attrelid = 'workplace.{table}'::regclass"
            )
        }
        job, run, extracted = (
            next(name for name in names if name in known)
            for names in (
                ("etl_job_id", "job_id"),
                ("etl_run_id", "run_id"),
                ("fetched_at", "extracted_at"),
            )
        )
        rows = query(
            f"SELECT {job}, {run}, {extracted} FROM {part_of(table, source)} AS r WHERE NOT EXISTS "
            f"(SELECT FROM workplace.etl_pages AS p WHERE p.job_id = r.{job} "
            f"AND p.run_id = r.{run} AND p.extracted_at = r.{extracted}) LIMIT 5"
        )
        found += [f"{table}: no page is known that wrote the row of {row}" for row in rows]
    return found


def wrong_watermarks(query: Query) -> list[str]:
    """Watermarks ahead of the clock, or of every window that was loaded."""
    found = query(
        """
        SELECT s.source, s.stream, s.watermark, w.reached FROM workplace.etl_sync_state AS s
        CROSS JOIN LATERAL (
            SELECT max((b.metadata->'windows'->s.stream->>'end')::timestamptz) AS reached
            FROM workplace.etl_batches AS b
            WHERE (b.source, b.connection) = (s.source, s.connection) AND b.state = 'completed'
        ) AS w
        WHERE s.watermark > clock_timestamp()
            OR s.watermark > coalesce(w.reached, '-infinity')
        """
    )
    return [f"a watermark is ahead of what is loaded: {row}" for row in found]


def watermarks(query: Query) -> dict[tuple[str, str], object]:
    found = query("SELECT source, stream, watermark FROM workplace.etl_sync_state")
    return {(source, stream): watermark for source, stream, watermark in found if watermark}


def wrong_sums(query: Query, sources: Sequence[str]) -> list[str]:
    """Jobs that are not the sum of their pages, batches not that of their jobs, tables neither."""
    pages = ", ".join(f"coalesce(sum(p.{name}), 0)::bigint AS {name}" for name in _COUNTS)
    ours = ", ".join(f"j.{name}" for name in _COUNTS)
    theirs = ", ".join(f"p.{name}" for name in _COUNTS)
    found = [
        f"a job is not the sum of its pages: {row}"
        for row in query(
            f"SELECT j.batch_id, j.seq, j.pages, {ours}, p.pages, {theirs} "
            "FROM workplace.etl_jobs AS j CROSS JOIN LATERAL "
            f"(SELECT count(*) AS pages, {pages} FROM workplace.etl_pages AS p "
            "WHERE (p.batch_id, p.seq) = (j.batch_id, j.seq)) AS p "
            f"WHERE (j.pages, {ours}) IS DISTINCT FROM (p.pages, {theirs}) LIMIT 5"
        )
    ]
    found += [
        f"a batch is not the sum of its jobs: {row}"
        for row in query(
            """
            SELECT b.batch_id, b.summary->'rows', j.* FROM workplace.etl_batches AS b
            CROSS JOIN LATERAL (
                SELECT coalesce(sum(inserted), 0) AS inserted, coalesce(sum(updated), 0) AS updated,
                    coalesce(sum(unchanged), 0) AS unchanged
                FROM workplace.etl_jobs AS j WHERE j.batch_id = b.batch_id) AS j
            WHERE b.summary IS NOT NULL AND b.summary ? 'rows' AND (
                (b.summary->'rows'->>'inserted')::bigint, (b.summary->'rows'->>'updated')::bigint,
                (b.summary->'rows'->>'unchanged')::bigint
            ) IS DISTINCT FROM (j.inserted::bigint, j.updated::bigint, j.unchanged::bigint) LIMIT 5
            """
        )
    ]
    for source in sources:
        tables = [table for table in TABLES[source] if table != "etl_identities"]
        stored = " + ".join(f"(SELECT count(*) FROM {part_of(table, source)})" for table in tables)
        [(rows, counted)] = query(
            f"SELECT {stored}, (SELECT coalesce(sum(inserted - deleted), 0)::bigint "
            f"FROM workplace.etl_jobs WHERE source = '{source}')"
        )
        if rows != counted:
            found.append(f"{source}: {rows} rows are stored, and the ledger counts {counted}")
    return found


def late_rows(query: Query, run: str, changed_at: datetime) -> list[str]:
    """What a run still had to store, though one had read the same data before, rejecting nothing.

    Overlapping windows hide from later looks what a run left out.
    """
    found = query(
        f"""
        SELECT b.source, b.batch_id, sum(j.inserted), sum(j.updated)
        FROM workplace.etl_batches AS b JOIN workplace.etl_jobs AS j USING (batch_id)
        WHERE b.workflow_id = '{run}' AND EXISTS (
            SELECT FROM workplace.etl_batches AS e
            WHERE (e.source, e.connection, e.state) = (b.source, b.connection, 'completed')
                AND e.created_at BETWEEN '{changed_at.isoformat()}' AND b.created_at
                AND e.batch_id <> b.batch_id AND NOT EXISTS (
                    SELECT FROM workplace.etl_jobs AS r
                    WHERE r.batch_id = e.batch_id AND r.rejected > 0))
        GROUP BY 1, 2 HAVING sum(j.inserted + j.updated) > 0
        """
    )
    return [f"a completed run had not stored what the next one did: {row}" for row in found]


def open_ends(query: Query) -> list[str]:
    """What has no end, though every run has ended."""
    return [
        f"{what} has no end: {row}"
        for what, statement in (
            ("a batch", "SELECT batch_id, state FROM workplace.etl_batches WHERE ended_at IS NULL"),
            ("a run", "SELECT workflow_id FROM workplace.etl_runs WHERE ended_at IS NULL"),
            ("a job", "SELECT batch_id, seq FROM workplace.etl_jobs WHERE ended_at IS NULL"),
        )
        for row in query(f"{statement} LIMIT 5")
    ]
