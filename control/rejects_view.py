"""`etl rejects list`: the records that could not become rows."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from control.output import add_row, make_table, note, print_json, print_table, say
from control.servers import open_warehouse, prepare
from control.sources import find_source
from temporaletl.warehouse.connection import Warehouse

_COLUMNS = (
    "reject_id", "source", "stream", "stage", "key", "reason", "payload", "times", "first_seen",
    "last_seen", "batch_id", "job_id", "workflow_id", "run_id",
)  # fmt: skip


def print_rejects(source: str, streams: Sequence[str], limit: int, *, as_json: bool) -> None:
    """Print the latest rejects of a source."""
    prepare()
    with open_warehouse() as warehouse:
        found, total = _read(warehouse, source, streams, limit)
    if not found:
        find_source(source)  # a misspelt source has no rejects either
    if as_json:
        print_json(found)
        return
    if not found:
        say(f"no rejects of {source}")
        return
    table = make_table(
        "id", "stream", "stage", "record", "reason", "times", "last seen", right=("id", "times")
    )
    for each in found:
        add_row(
            table,
            str(each["reject_id"]),
            each["stream"],
            each["stage"],
            each["key"],
            each["reason"],
            each["times"],
            datetime.fromisoformat(each["last_seen"]),
        )
    print_table(table)
    if total > len(found):
        note(f"and {total - len(found):,} more (--limit)", style="dim")


def _read(
    warehouse: Warehouse, source: str, streams: Sequence[str], limit: int
) -> tuple[list[dict[str, Any]], int]:
    asked = {"source": source, "streams": list(streams) or None, "limit": limit}
    where = "source = %(source)s AND (%(streams)s::text[] IS NULL OR stream = ANY (%(streams)s))"
    with warehouse.connection() as connection:
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM etl_rejects WHERE {where} "  # noqa: S608 - constants
            "ORDER BY last_seen DESC, reject_id DESC LIMIT %(limit)s",
            asked,
        ).fetchall()
        total = connection.execute(
            f"SELECT count(*) FROM etl_rejects WHERE {where}",  # noqa: S608 - constants
            asked,
        ).fetchone()
    assert total is not None  # noqa: S101 - an aggregate always has a row
    documents = [dict(zip(_COLUMNS, map(_plain, row), strict=True)) for row in rows]
    return documents, int(str(total[0]))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
