"""Division of a source's table of events: it becomes the rest of a table that has months.

No row is moved: the table as it is becomes the partition for what is of no month yet, under another
name, and its keys are copied into the table of keys. The unique key of `events` as a whole goes, as
PostgreSQL has none over partitions of months; those of its partitions stay.
"""

from datetime import timedelta
from typing import Any

import psycopg
from psycopg import errors, sql
from xxhash import xxh32_hexdigest

from temporaletl.errors import SchemaConflictError, WarehouseCredentialsError
from temporaletl.worker.loading.catalog import keys_name, rest_name, target_name
from temporaletl.worker.loading.columns import HASH, PARTITION_KEY, Layout, check_name
from temporaletl.worker.loading.comments import comment_statements

type Session = psycopg.Connection[tuple[Any, ...]]

#: Saves PostgreSQL from reading a table whose constraint says what it would look for.
CHECK = "etl_bounds"
#: How long a lock is waited for: who waits keeps all others from the table.
PATIENCE = timedelta(minutes=1)
_LONGEST_NAME = 63

_PARTITIONS = """
    SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = %s::regclass ORDER BY c.relname
"""
_UNIQUE = """
    SELECT c.relname, n.conname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    LEFT JOIN pg_constraint AS n ON n.conindid = c.oid AND n.contype IN ('p', 'u', 'x')
    WHERE i.indrelid = %s::regclass AND (i.indisunique OR i.indisexclusion)
"""
# The definition behind "CREATE INDEX name ON table ".
_INDEXES = """
    SELECT c.relname, substr(pg_get_indexdef(c.oid),
        length(format('CREATE INDEX %%I ON %%I.%%I ', c.relname, n.nspname, t.relname)) + 1)
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    JOIN pg_class AS t ON t.oid = i.indrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace
    WHERE t.oid = %s::regclass AND i.indisvalid AND NOT i.indisunique AND NOT i.indisexclusion
    ORDER BY c.relname
"""
_READERS = """
    SELECT DISTINCT n.nspname, v.relname, v.relkind::text,
        coalesce(array_to_string(v.reloptions, ', '), ''), pg_get_viewdef(v.oid)
    FROM pg_depend AS d JOIN pg_rewrite AS r
        ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_class AS v ON v.oid = r.ev_class JOIN pg_namespace AS n ON n.oid = v.relnamespace
    WHERE d.refobjid = %s::regclass ORDER BY 1, 2
"""
_GRANTS = """
    SELECT DISTINCT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(r.rolname) END,
        a.privilege_type
    FROM pg_class AS c, aclexplode(c.relacl) AS a LEFT JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE c.oid = %s::regclass AND a.grantee <> c.relowner ORDER BY 1, 2
"""
# A row that moves to another month is deleted there and inserted here, in this order.
_KEEP = """
    CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $keep$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            DELETE FROM {keys} AS k WHERE {old};
        ELSIF TG_OP = 'INSERT' THEN
            INSERT INTO {keys} ({columns}) VALUES ({new});
        ELSE
            UPDATE {keys} AS k SET ({columns}) = ROW ({new}) WHERE {old};
        END IF;
        RETURN NULL;
    END
    $keep$;
    CREATE TRIGGER etl_keys_written AFTER INSERT OR DELETE ON {table} FOR EACH ROW
        WHEN ({left}) EXECUTE FUNCTION {function}();
    CREATE TRIGGER etl_keys_changed AFTER UPDATE ON {table} FOR EACH ROW
        WHEN (({columns_old}) IS DISTINCT FROM ({columns_new}) AND {left})
        EXECUTE FUNCTION {function}()
"""
# Who writes many rows at once enters their keys at once, and the triggers leave that to them.
_LEFT = "current_setting('temporaletl.enters_keys', true) IS DISTINCT FROM 'on'"
#: Between these the session enters the keys of what it writes, within one transaction.
BEGIN_ENTERING = "SELECT set_config('temporaletl.enters_keys', 'on', true)"
END_ENTERING = "SELECT set_config('temporaletl.enters_keys', 'off', true)"
TRIGGERS = ("etl_keys_written", "etl_keys_changed")


def limit_waits(session: Session) -> None:
    """Let a transaction give up where another session keeps a table for long."""
    milliseconds = sql.Literal(PATIENCE // timedelta(milliseconds=1))
    session.execute(sql.SQL("SET LOCAL lock_timeout TO {}").format(milliseconds))


def month_of(time: sql.Composable) -> sql.Composed:
    """The first day of a time's month, in UTC."""
    return sql.SQL("date_trunc('month', {} AT TIME ZONE 'UTC')::date").format(time)


class Division:
    """Division of one source's table; safe to repeat after an interruption."""

    def __init__(self, session: Session, name: str, source: str, layout: Layout) -> None:
        self._session = session
        self._schema = name
        self._layout = layout
        self._table = target_name(layout, source)
        self._rest = rest_name(self._table)
        self._keys = keys_name(self._table)
        for one in (self._rest, self._keys, f"{self._table}_0000_00"):
            check_name(one, f"source {source!r}: table {one!r}")

    def run(self) -> None:
        """Divide the table.

        Who loads into it waits until its keys are copied; who reads `events`, only for the end.

        Raises:
            SchemaConflictError: `events` has a unique key that is not the platform's, or a
                materialized view reads the source's table.
            WarehouseCredentialsError: the user does not own a view that reads it.
            WarehouseUnavailableError: another session kept the table; all is as it was.
        """
        for table, bound in self._concerned():
            self._bind(table, bound)
        with self._session.transaction():
            limit_waits(self._session)
            self._session.execute("SET LOCAL search_path TO ''")
            self._execute("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE", self._table)
            readers = self._readers()
            self._check_unclaimed()
            self._copy_keys()
            self._execute("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", self._layout.table)
            partitions = self._concerned()
            for table, _ in partitions:
                self._execute("ALTER TABLE {} DETACH PARTITION {}", self._layout.table, table)
            self._drop_key()
            self._put_above()
            for table, bound in partitions:
                self._session.execute(
                    sql.SQL("ALTER TABLE {} ATTACH PARTITION {} ").format(
                        self._name(self._layout.table), self._name(table)
                    )
                    + sql.SQL(bound)
                )
            for table in (*(one for one, _ in partitions), self._rest):
                self._execute("ALTER TABLE {} DROP CONSTRAINT IF EXISTS " + CHECK, table)
            self._remake(readers)

    def _concerned(self) -> list[tuple[str, str]]:
        """The partitions of `events` that are taken off, each with its bound.

        All of them, while `events` has a unique key: it is theirs as well, until they are off.
        """
        root = self._regclass(self._layout.table)
        keyed = self._session.execute(_UNIQUE, [root]).fetchone() is not None
        found = self._session.execute(_PARTITIONS, [root])
        return [(str(one), str(bound)) for one, bound in found if keyed or one == self._table]

    def _bind(self, table: str, bound: str) -> None:
        """Let a constraint say what the partition's bound says."""
        _, found, values = bound.partition("FOR VALUES IN ")
        if not found:
            return
        drop = sql.SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}")
        add = sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} CHECK ({} IN {}) NOT VALID")
        validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
        names = (self._name(table), sql.Identifier(CHECK))
        for statement in (
            drop.format(*names),
            add.format(*names, sql.Identifier(PARTITION_KEY), sql.SQL(values)),
            validate.format(*names),
        ):
            with self._session.transaction():
                limit_waits(self._session)
                self._session.execute(statement)

    def _check_unclaimed(self) -> None:
        for name in (self._rest, self._keys):
            found = self._session.execute("SELECT to_regclass(%s)", [self._regclass(name)])
            if found.fetchone() != (None,):
                raise SchemaConflictError(
                    f"table {name} is there, and {self._table} needs one of its own of that name: "
                    "rename it"
                )

    def _copy_keys(self) -> None:
        names = self._key_columns()
        self._session.execute(
            sql.SQL("CREATE TABLE {} AS SELECT {}, {} AS month FROM {}").format(
                self._name(self._keys),
                sql.SQL(", ").join(names),
                month_of(sql.Identifier("event_time_utc")),
                self._name(self._table),
            )
        )
        key, keyed = sql.SQL(", ").join(names[:-1]), self._name(self._keys)
        self._session.execute(
            sql.SQL(
                "ALTER TABLE {0} ADD PRIMARY KEY ({1}) INCLUDE ({2}), "
                "ALTER COLUMN month SET NOT NULL; COMMENT ON TABLE {0} IS {3}"
            ).format(
                keyed,
                key,
                names[-1],
                sql.Literal(f"In which month each event of {self._table} is; kept by triggers."),
            )
        )
        self._grant(self._keys)

    def _drop_key(self) -> None:
        root = self._layout.table
        for index, constraint in self._session.execute(_UNIQUE, [self._regclass(root)]).fetchall():
            drop = (
                sql.SQL("DROP INDEX {}").format(self._name(str(index)))
                if constraint is None
                else sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                    self._name(root), sql.Identifier(str(constraint))
                )
            )
            try:
                with self._session.transaction():
                    self._session.execute(drop)
            except errors.DependentObjectsStillExist as error:
                raise SchemaConflictError(
                    f"{root} cannot be divided by month: its unique key {index} must go, but "
                    f"{error.diag.message_detail}"
                ) from error

    def _put_above(self) -> None:
        """Put a table with the old one's name, indexes and rights above it."""
        table, rest = self._name(self._table), self._name(self._rest)
        indexes = self._session.execute(_INDEXES, [self._regclass(self._table)]).fetchall()
        self._session.execute(
            sql.SQL("ALTER TABLE {} RENAME TO {}").format(table, sql.Identifier(self._rest))
        )
        self._session.execute(
            sql.SQL(
                "CREATE TABLE {} (LIKE {} INCLUDING ALL EXCLUDING INDEXES) "
                "PARTITION BY RANGE (event_time_utc)"
            ).format(table, rest)
        )
        for name, definition in indexes:
            self._session.execute(
                sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                    self._name(str(name)), sql.Identifier(self._rest_index(str(name)))
                )
            )
            self._session.execute(
                sql.SQL("CREATE INDEX {} ON {} ").format(sql.Identifier(str(name)), table)
                + sql.SQL(str(definition))
            )
        self._execute("ALTER TABLE {} ATTACH PARTITION {} DEFAULT", self._table, self._rest)
        self._session.execute(self._triggers())
        for statement in comment_statements(self._schema, self._table, self._layout):
            self._session.execute(statement)
        self._session.execute(
            sql.SQL("COMMENT ON TABLE {} IS {}").format(
                rest, sql.Literal(f"Events of {self._table} that are of no month yet.")
            )
        )
        self._grant(self._table)

    def _rest_index(self, name: str) -> str:
        wanted = f"{self._rest}_{name.removeprefix(f'{self._table}_')}"
        if len(wanted.encode()) <= _LONGEST_NAME:
            return wanted
        return f"etl_index_{xxh32_hexdigest(wanted.encode())}"

    def _triggers(self) -> sql.Composed:
        names = self._key_columns()

        def of(prefix: str) -> list[sql.Composable]:
            return [sql.SQL(prefix) + name for name in names]

        time = sql.Identifier("event_time_utc")
        listed = sql.SQL(", ")
        return sql.SQL(_KEEP).format(
            function=self._name(f"{self._keys}_keep"),
            table=self._name(self._table),
            keys=self._name(self._keys),
            columns=listed.join([*names, sql.Identifier("month")]),
            new=listed.join([*of("NEW."), month_of(sql.SQL("NEW.") + time)]),
            columns_old=listed.join([*of("OLD."), sql.SQL("OLD.") + time]),
            columns_new=listed.join([*of("NEW."), sql.SQL("NEW.") + time]),
            left=sql.SQL(_LEFT),
            old=sql.SQL(" AND ").join(
                sql.SQL("k.{0} = OLD.{0}").format(name) for name in names[:-1]
            ),
        )

    def _key_columns(self) -> list[sql.Identifier]:
        layout = self._layout
        names = (layout.connection, *layout.own_key, layout.ours[HASH])
        return [sql.Identifier(name) for name in names]

    def _grant(self, table: str) -> None:
        """Give a new table the rights that others have in the old one."""
        old = self._rest if table == self._table else self._table
        for role, privilege in self._session.execute(_GRANTS, [self._regclass(old)]).fetchall():
            self._session.execute(
                sql.SQL("GRANT {} ON {} TO {}").format(
                    sql.SQL(str(privilege)), self._name(table), sql.SQL(str(role))
                )
            )

    def _readers(self) -> list[tuple[Any, ...]]:
        """The views that read the source's own table: they would go on reading the old one."""
        found = self._session.execute(_READERS, [self._regclass(self._table)]).fetchall()
        for place, view, kind, *_ in found:
            if kind != "v":
                raise SchemaConflictError(
                    f"{self._table} cannot be divided by month: {place}.{view} is built on it; "
                    "drop it, and make it again afterwards"
                )
        return found

    def _remake(self, readers: list[tuple[Any, ...]]) -> None:
        for place, view, _, options, query in readers:
            with_options = f"WITH ({options}) " if options else ""
            try:
                self._session.execute(
                    sql.SQL("CREATE OR REPLACE VIEW {} {}AS ").format(
                        sql.Identifier(place, view), sql.SQL(with_options)
                    )
                    + sql.SQL(query)
                )
            except errors.InsufficientPrivilege as error:
                raise WarehouseCredentialsError(
                    f"{self._table} cannot be divided by month: the view {place}.{view} reads it, "
                    f"and {self._session.info.user} does not own it: drop the view, and make it "
                    "again afterwards"
                ) from error

    def _execute(self, statement: str, *tables: str) -> None:
        self._session.execute(sql.SQL(statement).format(*map(self._name, tables)))

    def _name(self, table: str) -> sql.Identifier:
        return sql.Identifier(self._schema, table)

    def _regclass(self, table: str) -> str:
        return self._name(table).as_string(self._session)
