"""Views for analysts: items as they are now, and what became of them.

A file for each in the folder `views`: its comments, and the query. The first line may name the
source whose first load makes the view; the others are there with any source's events.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from psycopg import errors, sql
from xxhash import xxh32_hexdigest

from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.connection import Connection

log = get_logger("temporaletl.warehouse")

_SOURCE = "-- source: "
#: By which a view is known as ours, of which version of the query.
_MARK = "temporaletl"


@dataclass(frozen=True, slots=True)
class View:
    """One view: its comment, those of its columns, and its query."""

    name: str
    source: str | None
    comment: str
    columns: dict[str, str]
    query: str

    @property
    def mark(self) -> str:
        """Part of the view's comment that tells its version."""
        told = repr((self.comment, self.columns, self.query))
        return f"[{_MARK} {xxh32_hexdigest(told.encode())}]"


@cache
def views() -> tuple[View, ...]:
    """All views, those first that others read."""
    folder = files("temporaletl.warehouse") / "views"
    found = [
        _read(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    names = {view.name for view in found}
    return tuple(
        sorted(found, key=lambda view: (len(names & {*re.findall(r"\w+", view.query)}), view.name))
    )


def _read(name: str, text: str) -> View:
    head = re.match(r"(?:--.*\n)*", text)
    assert head is not None  # noqa: S101 - it matches the empty text as well
    lines = head[0].splitlines()
    source = lines.pop(0).removeprefix(_SOURCE) if lines[0].startswith(_SOURCE) else None
    comment, *columns = (line.removeprefix("-- ") for line in lines)
    told = dict(line.split(": ", 1) for line in columns)
    return View(name, source, comment, told, text[head.end() :].strip())


def stale_views(connection: Connection, sources: set[str]) -> list[View]:
    """The views over events of these sources that are missing, or of an earlier version.

    What another one has made under the name of a view is left as it is.
    """
    if connection.execute("SELECT to_regclass('events')").fetchone() == (None,):
        return []
    present = {
        str(name): None if comment is None else str(comment)
        for name, comment in connection.execute(
            "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class "
            "WHERE relnamespace = quote_ident(current_schema())::regnamespace "
            "AND relname = ANY (%s)",
            [[view.name for view in views()]],
        )
    }
    return [
        view
        for view in views()
        if view.source is None or view.source in sources
        if view.name not in present
        or (f"[{_MARK} " in (present[view.name] or "") and view.mark not in str(present[view.name]))
    ]


def create_views(connection: Connection, sources: set[str]) -> None:
    """Make the views over events of these sources that are missing, or of an earlier version.

    In the caller's transaction. One that cannot be made, as others depend on its present form,
    is logged, and stays as it is.
    """
    for view in stale_views(connection, sources):
        try:
            with connection.transaction():
                _create(connection, view)
        except (
            errors.DependentObjectsStillExist,
            errors.UndefinedColumn,
            errors.UndefinedTable,
            errors.InsufficientPrivilege,
        ) as error:
            log.warning("view_not_made", view=view.name, reason=error.diag.message_primary)


def _create(connection: Connection, view: View) -> None:
    try:
        with connection.transaction():
            # Grants on it stay, and what depends on it.
            connection.execute(_defined(view))
    except errors.InvalidTableDefinition:
        readers = [one for one in views() if re.search(rf"\b{view.name}\b", one.query)]
        for one in (*readers, view):
            connection.execute(sql.SQL("DROP VIEW IF EXISTS {}").format(sql.Identifier(one.name)))
        for one in (view, *readers):
            connection.execute(_defined(one))


def _defined(view: View) -> sql.Composed:
    name = sql.Identifier(view.name)
    query = sql.SQL(view.query)
    parts = [
        sql.SQL("CREATE OR REPLACE VIEW {} AS ").format(name) + query,
        sql.SQL("COMMENT ON VIEW {} IS {}").format(
            name, sql.Literal(f"{view.comment} {view.mark}")
        ),
        *(
            sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                sql.Identifier(view.name, column), sql.Literal(text)
            )
            for column, text in view.columns.items()
        ),
    ]
    return sql.SQL("; ").join(parts)
