"""Deletion of missing events: those that a complete set covers and its page lacks."""

from collections.abc import Iterator, Sequence

from psycopg import sql

from temporaletl.rows import CompleteSet, Event, storable_text
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.columns import CONNECTION, HASH, PARTITION_KEY
from temporaletl.worker.loading.copying import PackedArray, PackedArrayDumper, Stamp, array
from temporaletl.worker.loading.encode import text
from temporaletl.worker.loading.packing import Packed
from temporaletl.worker.loading.scans import past
from temporaletl.worker.loading.schema import Target
from temporaletl.worker.loading.statements import within

# The ids are in the index's order, bytes by bytes, so that a prefix is a range of them. LATERAL
# with OFFSET keeps the planner from reading the whole table for each. Planned each time: a long
# list of what is kept is then searched by hash.
_FIND = """
    SELECT found.event_id FROM unnest(%(prefixes)s::text[], %(ends)s::text[]) AS w (prefix, past),
    LATERAL (
        SELECT t.event_id FROM {target} AS t {cross}
        WHERE t.{partition} = %(source)s AND t.{connection} = %(connection)s
          AND t.event_id >= w.prefix AND t.event_id < w.past AND t.deleted_at IS NULL {within}
        OFFSET 0
    ) AS found
    WHERE NOT found.event_id = ANY (%(kept)s::text[])
"""
# A time that has not come says nothing.
_MISSING = """
    t.{partition} = %(source)s AND t.{connection} = %(connection)s
      AND t.event_id = ANY (%(missing)s::text[]) AND t.deleted_at IS NULL
      AND (t.{extracted_at} IS NULL OR t.{extracted_at} <= %(extracted_at)s
           OR t.{extracted_at} > clock_timestamp()) {within}
"""
# Of a table that is divided by month, its keys say where an event is.
_SAME = " AND k.{connection} = %(connection)s AND k.event_id = t.event_id"
_DELETE = "DELETE FROM {target} AS t {using} WHERE {missing}"
# Without a hash it is changed for whoever loads it again. What was extracted before is older.
_SOFT_DELETE = """
    UPDATE {target} AS t SET deleted_at = now(), {updated_at} = now(), {hash} = NULL,
        {extracted_at} = %(extracted_at)s, {job_id} = %(job_id)s, {workflow_id} = %(workflow_id)s,
        {run_id} = %(run_id)s
    {from_} WHERE {missing}
"""
_TRACED = """
    WITH gone AS ({deletion} RETURNING t.event_id)
    INSERT INTO etl_deletions
        (source, connection, table_name, key, batch_id, job_id, workflow_id, run_id)
    SELECT %(source)s, %(connection)s, %(table)s, event_id, %(batch_id)s, %(job_id)s,
        %(workflow_id)s, %(run_id)s
    FROM gone
"""


def delete_missing(
    connection: Connection,
    target: Target,
    complete_sets: Sequence[CompleteSet],
    packed: Packed,
    stamp: Stamp,
    *,
    batch_id: str,
    soft: bool,
) -> int:
    """Delete the stored events of complete sets that the page lacks; return their number.

    `packed` are the page's rows of that table, all of them packed. Each deletion is entered in
    `etl_deletions`; where deletions are `soft`, the rows stay with their `deleted_at`. What is
    newer than the page stays. Runs in the caller's transaction; safe to repeat.
    """
    if not complete_sets:
        return 0
    ranges = sorted(
        {(storable_text(one.prefix), storable_text(_end(one))) for one in complete_sets}
    )
    values = {
        "source": stamp.source,
        "connection": stamp.connection,
        "prefixes": array("text", [text(prefix) for prefix, _ in ranges]),
        "ends": array("text", [text(end) for _, end in ranges]),
        "kept": array("text", [*_packed_ids(packed), *map(text, _refused_ids(packed))]),
    }
    connection.adapters.register_dumper(PackedArray, PackedArrayDumper)
    find = sql.SQL(_FIND).format(**_parts(target))
    found = connection.execute(find, values, prepare=False)
    missing = [str(event_id) for (event_id,) in found]
    return delete_events(connection, target, missing, stamp, batch_id=batch_id, soft=soft)


def delete_events(
    connection: Connection,
    target: Target,
    ids: Sequence[str],
    stamp: Stamp,
    *,
    batch_id: str,
    soft: bool,
) -> int:
    """Delete the events of these ids that are stored, as `delete_missing` does."""
    if not ids:
        return 0
    parts, layout = _parts(target), target.layout
    parts["missing"] = sql.SQL(_MISSING).format(**parts)
    deletion = sql.SQL(_SOFT_DELETE if soft else _DELETE).format(**parts)
    deleted = connection.execute(
        sql.SQL(_TRACED).format(deletion=deletion),
        {
            "source": stamp.source,
            "connection": stamp.connection,
            "table": layout.table,
            "missing": list(ids),
            "extracted_at": stamp.extracted_at,
            "batch_id": batch_id,
            "job_id": stamp.job_id,
            "workflow_id": stamp.workflow_id,
            "run_id": stamp.run_id,
        },
        prepare=False,
    )
    return deleted.rowcount


def _parts(target: Target) -> dict[str, sql.Composable]:
    # The statements take parameters: a percent sign in a name must be doubled.
    layout, keys = target.layout, target.keys_identifier(doubled=True)
    ours = {name: sql.Identifier(own.replace("%", "%%")) for name, own in layout.ours.items()}
    located = {
        name: sql.SQL("") if keys is None else sql.SQL("{} {} AS k").format(sql.SQL(word), keys)
        for name, word in (("cross", "CROSS JOIN"), ("using", "USING"), ("from_", "FROM"))
    }
    same: sql.Composable = sql.SQL("")
    if keys is not None:
        same = sql.SQL(_SAME).format(connection=ours[CONNECTION]) + within(target)
    return {
        "target": target.named(doubled=True),
        "partition": sql.Identifier(PARTITION_KEY),
        **ours,
        "hash": ours[HASH],
        **located,
        "within": same,
    }


def _packed_ids(packed: Packed) -> Sequence[bytes]:
    return packed.keys[packed.layout.own_key.index("event_id")]


def _refused_ids(packed: Packed) -> Iterator[str]:
    """The ids of rows that could not be packed: the source has those events all the same."""
    for row in (reject.payload for reject in packed.rejects):
        if isinstance(row, Event) and isinstance(row.event_id, str):
            yield storable_text(row.event_id)


def _end(events: CompleteSet) -> str:
    """The first text behind all ids of the set; they have no control characters."""
    return f"{events.prefix}\x01" if events.exact else past(events.prefix)
