"""Connections to a real PostgreSQL."""

import uuid
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from temporaletl.errors import ConfigurationError
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import UnstorableTextError, Warehouse


def test_no_plan_outlives_the_table_it_was_made_for(warehouse: Warehouse) -> None:
    for _ in range(20):
        with warehouse.connection() as connection:
            connection.execute("SELECT count(*) FROM etl_jobs WHERE seq = %s", [1])
    with warehouse.connection() as connection:
        prepared = connection.execute("SELECT statement FROM pg_prepared_statements").fetchall()
    assert prepared == []


def test_unqualified_names_are_those_of_the_schema(warehouse: Warehouse) -> None:
    with warehouse.connection() as connection:
        assert connection.execute("SELECT current_schema()").fetchone() == (warehouse.schema,)


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SELECT %s", "a\0"),
        ("SELECT %s::jsonb", '"\\u0000"'),
        ("SELECT convert_from('\\x00', %s)", "utf8"),
    ],
)
def test_a_text_with_nul_has_an_error_of_its_own(
    warehouse: Warehouse, statement: LiteralString, text: str
) -> None:
    with pytest.raises(UnstorableTextError, match=r"U\+0000"), warehouse.connection() as connection:
        connection.execute(statement, [text])


def test_a_database_that_cannot_hold_all_texts_is_refused(postgres_url: str) -> None:
    name = sql.Identifier(f"ascii_{uuid.uuid4().hex[:8]}")
    make = "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(sql.SQL(make).format(name))
        try:
            url = make_conninfo(postgres_url, dbname=name.as_string().strip('"'))
            with pytest.raises(ConfigurationError, match=r"encoding SQL_ASCII, and .* needs UTF8"):
                Warehouse(WarehouseSettings.model_validate({"database_url": url})).check()
        finally:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
