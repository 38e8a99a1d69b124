"""Connections to a real PostgreSQL."""

from temporaletl.warehouse.connection import Warehouse


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
