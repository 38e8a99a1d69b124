"""Stored pipelines: immutable versions by their content, and the one that is the latest.

Every function runs in one short transaction of its own and is safe to repeat.
"""

from datetime import datetime
from typing import Any, NamedTuple

from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.errors import NotFoundError
from temporaletl.messages import Message
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.connection import Warehouse


class StoredVersion(Message):
    """A version of a stored pipeline; versions are numbered from 1."""

    pipeline: str
    sha256: str
    number: int
    document: dict[str, JsonValue]
    created_by: str | None
    created_at: datetime
    latest: bool


class PipelineEntry(NamedTuple):
    """A stored pipeline in a list."""

    name: str
    sha256: str
    number: int
    nodes: int
    updated_at: datetime
    executions: int
    last_state: str | None
    last_at: datetime | None


_VERSION = """
    SELECT v.pipeline, v.sha256, v.number, v.document, v.created_by, v.created_at,
           p.latest = v.sha256 AS latest
    FROM pipeline_versions v JOIN pipelines p ON p.name = v.pipeline
"""


def store_version(
    warehouse: Warehouse,
    name: str,
    sha256: str,
    document: dict[str, JsonValue],
    *,
    created_by: str | None,
    author: Author | None = None,
) -> StoredVersion:
    """Store a definition as the latest version of a pipeline; with an `author`, audited.

    One whose content is known becomes the latest again, and keeps its number; its layout is
    replaced.
    """
    with warehouse.connection() as connection:
        connection.execute(
            """
            INSERT INTO pipelines (name, latest) VALUES (%(name)s, %(sha256)s)
            ON CONFLICT (name) DO UPDATE SET latest = excluded.latest,
                updated_at = clock_timestamp()
            """,
            {"name": name, "sha256": sha256},
        )
        # The row of the pipeline is held: two versions never have one number.
        connection.execute(
            """
            INSERT INTO pipeline_versions (pipeline, sha256, number, document, created_by)
            VALUES (%(name)s, %(sha256)s,
                (SELECT coalesce(max(number), 0) + 1 FROM pipeline_versions
                 WHERE pipeline = %(name)s), %(document)s, %(created_by)s)
            ON CONFLICT (pipeline, sha256) DO UPDATE SET document = excluded.document
            """,
            {
                "name": name,
                "sha256": sha256,
                "document": Jsonb(document),
                "created_by": created_by,
            },
        )
        if author is not None:
            record(connection, author, "pipeline.store", name, details={"version": sha256})
    return find_version(warehouse, name, sha256)


def find_version(warehouse: Warehouse, name: str, version: str | None = None) -> StoredVersion:
    """A version of a pipeline: by its number, by its hash or the beginning of it, or the latest.

    Raises:
        NotFoundError: there is none, or several hashes begin so.
    """
    with warehouse.connection() as connection:
        found = (
            connection.cursor(row_factory=class_row(StoredVersion))
            .execute(
                _VERSION
                + """
                WHERE v.pipeline = %(name)s
                  AND CASE WHEN %(version)s::text IS NULL THEN p.latest = v.sha256
                      ELSE v.number::text = %(version)s
                        OR (length(%(version)s) >= 7 AND starts_with(v.sha256, %(version)s)) END
                """,
                {"name": name, "version": version},
            )
            .fetchall()
        )
    if len(found) == 1:
        return found[0]
    if version is None:
        raise NotFoundError(f"there is no pipeline {name!r}")
    which = "several versions" if found else "no version"
    raise NotFoundError(f"pipeline {name!r} has {which} {version!r}")


def list_versions(warehouse: Warehouse, name: str) -> list[StoredVersion]:
    """The versions of a pipeline, the newest first.

    Raises:
        NotFoundError: there is no such pipeline.
    """
    with warehouse.connection() as connection:
        found = (
            connection.cursor(row_factory=class_row(StoredVersion))
            .execute(_VERSION + "WHERE v.pipeline = %s ORDER BY v.number DESC", [name])
            .fetchall()
        )
    if not found:
        raise NotFoundError(f"there is no pipeline {name!r}")
    return found


def list_pipelines(warehouse: Warehouse) -> list[PipelineEntry]:
    """Every stored pipeline, by name, with its last execution."""
    with warehouse.connection() as connection:
        return (
            connection.cursor(row_factory=class_row(PipelineEntry))
            .execute(
                """
                SELECT p.name, v.sha256, v.number,
                       jsonb_array_length(v.document -> 'nodes') AS nodes, p.updated_at,
                       coalesce(e.executions, 0) AS executions, l.state AS last_state,
                       l.created_at AS last_at
                FROM pipelines p
                JOIN pipeline_versions v ON v.pipeline = p.name AND v.sha256 = p.latest
                LEFT JOIN LATERAL (SELECT count(*) AS executions FROM pipeline_executions
                    WHERE pipeline = p.name) e ON true
                LEFT JOIN LATERAL (SELECT state, created_at FROM pipeline_executions
                    WHERE pipeline = p.name ORDER BY created_at DESC LIMIT 1) l ON true
                ORDER BY p.name
                """
            )
            .fetchall()
        )


def delete_pipeline(warehouse: Warehouse, name: str, *, author: Author | None = None) -> None:
    """Delete a pipeline with its versions; its executions stay. With an `author`, audited.

    Raises:
        NotFoundError: there is no such pipeline.
    """
    with warehouse.connection() as connection:
        if connection.execute("DELETE FROM pipelines WHERE name = %s", [name]).rowcount != 1:
            raise NotFoundError(f"there is no pipeline {name!r}")
        if author is not None:
            record(connection, author, "pipeline.delete", name)


def signing_secrets(warehouse: Warehouse) -> dict[str, tuple[str, ...]]:
    """The names of the secrets that sign the webhooks of stored pipelines which take some."""
    with warehouse.connection() as connection:
        found: list[dict[str, Any]] = (
            connection.cursor(row_factory=dict_row)
            .execute(
                """
                SELECT p.name, v.document #> '{webhook,signing_secrets}' AS secrets
                FROM pipelines p
                JOIN pipeline_versions v ON v.pipeline = p.name AND v.sha256 = p.latest
                WHERE v.document #> '{webhook,signing_secrets}' IS NOT NULL
                """
            )
            .fetchall()
        )
    return {row["name"]: tuple(row["secrets"]) for row in found}


def loaded_tables(warehouse: Warehouse, *, besides: str | None) -> dict[str, tuple[str, ...]]:
    """The keys of the tables that stored pipelines load, those of `besides` left out."""
    with warehouse.connection() as connection:
        found: list[dict[str, Any]] = (
            connection.cursor(row_factory=dict_row)
            .execute(
                """
                SELECT node #>> '{data,table}' AS name, node #> '{data,key}' AS key
                FROM pipelines p
                JOIN pipeline_versions v ON v.pipeline = p.name AND v.sha256 = p.latest,
                jsonb_array_elements(v.document -> 'nodes') AS node
                WHERE node ->> 'type' = 'load' AND p.name IS DISTINCT FROM %s
                """,
                [besides],
            )
            .fetchall()
        )
    return {row["name"]: tuple(row["key"]) for row in found}
