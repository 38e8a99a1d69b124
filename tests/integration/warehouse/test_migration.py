import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from threading import Barrier

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from temporaletl.errors import ConfigurationError, CredentialsError, WarehouseUnavailableError
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import create_schema, migrate
from tests.integration.warehouse.batches import rows

ALL = sorted(
    entry.name
    for entry in (files("temporaletl.warehouse") / "migrations").iterdir()
    if entry.name.endswith(".sql")
)


@pytest.fixture
def schema(postgres_url: str) -> Iterator[str]:
    """The name of a schema that does not exist yet, and goes with the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def opened(url: str, schema: str, **other: str) -> Warehouse:
    """A warehouse in that schema; `other` replaces parts of the connection string."""
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    conninfo = make_conninfo(**{**parts, **other})
    return Warehouse(
        WarehouseSettings.model_validate({"database_url": conninfo, "schema_name": schema})
    ).open()


@pytest.fixture
def clerk(postgres_url: str, schema: str) -> Iterator[str]:
    """A role that owns nothing and may create nothing."""
    role = f"clerk_{schema}"
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    yield role
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(role)))
        connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def grant(url: str, what: str, schema: str, role: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            sql.SQL(what).format(schema=sql.Identifier(schema), role=sql.Identifier(role))
        )


def test_a_schema_that_is_created_at_once_lacks_nothing(postgres_url: str, schema: str) -> None:
    columns = """
        SELECT table_name, column_name, data_type, column_default, is_nullable
        FROM information_schema.columns WHERE table_schema = current_schema ORDER BY 1, 2
    """
    other = f"{schema}_at_once"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        create_schema(connection, other)
    try:
        with opened(postgres_url, schema) as migrated, opened(postgres_url, other) as created:
            migrate(migrated)
            assert migrate(created) == []
            assert rows(created, columns) == rows(migrated, columns) != []
    finally:
        with psycopg.connect(postgres_url) as connection:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(other)))


def test_an_empty_database_gets_every_migration_and_a_second_time_none(
    postgres_url: str, schema: str
) -> None:
    with opened(postgres_url, schema) as warehouse:
        assert migrate(warehouse) == ALL
        assert migrate(warehouse) == []
        assert rows(warehouse, "SELECT name FROM etl_migrations ORDER BY name") == [
            (name,) for name in ALL
        ]


def test_a_schema_with_an_odd_name_is_migrated_like_any_other(postgres_url: str) -> None:
    name = f'Odd "{uuid.uuid4().hex[:6]}", %s'
    with opened(postgres_url, name) as warehouse:
        try:
            assert migrate(warehouse) == ALL
            assert migrate(warehouse) == []
        finally:
            with warehouse.connection() as connection:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))


def test_many_processes_migrate_at_once_and_each_migration_is_applied_once(
    postgres_url: str, schema: str
) -> None:
    start = Barrier(8)

    def one(_number: int) -> list[str]:
        with opened(postgres_url, schema) as warehouse:
            warehouse.check()
            start.wait(timeout=120)
            return migrate(warehouse)

    with ThreadPoolExecutor(8) as threads:
        applied = [name for names in threads.map(one, range(8)) for name in names]
    assert sorted(applied) == ALL


def test_a_failed_migration_leaves_nothing_behind(
    postgres_url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "temporaletl.warehouse.migration._read",
        lambda _name: b"CREATE TABLE half (a int); CREATE TABLE half (a int)",
    )
    with opened(postgres_url, schema) as warehouse:
        with pytest.raises(psycopg.errors.DuplicateTable):
            migrate(warehouse)
        assert rows(warehouse, "SELECT FROM pg_namespace WHERE nspname = %s", schema) == []
        monkeypatch.undo()
        assert migrate(warehouse) == ALL


def test_a_user_who_may_not_create_the_schema_is_told_what_to_grant(
    postgres_url: str, schema: str, clerk: str
) -> None:
    with (
        opened(postgres_url, schema, user=clerk) as warehouse,
        pytest.raises(CredentialsError) as refused,
    ):
        migrate(warehouse)
    assert "\n" not in str(refused.value)
    assert f"GRANT CREATE ON DATABASE warehouse TO {clerk}" in str(refused.value)


def test_a_user_who_may_not_create_in_the_schema_is_told_what_to_grant(
    postgres_url: str, schema: str, clerk: str
) -> None:
    grant(postgres_url, "CREATE SCHEMA {schema}", schema, clerk)
    grant(postgres_url, "GRANT USAGE ON SCHEMA {schema} TO {role}", schema, clerk)
    with (
        opened(postgres_url, schema, user=clerk) as warehouse,
        pytest.raises(CredentialsError, match=f"GRANT CREATE ON SCHEMA {schema} TO {clerk}"),
    ):
        migrate(warehouse)


def test_create_on_the_schema_is_enough_where_it_exists(
    postgres_url: str, schema: str, clerk: str
) -> None:
    grant(postgres_url, "CREATE SCHEMA {schema}", schema, clerk)
    grant(postgres_url, "GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}", schema, clerk)
    with opened(postgres_url, schema, user=clerk) as warehouse:
        assert migrate(warehouse) == ALL


def test_create_is_not_needed_while_nothing_is_missing(
    postgres_url: str, schema: str, clerk: str
) -> None:
    with opened(postgres_url, schema) as warehouse:
        migrate(warehouse)
    grant(postgres_url, "GRANT USAGE ON SCHEMA {schema} TO {role}", schema, clerk)
    grant(postgres_url, "GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}", schema, clerk)
    with opened(postgres_url, schema, user=clerk) as warehouse:
        assert migrate(warehouse) == []


@pytest.mark.parametrize(
    ("other", "kind", "told"),
    [
        ({"dbname": "no_such"}, ConfigurationError, 'database "no_such" does not exist'),
        ({"user": "no_such"}, CredentialsError, 'role "no_such" does not exist'),
        ({"host": "127.0.0.1", "port": "1"}, WarehouseUnavailableError, "Connection refused"),
    ],
)
def test_a_warehouse_that_cannot_be_had_is_told_in_one_line(
    postgres_url: str, other: dict[str, str], kind: type[Exception], told: str
) -> None:
    with opened(postgres_url, "any", **other) as warehouse, pytest.raises(kind, match=told) as bad:
        warehouse.check()
    assert "\n" not in str(bad.value)
