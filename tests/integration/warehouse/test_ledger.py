from typing import Any

import pytest
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError
from temporaletl.ids import job_id_of
from temporaletl.messages import (
    ENDED,
    BatchMetadata,
    ETLInput,
    JobFailure,
    JobOutcome,
    JobState,
    RowCounts,
    RunPolicy,
    Window,
)
from temporaletl.strategies import Plan
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import (
    MAX_ANSWER_BYTES,
    begin_job,
    end_job,
    job_progress,
    open_jobs,
    record_outcomes,
)
from temporaletl.warehouse.plans import MAX_JOB_BYTES, JobWriter, SupersededPlanError
from tests.integration.warehouse.batches import (
    NOON,
    begin,
    finish,
    job,
    load,
    make_metadata,
    plan,
    rows,
)


def begun(warehouse: Warehouse, planned: Any) -> Any:
    return begin_job(warehouse, planned, workflow_id="job/1", run_id="run").progress


def planned_jobs(
    warehouse: Warehouse, count: int, **params: Any
) -> tuple[BatchMetadata, list[ETLInput]]:
    metadata = make_metadata()
    return metadata, plan(
        warehouse, metadata, [job(metadata, number, **params) for number in range(count)]
    )


def states(warehouse: Warehouse) -> list[str]:
    return [state for (state,) in rows(warehouse, "SELECT state FROM etl_jobs ORDER BY seq")]


def test_a_batch_begun_twice_is_one_batch(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    begin(warehouse, metadata)
    ledger.begin_batch(warehouse, metadata, workflow_id="other", run_id="other")
    assert rows(warehouse, "SELECT batch_id, workflow_id, state FROM etl_batches") == [
        ("shop-1", "etl-shop", "running")
    ]


def test_jobs_are_numbered_in_the_order_they_come(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    planned = plan(warehouse, metadata, [job(metadata, number) for number in (7, 8, 9)])
    assert [(one.seq, one.params["number"]) for one in planned] == [(0, 7), (1, 8), (2, 9)]
    assert len({one.job_id for one in planned}) == 3
    assert rows(warehouse, "SELECT jobs_planned FROM etl_batches") == [(3,)]


@pytest.mark.parametrize(
    "note", ["plain", 'tab\t"}, line\n\\N \\.', "é😀", "nul \0", ["NaN", {"deep": [1.5, None]}]]
)
def test_a_job_is_in_the_ledger_as_it_was_planned(warehouse: Warehouse, note: JsonValue) -> None:
    metadata = make_metadata()
    jobs = [
        job(metadata, 1, note=note),
        job(metadata, 2, Window(end=NOON), note=note),
        Plan(metadata).deletion_scan("orders", note=note),
        job(metadata, 3).model_copy(update={"policy": RunPolicy(max_attempts=1), "reread": True}),
    ]
    assert plan(warehouse, metadata, jobs) == [
        one.model_copy(update={"seq": seq, "job_id": job_id_of(one)})
        for seq, one in enumerate(jobs)
    ]
    columns = "source, stream, window_start, window_end, windowless"
    assert rows(warehouse, f"SELECT {columns} FROM etl_jobs ORDER BY seq") == [
        (one.source, one.stream, one.window.start, one.window.end, one.windowless) for one in jobs
    ]


def test_a_block_that_is_refused_leaves_nothing_and_the_next_takes_its_numbers(
    warehouse: Warehouse,
) -> None:
    metadata = make_metadata()
    begin(warehouse, metadata)
    writer = JobWriter(warehouse, metadata.batch_id)
    with pytest.raises(ConfigurationError, match="twice"):
        writer.write([job(metadata, 1), job(metadata, 1)])
    writer.write([job(metadata, 2), job(metadata, 3)])
    assert writer.close() == 2
    assert rows(warehouse, "SELECT seq, input->'params'->'number' FROM etl_jobs ORDER BY 1") == [
        (0, 2),
        (1, 3),
    ]


def test_planning_again_gives_the_same_jobs_once(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    jobs = [job(metadata, number) for number in range(5)]
    assert plan(warehouse, metadata, jobs) == plan(warehouse, metadata, jobs)
    assert rows(warehouse, "SELECT count(*) FROM etl_jobs") == [(5,)]


def test_a_second_attempt_that_plans_less_leaves_nothing_of_the_first(
    warehouse: Warehouse,
) -> None:
    metadata = make_metadata()
    begin(warehouse, metadata)
    JobWriter(warehouse, metadata.batch_id).write(job(metadata, number) for number in range(5))
    planned = plan(warehouse, metadata, [job(metadata, 9)])
    assert [one.params["number"] for one in planned] == [9]
    assert rows(warehouse, "SELECT count(*) FROM etl_jobs") == [(1,)]


def test_an_attempt_that_was_replaced_writes_no_more(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    begin(warehouse, metadata)
    first = JobWriter(warehouse, metadata.batch_id)
    first.write([job(metadata, 1)])
    second = JobWriter(warehouse, metadata.batch_id)
    with pytest.raises(SupersededPlanError):
        first.write([job(metadata, 2)])
    with pytest.raises(SupersededPlanError):
        first.close()
    assert second.close() == 0


def test_a_plan_that_is_complete_is_left_as_it_is_by_an_attempt_that_begins_late(
    warehouse: Warehouse,
) -> None:
    """One that was frozen before its first word must not take jobs from a batch that runs."""
    metadata, (first, *_) = planned_jobs(warehouse, 3)
    begin_job(warehouse, first, workflow_id="w", run_id="r")
    late = JobWriter(warehouse, metadata.batch_id)
    assert (late.complete, late.count) == (True, 3)
    assert len(open_jobs(warehouse, metadata.batch_id, first=0, end=3)[0]) == 3
    with pytest.raises(SupersededPlanError):
        late.write([job(metadata, 9)])


def test_nothing_is_planned_into_a_batch_that_has_ended(warehouse: Warehouse) -> None:
    """A planner that was cancelled may still write its last block."""
    metadata = make_metadata()
    begin(warehouse, metadata)
    late = JobWriter(warehouse, metadata.batch_id)
    finish(warehouse, metadata, cancelled=True)
    with pytest.raises(SupersededPlanError, match="shop-1 has ended"):
        late.write([job(metadata, 1)])
    with pytest.raises(SupersededPlanError):
        JobWriter(warehouse, metadata.batch_id).write([job(metadata, 1)])
    assert states(warehouse) == []


def test_a_job_too_heavy_for_history_is_refused(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    begin(warehouse, metadata)
    writer = JobWriter(warehouse, metadata.batch_id)
    writer.write([job(metadata, 0, note="x" * (MAX_JOB_BYTES // 2))])
    with pytest.raises(ConfigurationError, match=r"job 1 of shop-1 weighs .* plan smaller slices"):
        # Two bytes each: bytes are what counts.
        writer.write([job(metadata, 1, note="é" * (MAX_JOB_BYTES // 2))])


def test_an_answer_stays_small_however_heavy_the_jobs(warehouse: Warehouse) -> None:
    metadata, _ = planned_jobs(warehouse, 40, note="x" * 10_000)
    seqs: list[int] = []
    first = answers = 0
    while first < 40:
        page, first = open_jobs(warehouse, metadata.batch_id, first=first, end=40)
        assert sum(len(one.model_dump_json()) for one in page) <= MAX_ANSWER_BYTES
        seqs += [one.seq for one in page]
        answers += 1
    assert seqs == list(range(40))
    assert answers == 4


def test_many_light_jobs_come_in_several_answers_too(warehouse: Warehouse) -> None:
    metadata, _ = planned_jobs(warehouse, 1203)
    seqs: list[int] = []
    first = 5
    while first < 1200:
        page, following = open_jobs(warehouse, metadata.batch_id, first=first, end=1200)
        assert following > first
        first = following
        seqs += [one.seq for one in page]
    assert seqs == list(range(5, 1200))


def test_jobs_that_have_ended_are_not_listed(warehouse: Warehouse) -> None:
    metadata, planned = planned_jobs(warehouse, 5)
    for one, state in zip(planned, sorted(ENDED), strict=False):
        end_job(warehouse, one, state)
    left, following = open_jobs(warehouse, metadata.batch_id, first=0, end=5)
    assert ([one.seq for one in left], following) == ([4], 5)


def test_a_job_that_begins_again_keeps_its_progress_and_names_its_new_run(
    warehouse: Warehouse,
) -> None:
    _, [planned] = planned_jobs(warehouse, 1)
    assert begun(warehouse, planned).state == "running"
    load(warehouse, planned, {"page": 2}, records=5, inserted=4, rejected=1)
    again = begin_job(warehouse, planned, workflow_id="job/1", run_id="second").progress
    assert (again.pages, again.records, again.cursor) == (1, 5, {"page": 2})
    assert again.rows == RowCounts(inserted=4, rejected=1)
    assert rows(warehouse, "SELECT run_id FROM etl_jobs") == [("second",)]
    assert job_progress(warehouse, planned) == again


@pytest.mark.parametrize("state", sorted(ENDED))
def test_a_job_that_has_ended_does_not_begin_again(warehouse: Warehouse, state: JobState) -> None:
    _, [planned] = planned_jobs(warehouse, 1)
    end_job(warehouse, planned, state, "why")
    assert (begun(warehouse, planned).state, begun(warehouse, planned).error) == (state, "why")


def test_the_first_end_stands(warehouse: Warehouse) -> None:
    _, [planned] = planned_jobs(warehouse, 1)
    end_job(warehouse, planned, "failed", "no such table")
    assert end_job(warehouse, planned, "completed").state == "failed"
    record_outcomes(warehouse, "shop-1", [JobOutcome(seq=0, state="cancelled", error="late")])
    assert job_progress(warehouse, planned).error == "no such table"


def test_a_job_of_another_ledger_is_refused_with_the_likely_cause(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigurationError, match="do the queuer and the worker use the same one"):
        begun(warehouse, job(make_metadata(), 0))


def test_a_dispatcher_records_ends_that_jobs_could_not(warehouse: Warehouse) -> None:
    _, planned = planned_jobs(warehouse, 4)
    begun(warehouse, planned[1])
    begun(warehouse, planned[3])
    outcomes = [
        JobOutcome(seq=0, state="skipped", error="already running elsewhere"),
        JobOutcome(seq=1, state="failed", error="terminated"),
        JobOutcome(seq=2, state="cancelled"),
        JobOutcome(seq=3, state="skipped", error="already running elsewhere"),
    ]
    record_outcomes(warehouse, "shop-1", outcomes)
    record_outcomes(warehouse, "shop-1", outcomes)
    # The last one runs for this very batch: it was not skipped.
    assert states(warehouse) == ["skipped", "failed", "cancelled", "running"]


def test_an_error_that_postgresql_could_not_hold_is_kept_all_the_same(
    warehouse: Warehouse,
) -> None:
    metadata, planned = planned_jobs(warehouse, 2)
    assert end_job(warehouse, planned[0], "failed", "bad \0 byte").error == "bad \ufffd byte"
    record_outcomes(warehouse, "shop-1", [JobOutcome(seq=1, state="failed", error="\0")])
    assert finish(warehouse, metadata, error="bad \0 byte").error == "bad \ufffd byte"


def test_a_summary_counts_jobs_and_rows_and_names_failures(warehouse: Warehouse) -> None:
    metadata, planned = planned_jobs(warehouse, 5)
    load(warehouse, planned[0], 1, records=9, inserted=4, updated=3, unchanged=2)
    end_job(warehouse, planned[0], "completed")
    load(warehouse, planned[1], 1, records=2, inserted=1, rejected=1)
    end_job(warehouse, planned[1], "failed", "no such table" + "!" * 1000)
    end_job(warehouse, planned[2], "failed")
    end_job(warehouse, planned[3], "skipped")
    summary = finish(warehouse, metadata)

    assert (summary.state, summary.records) == ("failed", 11)
    assert summary.rows == RowCounts(inserted=5, updated=3, unchanged=2, rejected=1)
    assert summary.jobs.model_dump() == {
        "planned": 5, "completed": 1, "failed": 2, "skipped": 1, "cancelled": 1
    }  # fmt: skip
    assert summary.failures[0].error.startswith("no such table!")
    assert len(summary.failures[0].error) <= 500
    assert summary.failures[1] == JobFailure(job=planned[2].job_id, error="unknown")
    assert 0 <= summary.seconds < 60
    assert rows(warehouse, "SELECT state, ended_at IS NOT NULL FROM etl_batches") == [
        ("failed", True)
    ]


def test_a_summary_names_the_first_hundred_failures_and_counts_all(warehouse: Warehouse) -> None:
    metadata, _ = planned_jobs(warehouse, 120)
    record_outcomes(
        warehouse, "shop-1", [JobOutcome(seq=n, state="failed", error=str(n)) for n in range(120)]
    )
    summary = finish(warehouse, metadata)
    assert summary.jobs.failed == 120
    assert [failure.error for failure in summary.failures] == [str(n) for n in range(100)]


def test_the_first_summary_stands(warehouse: Warehouse) -> None:
    metadata, [planned] = planned_jobs(warehouse, 1)
    end_job(warehouse, planned, "completed")
    first = finish(warehouse, metadata)
    assert first.state == "completed"
    assert finish(warehouse, metadata, cancelled=True, error="late") == first


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ({}, "completed"),
        ({"cancelled": True}, "cancelled"),
        ({"error": "not planned"}, "failed"),
        ({"cancelled": True, "error": "not planned"}, "failed"),
    ],
)
def test_a_batch_without_jobs_ends_as_it_was_told(
    warehouse: Warehouse, how: dict[str, Any], state: str
) -> None:
    metadata = make_metadata()
    begin(warehouse, metadata)
    assert finish(warehouse, metadata, **how).state == state


def test_an_unknown_batch_cannot_be_finished(warehouse: Warehouse) -> None:
    with pytest.raises(ConfigurationError, match="shop-1 is not in this ledger"):
        finish(warehouse, make_metadata())


def test_one_job_planned_twice_is_refused(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    with pytest.raises(ConfigurationError, match="plans one job of shop-1 twice"):
        plan(warehouse, metadata, [job(metadata, 1), job(metadata, 2), job(metadata, 1)])
