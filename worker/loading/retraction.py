"""Deletes events that a source no longer shows, where it was seen to show all there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from temporaletl.errors import SourceProtocolError
from temporaletl.rows import Census, Event, Row, Whole
from temporaletl.warehouse.connection import Connection
from worker.loading.columns import PARTITION_KEY
from worker.loading.schema import Target

# The ids are in the index's order, bytes by bytes, so that a prefix is a range of them. Planned
# each time: a long list of what is kept is then searched by hash.
_DELETE = """
    DELETE FROM {target} AS t
    USING unnest(%(prefixes)s::text[], %(ends)s::text[]) AS w (prefix, past)
    WHERE t.{partition} = %(source)s AND t.event_id >= w.prefix AND t.event_id < w.past
      AND NOT t.event_id = ANY (%(kept)s::text[])
      AND (t.{extracted_at} IS NULL OR t.{extracted_at} <= %(extracted_at)s)
"""
# One look into the index for each item: from the first of its events behind those of the last.
_ITEMS = """
    WITH RECURSIVE items (item) AS (
        (SELECT split_part(event_id, ':', 1) FROM {target}
         WHERE {partition} = %(source)s ORDER BY event_id LIMIT 1)
        UNION ALL
        SELECT (SELECT split_part(t.event_id, ':', 1) FROM {target} AS t
                WHERE t.{partition} = %(source)s AND t.event_id >= items.item || ';'
                ORDER BY t.event_id LIMIT 1)
        FROM items WHERE items.item IS NOT NULL
    )
    SELECT item FROM items WHERE item IS NOT NULL
"""
#: So few may be gone whatever their share is.
_FEW_ITEMS = 10


@dataclass(frozen=True, slots=True)
class Retraction:
    """Deletes from one table, in the caller's transaction; safe to repeat.

    What is newer than `extracted_at` stays.
    """

    connection: Connection
    target: Target
    source: str
    extracted_at: datetime

    def apply_wholes(self, wholes: Sequence[Whole], rows: Sequence[Row]) -> int:
        """Delete the events that a `Whole` covers and the page lacks; return their number."""
        kept = [row.event_id for row in rows if isinstance(row, Event)]
        return self._delete({whole.prefix for whole in wholes}, kept)

    def apply_census(self, census: Census) -> int:
        """Delete the events of items that are gone; return their number.

        Raises:
            SourceProtocolError: too many items would be gone; nothing is deleted.
        """
        found = self.connection.execute(self._compose(_ITEMS), {"source": self.source})
        stored = {str(item) for (item,) in found}
        gone = stored - census.items
        if len(gone) > max(_FEW_ITEMS, census.most_gone * len(stored)):
            raise SourceProtocolError(
                f"{self.source} shows {len(census.items):,} items, and {len(gone):,} of the "
                f"{len(stored):,} that are loaded would be gone: were permissions taken away, or "
                "a filter narrowed? If they are gone indeed, run once with --param "
                "accept_deletions=true"
            )
        return self._delete({f"{item}:" for item in gone}, [])

    def _delete(self, prefixes: set[str], kept: Sequence[str]) -> int:
        if not prefixes:
            return 0
        ordered = sorted(prefixes)
        values = {
            "source": self.source,
            "prefixes": ordered,
            "ends": [_past(prefix) for prefix in ordered],
            "kept": kept,
            "extracted_at": self.extracted_at,
        }
        deleted = self.connection.execute(self._compose(_DELETE), values, prepare=False)
        return deleted.rowcount

    def _compose(self, statement: str) -> sql.Composed:
        # The statements take parameters: a percent sign in a name must be doubled.
        names = (self.target.schema, self.target.name)
        return sql.SQL(statement).format(
            target=sql.Identifier(*(name.replace("%", "%%") for name in names)),
            partition=sql.Identifier(PARTITION_KEY),
            extracted_at=sql.Identifier(self.target.layout.ours["extracted_at"]),
        )


def _past(prefix: str) -> str:
    """The first text behind all that begin with the prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
