"""All that a warehouse holds, as texts in which a secret would be found."""

import re
import zlib
from contextlib import suppress

from psycopg import sql

from temporaletl.warehouse.connection import Warehouse
from tests.integration.engine.running import select

_BYTES = re.compile(r'"\\\\x((?:[0-9a-f]{2})+)"')


def stored(warehouse: Warehouse) -> dict[str, str]:
    """The rows of all tables by their names; what is compressed is legible, too."""
    tables = select(
        warehouse,
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = current_schema()::regnamespace",
    )
    with warehouse.connection() as connection:
        return {
            name: "\n".join(
                _BYTES.sub(_legible, str(text))
                for (text,) in connection.execute(
                    sql.SQL("SELECT to_jsonb(t)::text FROM {} AS t").format(sql.Identifier(name))
                ).fetchall()
            )
            for (name,) in tables
        }


def _legible(found: re.Match[str]) -> str:
    body = bytes.fromhex(found[1])
    with suppress(zlib.error):  # what is stored as it is, or encrypted
        body = zlib.decompress(body)
    return body.decode("utf-8", "replace")
