"""database: one statement that reads, rows that are written once; on real PostgreSQL."""

from typing import Any

import psycopg
import pytest
from psycopg import sql

from temporaletl.errors import WarehouseUnavailableError
from temporaletl.secrets import REDACTED
from temporaletl.warehouse import pipeline_results
from temporaletl.worker.pipelines import runner
from temporaletl.worker.pipelines.databases import known_databases
from temporaletl.worker.pipelines.declared import find_surroundings
from temporaletl.worker.pipelines.faults import DefinitionError
from temporaletl.worker.pipelines.validation import validate
from tests.integration.pipelines.conftest import Pipelines, definition, mapping

pytestmark = pytest.mark.usefixtures("shop")


def query(statement: str, connection: str = "shop", **data: Any) -> dict[str, Any]:
    return node(connection=connection, operation="query", query=statement, **data)


def write(operation: str, table: str = "orders", connection: str = "till", **data: Any) -> Any:
    return node(connection=connection, operation=operation, table=table, rows="trigger", **data)


def node(**data: Any) -> dict[str, Any]:
    kind = {"retry": {"max_attempts": 1}, **data}
    return definition(
        {"db": ("database", kind), "told": mapping(why="inputs.message")}, "db -error-> told"
    )


async def why(pipelines: Pipelines, document: dict[str, Any], value: Any = None) -> str:
    summary = await pipelines.run(document, value)
    assert pipelines.states(summary)["db"] == "failed"
    told: str = pipelines.result(summary, "told")["why"]
    return told


async def test_a_query_gets_typed_parameters_and_gives_exact_values(pipelines: Pipelines) -> None:
    document = query(
        "SELECT %(n)s::bigint AS n, 1.10::numeric AS d, %(at)s::timestamptz AS at, "
        "7 = ANY (%(ids)s) AS among, %(o)s::jsonb AS o, NULL AS none, 'a%%' AS percent, "
        "'\\x00ff'::bytea AS raw, ARRAY[1.5] AS list, 'NaN'::float8 AS nan, %(text)s AS text",
        params={
            "n": "{{ trigger.n }}",
            "at": "{{ trigger.at }}",
            "ids": "{{ trigger.ids }}",
            "o": {"a": "{{ trigger.n }}"},
            "text": "{{ trigger.text }}",
        },
    )
    hostile = "'; DROP TABLE orders; --"

    summary = await pipelines.run(
        document, {"n": 5, "at": "2026-01-02T03:04:05+01:00", "ids": [7, 8], "text": hostile}
    )

    assert pipelines.result(summary, "db") == [
        {
            "n": 5,
            "d": "1.10",
            "at": "2026-01-02T02:04:05+00:00",
            "among": True,
            "o": {"a": 5},
            "none": None,
            "percent": "a%",
            "raw": "AP8=",
            "list": ["1.5"],
            "nan": "nan",
            "text": hostile,
        }
    ]


_WIDE = "[{str(i): 1 for i in range(1601)}]"
_WITHOUT_ROWS = ("COMMIT", "SET work_mem = '1MB'", "COPY orders TO STDOUT", "-- nothing")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (query("COMMIT; CREATE TABLE evil ()"), "multiple commands"),
        (query("COMMIT; CREATE TABLE evil ()", params={"a": 1}), "multiple commands"),
        (query("INSERT INTO orders VALUES (1)"), "read-only transaction"),
        (query("SELECT pg_sleep(5)"), "statement_timeout_seconds"),
        (query("SELECT 1", connection="root"), "by no superuser"),
        (query("SELECT pg_read_file('/etc/passwd')"), "permission denied"),
        (query("SELECT 'a%' LIKE %(a)s", params={"a": "x"}), "is written %%"),
        (query("SELECT 1 AS a, 2 AS a"), "two columns are called a"),
        (query("SELECT generate_series(1, 5) AS n", max_rows=4), "more rows than max_rows = 4"),
        *((query(text), "takes a statement that gives rows") for text in _WITHOUT_ROWS),
        (query("SELECT %s", params={"a": 1}), "parameters go by name"),
        (query("DO $$ BEGIN COMMIT; CREATE TABLE evil (); END $$"), "invalid transaction"),
        (query("SELECT set_config('transaction_read_only', 'off', true)"), "must be set before"),
        (
            node(connection="till", operation="insert", table="lines", rows=_WIDE),
            "rows[0] has 1,601 columns: no table has more than 1,600",
        ),
        (query("SELECT nope"), 'column "nope" does not exist'),
        (write("insert", "lines", "strict"), "CREATE TABLE pipeline_writes"),
    ],
)
async def test_what_a_database_node_may_not_do_is_refused(
    pipelines: Pipelines, shop: psycopg.Connection[Any], document: dict[str, Any], told: str
) -> None:
    assert told in await why(pipelines, document, [{"name": "x"}])

    [left] = shop.execute("SELECT to_regclass('evil'), (SELECT count(*) FROM orders)").fetchall()
    assert left == (None, 0)


async def test_rows_that_are_too_many_bytes_are_refused(pipelines: Pipelines) -> None:
    document = query("SELECT repeat('x', 200000) AS t FROM generate_series(1, 10)")

    assert "PIPELINE_LIST_MB" in await why(pipelines, document)


async def test_no_secret_of_a_parameter_or_a_connection_is_shown(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "canary-4712-of-the-shop"
    monkeypatch.setenv("PIPELINE_SECRET_SHOP", secret)
    params = {"key": '{{ secret("shop") }}'}

    summary = await pipelines.run(query("SELECT %(key)s::text AS key", params=params))
    failed = await why(pipelines, query("SELECT %(key)s::text::int", params=params))

    assert pipelines.result(summary, "db") == [{"key": REDACTED}]
    assert secret not in failed
    assert "swordfish" not in repr(known_databases())


@pytest.mark.parametrize(
    ("operation", "key", "expected"),
    [
        ("upsert", ["id"], [(1, 5, ["x"]), (2, 7, None)]),
        ("insert", ["id"], [(1, 1, None), (2, 7, None)]),
        ("update", ["id"], [(1, 5, ["x"])]),
    ],
)
async def test_rows_are_written_by_their_key(
    pipelines: Pipelines, shop: Any, operation: str, key: list[str], expected: list[Any]
) -> None:
    shop.execute("INSERT INTO orders (id, amount) VALUES (1, 1)")
    rows = [{"id": 1, "amount": 5, "tags": ["x"]}, {"id": 2, "amount": "7"}]

    summary = await pipelines.run(write(operation, key=key), rows)

    assert pipelines.result(summary, "db") == {"rows": 2}
    assert shop.execute("SELECT id, amount, tags FROM orders ORDER BY id").fetchall() == expected


async def test_an_insert_whose_record_was_lost_is_not_made_twice(
    pipelines: Pipelines, shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = pipeline_results.write_result
    lost: list[Any] = []

    def lose(*given: Any) -> Any:
        if given[2] == "db" and not lost:
            lost.append(given)
            raise WarehouseUnavailableError("the connection broke")
        return record(*given)

    monkeypatch.setattr(runner, "write_result", lose)
    summary = await pipelines.run(write("insert", "lines"), [{"name": "a"}, {"name": "b"}])

    assert lost
    assert pipelines.result(summary, "db") == {"rows": 2}
    assert shop.execute("SELECT name FROM lines ORDER BY name").fetchall() == [("a",), ("b",)]


@pytest.mark.parametrize("operation", ["upsert", "update"])
@pytest.mark.parametrize("column", ["100%", "%(c0)s", 'a"b', "%s %%"])
async def test_a_column_may_have_any_name(
    pipelines: Pipelines, shop: Any, operation: str, column: str
) -> None:
    name = sql.Identifier(column)
    shop.execute(sql.SQL("ALTER TABLE orders ADD COLUMN {} text").format(name))
    shop.execute("INSERT INTO orders (id) VALUES (1)")

    summary = await pipelines.run(write(operation, key=["id"]), [{"id": 1, column: "x"}])

    assert summary.error is None
    assert shop.execute(sql.SQL("SELECT {} FROM orders").format(name)).fetchall() == [("x",)]


async def test_one_bad_row_leaves_nothing_written(pipelines: Pipelines, shop: Any) -> None:
    rows = [{"id": 1, "amount": 1}, {"id": 2, "amount": "much"}]

    assert "invalid input syntax" in await why(pipelines, write("upsert", key=["id"]), rows)
    assert shop.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (query("SELECT 1", connection="nope"), "no database is called nope"),
        (write("upsert", connection="shop", key=["id"]), "shop may be read alone"),
    ],
)
def test_names_of_databases_are_validated(document: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        validate(document, find_surroundings())
