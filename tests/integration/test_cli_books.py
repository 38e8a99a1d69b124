"""What the commands say, and do, of lost runs, closed sources and clocks that were wrong."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from temporaletl.messages import QueuerInput
from temporaletl.queuer.reconciliation import namespace_of
from temporaletl.warehouse import ledger
from temporaletl.warehouse.budget import block_source, blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import Namespace
from tests.far_times import FAR_DAY
from tests.integration.command_line import CommandLine, publish_numbers
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import running
from tests.integration.temporal_server import TemporalServer
from tests.integration.warehouse.batches import make_metadata
from tests.waiting import until


@pytest_asyncio.fixture
async def etl(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> AsyncGenerator[CommandLine]:
    publish_numbers(tmp_path)
    async with running(
        temporal_server.client, warehouse, attempts=50, segment_seconds=1
    ) as services:
        yield CommandLine(services, tmp_path, postgres_url)


def begin_unknown(etl: CommandLine, namespace: Namespace) -> str:
    metadata = make_metadata("numbers-unknown")
    ledger.begin_batch(
        etl.services.warehouse,
        metadata,
        workflow_id="nobody-knows-this",
        run_id="01a21abf-033f-7907-aff0-ea1a47cb0351",
        namespace=namespace,
    )
    return metadata.batch_id


async def test_status_says_at_once_that_a_run_is_lost_and_cancel_ends_it(etl: CommandLine) -> None:
    here = await namespace_of(etl.services.client)
    batch = begin_unknown(etl, Namespace(here.address, here.name, "an-id-from-before"))

    [listed] = [r for r in (await etl("status", "--json")).document if r["batch_id"] == batch]
    one = await etl("status", batch)

    loss = f"lost: {here} no longer knows the workflow nobody-knows-this"
    assert (listed["state"], listed["error"]) == ("lost", loss)
    assert loss in one.out

    ended = await etl("cancel", batch)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"ended {batch}, whose workflow nobody-knows-this is not known")
    assert etl.services.rows("SELECT state FROM etl_batches") == [("failed",)]
    assert (await etl("cancel", batch)).status == 1


async def test_status_counts_the_rows_that_were_deleted(etl: CommandLine) -> None:
    await etl.services.run(jobs=3, size=2)
    summary = await etl.services.run(jobs=1, size=2, here=[0, 1])
    [(job,)] = etl.services.rows("SELECT job_id FROM etl_jobs WHERE deleted > 0")
    listed = {run["batch_id"]: run for run in (await etl("status", "--json")).document}
    assert listed[summary.batch_id]["deleted"] == 2
    assert (await etl("status", f"job/{job}", "--json")).document["job"]["deleted"] == 2
    for words in ((), (summary.batch_id,), (f"job/{job}",)):
        shown = await etl("status", *words)
        assert "2 deleted" in shown.out, words


async def test_status_counts_what_a_run_that_goes_on_has_deleted(etl: CommandLine) -> None:
    batch = begin_unknown(etl, await namespace_of(etl.services.client))
    etl.services.rows_changed(
        "INSERT INTO etl_jobs (batch_id, seq, job_id, source, stream, input, state, deleted) "
        f"VALUES ('{batch}', 0, 'numbers-1', 'numbers', 'all', '{{}}', 'running', 3)"
    )
    shown = await etl("status", batch, "--json")
    assert shown.document["run"]["deleted"] == 3


async def test_status_says_where_a_run_of_another_temporal_is(etl: CommandLine) -> None:
    batch = begin_unknown(etl, Namespace("elsewhere:7233", "other", "another-id"))
    [listed] = [r for r in (await etl("status", "--json")).document if r["batch_id"] == batch]
    assert listed["state"] == "running"
    assert "Temporal at elsewhere:7233, namespace other" in listed["error"]


async def test_a_cool_down_is_shown_and_ended(etl: CommandLine) -> None:
    await etl.services.run("incremental")
    [(watermark,)] = etl.services.rows("SELECT watermark FROM etl_sync_state")
    block_source(etl.services.warehouse, "numbers", "default", timedelta(minutes=30))
    [blocked] = blocked_sources(etl.services.warehouse)

    checked = await etl("check", "numbers", "--json")
    assert (checked.status, checked.document["ok"]) == (1, False)
    [found] = [check for check in checked.document["checks"] if check["verdict"] == "wrong"]
    assert (found["name"], found["detail"]) == ("closed", str(blocked))
    for words in (("status",), ("state", "show", "numbers")):
        assert str(blocked) in (await etl(*words)).err
    [shown] = (await etl("state", "show", "numbers", "--json")).document
    assert shown["closed_until"] == blocked.blocked_until.isoformat()

    lifted = await etl("state", "reset", "numbers", "--unblock")
    assert lifted.out == "numbers is no longer rate-limited\n"
    assert blocked_sources(etl.services.warehouse) == []
    assert etl.services.rows("SELECT watermark FROM etl_sync_state") == [(watermark,)]
    assert "is not rate-limited" in (await etl("state", "reset", "numbers", "--unblock")).out
    assert (await etl("check", "numbers")).status == 0


async def test_a_reset_ends_a_cool_down_too(etl: CommandLine) -> None:
    block_source(etl.services.warehouse, "numbers", "default", timedelta(minutes=30))
    assert "numbers is no longer rate-limited" in (await etl("state", "reset", "numbers")).out
    assert blocked_sources(etl.services.warehouse) == []


async def test_a_watermark_ahead_of_the_clock_is_named_with_its_remedy(etl: CommandLine) -> None:
    await etl.services.run("incremental")
    etl.services.rows_changed("UPDATE etl_sync_state SET watermark = now() + interval '5 hours'")
    for words in (("status",), ("state", "show", "numbers"), ("check", "numbers")):
        done = await etl(*words)
        assert "is ahead of the warehouse's clock" in done.out + done.err, words
        assert "etl state set numbers --watermark DATE" in done.out + done.err
    [shown] = (await etl("state", "show", "numbers", "--json")).document
    assert shown["ahead"] is True


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("schedule-backfill", "numbers", "--from", "{past}", "--to", "{future}"), "the end"),
        (("schedule-backfill", "numbers", "--from", "{future}", "--to", "{later}"), "the end"),
        (("run", "numbers", "--from", "{future}"), "the span's start"),
        (("run", "numbers", "--from", "{past}", "--to", "{future}"), "the span's end"),
        (("run", "numbers", "--mode", "backfill", "--from", "{future}"), "the span's start"),
        (("state", "set", "numbers", "--watermark", "{future}"), "watermark"),
    ],
)
async def test_time_that_has_not_come_is_refused(
    etl: CommandLine, words: tuple[str, ...], told: str
) -> None:
    await etl.services.run("incremental")
    state = etl.services.rows("SELECT * FROM etl_sync_state")
    now = datetime.now(UTC)
    moments = {
        "past": now - timedelta(days=1),
        "future": now + timedelta(hours=2),
        "later": now + timedelta(hours=5),
    }
    texts = {name: moment.isoformat() for name, moment in moments.items()}
    await etl("schedule", "numbers", FAR_DAY, "*")
    refused = await etl(*(word.format(**texts) for word in words))
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith(f"etl: {told} ")
    assert refused.err.count("\n") == 1
    assert etl.services.rows("SELECT count(*) FROM etl_batches") == [(1,)]
    assert etl.services.rows("SELECT * FROM etl_sync_state") == state
    await etl("schedule-delete", "numbers")


async def test_a_warehouse_that_is_away_does_not_hide_what_a_run_waits_for(
    etl: CommandLine,
) -> None:
    outages.add("books")
    handle = await etl.services.start(QueuerInput(source="numbers", params={"outage": "books"}))
    try:
        running = "SELECT 1 FROM etl_jobs WHERE state = 'running'"
        await until(lambda: etl.services.rows(running) != [])
        away = etl.having(DATABASE_URL="postgresql://postgres@127.0.0.1:1/postgres")

        async def told() -> bool:
            shown = await away("status", handle.id)
            assert shown.status == 0, shown.err
            assert "only what Temporal knows is shown" in shown.err
            return "waiting: the source is out of order (run_segment, attempt " in shown.out

        await until(told)
    finally:
        outages.discard("books")
    assert (await handle.result()).state == "completed"
