"""Nodes that are runs of sources: rows are loaded exactly once, with their books."""

from typing import Any

import pytest

from temporaletl import names
from temporaletl.messages import QueuerInput
from temporaletl.warehouse.rejects import read_rejects
from tests.integration.pipelines.conftest import Pipelines, definition, mapping

COLUMNS = {"id": "integer", "name": "text", "amount": "decimal", "at": "timestamp", "more": "json"}


def load(rows: str, **data: Any) -> tuple[str, dict[str, Any]]:
    return "load", {"table": "orders", "key": ["id"], "columns": COLUMNS, "rows": rows, **data}


def orders(*ids: int | None, **changed: Any) -> list[dict[str, Any]]:
    row = {"name": "null", "amount": "1.50", "at": "2026-01-01T00:00:00", "more": {"a": [1]}}
    return [{"id": id_, **row, **changed} for id_ in ids]


async def test_rows_are_loaded_and_counted_and_loaded_again_change_nothing(
    pipelines: Pipelines,
) -> None:
    document = definition({"rows": load("inputs")})

    first = await pipelines.run(document, [*orders(1, 2), *orders(3, unknown="left out")])
    second = await pipelines.run(document, [*orders(1, 2), *orders(3, amount=2)])

    assert first.error is None
    loaded = pipelines.result(first, "rows")
    assert loaded.pop("run").startswith("pipeline-full-")
    assert loaded == {"inserted": 3, "updated": 0, "unchanged": 0, "rejected": 0}
    assert pipelines.result(second, "rows").items() >= {"updated": 1, "unchanged": 2}.items()
    assert pipelines.services.rows(
        "SELECT id, name, amount::text, at::text, more FROM orders ORDER BY id"
    )[2] == (3, "null", "2", "2026-01-01 00:00:00+00", {"a": [1]})
    assert pipelines.services.rows("SELECT * FROM etl_sync_state") == []


async def test_a_result_beyond_what_is_read_at_once_is_loaded_part_by_part(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temporaletl.worker.pipelines.steps.loading._MOST_ROWS", 40)
    items = "[{'id': one, 'name': 'x'} for one in range(100)]"
    made = "transform", {"transform_type": "filter", "over": items, "where": "True"}
    document = definition({"made": made, "rows": load("made")}, "made -> rows")
    with monkeypatch.context() as patched:
        patched.setattr("temporaletl.warehouse.pipeline_results._MEGABYTE", 1)

        summary = await pipelines.run(document)

    assert pipelines.result(summary, "rows")["inserted"] == 100
    assert pipelines.services.rows("SELECT cursor FROM etl_jobs") == [(3,)]


async def test_a_bad_record_is_a_reject_that_can_be_replayed(pipelines: Pipelines) -> None:
    document = definition({"rows": load("inputs")})
    bad = [*orders(2, name=5), *orders(None), "no object"]
    summary = await pipelines.run(document, [*orders(*range(10, 60)), *bad])
    assert pipelines.result(summary, "rows")["rejected"] == 3
    found = read_rejects(pipelines.services.warehouse, "pipeline", "default", (), limit=9).rejects
    assert {one.reason for one in found} == {
        "Expected `str | null`, got `int` - at `$.name`",
        "Expected `int`, got `null` - at `$.id`",
        "Expected `object`, got `str`",
    }
    pipelines.services.rows_changed(
        "UPDATE etl_rejects SET payload = jsonb_set(payload, '{name}', '\"five\"') "
        "WHERE reason LIKE '%name%'"
    )

    replayed = await pipelines.services.start(QueuerInput(source="pipeline", mode="replay"))
    ended = await replayed.result()

    assert (ended.state, ended.rows.inserted) == ("completed", 1)
    assert pipelines.services.rows("SELECT name FROM orders WHERE id = 2") == [("five",)]
    assert len(pipelines.services.rows("SELECT * FROM etl_rejects")) == 2


@pytest.mark.parametrize(
    ("good", "bad", "options", "state"),
    [
        (1, 1, {}, "completed"),  # a few bad records say nothing
        (1, 9, {}, "completed"),
        (89, 11, {}, "failed"),  # more than ETL_REJECT_THRESHOLD allows
        (1, 99, {"max_rejected": 0.99}, "completed"),
        (190, 10, {"max_rejected": 0.01}, "failed"),
        (0, 1, {}, "failed"),  # nothing was loaded
        (0, 1, {"max_rejected": 1}, "completed"),
    ],
)
async def test_so_many_bad_records_fail_a_load_and_no_less(
    pipelines: Pipelines, good: int, bad: int, options: dict[str, Any], state: str
) -> None:
    document = definition({"rows": load("inputs", **options)})

    summary = await pipelines.run(document, [*orders(*range(good)), *orders(*[None] * bad)])

    assert summary.state == state
    assert (pipelines.result(summary, "rows") or {}).get("rejected", bad) == bad
    if state == "failed":
        assert summary.error is not None
        assert f"{bad} were rejected" in summary.error.message


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("inputs", "rows is a list, not an object of data"),
        ("inputs.data", "rows is a list, not 7"),
        ("nothing", "rows is a list, not null"),
    ],
)
async def test_rows_that_are_no_list_are_told(pipelines: Pipelines, rows: str, told: str) -> None:
    nodes = {"if": ("condition", {"condition": "False"}), "nothing": mapping(x="1")}
    document = definition(
        {**nodes, "rows": load(rows)}, "if -true-> nothing", "if -false-> rows", "nothing -> rows"
    )

    summary = await pipelines.run(document, {"data": 7})

    assert summary.error is not None
    assert (summary.error.node, summary.error.message) == ("rows", told)
    assert pipelines.services.rows("SELECT * FROM etl_batches") == []


async def test_two_declarations_of_one_table_are_the_union_of_their_columns(
    pipelines: Pipelines,
) -> None:
    await pipelines.run(definition({"rows": load("inputs")}), orders(1))
    other = {"id": "integer", "flag": "boolean", "day": "date", "share": "number"}

    await pipelines.run(
        definition({"rows": load("inputs", columns=other)}),
        [{"id": 2, "flag": "true", "day": "2026-01-31", "share": 1}],
    )

    assert pipelines.services.rows(
        "SELECT id, name, flag, day::text, share FROM orders ORDER BY id"
    ) == [(1, "null", None, None, None), (2, None, True, "2026-01-31", 1.0)]


async def test_a_failed_run_fails_its_node_with_the_runs_error(pipelines: Pipelines) -> None:
    await pipelines.run(definition({"rows": load("inputs")}), orders(1))
    changed = {**COLUMNS, "more": "boolean"}

    summary = await pipelines.run(definition({"rows": load("inputs", columns=changed)}), orders(2))

    assert summary.error is not None
    assert summary.error.type == "RunFailedError"
    assert "more" in summary.error.message


@pytest.mark.parametrize("table", ["etl_jobs", "events", "numbers_events", "collections"])
async def test_a_table_of_the_platform_is_refused(pipelines: Pipelines, table: str) -> None:
    handle = await pipelines.services.client.start_workflow(
        names.VALIDATION_FLOW,
        {"definition": definition({"rows": load("inputs", table=table)})},
        id=f"validate-{table}-{pipelines.services.queue}",
        task_queue=f"{pipelines.services.queue}-etl",
    )

    found = await handle.result()

    assert [one["path"] for one in found["faults"]] == ["nodes[0].data.table"]


async def test_a_source_runs_as_a_step_and_its_summary_is_the_result(pipelines: Pipelines) -> None:
    document = definition(
        {
            "run": ("source", {"source": "numbers", "params": {"jobs": "{{ trigger.jobs }}"}}),
            "told": mapping(rows="run.rows.inserted"),
        },
        "run -> told",
    )

    summary = await pipelines.run(document, {"jobs": 2})

    assert summary.error is None
    run = pipelines.result(summary, "run")
    assert (run["source"], run["state"], run["jobs"]["completed"]) == ("numbers", "completed", 2)
    assert pipelines.result(summary, "told") == {"rows": run["rows"]["inserted"]}
