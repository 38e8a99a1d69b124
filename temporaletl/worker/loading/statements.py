"""SQL statements of a merge into one table."""

from dataclasses import dataclass
from functools import lru_cache

from psycopg import sql
from xxhash import xxh32_hexdigest

from temporaletl.worker.loading.columns import HASH, PARTITION_KEY, Layout
from temporaletl.worker.loading.copying import columns_of
from temporaletl.worker.loading.dividing import month_of
from temporaletl.worker.loading.schema import Target


@dataclass(frozen=True, slots=True)
class Statements:
    """Parameters: `source`, `connection`; `a0`, `a1`, ... are arrays of keys and, last, of hashes.

    `update`, `update_ahead`, `lock` and `confirm` join freely and must be planned each time
    (`prepare=False`): a plan kept from when the table was small would later read all of it.
    """

    copy: sql.Composed
    #: Changed rows go through this temporary table, made once in each transaction.
    changed: sql.Identifier
    create_changed: sql.Composed
    copy_changed: sql.Composed
    update: sql.Composed
    #: Updates where the stored row's time has not come yet: it says nothing.
    update_ahead: sql.Composed
    clear_changed: sql.Composed
    #: Which changed rows the same job has written already, as something else: their number, and
    #: one of them as stored and as it comes. Takes `job_id` and `since`.
    rewritten: sql.Composed
    rewritten_example: sql.Composed
    #: Gives two arrays of positions among the keys: new, and changed.
    lookup: sql.Composed
    #: Locks the stored rows in the order of the keys.
    lock: sql.Composed
    #: Marks unchanged rows as seen; takes the lineage too.
    confirm: sql.Composed
    #: Enters the keys of new rows; takes an array of their times behind that of the hashes. None
    #: where the table is not divided by month; where it is, `update` and `update_ahead` update
    #: the keys as well.
    enter_keys: sql.Composed | None


_CREATE_CHANGED = """
    CREATE TEMPORARY TABLE IF NOT EXISTS {name} ON COMMIT DROP AS
    SELECT {columns} FROM {target} WITH NO DATA
"""
_UPDATE = """
    UPDATE {target} AS t SET {changes} FROM {changed} AS s{located}
    WHERE {same}{within} AND (t.{extracted_at} IS NULL OR t.{extracted_at} <= s.{extracted_at})
"""
# No honest time is ahead of the clock. `clock_timestamp`, not `now`: others may have committed
# since this transaction began.
_UPDATE_AHEAD = """
    UPDATE {target} AS t SET {changes} FROM {changed} AS s{located}
    WHERE {same}{within} AND t.{extracted_at} > clock_timestamp()
"""
_REWRITTEN = """
    FROM {changed} AS s{located} JOIN {target} AS t ON {same}{within}
    WHERE t.{job_id} = %(job_id)s AND t.{updated_at} >= %(since)s AND t.{hash} <> s.{hash}
"""
# LIMIT keeps the planner from turning the lookups into one join over the whole table.
_LOOKUP = """
    SELECT array_agg(i.position - 1) FILTER (WHERE t.{key} IS NULL),
           array_agg(i.position - 1) FILTER (WHERE t.{key} IS NOT NULL)
    FROM {requested} LEFT JOIN LATERAL (
        SELECT t.{key}, t.{hash} FROM {keys} AS t WHERE {keyed} LIMIT 1
    ) AS t ON true
    WHERE t.{key} IS NULL OR t.{hash} IS DISTINCT FROM i.hash
"""
_LOCK = """
    SELECT count(*) FROM (
        SELECT 1 FROM {requested} JOIN {keys} AS t ON {keyed}
        ORDER BY i.position FOR NO KEY UPDATE OF t
    ) AS locked
"""
_CONFIRM = """
    UPDATE {target} AS t SET {lineage} FROM {requested}{requested_located}
    WHERE {match}{within} AND t.{hash} = i.hash
      AND (t.{extracted_at} IS NULL OR t.{extracted_at} < %(extracted_at)s
           OR t.{extracted_at} > clock_timestamp())
"""
_ENTER_KEYS = """
    INSERT INTO {keys} ({connection}, {own}, {hash}, month)
    SELECT %(connection)s, {coming}, i.hash, {month} FROM {requested}
"""
_UPDATE_KEYS = """
    WITH written AS ({update} RETURNING {written}, {month} AS month)
    UPDATE {keys} AS k SET {hash} = w.{hash}, month = w.month FROM written AS w WHERE {same}
"""
# Of a table that is divided by month, the keys say in which partition to look.
_WITHIN = """
    AND t.event_time_utc >= k.month::timestamp AT TIME ZONE 'UTC'
    AND t.event_time_utc < (k.month + interval '1 month') AT TIME ZONE 'UTC'
"""


def within(target: Target) -> sql.SQL:
    """That a row `t` of a divided table is where its key `k` says; of another table nothing."""
    return sql.SQL("" if target.keys is None else _WITHIN)


def _located(keys: sql.Composable | None, condition: sql.Composable) -> sql.Composable:
    """Joins the keys of a divided table as `k`."""
    if keys is None:
        return sql.SQL("")
    return sql.SQL(" JOIN {} AS k ON {}").format(keys, condition)


@lru_cache(maxsize=128)
def statements_for(target: Target) -> Statements:
    """The statements of a target, the same for all pages of all jobs."""
    layout = target.layout
    columns = columns_of(layout)
    listed = sql.SQL(", ").join(map(sql.Identifier, columns))
    # The name has the table's: a page may change rows of several.
    name = f"etl_changed_{xxh32_hexdigest(repr([target.schema, target.name, columns]).encode())}"
    changed = sql.Identifier("pg_temp", name)
    copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)")
    kept = {*layout.key, layout.ours["loaded_at"]}
    parts: dict[str, sql.Composable] = {
        "target": target.identifier,
        "columns": listed,
        "name": sql.Identifier(name),
        "changed": changed,
        "changes": sql.SQL(", ").join(
            sql.SQL("{0} = s.{0}").format(sql.Identifier(name))
            for name in columns
            if name not in kept
        ),
        "same": _pairs("t.{0} = s.{0}", layout.key, " AND "),
        "requested": _requested_keys(layout),
        "match": _match(layout),
        "keyed": _match(layout) if target.keys is None else _match_key(layout, "t"),
        "within": within(target),
        "key": sql.Identifier(layout.own_key[0]),
        "hash": sql.Identifier(layout.ours[HASH]),
        "extracted_at": sql.Identifier(layout.ours["extracted_at"]),
        "updated_at": sql.Identifier(layout.ours["updated_at"]),
        "job_id": sql.Identifier(layout.ours["job_id"]),
        "lineage": sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(layout.ours[name]), sql.Placeholder(name))
            for name in ("job_id", "workflow_id", "run_id", "extracted_at")
        ),
    }
    # Where a statement takes parameters, a percent sign in a name must be doubled.
    own = _pairs("k.{0} = s.{0}", (layout.connection, *layout.own_key), " AND ")
    parts["located"] = _located(target.keys_identifier(), own)
    doubled, keys = target.named(doubled=True), target.keys_identifier(doubled=True)
    with_parameters = {
        **parts,
        "target": doubled,
        "keys": keys or doubled,
        "located": _located(keys, own),
        "requested_located": _located(keys, _match_key(layout, "k")),
    }
    return Statements(
        changed=changed,
        copy=copy.format(target.identifier, listed),
        create_changed=sql.SQL(_CREATE_CHANGED).format(**parts),
        copy_changed=copy.format(changed, listed),
        update=_keeping_keys(sql.SQL(_UPDATE).format(**parts), target),
        update_ahead=_keeping_keys(sql.SQL(_UPDATE_AHEAD).format(**parts), target),
        clear_changed=sql.SQL("DELETE FROM {}").format(changed),
        rewritten=sql.SQL("SELECT count(*)" + _REWRITTEN).format(**with_parameters),
        rewritten_example=sql.SQL(
            "SELECT to_jsonb(t), to_jsonb(s)" + _REWRITTEN + " LIMIT 1"
        ).format(**with_parameters),
        lookup=sql.SQL(_LOOKUP).format(**with_parameters),
        lock=sql.SQL(_LOCK).format(**with_parameters),
        confirm=sql.SQL(_CONFIRM).format(**with_parameters),
        enter_keys=None if keys is None else _enter_keys(layout, keys),
    )


def _enter_keys(layout: Layout, keys: sql.Identifier) -> sql.Composed:
    return sql.SQL(_ENTER_KEYS).format(
        keys=keys,
        connection=sql.Identifier(layout.connection),
        own=sql.SQL(", ").join(map(sql.Identifier, layout.own_key)),
        hash=sql.Identifier(layout.ours[HASH]),
        coming=_pairs("i.{0}", layout.own_key, ", "),
        month=month_of(sql.Identifier("i", "time")),
        requested=_requested_keys(layout, timed=True),
    )


def _keeping_keys(update: sql.Composed, target: Target) -> sql.Composed:
    """The update, followed by that of the keys where the table is divided by month."""
    keys, layout = target.keys_identifier(), target.layout
    if keys is None:
        return update
    own = (layout.connection, *layout.own_key)
    return sql.SQL(_UPDATE_KEYS).format(
        update=update,
        keys=keys,
        hash=sql.Identifier(layout.ours[HASH]),
        written=_pairs("t.{0}", (*own, layout.ours[HASH]), ", "),
        month=month_of(sql.Identifier("t", "event_time_utc")),
        same=_pairs("k.{0} = w.{0}", own, " AND "),
    )


def _pairs(pattern: str, names: tuple[str, ...], separator: str) -> sql.Composed:
    return sql.SQL(separator).join(sql.SQL(pattern).format(sql.Identifier(name)) for name in names)


def _requested_keys(layout: Layout, *, timed: bool = False) -> sql.Composed:
    columns = {name: layout.type_of(name) for name in layout.own_key} | {"hash": "bigint"}
    if timed:
        columns["time"] = "timestamptz"
    return sql.SQL("unnest({}) WITH ORDINALITY AS i ({}, position)").format(
        sql.SQL(", ").join(
            sql.SQL("{}::{}[]").format(sql.Placeholder(f"a{n}"), sql.SQL(kind))
            for n, kind in enumerate(columns.values())
        ),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )


def _match(layout: Layout) -> sql.Composed:
    match = _match_key(layout, "t")
    if not layout.partitioned:
        return match
    return sql.SQL("t.{} = {} AND {}").format(
        sql.Identifier(PARTITION_KEY), sql.Placeholder("source"), match
    )


def _match_key(layout: Layout, table: str) -> sql.Composed:
    return sql.SQL("{}.{} = {} AND {}").format(
        sql.Identifier(table),
        sql.Identifier(layout.connection),
        sql.Placeholder("connection"),
        _pairs(table + ".{0} = i.{0}", layout.own_key, " AND "),
    )
