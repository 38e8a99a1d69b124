"""The stored rows of each source, compared in PostgreSQL."""

from collections.abc import Callable, Mapping
from typing import Any

#: Runs a statement; its rows.
type Query = Callable[[str], list[tuple[Any, ...]]]

TABLES: Mapping[str, tuple[str, ...]] = {
    "jira": ("jira_events",),
    "launchpad": ("launchpad_events",),
    "salesforce": ("salesforce_events", "etl_identities"),
    "servicetitan": ("st_customers", "st_jobs", "st_invoices", "st_estimates"),
    "temporal": ("temporal_workflows",),
    "trino": ("trino_events",),
}
_LINEAGE = (
    "job_id", "workflow_id", "run_id", "extracted_at", "fetched_at", "loaded_at", "updated_at",
    # The identities that a run's planning enters are not hashed.
    "row_hash",
)  # fmt: skip


def part_of(table: str, source: str, schema: str = "workplace") -> str:
    """What to read a source's rows from: all sources share the identities."""
    where = f" WHERE source_kind_id = '{source}'" if table == "etl_identities" else ""
    return f"{schema}.{table}{where}"


def content_columns(query: Query, table: str) -> list[str]:
    """The columns of a table that tell nothing of the run which wrote the row."""
    found = query(
        "SELECT attname FROM pg_attribute "
        f"WHERE attrelid = 'workplace.{table}'::regclass AND attnum > 0 AND NOT attisdropped"
    )
    return [name for (name,) in found if name.removeprefix("etl_") not in _LINEAGE]


def differences(query: Query, columns: str, now: str, then: str) -> list[tuple[object, ...]]:
    """A few of the rows that are too much, or missing, in the first of two tables."""
    ours, theirs = f"SELECT {columns} FROM {now}", f"SELECT {columns} FROM {then}"
    return [
        (side, *row)
        for side, first, second in (("too much", ours, theirs), ("missing", theirs, ours))
        for row in query(f"{first} EXCEPT ALL {second} LIMIT 3")
    ]
