"""Tables follow the row classes; nothing is dropped or narrowed, and conflicts are explained."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from temporaletl.errors import ConfigurationError, CredentialsError, SchemaConflictError
from temporaletl.rows import Event, Json, Row
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import catalog
from tests.integration.loading.jobs import Job, counts, execute, fetch, make_event


class Sale(Row, frozen=True, kw_only=True, gc=False):
    table: ClassVar[str] = "sales"
    key: ClassVar[tuple[str, ...]] = ("sale_id",)

    sale_id: str
    amount: int | None = None


class LongerSale(Sale, frozen=True, kw_only=True, gc=False):
    note: str = ""
    extra: Json | None = None


class DatedSale(Sale, frozen=True, kw_only=True, gc=False):
    loaded_at: datetime | None = None
    etl_loaded_at: datetime | None = None


class WiderEvent(Event, frozen=True, kw_only=True, gc=False):
    severity: int | None = None


def columns(warehouse: Warehouse, table: str) -> dict[str, str]:
    found = fetch(
        warehouse,
        "SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
        "WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        table,
    )
    return {row["attname"]: row["type"] for row in found}


@pytest.fixture
def limited(warehouse: Warehouse, postgres_url: str) -> Iterator[Warehouse]:
    """The same schema for a user who may read and write tables, but create none."""
    user = sql.Identifier(role := f"limited_{warehouse.schema}")
    schema = sql.Identifier(warehouse.schema)
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        for statement in (
            "CREATE ROLE {user} LOGIN PASSWORD 'limited'",
            "GRANT USAGE ON SCHEMA {schema} TO {user}",
            "GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {user}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT ALL ON TABLES TO {user}",
        ):
            admin.execute(sql.SQL(statement).format(user=user, schema=schema))
        settings = WarehouseSettings.model_validate(
            {
                "database_url": make_conninfo(postgres_url, user=role, password="limited"),
                "schema_name": warehouse.schema,
            }
        )
        with Warehouse(settings) as opened:
            yield opened
        admin.execute(sql.SQL("DROP OWNED BY {user}").format(user=user))
        admin.execute(sql.SQL("DROP ROLE {user}").format(user=user))


def test_a_partition_is_made_for_a_source_of_any_name(warehouse: Warehouse) -> None:
    for source in ("jira", 'My "own" source; --', "ünïcode", "it's", "back\\slash", "100%s"):
        job = Job(warehouse, source=source)
        assert counts(job.load(make_event(1))) == (1, 0, 0, 0)
        again = Job(warehouse, source=source)
        assert counts(again.load(make_event(1), make_event(2))) == (1, 0, 1, 0)
        found = fetch(
            warehouse,
            "SELECT count(*) AS n, min(tableoid::regclass::text) AS name FROM events "
            "WHERE source_kind_id = %s",
            source,
        )
        quoted = sql.Identifier(f"{source}_events").as_string(None)
        assert found[0]["n"] == 2
        assert found[0]["name"].strip('"') == quoted.strip('"')


def test_a_source_whose_table_name_would_be_cut_is_refused(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigurationError, match="longer than 63 bytes"):
        Job(warehouse, source="s" * 57).loader.prepare()


def test_the_key_has_an_index_that_answers_alone(warehouse: Warehouse) -> None:
    Job(warehouse).loader.prepare()
    found = fetch(warehouse, "SELECT indexdef FROM pg_indexes WHERE tablename = 'jira_events'")
    [unique] = [row["indexdef"] for row in found if "UNIQUE" in row["indexdef"]]
    assert "(source_kind_id, connection, event_id) INCLUDE (row_hash)" in unique
    collations = fetch(
        warehouse,
        "SELECT collation_name FROM information_schema.columns WHERE table_name = 'jira_events' "
        "AND table_schema = %s AND column_name IN ('source_kind_id', 'event_id')",
        warehouse.schema,
    )
    assert [row["collation_name"] for row in collations] == ["C", "C"]


def test_a_new_field_becomes_a_new_column(warehouse: Warehouse) -> None:
    Job(warehouse, rows=[Sale]).load(Sale(sale_id="1", amount=5))
    job = Job(warehouse, rows=[LongerSale])
    assert counts(job.load(LongerSale(sale_id="1", amount=5, note="x", extra=[1]))) == (0, 1, 0, 0)
    assert columns(warehouse, "sales")["note"] == "text"
    assert columns(warehouse, "sales")["extra"] == "jsonb"
    # A worker of the version before still loads; what it does not know stays.
    old = Job(warehouse, rows=[Sale])
    assert counts(old.load(Sale(sale_id="1", amount=6), Sale(sale_id="2"))) == (1, 1, 0, 0)
    found = fetch(warehouse, "SELECT sale_id, amount, note FROM sales ORDER BY 1")
    assert found == [
        {"sale_id": "1", "amount": 6, "note": "x"},
        {"sale_id": "2", "amount": None, "note": None},
    ]


def test_a_new_field_of_an_event_reaches_every_partition(warehouse: Warehouse) -> None:
    Job(warehouse, source="launchpad").load(make_event(1))
    wider = WiderEvent(
        event_id="w", event_type="t", event_time_utc=make_event(1).event_time_utc, severity=3
    )
    assert counts(Job(warehouse, rows=[WiderEvent]).load(wider)) == (1, 0, 0, 0)
    assert columns(warehouse, "launchpad_events")["severity"] == "bigint"
    assert counts(Job(warehouse, source="launchpad").load(make_event(1))) == (0, 0, 1, 0)


def test_nothing_is_created_where_all_is_there(limited: Warehouse, warehouse: Warehouse) -> None:
    Job(warehouse, rows=[Event, Sale]).loader.prepare()
    progress = Job(limited, rows=[Event, Sale]).load(make_event(1), Sale(sale_id="1"))
    assert counts(progress) == (2, 0, 0, 0)


def test_a_user_without_create_is_told_what_to_grant(limited: Warehouse) -> None:
    with pytest.raises(CredentialsError, match=f"GRANT CREATE ON SCHEMA {limited.schema} TO"):
        Job(limited).loader.prepare()


def test_a_user_who_does_not_own_the_table_is_told_what_to_run(
    limited: Warehouse, warehouse: Warehouse
) -> None:
    Job(warehouse, rows=[Sale]).loader.prepare()
    with pytest.raises(CredentialsError, match='ADD COLUMN "note" text'):
        Job(limited, rows=[LongerSale]).loader.prepare()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE sales ALTER COLUMN amount TYPE integer", "sales.amount is integer"),
        ("ALTER TABLE sales ALTER COLUMN amount TYPE text", "ALTER COLUMN amount TYPE bigint"),
        ("ALTER TABLE sales ADD COLUMN shop text NOT NULL", "sales.shop may not be null"),
        ("DROP TABLE sales; CREATE VIEW sales AS SELECT '1' AS sale_id", "is no table"),
        (
            "ALTER TABLE sales DROP amount, ADD amount bigint GENERATED ALWAYS AS (1) STORED",
            "generated bigint",
        ),
    ],
)
def test_a_table_that_cannot_hold_the_rows_is_refused_before_any_is_written(
    warehouse: Warehouse, statement: Any, words: str
) -> None:
    Job(warehouse, rows=[Sale]).loader.prepare()
    with warehouse.connection() as connection:
        connection.execute(statement)
    with pytest.raises(SchemaConflictError, match=words):
        Job(warehouse, rows=[Sale]).load(Sale(sale_id="1", amount=1))
    assert fetch(warehouse, "SELECT 1 FROM etl_pages") == []


def test_fields_called_as_columns_of_the_platform_are_kept_apart_or_refused(
    warehouse: Warehouse,
) -> None:
    sale = DatedSale(sale_id="1", loaded_at=(day := datetime(2026, 1, 1, tzinfo=UTC)))
    Job(warehouse, rows=[DatedSale]).load(sale)
    assert fetch(
        warehouse,
        "SELECT loaded_at, etl_loaded_at, etl_etl_loaded_at > loaded_at AS ours FROM sales",
    ) == [{"loaded_at": day, "etl_loaded_at": None, "ours": True}]
    execute(warehouse, "DROP TABLE sales")
    Job(warehouse, rows=[Sale]).loader.prepare()
    with pytest.raises(SchemaConflictError, match=r"sales\.loaded_at is the platform's"):
        Job(warehouse, rows=[DatedSale]).load(sale)


def test_a_plain_events_table_is_refused(warehouse: Warehouse) -> None:
    execute(warehouse, "CREATE TABLE events (event_id text)")
    with pytest.raises(SchemaConflictError, match="not partitioned by list"):
        Job(warehouse).loader.prepare()


def test_a_table_in_the_partitions_place_is_refused(warehouse: Warehouse) -> None:
    execute(warehouse, "CREATE TABLE jira_events (event_id text)")
    with pytest.raises(SchemaConflictError, match="is no partition of events"):
        Job(warehouse).loader.prepare()


def test_a_partition_of_another_name_is_used(warehouse: Warehouse) -> None:
    Job(warehouse, source="launchpad").loader.prepare()
    execute(warehouse, "CREATE TABLE mine PARTITION OF events FOR VALUES IN ('jira')")
    assert counts(Job(warehouse).load(make_event(1))) == (1, 0, 0, 0)
    assert len(fetch(warehouse, "SELECT 1 FROM mine")) == 1


def test_a_table_without_the_keys_index_gets_one(warehouse: Warehouse) -> None:
    execute(warehouse, "CREATE TABLE sales (sale_id text, amount bigint, shop text)")
    execute(warehouse, "INSERT INTO sales VALUES ('1', 5, 'north')")
    # What was there without a hash counts as changed, once.
    progress = Job(warehouse, rows=[Sale]).load(Sale(sale_id="1", amount=5), Sale(sale_id="2"))
    assert counts(progress) == (1, 1, 0, 0)
    found = fetch(warehouse, "SELECT sale_id, shop, loaded_at FROM sales ORDER BY 1")
    assert found[0]["shop"] == "north"


def test_a_table_whose_keys_repeat_is_refused(warehouse: Warehouse) -> None:
    execute(warehouse, "CREATE TABLE sales (sale_id text, amount bigint)")
    execute(warehouse, "INSERT INTO sales VALUES ('1', 5), ('1', 6)")
    with pytest.raises(SchemaConflictError, match="sale_id"):
        Job(warehouse, rows=[Sale]).loader.prepare()


def test_a_table_changed_under_a_running_job_is_noticed(warehouse: Warehouse) -> None:
    job = Job(warehouse, rows=[Sale])
    job.load(Sale(sale_id="1", amount=1))
    execute(warehouse, "ALTER TABLE sales DROP COLUMN amount")
    assert counts(job.load(Sale(sale_id="2", amount=2))) == (2, 0, 0, 0)
    assert columns(warehouse, "sales")["amount"] == "bigint"
    execute(warehouse, "DROP TABLE sales")
    assert counts(job.load(Sale(sale_id="3", amount=3))) == (3, 0, 0, 0)
    execute(warehouse, "ALTER TABLE sales ALTER COLUMN amount TYPE integer")
    with pytest.raises(SchemaConflictError, match=r"sales\.amount is integer"):
        job.load(Sale(sale_id="4", amount=4))
    assert counts(Job(warehouse).load()) == (0, 0, 0, 0)
    assert fetch(warehouse, "SELECT sale_id FROM sales") == [{"sale_id": "3"}]


def test_tables_are_prepared_once_for_a_batch_until_one_of_its_jobs_brings_a_row(
    warehouse: Warehouse,
) -> None:
    first, second = (Job(warehouse, rows=[Sale], batch="one") for _ in range(2))
    first.loader.prepare_for_batch()
    execute(warehouse, "DROP TABLE sales")
    second.loader.prepare_for_batch()
    assert counts(second.load()) == (0, 0, 0, 0)
    assert columns(warehouse, "sales") == {}
    assert counts(second.load(Sale(sale_id="1"))) == (1, 0, 0, 0)
    execute(warehouse, "ALTER TABLE sales ALTER COLUMN amount TYPE integer")
    with pytest.raises(SchemaConflictError):
        Job(warehouse, rows=[Sale], batch="next").loader.prepare_for_batch()


def test_varchar_takes_text_and_refuses_what_is_too_long(warehouse: Warehouse) -> None:
    execute(warehouse, "CREATE TABLE sales (sale_id varchar(3) PRIMARY KEY, amount bigint)")
    progress = Job(warehouse, rows=[Sale]).load(Sale(sale_id="123"), Sale(sale_id="1234"))
    assert counts(progress) == (1, 0, 0, 1)


def test_a_partition_that_another_process_creates_meanwhile_is_no_conflict(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = catalog._check_unattached
    others: list[Job] = []

    def check_late(*arguments: Any) -> None:
        if not others:
            others.append(Job(warehouse))
            others[0].loader.prepare()
        check(*arguments)

    monkeypatch.setattr(catalog, "_check_unattached", check_late)
    job = Job(warehouse)
    job.loader.prepare()
    assert counts(job.load(make_event())) == (1, 0, 0, 0)
