"""Runs of the local engine: driven, paused, cancelled, left, adopted, ended by no stranger."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from temporaletl.engine.driven import MOST_ADOPTIONS
from temporaletl.messages import BatchMetadata, BatchSummary, ETLInput, FinishRequest, QueuerInput
from temporaletl.queuer.finishing import end_lost, finish
from temporaletl.warehouse import ledger, run_control, runs
from temporaletl.warehouse.closing import close_batch
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.open_batches import open_batch
from temporaletl.warehouse.ownership import (
    LeaseLostError,
    read_ownership,
    release_run,
    stored_metadata,
    waits_for_owner,
)
from temporaletl.warehouse.plans import JobWriter
from tests.integration.engine.driving import (
    SLOW,
    batch_state,
    driven,
    lapse,
    owned,
    pages,
    requested,
    rested,
    run_of,
    until_ended,
    until_pages,
)
from tests.integration.engine.running import keys, select, watermark
from tests.waiting import until


def metadata_of(warehouse: Warehouse, run: str) -> BatchMetadata:
    found = stored_metadata(warehouse, run_of(warehouse, run).batch_id)
    assert found is not None
    return found[0].metadata


async def test_a_requested_run_is_driven_to_its_end(warehouse: Warehouse) -> None:
    ended: list[BatchSummary] = []
    run = requested(warehouse, jobs=3, pages=2, size=5)
    assert waits_for_owner(warehouse) is not None
    async with driven(warehouse, ended=ended):
        found = await until_ended(warehouse, run)
    assert (found.error, found.owned) == (None, False)
    assert batch_state(warehouse) == ("completed", "local")
    assert [(one.workflow_id, one.rows.inserted) for one in ended] == [(run, 30)]
    assert watermark(warehouse) is not None
    assert waits_for_owner(warehouse) is None


async def test_two_drivers_share_runs_and_never_one(warehouse: Warehouse) -> None:
    ended: list[BatchSummary] = []
    wanted = [requested(warehouse, size=5, pages=3, job=number) for number in range(4)]
    async with driven(warehouse, drivers=2, ended=ended, runs_at_once=1):
        for run in wanted:
            await until_ended(warehouse, run)
    assert sorted(one.workflow_id for one in ended) == sorted(wanted)
    assert {one.state for one in ended} == {"completed"}
    assert select(warehouse, "SELECT DISTINCT epoch FROM etl_runs") == [(1,)]


async def test_a_run_rests_while_paused_and_goes_on(warehouse: Warehouse) -> None:
    run = requested(warehouse, **SLOW)
    async with driven(warehouse):
        await until_pages(warehouse, 3)
        control = run_control.want(warehouse, run, "pause", "a person")
        assert control is not None
        assert (control.before, control.accepted) == ("run", True)
        await until(lambda: batch_state(warehouse)[0] == "paused")
        states = select(warehouse, "SELECT DISTINCT state FROM etl_jobs")
        assert states == [("paused",)]
        loaded = pages(warehouse)
    # It holds while nobody drives it, and who takes it up rests, too.
    async with driven(warehouse):
        await until(lambda: run_of(warehouse, run).owned)
        await until(lambda: batch_state(warehouse)[0] == "paused")
        assert pages(warehouse) == loaded
        run_control.want(warehouse, run, "run", None)
        await until_ended(warehouse, run)
    assert batch_state(warehouse)[0] == "completed"
    assert len(keys(warehouse)) == 160
    assert select(warehouse, "SELECT sum(inserted), sum(unchanged) FROM etl_jobs") == [(160, 0)]


async def test_a_run_is_cancelled_at_its_next_page_and_cannot_be_resumed(
    warehouse: Warehouse,
) -> None:
    run = requested(warehouse, **SLOW)
    async with driven(warehouse):
        await until_pages(warehouse, 3)
        run_control.want(warehouse, run, "cancel", None)
        assert batch_state(warehouse)[0] == "cancelling"
        resumed = run_control.want(warehouse, run, "run", None)
        assert resumed is not None
        assert not resumed.accepted
        await until_ended(warehouse, run)
    assert batch_state(warehouse)[0] == "cancelled"
    assert len(keys(warehouse)) < 160
    again = run_control.want(warehouse, run, "pause", None)
    assert again is not None
    assert not again.accepted


async def test_a_run_cancelled_before_anybody_drives_it_is_never_planned(
    warehouse: Warehouse,
) -> None:
    run = requested(warehouse)
    run_control.want(warehouse, run, "cancel", None)
    async with driven(warehouse):
        found = await until_ended(warehouse, run)
    assert found.error == "cancelled before it was planned"
    assert select(warehouse, "SELECT count(*) FROM etl_batches") == [(0,)]


async def test_what_cannot_be_planned_says_why(warehouse: Warehouse) -> None:
    run = requested(warehouse, jobs=-1)
    with warehouse.connection() as connection:
        connection.execute(
            "INSERT INTO etl_runs (workflow_id, source, connection, request, run_id, engine) "
            """VALUES ('never', 'nothing', 'default', '{"source": "nothing"}', 'r', 'local')"""
        )
    async with driven(warehouse):
        found, unknown = await until_ended(warehouse, run), await until_ended(warehouse, "never")
    assert found.error == "numbers: jobs must not be negative"
    assert found.error_type == "ConfigurationError"
    assert batch_state(warehouse) == ("failed", "local")
    assert unknown.error_type == "UnknownSourceError"


async def test_a_run_that_is_left_is_taken_up_at_once_where_it_was(warehouse: Warehouse) -> None:
    run = requested(warehouse, **SLOW)
    async with driven(warehouse, lease=timedelta(hours=1)):
        await until_pages(warehouse, 3)
    assert select(warehouse, "SELECT count(*) FROM etl_jobs WHERE ended_at IS NOT NULL") == [(0,)]
    assert not run_of(warehouse, run).owned
    async with driven(warehouse, lease=timedelta(hours=1)):
        await until_ended(warehouse, run)
    assert batch_state(warehouse)[0] == "completed"
    assert select(warehouse, "SELECT sum(inserted), sum(unchanged) FROM etl_jobs") == [(160, 0)]
    assert select(warehouse, "SELECT epoch, adoptions FROM etl_runs") == [(2, 0)]


async def test_an_owner_that_lost_its_lease_writes_nothing_more(warehouse: Warehouse) -> None:
    ended: list[BatchSummary] = []
    run = requested(warehouse, **SLOW)
    async with driven(warehouse, ended=ended, lease=timedelta(hours=1)):
        await until_pages(warehouse, 3)
        lapse(warehouse)
        other = owned(warehouse, run, timedelta(hours=1))
        assert other.ownership.epoch == 2
        # It finds out when it next looks; until then it may load pages, each once.
        await until(rested(warehouse))
        assert run_of(warehouse, run).ended_at is None
    assert ended == []
    assert batch_state(warehouse)[0] == "running"
    release_run(warehouse, other.ownership)
    async with driven(warehouse, ended=ended):
        await until_ended(warehouse, run)
    assert [one.rows.inserted for one in ended] == [160]


async def test_a_stranger_can_neither_close_a_batch_nor_end_a_job(warehouse: Warehouse) -> None:
    run = requested(warehouse, **SLOW)
    async with driven(warehouse):
        await until_pages(warehouse, 2)
    lapse(warehouse)  # on a machine that is held up, it may have been lost before it was left
    metadata = metadata_of(warehouse, run)
    former = owned(warehouse, run)
    lapse(warehouse)
    present = owned(warehouse, run)
    for owner in (None, former.ownership):
        with pytest.raises(LeaseLostError):
            finish(
                warehouse,
                FinishRequest(metadata=metadata, workflow_id=run, cancelled=True),
                ownership=owner,
            )
    batch = open_batch(warehouse, metadata.batch_id)
    assert batch is not None
    with pytest.raises(LeaseLostError):
        end_lost(warehouse, batch, "lost")
    job = ledger.open_jobs(warehouse, metadata.batch_id, first=0, end=1)[0][0]
    with pytest.raises(LeaseLostError):
        ledger.end_job(warehouse, job, "cancelled", hold=former.ownership.hold)
    assert batch_state(warehouse)[0] == "running"
    close_batch(
        warehouse,
        metadata,
        workflow_id=run,
        cancelled=True,
        error=None,
        ownership=present.ownership,
    )
    assert batch_state(warehouse)[0] == "cancelled"


@pytest.mark.parametrize(
    "poison",
    [
        "UPDATE etl_runs SET request = request - 'source' || '{\"streams\": 7}'",
        "UPDATE etl_batches SET metadata = metadata - 'worker_queue'",
    ],
    ids=["requested", "planned"],
)
async def test_a_run_that_this_version_cannot_read_fails_once_and_holds_up_no_other(
    warehouse: Warehouse, poison: str
) -> None:
    ended: list[BatchSummary] = []
    run = requested(warehouse, **SLOW)
    if "etl_batches" in poison:
        async with driven(warehouse):
            await until_pages(warehouse, 1)
    with warehouse.connection() as connection:
        connection.execute(poison.encode())
    other = requested(warehouse, size=1)
    async with driven(warehouse, ended=ended):
        found = await until_ended(warehouse, run)
        assert (await until_ended(warehouse, other)).error is None
    assert "cannot be read by this version of the platform (" in str(found.error)
    assert found.error_type == "UnreadableRunError"
    epochs = select(warehouse, "SELECT epoch FROM etl_runs WHERE workflow_id = %s", run)
    assert epochs == [(2 if "etl_batches" in poison else 1,)]
    assert select(warehouse, "SELECT FROM etl_batches WHERE ended_at IS NULL") == []
    assert [one.state for one in ended][:-1] == (["failed"] if "etl_batches" in poison else [])


async def test_a_run_whose_owners_all_die_without_a_page_is_given_up(warehouse: Warehouse) -> None:
    run = requested(warehouse, jobs=2)
    for _ in range(MOST_ADOPTIONS + 1):
        owned(warehouse, run)
        lapse(warehouse)
    async with driven(warehouse):
        found = await until_ended(warehouse, run)
    assert found.error is not None
    assert found.error.startswith("given up: 5 processes in a row died")


async def test_owners_that_die_after_a_page_do_not_count(warehouse: Warehouse) -> None:
    run = requested(warehouse, **SLOW)
    counted = []
    for _ in range(4):
        counted.append(owned(warehouse, run).adoptions)
        lapse(warehouse)
    async with driven(warehouse, lease=timedelta(hours=1)):
        await until_pages(warehouse, 1)
    for _ in range(2):
        counted.append(owned(warehouse, run).adoptions)
        lapse(warehouse)
    assert counted == [0, 1, 2, 3, 0, 1]


async def test_a_paused_run_does_not_keep_others_from_being_driven(warehouse: Warehouse) -> None:
    paused = requested(warehouse)
    run_control.want(warehouse, paused, "pause", None)
    async with driven(warehouse, runs_at_once=1):
        await until(lambda: run_of(warehouse, paused).owned)
        await until_ended(warehouse, requested(warehouse, job=1))
        assert run_of(warehouse, paused).ended_at is None


async def test_a_driver_of_one_run_ends_with_it_and_an_idle_one_by_itself(
    warehouse: Warehouse,
) -> None:
    other, run = requested(warehouse, job=1), requested(warehouse)
    async with driven(warehouse, only=run):
        await until_ended(warehouse, run)
    assert run_of(warehouse, other).ended_at is None
    async with driven(warehouse, idle=timedelta(milliseconds=1)):
        await until_ended(warehouse, other)


def _slice_of(warehouse: Warehouse, run: str) -> ETLInput:
    batch_id = metadata_of(warehouse, run).batch_id
    return ledger.open_jobs(warehouse, batch_id, first=0, end=1)[0][0]


async def test_a_slice_that_another_engine_loads_is_skipped(warehouse: Warehouse) -> None:
    first = requested(warehouse, **SLOW)
    async with driven(warehouse, lease=timedelta(hours=1)):
        await until_pages(warehouse, 2)
        # The same slices, in a batch of Temporal's.
        taken = _slice_of(warehouse, first)
        metadata = metadata_of(warehouse, first).model_copy(update={"batch_id": "another"})
        ledger.begin_batch(warehouse, metadata, workflow_id="etl-another", run_id="r")
        writer = JobWriter(warehouse, "another")
        writer.write([taken.model_copy(update={"batch_id": "another"})])
        writer.close()
        job = ledger.open_jobs(warehouse, "another", first=0, end=1)[0][0]
        assert job.job_id == taken.job_id
        begun = ledger.begin_job(warehouse, job, workflow_id="job/1", run_id="r")
        assert begun.progress.state == "skipped"
    # Nobody drives the other one now, so that it is nobody's hindrance.
    with warehouse.connection() as connection:
        connection.execute("UPDATE etl_jobs SET state = 'planned' WHERE batch_id = 'another'")
    begun = ledger.begin_job(warehouse, job, workflow_id="job/1", run_id="r")
    assert begun.progress.state == "running"


def test_of_two_runs_entered_at_once_one_is_let_in(warehouse: Warehouse) -> None:
    request = QueuerInput(source="numbers")

    def enter(name: str, **more: Any) -> runs.RequestedRun | None:
        return runs.enter_run(warehouse, request, workflow_id=name, run_id="r", **more)

    async def both() -> list[runs.RequestedRun | None]:
        return list(await asyncio.gather(*(asyncio.to_thread(enter, f"run-{n}") for n in range(8))))

    ends = asyncio.run(both())
    assert ends.count(None) == 1
    [(winner,)] = select(warehouse, "SELECT workflow_id FROM etl_runs")
    assert {end.workflow_id for end in ends if end} == {winner}
    assert enter("forced", only=False) is None
    assert runs.end_run(warehouse, winner)
    refused = enter("third")
    assert refused is not None
    assert refused.workflow_id == "forced"


def test_of_two_engines_one_gets_a_run_for_good(warehouse: Warehouse) -> None:
    runs.enter_run(warehouse, QueuerInput(source="numbers"), workflow_id="one", run_id="r")
    assert runs.claim_run(warehouse, "one", "local")
    assert not runs.claim_run(warehouse, "one", "temporal")
    assert runs.claim_run(warehouse, "one", "local")
    assert not runs.give_up(warehouse, "one", "nobody took it")
    runs.enter_run(
        warehouse, QueuerInput(source="numbers"), workflow_id="two", run_id="r", only=False
    )
    assert runs.give_up(warehouse, "two", "nobody took it")
    assert not runs.claim_run(warehouse, "two", "temporal")
    assert read_ownership(warehouse, "somebody") == {}
