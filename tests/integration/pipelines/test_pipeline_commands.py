"""`etl pipeline`: executed, watched, stored, compared and gone on with from a terminal."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from temporaletl.warehouse.connection import Warehouse
from tests.far_times import FAR_DAYS, FAR_DAYS_NAME, FAR_INTERVAL
from tests.integration.command_line import CommandLine
from tests.integration.flows.services import running
from tests.integration.temporal_server import TemporalServer

ORDERS = """\
name: orders
nodes:
  - id: big
    type: condition
    data: {condition: trigger.amount > 10}
  - id: told
    type: transform
    data: {transform_type: mapping, mapping: {said: "'big: ' + str(inputs.amount)"}}
edges:
  - {source: big, target: told, sourceHandle: true}
"""


@pytest_asyncio.fixture
async def etl(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> AsyncGenerator[CommandLine]:
    (tmp_path / "orders.yaml").write_text(ORDERS)
    async with running(temporal_server.client, warehouse) as services:
        yield CommandLine(services, tmp_path, postgres_url)


async def test_a_file_is_executed_and_its_result_read(etl: CommandLine) -> None:
    ran = await etl("pipeline", "run", "orders.yaml", "--input", '{"amount": 12}', "--wait")

    assert ran.status == 0, ran.err
    assert "big completed" in ran.err
    execution = ran.out.split(":")[0]
    assert ran.out.startswith(f"{execution}: completed (orders ")
    told = await etl("pipeline", "result", execution, "told")
    assert told.document == {"said": "big: 12"}
    [listed] = (await etl("pipeline", "executions", "--json")).document
    assert (listed["execution_id"], listed["nodes"], listed["of"]) == (execution, 2, 2)


async def test_a_stored_pipeline_is_compared_executed_and_gone_on_with(etl: CommandLine) -> None:
    stored = await etl("pipeline", "store", "orders.yaml")
    assert stored.out.startswith("orders version 1 (")
    assert (await etl("pipeline", "diff", "orders", "orders.yaml")).status == 0

    run = ("pipeline", "run", "--wait", "--json")
    failed = await etl(*run, "orders", "--input", '{"amount": "x"}')
    (etl.folder / "orders.yaml").write_text(ORDERS.replace("trigger.amount > 10", "1 > 0"))
    differs = await etl("pipeline", "diff", "orders@1", "orders.yaml")
    await etl("pipeline", "store", "orders.yaml")
    again = await etl(*run, "--from", failed.document["execution_id"], "--latest")

    assert (failed.status, failed.document["state"]) == (1, "failed")
    assert failed.document["error_node"] == "big"
    assert differs.status == 1
    assert "-    condition: trigger.amount > 10" in differs.out
    assert again.document["state"] == "completed"
    versions = (await etl("pipeline", "versions", "orders", "--json")).document
    assert [(one["number"], one["latest"]) for one in versions] == [(2, True), (1, False)]


async def test_a_stored_pipeline_is_scheduled_as_a_source_is(etl: CommandLine) -> None:
    await etl("pipeline", "store", "orders.yaml")
    rarely = f"{FAR_INTERVAL.days}d"
    made = await etl(
        *("pipeline", "schedule", "orders@1", "often", "--every", rarely, "--jitter", "1m"),
        *("--input", '{"amount": 12}'),
    )
    said = f"created etl-schedule-pipeline@orders:often: version 1, every {rarely}, up to 1m later"
    assert (made.status, made.out) == (0, f"{said}\n"), made.err
    changed = await etl("pipeline", "schedule", "orders", "often", FAR_DAYS, "3")
    assert changed.out.endswith(f": latest version, {FAR_DAYS_NAME} at 03:00 UTC\n")

    paused = await etl("pipeline", "schedule-pause", "orders", "often")
    assert "until `etl pipeline schedule-resume orders often`" in paused.out
    [listed] = [
        one for one in (await etl("schedules", "--json")).document if one["source"] == "pipeline"
    ]
    assert (listed["connection"], listed["name"], listed["paused"]) == ("orders", "often", True)
    assert "pipeline@orders" in (await etl("schedules")).out
    kept = await etl("pipeline", "delete", "orders")
    assert (kept.status, "`etl pipeline schedule-delete orders often`" in kept.err) == (1, True)
    assert (await etl("pipeline", "schedule-delete", "orders", "often")).status == 0
    absent = await etl("pipeline", "schedule-resume", "orders", "often")
    assert "pipeline 'orders' has no schedule named 'often'" in absent.err
    assert (await etl("pipeline", "delete", "orders")).status == 0


async def test_a_dry_run_takes_what_an_execution_recorded(etl: CommandLine) -> None:
    node = "nodes:\n  - {id: ask, type: approval, data: {title: '?', timeout_seconds: 0.1}}"
    edge = "  - {source: big, target: ask, sourceHandle: false}\n"
    (etl.folder / "asked.yaml").write_text(ORDERS.replace("nodes:", node) + edge)
    await etl("pipeline", "store", "asked.yaml")
    ran = await etl("pipeline", "run", "orders", "--input", '{"amount": 1}', "--wait", "--json")
    execution = ran.document["execution_id"]

    dry = ("pipeline", "run", "orders", "--dry-run", "--input", '{"amount": 2}', "--json")
    without = await etl(*dry)
    pinned = await etl(*dry, "--pin", execution)

    assert (ran.status, without.status, pinned.status) == (0, 1, 0)
    nodes = {node["id"]: node for node in pinned.document["nodes"]}
    assert (nodes["ask"]["outcomes"], nodes["ask"]["pinned"]) == (["timeout"], True)
    assert nodes["big"]["result"] == {"amount": 2}


async def test_what_is_wrong_is_one_clear_line(etl: CommandLine) -> None:
    for arguments, status, said in (
        (("run", "never.yaml"), 2, "there is no file never.yaml"),
        (("run", "never"), 1, "there is no pipeline 'never'"),
        (("run", "orders.yaml", "--input", "{"), 2, "--input is no JSON"),
        (("run", "orders.yaml", "--node", "big"), 2, "--node, --latest and --failed-items go with"),
        (("status", "never"), 1, "there is no execution 'never'"),
        (("cancel", "never"), 1, "there is no execution 'never'"),
    ):
        ended = await etl("pipeline", *arguments)
        assert (ended.status, ended.out) == (status, ""), ended.err
        assert said in ended.err
        assert ended.err.count("\n") == 1
