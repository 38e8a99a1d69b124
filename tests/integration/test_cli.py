"""The command line on a real Temporal server and a real PostgreSQL."""

import asyncio
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from temporaletl.messages import QueuerInput
from temporaletl.warehouse.connection import Warehouse
from tests.far_times import FAR_DAY, FAR_DAYS, FAR_DAYS_NAME
from tests.integration.command_line import CommandLine, finished, publish, publish_numbers
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import running
from tests.integration.tcp_relay import TcpRelay
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

#: Beside another run.
_FORCED = ("run", "numbers", "--force")


@pytest_asyncio.fixture
async def etl(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> AsyncGenerator[CommandLine]:
    publish_numbers(tmp_path)
    async with running(
        temporal_server.client, warehouse, attempts=50, segment_seconds=1, rows_per_page=50
    ) as services:
        yield CommandLine(services, tmp_path, postgres_url)


async def test_a_run_that_is_waited_for_ends_in_one_document(etl: CommandLine) -> None:
    done = await etl(
        *("run", "numbers", "--mode", "full", "--param", "jobs=3", "--param", "size=20"),
        *("--wait", "--json"),
    )
    assert done.status == 0
    told = done.document
    assert told["state"] == "completed"
    assert told["jobs"] | {"cancelled": 0} == {
        "planned": 3,
        "completed": 3,
        "failed": 0,
        "skipped": 0,
        "cancelled": 0,
    }
    assert told["rows"] == {"inserted": 60, "updated": 0, "unchanged": 0, "rejected": 0}
    assert told["failures"] == []
    assert told["seconds"] > 0
    assert told["workflow_id"].startswith("etl-numbers-full-")
    assert etl.services.rows("SELECT count(*) FROM events") == [(60,)]

    listed, one, by_workflow, state = await asyncio.gather(
        etl("status", "--json"),
        etl("status", told["batch_id"], "--json"),
        etl("status", told["workflow_id"]),
        etl("state", "show", "numbers", "--json"),
    )
    report = next(r for r in listed.document if r["batch_id"] == told["batch_id"])
    assert (report["state"], report["rows"]) == ("completed", told["rows"])
    assert report == one.document["run"]
    assert "3 planned: 3 completed" in by_workflow.out
    assert "60 inserted" in by_workflow.out
    [stream] = state.document
    assert stream["stream"] == "all"
    assert stream["watermark"] == told["windows"]["all"]["end"].replace("Z", "+00:00")


async def test_a_run_with_failed_jobs_names_them_and_ends_with_1(etl: CommandLine) -> None:
    arguments = ("run", "numbers", "--mode", "full", "--param", "jobs=3", "--param", "poisoned=1")
    done = await etl(*arguments, "--wait", "--json")
    assert done.status == 1
    assert done.document["state"] == "failed"
    assert done.document["jobs"]["failed"] == 1
    [failure] = done.document["failures"]
    assert failure["error"] == "job 1 is poisoned"
    assert failure["job"].startswith("numbers-all-full-")

    job, shown = await asyncio.gather(
        etl("status", failure["job"], "--json"), etl("status", done.document["batch_id"])
    )
    assert job.document["job"]["state"] == "failed"
    assert job.document["job"]["params"]["job"] == 1
    assert "job 1 is poisoned" in shown.out
    assert failure["job"] in shown.out


async def test_what_a_person_must_correct_is_one_line_and_status_2(etl: CommandLine) -> None:
    arguments = (*_FORCED, "--param", "jobs=-1")
    plain, waited = await asyncio.gather(etl(*arguments), etl(*arguments, "--wait", "--json"))
    assert (plain.status, plain.out) == (2, "")
    assert plain.err == "etl: numbers: jobs must not be negative\n"
    assert waited.status == 2
    assert waited.document["state"] == "failed"
    assert waited.document["error"] == "numbers: jobs must not be negative"
    assert waited.document["batch_id"].startswith("numbers-incremental-")


async def test_without_wait_it_says_how_to_follow_what_it_started(etl: CommandLine) -> None:
    told, plain = await asyncio.gather(
        etl(*_FORCED, "--param", "pages=200", "--param", "page_seconds=0.1", "--json"),
        etl(*_FORCED, "--param", "pages=200", "--param", "page_seconds=0.2"),
    )
    document = told.document
    assert (told.status, plain.status) == (0, 0)
    assert document["state"] in ("running", "finishing")
    assert document["jobs"] == {"planned": 1}
    assert document["batch_id"].startswith("numbers-incremental-")
    assert "started numbers incremental: 1 job planned" in plain.out
    assert "etl cancel etl-numbers-incremental-" in plain.out

    handle = etl.services.client.get_workflow_handle(document["workflow_id"])
    ended, other = await asyncio.gather(
        etl("cancel", document["workflow_id"]),
        etl("cancel", plain.out.split("etl cancel ")[1].split()[0]),
    )
    assert (ended.status, other.status) == (0, 0)
    assert ended.out.startswith(f"cancelling {document['workflow_id']}: running jobs stop")
    assert (await handle.result())["state"] == "cancelled"

    again = await etl("cancel", document["workflow_id"])
    assert (again.status, again.out) == (1, "")
    refusal = f"etl: {document['workflow_id']} has ended: there is nothing to cancel\n"
    assert again.err == refusal


async def test_a_run_rests_and_goes_on(etl: CommandLine) -> None:
    # Long enough for a command to start on a busy machine.
    params = {"pages": 400, "page_seconds": 0.05, "size": 1}
    handle = await etl.services.start(QueuerInput(source="numbers", mode="full", params=params))
    await until(lambda: etl.services.rows("SELECT 1 FROM etl_pages LIMIT 1") != [])
    [(batch, job)] = etl.services.rows("SELECT batch_id, job_id FROM etl_jobs")

    early = await asyncio.gather(etl("resume", batch), etl("resume", job))
    assert [done.out for done in early] == [
        f"{handle.id} was not paused; those of its jobs that were go on\n",
        f"job/{job} was not paused\n",
    ]
    paused = await etl("pause", batch)
    assert paused.out.startswith(f"pausing {handle.id}: running jobs stop at their next page")

    async def rests() -> bool:
        listed = await etl("status", "--json")
        state = next(r for r in listed.document if r["batch_id"] == batch)["state"]
        assert state in ("pausing", "paused")
        return bool(state == "paused")

    await until(rests)

    resumed = await etl("resume", job)
    assert resumed.out == f"resuming job/{job}: it goes on where it stopped\n"
    assert (await handle.result()).rows.inserted == 400


async def test_ctrl_c_stops_waiting_and_not_the_run(etl: CommandLine) -> None:
    outages.add("interrupted")
    try:
        process = await etl.start("run", "numbers", "--param", 'outage="interrupted"', "--wait")
        running = "SELECT 1 FROM etl_jobs WHERE state = 'running'"
        await until(lambda: etl.services.rows(running) != [])
        process.send_signal(signal.SIGINT)
        done = await finished(process)
    finally:
        outages.discard("interrupted")
    assert (done.status, done.out) == (130, "")
    last = done.err.splitlines()[-1]
    assert last.startswith("No longer waiting; the run goes on.")
    workflow_id = last.split("etl cancel ")[1]
    again = await etl("follow", workflow_id, "--json")
    assert (again.status, again.document["rows"]["inserted"]) == (0, 10)


async def test_a_wait_outlives_the_address_of_temporal(etl: CommandLine) -> None:
    host, _, port = etl.services.client.service_client.config.target_host.rpartition(":")
    outages.add("moved")
    try:
        with TcpRelay(f"host={host} port={port}") as relay:
            process = await etl.having(TEMPORAL_ADDRESS=relay.address).start(
                "run", "numbers", "--param", 'outage="moved"', "--wait", "--json"
            )
            running = "SELECT 1 FROM etl_jobs WHERE state = 'running'"
            await until(lambda: etl.services.rows(running) != [])
    finally:
        outages.discard("moved")
    done = await finished(process)
    assert (done.status, done.document["state"]) == (0, "completed"), done.err
    assert done.document["rows"]["inserted"] == 10


async def test_what_a_run_waits_for_is_told(etl: CommandLine) -> None:
    outages.add("cli")
    try:
        process = await etl.start("run", "numbers", "--param", 'outage="cli"', "--wait")
        await until(lambda: etl.services.rows("SELECT 1 FROM etl_jobs") != [])
        [(batch,)] = etl.services.rows("SELECT batch_id FROM etl_batches")
        await until(lambda: etl.services.rows("SELECT 1 FROM etl_jobs WHERE state='running'") != [])
        detail = await etl("status", batch)
        assert "waiting: the source is out of order (run_segment, attempt " in detail.out
        assert process.stderr is not None
        async with asyncio.timeout(120):
            async for line in process.stderr:
                if b"; waiting: job/" in line:
                    break
        assert b"the source is out of order" in line
    finally:
        outages.discard("cli")
    done = await finished(process)
    assert done.status == 0
    assert "10 inserted" in done.out


async def test_requests_that_a_segment_sends_again_are_told_before_it_gives_up(
    etl: CommandLine,
) -> None:
    told = "waiting: the source refuses connections; it is tried again (run_segment, attempt 1"
    outages.add("refused")
    try:
        process = await etl.start("run", "numbers", "--param", 'refusal="refused"', "--wait")
        await until(lambda: etl.services.rows("SELECT 1 FROM etl_jobs WHERE state='running'") != [])
        assert process.stderr is not None
        async with asyncio.timeout(120):
            async for line in process.stderr:
                if b"refuses connections; it is tried again" in line:
                    break
        assert b"(run_segment, attempt 1)" in line
        [(job,)] = etl.services.rows("SELECT job_id FROM etl_jobs")
        assert told in (await etl("status", job)).out
    finally:
        outages.discard("refused")
    done = await finished(process)
    assert (done.status, "10 inserted" in done.out) == (0, True)


async def test_a_source_whose_own_queue_no_worker_polls_is_named(etl: CommandLine) -> None:
    """As where workers were started before the source was there."""
    publish(etl.folder, "budget", "numbers_budget")
    (etl.folder / "numbers_budget.py").write_text(
        "from temporaletl import RateBudget, rate_budget\n"
        "rate_budget('numbers')(lambda: RateBudget())\n"
    )
    told = f"no worker polls task queue {etl.services.queue}-etl-numbers, where the requests"
    params = ("--param", "pages=400", "--param", "page_seconds=0.1")
    process = await etl.start("run", "numbers", *params, "--wait")
    try:
        await until(lambda: etl.services.rows("SELECT 1 FROM etl_pages LIMIT 1") != [])
        [(batch, job)] = etl.services.rows("SELECT batch_id, job_id FROM etl_jobs")
        shown, one, checked = await asyncio.gather(
            etl("status", batch), etl("status", job), etl("check", "numbers")
        )
        for done in (shown, one):
            assert f"waiting: {told}" in done.out
        assert told in checked.out
        assert "start them anew" in checked.out
        assert process.stderr is not None
        async with asyncio.timeout(120):
            async for line in process.stderr:
                if told in line.decode():
                    break
        assert told in line.decode()
        assert (await etl("cancel", batch)).status == 0
    finally:
        await finished(process)


async def test_nothing_to_load_is_said_plainly(etl: CommandLine) -> None:
    arguments = ("--from", "2024-01-01", "--to", "2024-02-01T00:00+01:00", "--wait")
    empty, none = await asyncio.gather(
        etl(*_FORCED, "--param", "size=0", *arguments),
        etl(*_FORCED, "--param", "jobs=0", "--wait"),
    )
    assert (empty.status, none.status) == (0, 0)
    assert empty.out.splitlines()[-1] == (
        "nothing to load: the source listed no records in the window "
        "2024-01-01 00:00:00Z to 2024-01-31 23:00:00Z"
    )
    assert "nothing to load: the source listed no records in the window the beg" in none.out


async def test_a_run_that_no_queuer_takes_up_says_so(etl: CommandLine) -> None:
    alone = etl.having(TEMPORAL_QUEUE="nobody-polls-this")
    started = await alone("run", "numbers")
    assert started.status == 0
    assert "not planned yet" in started.out
    assert started.err.startswith("no queuer polls task queue nobody-polls-this yet; the run waits")
    workflow_id = started.out.split("etl follow ")[1].split()[0]
    shown, listed = await asyncio.gather(etl("status", workflow_id), etl("status", "--json"))
    assert "waiting: no queuer polls task queue nobody-polls-this" in shown.out
    report = next(r for r in listed.document if r["workflow_id"] == workflow_id)
    assert (report["state"], report["source"], report["batch_id"]) == ("waiting", "numbers", None)
    await etl.services.client.get_workflow_handle(workflow_id).terminate("test")
    ended = await etl("status", workflow_id, "--json")
    assert ended.document["run"]["state"] == "terminated"


async def test_without_a_warehouse_temporal_tells_what_it_knows(etl: CommandLine) -> None:
    bare = etl.having(DATABASE_URL="")
    done = await bare("run", "numbers", "--param", "jobs=2", "--wait", "--json")
    assert (done.status, done.document["rows"]["inserted"]) == (0, 20)
    listed, job = await asyncio.gather(
        bare("status", "--limit", "100", "--json"),
        bare("status", etl.services.rows("SELECT job_id FROM etl_jobs")[0][0], "--json"),
    )
    known = {report["workflow_id"]: report for report in listed.document}
    assert known[done.document["workflow_id"]]["state"] == "completed"
    assert job.document["job"]["rows"]["inserted"] == 10


async def test_an_unknown_name_is_one_line(etl: CommandLine) -> None:
    asked = [("status", "nope"), ("pause", "nope"), ("resume", "nope"), ("cancel", "nope " * 400)]
    for done in await asyncio.gather(*(etl(*arguments) for arguments in asked)):
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("etl: no run")
        assert done.err.count("\n") == 1


async def test_rejects_and_the_state_are_shown_and_moved(etl: CommandLine) -> None:
    await etl.services.run("incremental", size=30, bad_every=15)
    listed, limited = await asyncio.gather(
        etl("rejects", "list", "numbers", "--json"),
        etl("rejects", "list", "numbers", "--limit", "1"),
    )
    assert {reject["key"] for reject in listed.document} == {"0:0", "0:15"}
    assert all(reject["payload"] for reject in listed.document)
    assert " is a bad number" in limited.out
    assert "and 1 more" in limited.err

    moved = await etl("state", "set", "numbers", "--watermark", "2024-05-01")
    assert moved.out == "numbers all: the next incremental run begins at 2024-05-01 00:00:00Z\n"
    again = await etl.services.run("incremental")
    assert again.windows["all"].start is not None
    assert again.windows["all"].start.isoformat() == "2024-05-01T00:00:00+00:00"
    assert (await etl("state", "reset", "numbers")).status == 0
    [stream] = (await etl("state", "show", "numbers", "--json")).document
    assert stream["watermark"] is None


async def test_a_check_finds_all_well(etl: CommandLine) -> None:
    good, stranger = await asyncio.gather(
        etl("check", "numbers", "--json"),
        etl.having(TEMPORAL_ETL_QUEUE="nobody-polls-this")("check", "numbers"),
    )
    assert (good.status, good.document["ok"]) == (0, True)
    # Whoever runs the tests chose the password of the warehouse.
    names = [each["name"] for each in good.document["checks"] if each["name"] != "secrets"]
    assert names == ["settings", "stream all", "warehouse", "Temporal", "queuer", "worker"]
    assert stranger.status == 0
    assert "no worker polls task queue nobody-polls-this" in stranger.out


async def test_a_server_that_is_away_is_no_wrong_setting(etl: CommandLine) -> None:
    unreachable, unset = await asyncio.gather(
        etl.having(TEMPORAL_ADDRESS="127.0.0.1:9")("check", "numbers"),
        etl.having(DATABASE_URL="")("check", "numbers"),
    )
    assert (unreachable.status, unset.status) == (1, 2), unreachable.out
    assert "wrong  Temporal: no Temporal server answers" in unreachable.out


async def test_a_schedule_is_made_paused_resumed_run_for_the_past_and_deleted(
    etl: CommandLine,
) -> None:
    made = await etl("schedule", "numbers", FAR_DAYS, "6,18", "--timezone", "Europe/London")
    assert made.status == 0
    [listed] = [
        each for each in (await etl("schedules", "--json")).document if each["source"] == "numbers"
    ]
    assert (listed["days"], listed["hours"], listed["timezone"]) == (
        FAR_DAYS_NAME,
        "6,18",
        "Europe/London",
    )
    assert listed["next_run"]

    assert "no more runs of numbers start" in (await etl("schedule-pause", "numbers")).out
    again = await etl("schedule", "numbers", FAR_DAY, "2")
    assert again.out.startswith("updated ")
    assert again.out.endswith("; still paused until `etl schedule-resume numbers`\n")
    table, resumed = await asyncio.gather(etl("schedules"), etl("schedule-resume", "numbers"))
    assert "numbers" in table.out, table.err
    assert "the next run of numbers starts at 2" in resumed.out

    # At 02:00 on a day of the week: the first moment counts, the last does not.
    times = [f"2024-01-{7 + int(FAR_DAY) + past:02}T02:00" for past in (0, 7, 14)]
    started = await etl("schedule-backfill", "numbers", "--from", times[0], "--to", times[2])
    assert started.out.startswith("2 runs of numbers started")
    ended = "SELECT metadata->>'started' FROM etl_batches WHERE state = 'completed' ORDER BY 1"
    await until(lambda: len(etl.services.rows(ended)) == 2)
    assert etl.services.rows(ended) == [(f"{time}:00Z",) for time in times[:2]]

    assert (await etl("schedule-delete", "numbers")).status == 0
    gone = await etl("schedule-pause", "numbers")
    assert gone.status == 1
    assert gone.err == "etl: source 'numbers' has no schedule: `etl schedule numbers` makes one\n"
