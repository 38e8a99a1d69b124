"""Comments of tables and columns, as row classes declare them."""

from collections.abc import Iterator

from psycopg import sql

from temporaletl.rows import storable_text
from temporaletl.worker.loading.catalog import TableState
from temporaletl.worker.loading.columns import Layout


def comment_statements(
    schema: str, table: str, layout: Layout, *, present: TableState | None = None
) -> Iterator[sql.Composed]:
    """Statements that comment on a table and its columns, where `present` has other comments."""
    wanted = storable_text(layout.row.comment)
    if wanted and (present is None or present.comment != wanted):
        yield sql.SQL("COMMENT ON TABLE {} IS {}").format(
            sql.Identifier(schema, table), sql.Literal(wanted)
        )
    for column in layout.columns:
        stored = None if present is None else present.columns.get(column.name)
        known = present is None or stored is not None
        if column.comment and known and (stored is None or stored.comment != column.comment):
            yield sql.SQL("COMMENT ON COLUMN {} IS {}").format(
                sql.Identifier(schema, table, column.name), sql.Literal(column.comment)
            )
